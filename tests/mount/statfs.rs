//! What `df` shows.

use crate::common::loopfs::LoopFs;
use crate::common::mount::Setup;

fn sizes(path: &std::path::Path) -> (u64, u64) {
    let shown = rustix::fs::statvfs(path).expect("statvfs");
    (shown.f_blocks * shown.f_frsize, shown.f_files)
}

/// The sum over filesystems, each counted once; or one tier's, as asked.
#[test]
fn statfs_sums_distinct_filesystems() {
    let Some(small) = LoopFs::new("tmpfs", 16) else { return };
    let Some(large) = LoopFs::new("tmpfs", 64) else { return };
    let mib = |count: u64| count << 20;
    let two = [small.path().join("fast"), large.path().join("slow")];
    let mounted = |option: &str, roots: &[std::path::PathBuf]| {
        let mount = Setup::new().roots(roots).option(option).mount()?;
        let shown = sizes(&mount.root()).0;
        mount.unmount();
        Some(shown)
    };
    let Some(sum) = mounted("statfs=sum", &two) else { return };
    assert_eq!(sum, mib(80));
    assert_eq!(mounted("statfs=primary", &two), Some(mib(16)));
    assert_eq!(mounted("statfs=secondary", &two), Some(mib(64)));
    let same = [small.path().join("one"), small.path().join("two"), large.path().join("three")];
    assert_eq!(mounted("statfs=sum", &same), Some(mib(80)));
}

/// Names may have 255 bytes, and the free space shrinks with what is written.
#[test]
fn statfs_tells_limits_and_use() {
    let Some(small) = LoopFs::new("tmpfs", 16) else { return };
    let roots = [small.path().join("fast"), small.path().join("slow")];
    let Some(mount) = Setup::new().roots(&roots).mount() else { return };
    let shown = || rustix::fs::statvfs(mount.root()).expect("statvfs");
    assert_eq!(shown().f_namemax, 255);
    let before = shown().f_bavail * shown().f_frsize;
    std::fs::write(mount.path("file"), vec![1; 4 << 20]).expect("write");
    let after = shown().f_bavail * shown().f_frsize;
    assert!(before - after >= 4 << 20, "{before} {after}");
}
