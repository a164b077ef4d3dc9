//! What must hold when all tiers are back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::common::fs as short;
use crate::known::{Known, Trouble, look};
use crate::names::FOLDER;
use crate::version::Version;
use crate::writer::Writer;

impl Writer {
    /// What is wrong with what is there.
    pub(crate) fn wrong_now(&self) -> Vec<String> {
        let mut wrong = self.wrong_dirs();
        let mut found = BTreeMap::new();
        for (path, known) in &self.files {
            match self.find(path) {
                Ok(now) if known.allows(now.as_ref()) => drop(found.insert(path, now)),
                Ok(now) => wrong.push(format!("{path:?}: found {now:?}, possible {known:?}")),
                Err(_) if self.torn && !known.is_sure() => {}
                Err(line) => wrong.push(line),
            }
        }
        for (from, to, version) in &self.renamed {
            let has = |path: &PathBuf| found.get(path).is_some_and(|now| now.as_ref() == Some(version));
            if wrong.is_empty() && !has(from) && !has(to) {
                wrong.push(format!("{from:?} renamed to {to:?} is under neither: {version:?}"));
            }
        }
        wrong
    }

    /// What is shown and is not what the fastest copy holds: it would be gone with the kernel's memory, and no
    /// fsync would help.
    pub(crate) fn not_there(&self, roots: &[PathBuf]) -> Vec<String> {
        let differs = |path: &PathBuf| {
            let shown = self.now_at(path);
            let below = shown.strip_prefix(&self.root).expect("below the mount point");
            let copy = roots.iter().map(|root| root.join(below)).find(|copy| short::exists(copy))?;
            let (shown, copy) = (look(&shown).ok()?, look(&copy).ok()?);
            (shown != copy).then(|| format!("{path:?}: shows {shown:?}, and has {copy:?}"))
        };
        self.files.keys().filter_map(differs).collect()
    }

    /// The same path below the directory that there is.
    fn now_at(&self, path: &Path) -> PathBuf {
        match &self.dir_renamed {
            Some((_, from, to)) if !short::exists(self.at(from)) => match path.strip_prefix(from) {
                Ok(rest) => self.at(&to.join(rest)),
                Err(_) => self.at(path),
            },
            _ => self.at(path),
        }
    }

    fn find(&self, path: &Path) -> Result<Option<Version>, String> {
        look(&self.now_at(path)).map_err(|trouble| match trouble {
            Trouble::Io(error) => format!("{path:?}: {error}"),
            Trouble::Mixed(line) => line,
        })
    }

    fn wrong_dirs(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if let Some((_, from, to)) = &self.dir_renamed {
            let there = (short::exists(self.at(from)), short::exists(self.at(to)));
            if there.0 == there.1 {
                wrong.push(format!("{from:?} renamed to {to:?}: there are {there:?}"));
            }
        }
        for (path, known) in &self.folders {
            let now = short::exists(self.at(path)).then_some(FOLDER);
            if !known.allows(now.as_ref()) {
                wrong.push(format!("{path:?}: found {now:?}, possible {known:?}"));
            }
        }
        let either = |path: &PathBuf| self.dir_renamed.as_ref().is_some_and(|(_, from, to)| path == from || path == to);
        for path in self.listed(&self.home, &mut wrong) {
            if !self.dirs.contains(&path) && !self.folders.contains_key(&path) && !either(&path) {
                wrong.push(format!("{path:?} has come back"));
            }
        }
        for dir in &self.dirs {
            let there = self.now_at(dir);
            let names = self.listed(&there, &mut wrong);
            for name in names.iter().filter_map(|path| path.file_name()) {
                if !self.files.contains_key(&dir.join(name)) {
                    wrong.push(format!("{:?} has come back: {:?}", dir.join(name), look(&there.join(name))));
                }
            }
        }
        wrong
    }

    fn listed(&self, dir: &Path, wrong: &mut Vec<String>) -> Vec<PathBuf> {
        let listing = std::fs::read_dir(self.at(dir)).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
        match listing {
            Ok(entries) => entries.into_iter().map(|entry| dir.join(entry.file_name())).collect(),
            Err(error) => {
                wrong.push(format!("{dir:?} cannot be listed: {error}"));
                Vec::new()
            }
        }
    }

    /// Goes on from what is there, which is right.
    pub(crate) fn take_stock(&mut self) {
        if let Some((at, from, to)) = self.dir_renamed.take()
            && short::exists(self.at(&to))
        {
            self.rekey(at, &from, &to);
        }
        self.renamed.clear();
        let mut seen = std::collections::BTreeSet::new();
        let mut files = BTreeMap::new();
        for path in std::mem::take(&mut self.files).into_keys() {
            let now = match self.find(&path) {
                Ok(Some(now)) => now,
                Ok(None) => continue,
                // Torn: whoever wrote it writes it anew.
                Err(_) => {
                    let there = self.at(&path);
                    std::fs::remove_file(&there).unwrap_or_else(|error| panic!("{there:?}: {error}"));
                    continue;
                }
            };
            // A link of which the other name did not go: from here on each name is a file.
            if seen.insert(short::ino(self.at(&path))) {
                files.insert(path, Known::sure(Some(now)));
            } else {
                let there = self.at(&path);
                std::fs::remove_file(&there).unwrap_or_else(|error| panic!("{there:?}: {error}"));
            }
        }
        self.files = files;
        let folders = std::mem::take(&mut self.folders).into_keys();
        self.folders = folders
            .filter(|path| short::exists(self.root.join(path)))
            .map(|path| (path, Known::sure(Some(FOLDER))))
            .collect();
    }
}
