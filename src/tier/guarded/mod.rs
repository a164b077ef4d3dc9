//! A tier that can go away and come back under its union.
//!
//! Every call passes a [`Guard`], which stands for one instance of the tier: a filesystem as it was
//! opened once. A guard that is closed answers EIO without a system call, so nobody waits for a disk
//! that is known to be gone, and nothing that was opened on an instance ever reaches another: what a
//! program has open stays closed to it also when the same disk has come back as a new instance.
//!
//! An error that a dead filesystem gives is only a suspicion: a bad block gives the same. The guard
//! says so to whoever looks after it, and that one asks the tier itself.
//!
//! While an instance is being given up it may still answer. It is not believed then that something is
//! not there. Nor is a server believed that before it has proved that it shows the tier ([`proof`]).

use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};

use parking_lot::RwLock;

use super::{Dir, Outside, Syncing, Tier};
use crate::types::attr::{Body, Space};
use crate::types::errno::{Errno, Result};
use crate::types::name::Name;

pub mod calls;
mod closing;
mod dir;
mod file;
pub mod proof;

use calls::Inside;
use closing::Closer;
pub use closing::Insiders;
use dir::GuardedDir;
use proof::Proof;

/// Lets calls into one instance of a tier, or answers EIO.
pub struct Guard {
    id: u32,
    closed: AtomicBool,
    /// Of a tier that others serve.
    proof: Option<Proof>,
    suspect: Box<dyn Fn() + Send + Sync>,
    closer: Arc<Closer>,
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard").field("id", &self.id).field("closed", &self.closed).finish_non_exhaustive()
    }
}

/// Guards made by this process.
static GUARDS: AtomicU32 = AtomicU32::new(0);

/// What a filesystem says whose disk or server is gone (`errno(3)`), and perhaps others, too.
fn is_of_the_dead(errno: Errno) -> bool {
    const ECONNABORTED: Errno = Errno(103);
    const ESHUTDOWN: Errno = Errno(108);
    const ETIMEDOUT: Errno = Errno(110);
    const EHOSTDOWN: Errno = Errno(112);
    const EHOSTUNREACH: Errno = Errno(113);
    const EUCLEAN: Errno = Errno(117);
    const EREMOTEIO: Errno = Errno(121);
    const ENOMEDIUM: Errno = Errno(123);
    [
        Errno::EIO,
        Errno::ENODEV,
        Errno::ENOTCONN,
        Errno::ESTALE,
        ECONNABORTED,
        ESHUTDOWN,
        ETIMEDOUT,
        EHOSTDOWN,
        EHOSTUNREACH,
        EUCLEAN,
        EREMOTEIO,
        ENOMEDIUM,
    ]
    .contains(&errno)
}

impl Guard {
    /// For a new instance. `suspect` is called when it gives an error that may mean its end: it must not
    /// wait. One that others serve comes with a `proof` that they do: what it says to be absent is believed
    /// and names are changed only with that, and the kernel never serves its files past tierfs.
    pub fn new(proof: Option<Proof>, suspect: impl Fn() + Send + Sync + 'static) -> Arc<Guard> {
        let id = GUARDS.fetch_add(1, Ordering::Relaxed).wrapping_add(1).max(1);
        let (closed, suspect) = (AtomicBool::new(false), Box::new(suspect));
        Arc::new(Guard { id, closed, proof, suspect, closer: Arc::default() })
    }

    /// By which [`calls::Call`] names it.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// From here on every call is EIO.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    /// Calls get through again: only where the same instance answers again.
    pub fn open(&self) {
        self.closed.store(false, Ordering::SeqCst);
    }

    /// Whether calls are refused.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// The thread is inside from here on; nothing where the guard is closed.
    fn enter(&self) -> Option<Inside> {
        let inside = self.come();
        (!self.is_closed()).then_some(inside)
    }

    /// The thread is inside, and looks next whether it may be.
    fn come(&self) -> Inside {
        let inside = calls::enter(self.id);
        // In this order: who closes the guard and sees nobody inside can be sure that nobody comes.
        fence(Ordering::SeqCst);
        inside
    }

    fn call<T>(&self, act: impl FnOnce() -> Result<T>) -> Result<T> {
        let inside = self.enter().ok_or(Errno::EIO)?;
        let mut result = act();
        if matches!(result, Err(Errno::ENOENT)) {
            result = self.prove().and(result);
        }
        drop(inside);
        result.map_err(|errno| self.judge(errno))
    }

    /// The same, for what changes names: what is in the tier's place may take them as well.
    fn change<T>(&self, act: impl FnOnce() -> Result<T>) -> Result<T> {
        self.call(|| {
            self.prove()?;
            act()
        })
    }

    /// EIO if something else is in the tier's place. This asks the tier.
    fn prove(&self) -> Result<()> {
        self.proof.as_ref().map_or(Ok(()), Proof::check)
    }

    /// The same as a call, for an answer that may say that something is not there.
    fn look<T>(&self, act: impl FnOnce() -> Result<T>, is_absence: impl Fn(&T) -> bool) -> Result<T> {
        let proved = || {
            let answer = act()?;
            if is_absence(&answer) {
                self.prove()?;
            }
            Ok(answer)
        };
        match self.call(proved) {
            Ok(answer) if is_absence(&answer) && self.is_closed() => Err(Errno::EIO),
            other => other,
        }
    }

    fn judge(&self, errno: Errno) -> Errno {
        let absence = matches!(errno, Errno::ENOENT | Errno::ENOTDIR | Errno::ESTALE | Errno::ENODATA);
        if absence && self.is_closed() {
            return Errno::EIO;
        }
        if is_of_the_dead(errno) {
            (self.suspect)();
            // Of the others a program would think that the mount itself is gone.
            return if errno == Errno::ESTALE { errno } else { Errno::EIO };
        }
        errno
    }
}

/// One opened filesystem and its guard.
#[derive(Debug, Clone)]
struct Instance {
    tier: Arc<dyn Tier>,
    guard: Arc<Guard>,
}

/// A tier in its place, there or not.
#[derive(Debug)]
pub struct Guarded {
    path: PathBuf,
    at: RwLock<Option<Instance>>,
    stamps: AtomicBool,
    given: AtomicBool,
    access_times: AtomicBool,
}

impl Guarded {
    /// The tier at `path`, which is not there yet.
    pub fn new(path: PathBuf) -> Guarded {
        Guarded {
            path,
            at: RwLock::new(None),
            stamps: AtomicBool::new(false),
            given: AtomicBool::new(false),
            access_times: AtomicBool::new(false),
        }
    }

    /// From here on it is `tier`.
    pub fn install(&self, tier: Arc<dyn Tier>, guard: Arc<Guard>) {
        self.access_times.store(tier.keeps_access_times(), Ordering::Release);
        // What is known of stamps and numbers only grows.
        self.stamps.fetch_or(tier.has_stamps(), Ordering::AcqRel);
        self.given.fetch_or(tier.has_given(), Ordering::AcqRel);
        let before = self.at.write().replace(Instance { tier, guard });
        // Not under the lock, which every call takes.
        drop(before);
    }

    /// It is gone: calls through anything that was opened on it are EIO. What is returned is the
    /// instance, whose last descriptors close with it, which may take long.
    pub fn remove(&self) -> Option<Arc<dyn Tier>> {
        let gone = self.at.write().take()?;
        gone.guard.close();
        Some(gone.tier)
    }

    /// Where it is, for messages.
    pub fn path_text(&self) -> String {
        self.path.display().to_string()
    }

    /// The guard of the instance that is there.
    pub fn guard(&self) -> Option<Arc<Guard>> {
        self.at.read().as_ref().map(|instance| Arc::clone(&instance.guard))
    }

    /// The instance itself: calls into it pass no guard, and may hang.
    pub fn unguarded(&self) -> Option<Arc<dyn Tier>> {
        self.at.read().as_ref().map(|instance| Arc::clone(&instance.tier))
    }

    fn instance(&self) -> Result<Instance> {
        self.at.read().clone().ok_or(Errno::EIO)
    }

    fn call<T>(&self, act: impl FnOnce(&dyn Tier) -> Result<T>) -> Result<T> {
        let Instance { tier, guard } = self.instance()?;
        guard.call(|| act(tier.as_ref()))
    }
}

impl Tier for Guarded {
    fn root(&self) -> Arc<dyn Dir> {
        match self.instance() {
            Ok(Instance { tier, guard }) => Arc::new(GuardedDir::new(tier.root(), guard)),
            Err(_) => Arc::new(dir::Gone),
        }
    }

    fn is_there(&self) -> bool {
        self.at.read().is_some()
    }

    fn space(&self) -> Result<Space> {
        self.call(|tier| tier.space())
    }

    fn holds(&self, free: u64) -> u64 {
        self.instance().map_or(free, |instance| instance.tier.holds(free))
    }

    fn has_stamps(&self) -> bool {
        self.stamps.load(Ordering::Acquire)
    }

    fn announce_stamps(&self) -> Result<()> {
        if !self.has_stamps() {
            self.call(|tier| tier.announce_stamps())?;
            self.stamps.store(true, Ordering::Release);
        }
        Ok(())
    }

    fn has_given(&self) -> bool {
        self.given.load(Ordering::Acquire)
    }

    fn announce_given(&self) -> Result<()> {
        if !self.has_given() {
            self.call(|tier| tier.announce_given())?;
            self.given.store(true, Ordering::Release);
        }
        Ok(())
    }

    fn holds_back(&self) -> bool {
        self.instance().map_or(true, |instance| instance.guard.proof.is_some())
    }

    fn syncing(&self) -> Result<Option<Box<dyn Syncing>>> {
        let Instance { tier, guard } = self.instance()?;
        let inner = guard.call(|| tier.syncing())?;
        Ok(inner.map(|inner| Box::new(GuardedSyncing { inner, guard }) as Box<dyn Syncing>))
    }

    fn keeps_access_times(&self) -> bool {
        self.access_times.load(Ordering::Acquire)
    }

    fn path(&self) -> Option<&Path> {
        Some(&self.path)
    }

    fn real_path(&self, names: &[Name]) -> Result<PathBuf> {
        self.call(|tier| tier.real_path(names))
    }

    fn outside(&self, dir: BorrowedFd<'_>, stored: &[u8]) -> Outside {
        self.call(|tier| Ok(tier.outside(dir, stored))).unwrap_or(Outside::Nothing)
    }

    fn body_of(&self, dir: BorrowedFd<'_>) -> Result<Option<Body>> {
        self.call(|tier| tier.body_of(dir))
    }
}

#[derive(Debug)]
struct GuardedSyncing {
    inner: Box<dyn Syncing>,
    guard: Arc<Guard>,
}

impl Syncing for GuardedSyncing {
    fn sync(&self) -> Result<()> {
        self.guard.call(|| self.inner.sync())
    }
}

#[cfg(test)]
mod tests;
