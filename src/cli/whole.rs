//! A file that a command writes for its user: put in place when it is whole, and not before.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::cli::exit::Failure;
use crate::types::errno::Errno;

/// One that is being written.
#[derive(Debug)]
pub struct Whole {
    to: To,
    shown: PathBuf,
}

#[derive(Debug)]
enum To {
    /// A file of its own beside the one that it replaces in the end.
    Beside(NamedTempFile, PathBuf),
    /// A device, a pipe or what is open already: nothing there can be replaced.
    Direct(File),
}

impl Whole {
    /// Begins one for `path`, whose old contents stay until [`Whole::done`].
    ///
    /// # Errors
    /// One line where nothing can be written there.
    pub fn begin(path: &Path) -> Result<Whole, Failure> {
        let to = begin(path).map_err(|error| cannot(path, &error))?;
        Ok(Whole { to, shown: path.to_path_buf() })
    }

    /// Puts it in place.
    ///
    /// # Errors
    /// One line; the old contents are still there.
    pub fn done(self) -> Result<(), Failure> {
        let ended = match self.to {
            To::Beside(file, path) => file.persist(path).map(drop).map_err(|error| error.error),
            To::Direct(_) => Ok(()),
        };
        ended.map_err(|error| cannot(&self.shown, &error))
    }
}

fn begin(path: &Path) -> io::Result<To> {
    // Through links, so that a link stays one.
    let real = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let found = real.metadata();
    let is_device = ["/dev", "/proc"].iter().any(|above| path.starts_with(above));
    if is_device || found.as_ref().is_ok_and(|found| !found.is_file()) {
        return File::create(path).map(To::Direct);
    }
    if found.is_ok() {
        // Where the file itself may not be written, it is not replaced either.
        File::options().append(true).open(&real)?;
    }
    let above = real.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = real.file_name().unwrap_or_default();
    let mut builder = tempfile::Builder::new();
    // The umask takes from it what the user wants taken.
    let builder = builder.prefix(name).suffix(".part").permissions(Permissions::from_mode(0o666));
    let file = match (builder.tempfile_in(above), found) {
        // The file may be written, and nothing made beside it.
        (Err(_), Ok(_)) => return File::create(real).map(To::Direct),
        (made, Err(_)) => made?,
        (Ok(made), Ok(found)) => {
            made.as_file().set_permissions(found.permissions())?;
            made
        }
    };
    Ok(To::Beside(file, real))
}

fn cannot(path: &Path, error: &io::Error) -> Failure {
    let path = path.display();
    Failure::error(match error.raw_os_error() {
        Some(raw) => format!("{path}: {}", Errno(raw)),
        // The package for temporary files keeps only the kind of what the system said.
        None if error.kind() == io::ErrorKind::NotFound => {
            format!("{path}: cannot be written: its directory does not exist")
        }
        None => format!("{path}: cannot be written: {}", error.kind()),
    })
}

impl Write for Whole {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.to {
            To::Beside(file, _) => file.write(bytes),
            To::Direct(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.to {
            To::Beside(file, _) => file.flush(),
            To::Direct(file) => file.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn names(dir: &Path) -> usize {
        fs::read_dir(dir).unwrap().count()
    }

    #[test]
    fn the_old_contents_stay_until_the_new_are_whole() {
        let home = tempfile::tempdir().unwrap();
        let (file, link) = (home.path().join("r.csv"), home.path().join("link"));
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("r.csv", &link).unwrap();
        for (path, wanted) in [(&file, "new"), (&link, "newer")] {
            let before = fs::read(&file).unwrap();
            let mut given_up = Whole::begin(path).unwrap();
            given_up.write_all(b"half").unwrap();
            assert_eq!(fs::read(&file).unwrap(), before);
            drop(given_up);
            assert_eq!((fs::read(&file).unwrap(), names(home.path())), (before, 2));
            let mut whole = Whole::begin(path).unwrap();
            whole.write_all(wanted.as_bytes()).unwrap();
            whole.done().unwrap();
            assert_eq!(fs::read_to_string(&file).unwrap(), wanted);
        }
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }

    #[test]
    fn what_cannot_be_replaced_is_written_to() {
        Whole::begin(Path::new("/dev/null")).unwrap().done().unwrap();
        assert!(Path::new("/dev/null").exists());
        let told = Whole::begin(Path::new("/nowhere/r.csv")).unwrap_err().line;
        assert_eq!(told, "/nowhere/r.csv: cannot be written: its directory does not exist");
    }
}
