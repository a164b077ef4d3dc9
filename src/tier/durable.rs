//! Making durable what is found under a name, on a tier that cannot be synced as a whole.

use super::{Dir, Open};
use crate::types::attr::Kind;
use crate::types::errno::{Errno, Result};
use crate::types::name::Name;

/// Makes contents and attributes of a regular file durable; its name is durable only when its directory is. Anything
/// else is passed over, and so are a name that is not there and a file that cannot be opened: what is damaged must
/// not keep a mount from starting, and nothing is deleted because of what it holds.
///
/// # Errors
/// What the tier says of the name, and of the file once it is open.
pub fn sync_entry(dir: &dyn Dir, name: &Name) -> Result<()> {
    if dir.stat(Some(name))?.is_none_or(|stat| stat.kind() != Kind::File) {
        return Ok(());
    }
    // SMB asks its server only for what is open for writing (`cifs_strict_fsync`, `fs/smb/client/file.c`).
    let opened = match dir.open(name, Open::ReadWrite) {
        Err(Errno::EACCES | Errno::EPERM | Errno::EROFS | Errno::ETXTBSY) => dir.open(name, Open::Read),
        other => other,
    };
    match opened {
        Ok(file) => file.fsync(false),
        Err(errno) => {
            tracing::debug!(%name, "a file cannot be opened to make it durable: {errno}");
            Ok(())
        }
    }
}
