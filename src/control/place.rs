//! Where the socket of a mount is.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::sys::local;

/// Overrides the directory of the sockets; meant for tests.
pub const ENVIRONMENT: &str = "TIERFS_RUNTIME_DIR";

/// The directory of this user's sockets. `None` for an ordinary user who has no directory of his
/// own below `/run`, as outside of a login session.
pub fn directory() -> Option<PathBuf> {
    if let Some(given) = std::env::var_os(ENVIRONMENT).filter(|given| !given.is_empty()) {
        return Some(given.into());
    }
    if local::own_uid() == 0 {
        return Some("/run/tierfs".into());
    }
    let own = std::env::var_os("XDG_RUNTIME_DIR").filter(|given| !given.is_empty())?;
    Some(Path::new(&own).join("tierfs"))
}

/// The socket of the mount of a union, by the 32 digits of the union's id.
pub fn socket(directory: &Path, union: &str) -> PathBuf {
    directory.join(union).with_extension("sock")
}

/// Makes the directory if it is not there and checks that nobody else can reach into it.
///
/// # Errors
/// One line that says what to do.
pub fn prepare(directory: &Path) -> Result<(), String> {
    let shown = directory.display();
    match fs::DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            return Err(format!("{shown} cannot be made: {error}"));
        }
        _ => {}
    }
    let found = fs::symlink_metadata(directory).map_err(|error| format!("{shown}: {error}"))?;
    if !found.is_dir() {
        return Err(format!("{shown} is not a directory: remove it"));
    }
    if found.uid() != local::own_uid() {
        return Err(format!("{shown} belongs to user {}: remove it", found.uid()));
    }
    if found.mode() & 0o077 != 0 {
        return Err(format!("{shown} is open to other users: run chmod 700 {shown}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_directory_must_be_ours_alone() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("tierfs");
        assert_eq!(prepare(&dir), Ok(()));
        assert_eq!(fs::metadata(&dir).unwrap().mode() & 0o777, 0o700);
        assert_eq!(prepare(&dir), Ok(()));
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(prepare(&dir).unwrap_err().contains("chmod 700"));
        let link = home.path().join("link");
        std::os::unix::fs::symlink(home.path(), &link).unwrap();
        assert!(prepare(&link).unwrap_err().contains("not a directory"));
        assert!(prepare(&home.path().join("no/where")).unwrap_err().contains("cannot be made"));
    }
}
