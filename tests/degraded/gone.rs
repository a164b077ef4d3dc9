//! What the tests share: a union whose secondary can go, and what must hold meanwhile and afterwards.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::common::fs::{errno, get};
use crate::common::mount::TestMount;
use crate::common::wait;

/// Every file and directory of a mount: number and, of files, contents.
pub(crate) type Everything = BTreeMap<PathBuf, (u64, Vec<u8>)>;

/// Reads all of a tree, each error a panic.
pub(crate) fn everything(root: &Path) -> Everything {
    let mut found = Everything::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("folder") {
            let path = entry.expect("entry").path();
            let meta = std::fs::symlink_metadata(&path).expect("attributes");
            let contents = if meta.is_dir() {
                folders.push(path.clone());
                Vec::new()
            } else {
                std::fs::read(&path).expect("contents")
            };
            found.insert(path.strip_prefix(root).expect("below").to_owned(), (meta.ino(), contents));
        }
    }
    found
}

/// Both are the same, but for what is left out of the message: contents.
fn assert_same(now: &Everything, before: &Everything, log: &str) {
    let mut wrong = Vec::new();
    for path in before.keys().chain(now.keys()) {
        match (before.get(path), now.get(path)) {
            (Some(then), Some(now)) if then == now => {}
            (Some(then), Some(now)) if then.1 == now.1 => {
                wrong.push(format!("{path:?}: number {} was {}", now.0, then.0))
            }
            (Some(_), Some(_)) => wrong.push(format!("{path:?}: other contents")),
            (Some(_), None) => wrong.push(format!("{path:?} is not there")),
            (None, _) => wrong.push(format!("{path:?} is new")),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}\n{log}");
}

/// The kernel is told to ask again just after the tier is served: until then it may know numbers from before.
pub(crate) fn until_same(mount: &TestMount, before: &Everything) {
    let same = wait::within(wait::PATIENCE, || (everything(&mount.root()) == *before).then_some(()));
    if same.is_none() {
        assert_same(&everything(&mount.root()), before, &mount.log());
    }
}

/// Waits until the mount knows that the tier is gone. An error of the tier itself comes before that: only
/// then are changes of directories refused, and this one, which changes nothing, as well.
pub(crate) fn until_gone(mount: &TestMount, slow: &str) {
    wait::until("the mount knows that the tier is gone", || {
        let _suspicion = std::fs::read(mount.path(slow));
        (rustix::fs::removexattr(mount.root(), "user.none") == Err(Errno::ROFS)).then_some(())
    });
}

/// Waits until the tier is taken in again.
pub(crate) fn until_back(mount: &TestMount) {
    wait::until("the tier is back", || {
        let made = std::fs::create_dir(mount.path("probe of the mount")).is_ok();
        let _not_made = std::fs::remove_dir(mount.path("probe of the mount"));
        made.then_some(())
    });
}

/// What holds while the secondary is away: `fast` is a file of the primary, `slow` one of the secondary in
/// the same merged directory `dir`.
pub(crate) fn check_away(mount: &TestMount, dir: &str, fast: &str, slow: &str) {
    let (fast, slow) = (mount.path(dir).join(fast), mount.path(dir).join(slow));
    let before = get(&fast);
    std::fs::write(&fast, "written while the other tier is away").expect("a file of the primary is written");
    assert_eq!(get(&fast), "written while the other tier is away");
    std::fs::write(&fast, before).expect("and again");
    assert_eq!(errno(std::fs::read(&slow)), Errno::IO);
    assert_eq!(errno(std::fs::metadata(mount.path(dir).join("never was"))), Errno::IO, "never ENOENT");
    let listing = std::fs::read_dir(mount.path(dir)).expect("the directory is there");
    let (listed, failed): (Vec<_>, Vec<_>) = listing.partition(Result::is_ok);
    assert!(!failed.is_empty(), "a listing that is not whole must end with an error");
    assert!(listed.into_iter().any(|entry| entry.is_ok_and(|entry| entry.path() == fast)));
    assert_eq!(errno(std::fs::remove_file(&fast)), Errno::ROFS, "a shadowed copy may be there");
    assert!(std::fs::File::create_new(mount.path(dir).join("new")).is_err());
}
