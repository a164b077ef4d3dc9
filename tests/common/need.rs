//! What a test needs from the machine, and what happens where it is not there.

use std::path::{Path, PathBuf};

/// The system's own Python: what Debian's packages bring is unknown to another one that may be first
/// on the path.
pub(crate) const PYTHON: &str = "/usr/bin/python3";

/// Reports that the running test is skipped; in CI, where nothing may be missing, it fails.
pub(crate) fn skip(reason: &str) {
    let test = std::thread::current().name().unwrap_or("?").to_owned();
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{test}: CI lacks something: {reason}");
    eprintln!("skipped: {test}: {reason}");
}

/// Whether the tests run as root with a usable `/dev/fuse`; reports a skip where not.
pub(crate) fn root() -> bool {
    if !rustix::process::geteuid().is_root() {
        skip("needs root");
        return false;
    }
    fuse()
}

/// Whether `/dev/fuse` can be used; reports a skip where not.
pub(crate) fn fuse() -> bool {
    let there = std::fs::OpenOptions::new().read(true).write(true).open("/dev/fuse").is_ok();
    if !there {
        skip("needs /dev/fuse");
    }
    there
}

/// Where all of `programs` are; reports a skip and returns `None` if one is missing.
pub(crate) fn programs<const N: usize>(programs: [&str; N]) -> Option<[PathBuf; N]> {
    let found = programs.map(find);
    for (name, path) in programs.iter().zip(&found) {
        if path.is_none() {
            skip(&format!("needs the program {name}"));
            return None;
        }
    }
    Some(found.map(Option::unwrap_or_default))
}

/// Where `program` is: among the tools that `.ci/run` builds, else on the path.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::iter::once(tools)
        .chain(std::env::split_paths(&path))
        .chain(system)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}
