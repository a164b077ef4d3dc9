//! Where the socket of a mount is.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::sys::local;

/// Overrides the directory of the sockets; meant for tests.
pub const ENVIRONMENT: &str = "TIERFS_RUNTIME_DIR";

/// The directory of this user's sockets: the same in a login session and outside of one, as in cron.
pub fn directory() -> PathBuf {
    let of = |key: &str| std::env::var_os(key).filter(|given| !given.is_empty()).map(PathBuf::from);
    of(ENVIRONMENT).unwrap_or_else(|| choose(local::own_uid(), of("XDG_RUNTIME_DIR"), &|path| path.is_dir()))
}

/// `/run/user/UID` is where `XDG_RUNTIME_DIR` points wherever systemd makes it (`pam_systemd(8)`). Where
/// there is neither, anybody may make the directory first: [`prepare`] refuses one of another user.
fn choose(uid: u32, of_session: Option<PathBuf>, is_dir: &dyn Fn(&Path) -> bool) -> PathBuf {
    if uid == 0 {
        return "/run/tierfs".into();
    }
    let of_user = Some(PathBuf::from(format!("/run/user/{uid}"))).filter(|path| is_dir(path));
    match of_user.or(of_session) {
        Some(own) => own.join("tierfs"),
        None => format!("/tmp/tierfs-{uid}").into(),
    }
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
    fn a_session_and_cron_find_the_same_directory() {
        let chosen = |uid, session: Option<&str>, there: &str| {
            let path = choose(uid, session.map(PathBuf::from), &|path| path == Path::new(there));
            path.display().to_string()
        };
        assert_eq!(chosen(0, Some("/run/user/0"), "/run/user/0"), "/run/tierfs");
        assert_eq!(chosen(7, Some("/run/user/7"), "/run/user/7"), "/run/user/7/tierfs");
        assert_eq!(chosen(7, None, "/run/user/7"), "/run/user/7/tierfs");
        assert_eq!(chosen(7, Some("/elsewhere"), ""), "/elsewhere/tierfs");
        assert_eq!(chosen(7, None, ""), "/tmp/tierfs-7");
    }

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
