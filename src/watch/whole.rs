//! Whole filesystems through fanotify.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::batch::Batch;
use super::{Coverage, Listener, NAP, What};
use crate::sys::fanotify::{
    Event, Events, FsId, Group, HandleBuf, Mask, Wake, filesystem_of, handle_of, open_dir_by_handle, reopen_dir,
    stop_pair, wait,
};
use crate::types::errno::{Errno, Result};

/// Bytes of one read: some 700 events, and few enough to stay in the cache.
const READ_LEN: usize = 64 * 1024;

/// Reads before what they held is told, however fast new events come.
const READS_MAX: usize = 64;

/// Between two attempts when the queue cannot be read, lest the thread spin.
const RETRY: Duration = Duration::from_secs(1);

/// The thread that reads the queue. Ends when dropped.
#[derive(Debug)]
pub(super) struct Whole {
    stop: Option<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

/// A marked filesystem: its id, its device number, and a directory on it.
#[derive(Debug)]
struct Marked {
    fs: FsId,
    dev: u64,
    dir: OwnedFd,
}

impl Whole {
    /// Marks the filesystems of those `tiers` whose `coverage` is still `ByDirectory` and notes
    /// there where it worked. Leaves out what happens through the mounts of `own`. `None` where
    /// it worked for none.
    pub(super) fn start(
        tiers: &[BorrowedFd<'_>],
        own: &[BorrowedFd<'_>],
        coverage: &mut [Coverage],
        listener: Arc<dyn Listener>,
    ) -> Result<Option<Whole>> {
        let Ok(group) = Group::new() else { return Ok(None) };
        let mut marked = Vec::new();
        for (tier, covered) in tiers.iter().zip(coverage) {
            if *covered == Coverage::ByDirectory && mark(&group, *tier, &mut marked).is_ok() {
                *covered = Coverage::Watched;
            }
        }
        if marked.is_empty() {
            return Ok(None);
        }
        // No more than what is marked: the kernel looks closer at an event that a mark ignores.
        for clone in own {
            if let Err(error) = group.ignore_mount(*clone, WRITES) {
                tracing::debug!(%error, "files written through the mount are told as changed beside it");
            }
        }
        let (stopped, stop) = stop_pair()?;
        let pid = i32::try_from(std::process::id()).unwrap_or(-1);
        let reader = Reader { group, marked, pid, listener };
        let thread = thread::Builder::new().name("tierfs-watch".into()).spawn(move || reader.run(stopped.as_fd()));
        Ok(Some(Whole { stop: Some(stop), thread: Some(thread.map_err(|e| Errno::of(&e))?) }))
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        drop(self.stop.take());
        join(self.thread.take());
    }
}

/// Waits for the end of `thread`, unless that is the thread which asks: a listener may hold the
/// last reference to what owns the watch.
pub(super) fn join(thread: Option<JoinHandle<()>>) {
    if let Some(thread) = thread.filter(|t| t.thread().id() != thread::current().id())
        && thread.join().is_err()
    {
        tracing::error!("the thread that watches the tiers panicked");
    }
}

/// Changes of contents: a write, also by `truncate(2)`, and the close after it, which alone tells
/// of writes through a mapping.
const WRITES: Mask = Mask::WRITE.or(Mask::CLOSE_WRITE);

/// What is told of a filesystem.
const EVERYTHING: Mask = Mask::ENTRY.or(Mask::ATTRIBUTES).or(Mask::DIRECTORY).or(WRITES);

/// Marks the filesystem of `tier`, having made sure that its events can be followed back.
fn mark(group: &Group, tier: BorrowedFd<'_>, marked: &mut Vec<Marked>) -> Result<()> {
    let dir = reopen_dir(tier)?;
    let (fs, _) = filesystem_of(dir.as_fd())?;
    open_dir_by_handle(dir.as_fd(), handle_of(dir.as_fd())?.borrow())?;
    let file = File::from(dir);
    let dev = file.metadata().map_err(|e| Errno::of(&e))?.dev();
    let known = marked.iter().find(|m| m.fs == fs);
    // A cloned disk carries the id of its origin, and an event would not tell them apart.
    if known.is_some_and(|known| known.dev != dev) {
        return Err(Errno::EXDEV);
    }
    group.mark_filesystem(file.as_fd(), EVERYTHING)?;
    if known.is_none() {
        marked.push(Marked { fs, dev, dir: file.into() });
    }
    Ok(())
}

/// A directory as events name it.
type DirKey = (FsId, HandleBuf);

struct Reader {
    group: Group,
    marked: Vec<Marked>,
    pid: i32,
    listener: Arc<dyn Listener>,
}

impl Reader {
    fn run(&self, stopped: BorrowedFd<'_>) {
        let mut buffer = vec![0; READ_LEN];
        loop {
            match wait(stopped, Some(self.group.as_fd()), None) {
                Ok(Wake::Ready) => {}
                Ok(Wake::Timeout) => continue,
                Ok(Wake::Stop) => return,
                Err(error) => {
                    tracing::error!(%error, "changes beside the mount are not watched any more");
                    return self.listener.lost();
                }
            }
            let pause = match self.drain(&mut buffer) {
                Ok(()) => NAP,
                Err(error) => {
                    tracing::warn!(%error, "changes beside the mount cannot be read");
                    self.listener.lost();
                    RETRY
                }
            };
            if !matches!(wait(stopped, None, Some(pause)), Ok(Wake::Timeout)) {
                return;
            }
        }
    }

    /// Empties the queue, or reads a good part of it, and tells what was in it.
    fn drain(&self, buffer: &mut [u8]) -> Result<()> {
        let mut batch = Batch::default();
        let mut outcome = Ok(());
        for _ in 0..READS_MAX {
            let len = match self.group.read(buffer) {
                Ok(0) => break,
                Ok(len) => len,
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            };
            for event in Events::new(buffer.get(..len).unwrap_or_default()) {
                match event {
                    Ok(event) => collect(&mut batch, &event, self.pid),
                    Err(_) => batch.lose(),
                }
            }
            if batch.is_full() {
                break;
            }
        }
        batch.deliver(&*self.listener, false, |key| self.open(key));
        outcome
    }

    fn open(&self, (fs, handle): &DirKey) -> Result<Option<OwnedFd>> {
        let Some(marked) = self.marked.iter().find(|m| m.fs == *fs) else { return Ok(None) };
        match open_dir_by_handle(marked.dir.as_fd(), handle.borrow()) {
            Ok(dir) => Ok(Some(dir)),
            Err(Errno::ESTALE | Errno::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Adds `event` to `batch`, unless the process `own` caused it.
fn collect(batch: &mut Batch<DirKey>, event: &Event<'_>, own: i32) {
    if event.mask.has(Mask::OVERFLOW) {
        return batch.lose();
    }
    let Some(place) = event.place.filter(|_| event.pid != own) else { return };
    let is_dir = event.mask.has(Mask::DIRECTORY);
    for (mask, what) in [(Mask::ENTRY, What::Entry), (Mask::ATTRIBUTES, What::Attributes), (WRITES, What::Data)] {
        if event.mask.has(mask) {
            batch.add((place.fs, HandleBuf::new(place.dir)), place.name, what, is_dir);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Count(std::sync::atomic::AtomicUsize);

    impl Listener for Count {
        fn changed(&self, _: &crate::watch::Change<'_>) {}
        fn lost(&self) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }

    #[test]
    fn an_overflow_is_told_as_lost_and_swallows_the_batch() {
        let mut batch = Batch::default();
        collect(&mut batch, &Event { mask: Mask::OVERFLOW, pid: 0, place: None }, 1);
        let count = Count::default();
        batch.deliver(&count, false, |_| -> Result<Option<OwnedFd>> { panic!("nothing to open") });
        assert_eq!(count.0.into_inner(), 1);
    }
}
