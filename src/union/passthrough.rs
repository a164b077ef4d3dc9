//! FUSE passthrough seen from the union: a backing file registered once for an inode and shared by
//! all its opens. The kernel refuses two backing files for one inode while a handle is open
//! (`fs/fuse/iomode.c`), so there is at most one registration an inode.

use std::any::Any;
use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use parking_lot::Mutex;

use super::Union;
use crate::types::errno::Result;
use crate::types::ids::Ino;

/// The kernel's side of one open request.
pub trait Registrar {
    /// Registers a backing file; dropping the token takes it back, and open handles keep working.
    ///
    /// # Errors
    /// What the kernel says: ELOOP for a tier that is itself stacked, EPERM without the right.
    fn register(&self, file: BorrowedFd<'_>) -> Result<Token>;
}

/// Stands for a registration; only who made it knows what is inside.
pub type Token = Box<dyn Any + Send + Sync>;

/// A registered backing file.
pub struct Registration(Token);

impl std::fmt::Debug for Registration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Registration")
    }
}

impl Registration {
    #[cfg(test)]
    pub(super) fn of(token: Token) -> Registration {
        Registration(token)
    }

    /// What the registrar gave.
    pub fn token(&self) -> &(dyn Any + Send + Sync) {
        self.0.as_ref()
    }
}

/// Registrations kept of files that nobody has open, so that the next open needs no system call.
/// Each pins an inode in the kernel's memory.
const IDLE_MAX: usize = 16384;

/// Inodes with a registration, longest known first.
#[derive(Debug, Default)]
pub(super) struct Registered(Mutex<VecDeque<Ino>>);

impl Registered {
    /// Adds one and returns those to be looked at for removal.
    fn add(&self, ino: Ino) -> Vec<Ino> {
        let mut queue = self.0.lock();
        queue.push_back(ino);
        let surplus = queue.len().saturating_sub(IDLE_MAX).min(8);
        queue.drain(..surplus).collect()
    }

    fn put_back(&self, ino: Ino) {
        self.0.lock().push_back(ino);
    }
}

impl Union {
    /// Registers `file` as the backing file of `ino`; `None` where that cannot be. `era` is when the open
    /// began.
    ///
    /// # Errors
    /// ESTALE if a tier has gone or come since: the file may be one of a filesystem that is no more.
    pub(super) fn register(
        &self,
        ino: Ino,
        file: &dyn crate::tier::File,
        with: Option<&dyn Registrar>,
        era: u64,
    ) -> Result<Option<Arc<Registration>>> {
        let (Some(with), Some(fd)) = (with, file.backing()) else { return Ok(None) };
        let token = match with.register(fd) {
            Ok(token) => token,
            Err(errno) => {
                tracing::debug!(%ino, "no passthrough: {errno}");
                return Ok(None);
            }
        };
        let certain = || self.states.is_era(era);
        let Some(kept) = self.inodes.register(ino, Arc::new(Registration(token)), &certain)? else { return Ok(None) };
        for idle in self.registered.add(ino) {
            if !self.inodes.unregister_idle(idle) {
                self.registered.put_back(idle);
            }
        }
        Ok(Some(kept))
    }
}
