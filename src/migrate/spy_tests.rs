//! A tier that runs what a test wants before a chosen call.

use std::ffi::{CStr, OsStr};
use std::ops::ControlFlow;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use parking_lot::Mutex;

use crate::tier::directory::DirectoryTier;
use crate::tier::{Dir, File, Listed, Open, Rename, SetXattr, Surveyed, Syncing, Tier};
use crate::types::attr::{Body, SetAttr, Space, Stat};
use crate::types::caller::Caller;
use crate::types::errno::Result as Outcome;
use crate::types::name::Name;

/// What happens before a call; an error takes its place.
type Act = Box<dyn FnOnce() -> Outcome<()> + Send>;

/// Operation, rank and name of a call; an empty name for the directory itself.
pub(super) type Call = (&'static str, u8, String);

#[derive(Default)]
pub(super) struct Spy {
    acts: Mutex<Vec<(Call, Act)>>,
    pub(super) log: Mutex<Vec<Call>>,
}

impl std::fmt::Debug for Spy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Spy")
    }
}

impl Spy {
    /// Once, before the next such call.
    pub(super) fn before(
        &self,
        op: &'static str,
        rank: u8,
        name: &str,
        act: impl FnOnce() -> Outcome<()> + Send + 'static,
    ) {
        self.acts.lock().push(((op, rank, name.into()), Box::new(act)));
    }

    fn reached(&self, op: &'static str, rank: u8, name: Option<&Name>) -> Outcome<()> {
        let name = name.map(|name| name.to_string()).unwrap_or_default();
        let call = (op, rank, name);
        let act = {
            let mut acts = self.acts.lock();
            let at = acts.iter().position(|((o, r, n), _)| *o == op && *r == rank && (*n == call.2 || n == "*"));
            at.map(|at| acts.remove(at).1)
        };
        let done = act.map_or(Ok(()), |act| act());
        self.log.lock().push(call);
        done
    }

    pub(super) fn log(&self) -> Vec<Call> {
        self.log.lock().clone()
    }
}

#[derive(Debug)]
pub(super) struct SpiedTier {
    pub(super) inner: DirectoryTier,
    pub(super) spy: Arc<Spy>,
    pub(super) rank: u8,
}

impl Tier for SpiedTier {
    fn root(&self) -> Arc<dyn Dir> {
        Arc::new(SpiedDir { inner: self.inner.root(), spy: Arc::clone(&self.spy), rank: self.rank })
    }
    fn space(&self) -> Outcome<Space> {
        self.inner.space()
    }
    fn has_stamps(&self) -> bool {
        self.inner.has_stamps()
    }
    fn announce_stamps(&self) -> Outcome<()> {
        self.inner.announce_stamps()
    }
    fn has_given(&self) -> bool {
        self.inner.has_given()
    }
    fn announce_given(&self) -> Outcome<()> {
        self.inner.announce_given()
    }
    fn syncing(&self) -> Outcome<Box<dyn Syncing>> {
        self.inner.syncing()
    }
    fn keeps_access_times(&self) -> bool {
        self.inner.keeps_access_times()
    }
    fn path(&self) -> Option<&std::path::Path> {
        self.inner.path()
    }
    fn body_of(&self, dir: BorrowedFd<'_>) -> Outcome<Option<Body>> {
        self.inner.body_of(dir)
    }
}

#[derive(Debug)]
struct SpiedDir {
    inner: Arc<dyn Dir>,
    spy: Arc<Spy>,
    rank: u8,
}

impl SpiedDir {
    fn at(&self, op: &'static str, name: Option<&Name>) -> Outcome<()> {
        self.spy.reached(op, self.rank, name)
    }
}

impl Dir for SpiedDir {
    fn stat(&self, name: Option<&Name>) -> Outcome<Option<Stat>> {
        self.at("stat", name)?;
        self.inner.stat(name)
    }
    fn open_dir(&self, name: &Name) -> Outcome<Arc<dyn Dir>> {
        let inner = self.inner.open_dir(name)?;
        Ok(Arc::new(SpiedDir { inner, spy: Arc::clone(&self.spy), rank: self.rank }))
    }
    fn open(&self, name: &Name, how: Open) -> Outcome<Box<dyn File>> {
        self.at("open", Some(name))?;
        self.inner.open(name, how)
    }
    fn create(&self, name: &Name, mode: u32, how: Open, by: &Caller) -> Outcome<Box<dyn File>> {
        self.at("create", Some(name))?;
        self.inner.create(name, mode, how, by)
    }
    fn mkdir(&self, name: &Name, mode: u32, by: &Caller) -> Outcome<()> {
        self.inner.mkdir(name, mode, by)
    }
    fn mknod(&self, name: &Name, mode: u32, rdev: u64, by: &Caller) -> Outcome<()> {
        self.inner.mknod(name, mode, rdev, by)
    }
    fn symlink(&self, name: &Name, target: &OsStr, by: &Caller) -> Outcome<()> {
        self.inner.symlink(name, target, by)
    }
    fn readlink(&self, name: &Name) -> Outcome<Vec<u8>> {
        self.inner.readlink(name)
    }
    fn link(&self, name: &Name, to: &dyn Dir, new: &Name) -> Outcome<()> {
        self.at("link", Some(new))?;
        self.inner.link(name, to, new)?;
        self.at("linked to", Some(new))
    }
    fn unlink(&self, name: &Name) -> Outcome<()> {
        self.at("unlink", Some(name))?;
        self.inner.unlink(name)?;
        self.at("unlinked", Some(name))
    }
    fn rmdir(&self, name: &Name) -> Outcome<()> {
        self.at("rmdir", Some(name))?;
        self.inner.rmdir(name)
    }
    fn rename(&self, name: &Name, to: &dyn Dir, new: &Name, how: Rename) -> Outcome<()> {
        self.at("rename from", Some(name))?;
        self.at("rename to", Some(new))?;
        self.inner.rename(name, to, new, how)?;
        self.at("renamed from", Some(name))
    }
    fn list(&self, each: &mut dyn FnMut(Listed<'_>)) -> Outcome<()> {
        self.at("list", None)?;
        self.inner.list(each)
    }
    fn survey(&self, each: &mut dyn FnMut(Surveyed<'_>) -> ControlFlow<()>) -> Outcome<()> {
        self.inner.survey(each)
    }
    fn set_attr(&self, name: Option<&Name>, change: &SetAttr) -> Outcome<()> {
        self.at("set_attr", name)?;
        self.inner.set_attr(name, change)
    }
    fn get_xattr(&self, name: Option<&Name>, key: &CStr) -> Outcome<Vec<u8>> {
        self.at("get_xattr", name)?;
        self.inner.get_xattr(name, key)
    }
    fn set_xattr(&self, name: Option<&Name>, key: &CStr, value: &[u8], how: SetXattr) -> Outcome<()> {
        self.inner.set_xattr(name, key, value, how)
    }
    fn list_xattr(&self, name: Option<&Name>) -> Outcome<Vec<u8>> {
        self.inner.list_xattr(name)
    }
    fn remove_xattr(&self, name: Option<&Name>, key: &CStr) -> Outcome<()> {
        self.inner.remove_xattr(name, key)
    }
    fn fsync(&self) -> Outcome<()> {
        self.at("fsync", None)?;
        self.inner.fsync()
    }
    fn descriptor(&self) -> Outcome<OwnedFd> {
        self.inner.descriptor()
    }
    fn held(&self) -> Option<BorrowedFd<'_>> {
        self.inner.held()
    }
    fn as_file(&self) -> Outcome<Box<dyn File>> {
        self.inner.as_file()
    }
    fn as_any(&self) -> &dyn std::any::Any {
        // The union joins two directories of one tier by what they are inside.
        self.inner.as_any()
    }
}

/// Runs `act` on a thread of its own, as a request would be served, and gives it a moment to end: it
/// may rightly wait until the step in which it was begun is over.
pub(super) fn beside<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> Receiver<T> {
    let (send, receive) = channel();
    let (ended, end) = channel::<()>();
    std::thread::spawn(move || {
        let _nobody_waits = send.send(act());
        drop(ended);
    });
    let _ended_or_waiting = end.recv_timeout(Duration::from_millis(300));
    receive
}
