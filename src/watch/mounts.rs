//! The mounts through which others write to the watched filesystems.

use std::collections::HashSet;
use std::os::fd::{AsFd, BorrowedFd};

use crate::sys::fanotify::{Group, Mask};
use crate::sys::namespaces::{Alarm, Namespace, device_of};
use crate::types::errno::Result;

/// What is told of a mount.
pub(super) const WRITES: Mask = Mask::WRITE.or(Mask::CLOSE_WRITE);

/// Which filesystems' mounts to mark.
#[derive(Debug)]
pub(super) struct Mounts {
    devices: HashSet<(u32, u32)>,
    alarm: Option<Alarm>,
}

impl Mounts {
    pub(super) fn new() -> Mounts {
        Mounts { devices: HashSet::new(), alarm: Alarm::new().ok() }
    }

    /// Marks the mount of `root` and includes its filesystem in every later survey.
    pub(super) fn add(&mut self, group: &Group, root: BorrowedFd<'_>) -> Result<()> {
        group.mark_mount(root, WRITES)?;
        self.devices.insert(device_of(root)?);
        Ok(())
    }

    /// Marks all mounts of the filesystems that there are now. Those marked before are marked
    /// again, which changes nothing, since a mount's number may mean another one by now.
    pub(super) fn survey(&self, group: &Group) {
        for namespace in Namespace::all() {
            // A process that is gone took its namespace along, or another names it next time.
            let Ok(mounts) = namespace.mounts() else { continue };
            for (mount, root) in namespace.open(&mounts, |device| self.devices.contains(&device)) {
                if let Err(error) = group.mark_mount(root.as_fd(), WRITES) {
                    tracing::debug!(%error, point = ?mount.point, "writes through a mount are noticed when files are closed");
                }
            }
        }
    }

    /// Goes off when the own namespace's mounts change.
    pub(super) fn alarm(&self) -> Option<BorrowedFd<'_>> {
        self.alarm.as_ref().map(AsFd::as_fd)
    }
}
