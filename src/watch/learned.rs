//! Single directories through inotify.
//!
//! A directory is held by a descriptor and watched as `/proc/self/fd/N`: the event then carries
//! the number N and not a path, so a rename leads nobody astray and the directory is at hand when
//! it is told. inotify does not say who made a change: this process's own are told too.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use notify::event::{AccessKind, AccessMode, EventKind, Flag, ModifyKind, RemoveKind};
use notify::{ErrorKind, INotifyWatcher, RecursiveMode, Watcher};
use parking_lot::{Condvar, Mutex};

use super::batch::Batch;
use super::whole::join;
use super::{Coverage, Listener, NAP, Reason, What};
use crate::types::errno::{Errno, Result};

/// How many directories are watched: each holds a descriptor, of which a process may have as few
/// as 20,000 and the mount needs most.
const DIRS_MAX: usize = 4096;

/// The directories watched so far. Ends its threads when dropped.
#[derive(Debug)]
pub(super) struct Learned {
    watcher: Option<Arc<Mutex<INotifyWatcher>>>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// Lock order: the watcher, then `dirs`. `queue` is taken alone.
#[derive(Debug, Default)]
struct Shared {
    dirs: Mutex<Dirs>,
    queue: Mutex<Queue>,
    filled: Condvar,
}

#[derive(Debug, Default)]
struct Dirs {
    by_fd: HashMap<RawFd, Arc<File>>,
    by_inode: HashMap<(u64, u64), RawFd>,
}

#[derive(Debug, Default)]
struct Queue {
    batch: Batch<RawFd>,
    /// A directory was deleted somewhere, perhaps one that is watched.
    prune: bool,
    stop: bool,
}

impl Learned {
    /// `None` where inotify cannot be had.
    pub(super) fn start(listener: Arc<dyn Listener>) -> Result<Option<Learned>> {
        let shared = Arc::new(Shared::default());
        let sink = Arc::clone(&shared);
        let handler = move |event: notify::Result<notify::Event>| sink.note(event);
        let Ok(watcher) = INotifyWatcher::new(handler, notify::Config::default()) else { return Ok(None) };
        let watcher = Arc::new(Mutex::new(watcher));
        let teller = Teller { shared: Arc::clone(&shared), watcher: Arc::downgrade(&watcher), listener };
        let thread = thread::Builder::new().name("tierfs-watch".into()).spawn(move || teller.run());
        let thread = Some(thread.map_err(|e| Errno::of(&e))?);
        Ok(Some(Learned { watcher: Some(watcher), shared, thread }))
    }

    /// Watches `dir`.
    pub(super) fn add(&self, dir: BorrowedFd<'_>) -> Coverage {
        let Some(watcher) = &self.watcher else { return Coverage::Unwatched(Reason::Unsupported) };
        let Ok(file) = dir.try_clone_to_owned().map(File::from) else { return Coverage::Unwatched(Reason::Limit) };
        let Ok(meta) = file.metadata() else { return Coverage::Unwatched(Reason::Refused) };
        let inode = (meta.dev(), meta.ino());
        if self.shared.dirs.lock().by_inode.contains_key(&inode) {
            return Coverage::Watched;
        }
        let mut watcher = watcher.lock();
        let fd = file.as_raw_fd();
        {
            let mut dirs = self.shared.dirs.lock();
            if dirs.by_inode.contains_key(&inode) {
                return Coverage::Watched;
            }
            if dirs.by_fd.len() >= DIRS_MAX {
                return Coverage::Unwatched(Reason::Limit);
            }
            // Known before it is watched, so that no event comes from an unknown directory.
            dirs.by_fd.insert(fd, Arc::new(file));
        }
        let added = watcher.watch(&path_of(fd), RecursiveMode::NonRecursive);
        let mut dirs = self.shared.dirs.lock();
        match added {
            Ok(()) => {
                dirs.by_inode.insert(inode, fd);
                Coverage::Watched
            }
            Err(error) => {
                dirs.by_fd.remove(&fd);
                let full = matches!(error.kind, ErrorKind::MaxFilesWatch);
                Coverage::Unwatched(if full { Reason::Limit } else { Reason::Refused })
            }
        }
    }

    /// How many directories are watched.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.shared.dirs.lock().by_fd.len()
    }
}

impl Drop for Learned {
    fn drop(&mut self) {
        drop(self.watcher.take());
        self.shared.queue.lock().stop = true;
        self.shared.filled.notify_one();
        join(self.thread.take());
        // The thread of `notify` ends later; the tiers must be free to be unmounted now.
        *self.shared.dirs.lock() = Dirs::default();
    }
}

impl Shared {
    /// Takes what `notify` reports; called on its thread.
    fn note(&self, event: notify::Result<notify::Event>) {
        let mut queue = self.queue.lock();
        let was_empty = queue.batch.is_empty();
        match event {
            Ok(event) if event.attrs.flag() == Some(Flag::Rescan) => queue.batch.lose(),
            Ok(event) => queue.add(&event),
            Err(_) => queue.batch.lose(),
        }
        if queue.batch.is_full() {
            queue.batch.lose();
        }
        if was_empty && !queue.batch.is_empty() {
            self.filled.notify_one();
        }
    }
}

impl Queue {
    fn add(&mut self, event: &notify::Event) {
        let (what, is_dir) = match event.kind {
            EventKind::Create(kind) => (What::Entry, kind == notify::event::CreateKind::Folder),
            EventKind::Remove(kind) => (What::Entry, kind == RemoveKind::Folder),
            EventKind::Modify(ModifyKind::Name(_)) => (What::Entry, false),
            EventKind::Modify(ModifyKind::Metadata(_)) => (What::Attributes, false),
            EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Any | ModifyKind::Other)
            | EventKind::Access(AccessKind::Close(AccessMode::Write)) => (What::Data, false),
            EventKind::Access(_) | EventKind::Any | EventKind::Other => return,
        };
        self.prune |= event.kind == EventKind::Remove(RemoveKind::Folder);
        for (fd, name) in event.paths.iter().filter_map(|path| place_of(path)) {
            self.batch.add(fd, name, what, is_dir);
        }
    }
}

fn path_of(fd: RawFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{fd}"))
}

/// The descriptor and the name in what [`path_of`] became in an event.
fn place_of(path: &Path) -> Option<(RawFd, Option<&[u8]>)> {
    let mut parts = path.strip_prefix("/proc/self/fd").ok()?.components();
    let Component::Normal(fd) = parts.next()? else { return None };
    let fd = fd.to_str()?.parse().ok()?;
    Some((fd, parts.next().map(|name| name.as_os_str().as_bytes())))
}

struct Teller {
    shared: Arc<Shared>,
    watcher: std::sync::Weak<Mutex<INotifyWatcher>>,
    listener: Arc<dyn Listener>,
}

impl Teller {
    fn run(&self) {
        loop {
            let mut queue = self.shared.queue.lock();
            while queue.batch.is_empty() && !queue.stop {
                self.shared.filled.wait(&mut queue);
            }
            if queue.stop {
                return;
            }
            let batch = std::mem::take(&mut queue.batch);
            let prune = std::mem::take(&mut queue.prune);
            drop(queue);
            batch.deliver(&*self.listener, true, |fd| Ok::<_, Errno>(self.dir(*fd)));
            if prune {
                self.prune();
            }
            let mut queue = self.shared.queue.lock();
            self.shared.filled.wait_while_for(&mut queue, |queue| !queue.stop, NAP);
        }
    }

    fn dir(&self, fd: RawFd) -> Option<Arc<File>> {
        self.shared.dirs.lock().by_fd.get(&fd).cloned()
    }

    /// Gives up the directories that were deleted: the descriptor would keep them for ever.
    fn prune(&self) {
        let Some(watcher) = self.watcher.upgrade() else { return };
        let known: Vec<_> = self.shared.dirs.lock().by_fd.iter().map(|(fd, dir)| (*fd, Arc::clone(dir))).collect();
        for (fd, dir) in known {
            if dir.metadata().is_ok_and(|meta| meta.nlink() > 0) {
                continue;
            }
            let mut watcher = watcher.lock();
            if watcher.unwatch(&path_of(fd)).is_err() {
                tracing::debug!(fd, "a deleted directory was not watched any more");
            }
            let mut dirs = self.shared.dirs.lock();
            dirs.by_inode.retain(|_, known| *known != fd);
            dirs.by_fd.remove(&fd);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_in_an_event_leads_to_descriptor_and_name() {
        assert_eq!(place_of(Path::new("/proc/self/fd/17/a b")), Some((17, Some(&b"a b"[..]))));
        assert_eq!(place_of(Path::new("/proc/self/fd/17")), Some((17, None)));
        assert_eq!(place_of(Path::new("/proc/self/fd/x/y")), None);
        assert_eq!(place_of(Path::new("/elsewhere")), None);
    }

    #[test]
    fn a_full_queue_of_the_kernel_makes_the_batch_lost() {
        let shared = Shared::default();
        shared.note(Ok(notify::Event::new(EventKind::Other).set_flag(Flag::Rescan)));
        struct Count(std::sync::atomic::AtomicUsize);
        impl Listener for Count {
            fn changed(&self, _: &crate::watch::Change<'_>) {}
            fn lost(&self) {
                self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        }
        let count = Count(Default::default());
        let batch = std::mem::take(&mut shared.queue.lock().batch);
        batch.deliver(&count, true, |_| Ok::<Option<Arc<File>>, Errno>(None));
        assert_eq!(count.0.into_inner(), 1);
    }
}
