//! Steps that only look: what is said of a name must be true also while a tier is away.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use crate::known::{Trouble, look};
use crate::writer::Writer;

impl Writer {
    pub(crate) fn peek(&mut self, path: &Path) -> io::Result<()> {
        match self.rng.below(6) {
            0 | 1 => self.read(path),
            2 => self.again(path),
            3 => self.absent(),
            _ => self.list(path.parent().expect("a directory")),
        }
    }

    /// A file shows its version.
    fn read(&mut self, path: &Path) -> io::Result<()> {
        self.doing.tell(format!("read of {path:?}"));
        let found = look(&self.at(path));
        match found {
            Ok(now) if self.known(path).allows(now.as_ref()) => Ok(()),
            Ok(now) => {
                let line = format!("{path:?} shows {now:?}, must be {:?}", self.known(path).state);
                self.blame(line);
                Ok(())
            }
            Err(Trouble::Mixed(line)) => {
                self.blame(line);
                Ok(())
            }
            Err(Trouble::Io(error)) => Err(error),
        }
    }

    /// A name that is there cannot be made.
    fn again(&mut self, path: &Path) -> io::Result<()> {
        let way = self.rng.below(3);
        self.doing.tell(format!("making {path:?}, which is there, in way {way}"));
        let there = self.at(path);
        let made = match way {
            0 => std::fs::File::create_new(there).map(drop),
            1 => std::fs::create_dir(there),
            _ => std::os::unix::fs::symlink("nowhere", there),
        };
        match made {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
            Ok(()) => {
                self.freeze(path);
                self.blame(format!("{path:?} was there, and was made once more in way {way}"));
                Ok(())
            }
        }
    }

    /// A name that never was is not there.
    fn absent(&mut self) -> io::Result<()> {
        let Some(dir) = self.some_dir() else { return Ok(()) };
        let path = dir.join(format!("never{}", self.fresh()));
        self.doing.tell(format!("a look for {path:?}"));
        match self.at(&path).symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(_) => {
                self.blame(format!("{path:?} never was, and is there"));
                Ok(())
            }
        }
    }

    /// A listing has everything, or ends with an error.
    fn list(&mut self, dir: &Path) -> io::Result<()> {
        if !self.is_usable_dir(dir) {
            return Ok(());
        }
        self.doing.tell(format!("a listing of {dir:?}"));
        let names = std::fs::read_dir(self.at(dir))?.map(|entry| entry.map(|entry| dir.join(entry.file_name())));
        let listed: BTreeSet<_> = names.collect::<io::Result<_>>()?;
        let mut wrong = Vec::new();
        for (path, known) in self.files.iter().filter(|(path, known)| path.parent() == Some(dir) && known.is_sure()) {
            if known.last().is_some() != listed.contains(path) {
                wrong.push(format!("{path:?} is listed: {}, must be {:?}", listed.contains(path), known.state));
            }
        }
        let unknown = listed.iter().filter(|path| !self.files.contains_key(*path));
        wrong.extend(unknown.map(|path| format!("{path:?} is listed, and is not there")));
        wrong.into_iter().for_each(|line| self.blame(line));
        Ok(())
    }
}
