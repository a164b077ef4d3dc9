//! One file that somebody edits, such as a policy.
//!
//! Many editors write another file and rename it into place, so it is its directory that is
//! watched, and, where the path is a link, also the directory of what it leads to.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{INotifyWatcher, RecursiveMode, Watcher};

/// Tells of changes until it is dropped.
#[derive(Debug)]
pub struct FileWatch {
    _watcher: INotifyWatcher,
}

/// Calls `changed` when `path` was written, replaced, removed or made, from another thread. `None`
/// where that cannot be told. Not told: what another machine does on shared storage.
pub fn start(path: &Path, changed: impl Fn() + Send + 'static) -> Option<FileWatch> {
    let places: Vec<PathBuf> = [Some(path.to_path_buf()), path.canonicalize().ok()].into_iter().flatten().collect();
    let names: Vec<OsString> = places.iter().filter_map(|place| place.file_name().map(OsString::from)).collect();
    let handler = move |event: notify::Result<notify::Event>| {
        let concerns = event.as_ref().map_or(true, |event| {
            let named = |path: &PathBuf| path.file_name().is_some_and(|name| names.iter().any(|known| known == name));
            is_change(event.kind) && (event.paths.is_empty() || event.paths.iter().any(named))
        });
        if concerns {
            changed();
        }
    };
    let mut watcher = INotifyWatcher::new(handler, notify::Config::default()).ok()?;
    for dir in places.iter().filter_map(|place| place.parent()) {
        watcher.watch(dir, RecursiveMode::NonRecursive).ok()?;
    }
    Some(FileWatch { _watcher: watcher })
}

/// Whether the file is another after it. A write alone is not: the writer may be in the middle.
fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(kind) => kind == AccessKind::Close(AccessMode::Write),
        EventKind::Modify(kind) => matches!(kind, notify::event::ModifyKind::Name(_)),
        EventKind::Create(_) | EventKind::Remove(_) | EventKind::Any | EventKind::Other => true,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{channel, sync_channel};
    use std::time::Duration;

    use super::*;

    #[test]
    fn written_in_place_or_replaced_it_is_told_and_reading_is_not() {
        let home = tempfile::tempdir().unwrap();
        let (real, link) = (home.path().join("d/policy.yaml"), home.path().join("link"));
        std::fs::create_dir(home.path().join("d")).unwrap();
        std::fs::write(&real, "1").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let (send, told) = channel();
        let watch = start(&link, move || send.send(()).unwrap_or_default()).unwrap();
        let patience = Duration::from_secs(20);
        std::fs::write(&real, "2").unwrap();
        told.recv_timeout(patience).unwrap();
        std::fs::write(home.path().join("d/new"), "3").unwrap();
        std::fs::rename(home.path().join("d/new"), &real).unwrap();
        told.recv_timeout(patience).unwrap();
        drop(watch);
        let (send, told) = sync_channel(8);
        let _watch = start(&real, move || send.try_send(()).unwrap_or_default()).unwrap();
        std::fs::read(&real).unwrap();
        std::fs::write(home.path().join("d/other"), "4").unwrap();
        std::fs::write(home.path().join("d/end"), "5").unwrap();
        std::fs::remove_file(&real).unwrap();
        told.recv_timeout(patience).unwrap();
        assert!(told.recv_timeout(Duration::from_millis(50)).is_err(), "only the removal is told");
    }
}
