//! Which programs have a file open, as `/proc` tells it.
//!
//! Only names are compared: to look at the files themselves could wait for a dead network disk.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A program that uses a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its process id.
    pub pid: u32,
    /// Its short name.
    pub name: String,
}

/// Who uses one of `paths`, by a descriptor or a mapping, and how many processes could not be
/// looked into. The paths are without links. tierfs itself is left out.
pub fn users_of(paths: &[PathBuf]) -> (Vec<User>, usize) {
    let mut users = Vec::new();
    let mut closed = 0;
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        let name = name.trim_end().to_owned();
        if name == "tierfs" {
            continue;
        }
        match has_open(&entry.path(), paths) {
            Ok(true) => users.push(User { pid, name }),
            Ok(false) => {}
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => closed += 1,
            // It has ended meanwhile.
            Err(_) => {}
        }
    }
    (users, closed)
}

fn has_open(process: &Path, paths: &[PathBuf]) -> std::io::Result<bool> {
    for descriptor in fs::read_dir(process.join("fd"))? {
        let target = fs::read_link(descriptor?.path());
        if target.is_ok_and(|target| paths.contains(&target)) {
            return Ok(true);
        }
    }
    let maps = fs::read(process.join("maps"))?;
    Ok(maps.split(|byte| *byte == b'\n').any(|line| {
        let at = line.iter().position(|byte| *byte == b'/');
        at.is_some_and(|at| paths.iter().any(|path| path.as_os_str().as_bytes() == &line[at..]))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_has_a_file_open_is_found() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().canonicalize().unwrap().join("file");
        let file = fs::File::create(&path).unwrap();
        let own = std::process::id();
        assert!(users_of(std::slice::from_ref(&path)).0.iter().any(|user| user.pid == own));
        drop(file);
        assert!(users_of(&[path]).0.iter().all(|user| user.pid != own));
    }
}
