//! The packages, made once of the program under test.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use crate::common::{mount, need};

/// The top of the repository.
pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A script or file of `packaging/`.
pub(crate) fn packaging(name: &str) -> PathBuf {
    repository().join("packaging").join(name)
}

/// The Debian package with that revision; reports a skip and returns `None` where none can be made.
pub(crate) fn deb(revision: &str) -> Option<PathBuf> {
    need::programs(["dpkg-deb", "gzip", "strip"])?;
    // A static is never dropped, so the place is one that the next run finds and clears.
    static MAKING: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let mut made = MAKING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("packages").join(revision);
    let found = || std::fs::read_dir(&dir).ok()?.flatten().map(|entry| entry.path()).next();
    if !made.insert(revision.to_owned()) {
        return found();
    }
    let _nothing_there = std::fs::remove_dir_all(&dir);
    let mut build = Command::new(packaging("deb/build"));
    build.arg(mount::program()).arg(&dir).env("REVISION", revision).env("COMPRESS", "gzip");
    let output = build.output().expect("deb/build runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    found()
}
