//! Telling the kernel what it must forget.

use std::fs::File;
use std::io::Write;

use fuser::{INodeNo, Notifier};

use crate::types::ids::Ino;
use crate::types::name::Name;

/// Sends invalidations. Never called from a thread that serves requests: the kernel may wait in it
/// for a lock that the request in work holds. An open holds none, and the union has it call only where no
/// handle of the file can have a request under way.
#[derive(Debug)]
pub struct Invalidator {
    pub(super) notifier: Notifier,
    /// Another descriptor of the session, for what fuser 0.18 cannot send.
    pub(super) device: File,
}

/// `FUSE_NOTIFY_INC_EPOCH` of `linux/fuse.h`, Linux 6.16.
const INC_EPOCH: u32 = 8;

impl Invalidator {
    /// The name may lead elsewhere, or be gone, or have come.
    pub fn entry(&self, dir: Ino, name: &Name) {
        self.told(self.notifier.inval_entry(INodeNo(dir.0), name.as_os_str()));
        self.object(dir);
    }

    /// Attributes and contents of the object may have changed.
    pub fn object(&self, ino: Ino) {
        self.told(self.notifier.inval_inode(INodeNo(ino.0), 0, 0));
    }

    /// Attributes of the object may have changed, contents have not.
    pub fn attributes(&self, ino: Ino) {
        // A negative offset leaves the cached pages alone (`fuse_reverse_inval_inode`, fs/fuse/inode.c).
        self.told(self.notifier.inval_inode(INodeNo(ino.0), -1, 0));
    }

    /// No name the kernel knows is certain any more. `false` if the kernel is too old to be told
    /// so at once.
    pub fn all_names(&self) -> bool {
        let mut message = [0u8; 16];
        message[..4].copy_from_slice(&16u32.to_ne_bytes());
        message[4..8].copy_from_slice(&INC_EPOCH.to_ne_bytes());
        (&self.device).write_all(&message).is_ok()
    }

    fn told(&self, result: std::io::Result<()>) {
        if let Err(error) = result {
            tracing::debug!("the kernel did not take an invalidation: {error}");
        }
    }
}
