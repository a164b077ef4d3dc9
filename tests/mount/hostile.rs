//! A hostile user who swaps directories for symbolic links must never lead the daemon, which is
//! root, out of a tier.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};

use crate::common::fs::{get, names, put, rename, stat};
use crate::common::mount::{Setup, TestMount};
use crate::common::user::User;
use crate::common::wait;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

const SECRET: &str = "the secret outside of every tier";
const ROUNDS: usize = 1500;

/// Beside the mount, in a world-writable tree of the tiers.
#[test]
fn swaps_in_the_tiers_never_lead_outside() {
    let Some(field) = Field::new() else { return };
    let homes = [field.mount.tier(0, "w"), field.mount.tier(1, "w")];
    field.race(&homes);
}

/// Through the mount.
#[test]
fn swaps_through_the_mount_never_lead_outside() {
    let Some(field) = Field::new() else { return };
    let homes = [field.mount.path("w"), field.mount.path("w")];
    field.race(&homes);
}

struct Field {
    mount: TestMount,
    attacker: User,
}

impl Field {
    /// Both tiers hold a world-writable `w` with a real directory `dir`, a real file `file`, and
    /// for each a symbolic link that leads outside, ready to be exchanged with it.
    fn new() -> Option<Field> {
        let [attacker, _] = User::two()?;
        let setup = Setup::new();
        let outside = setup.home().join("outside");
        put(outside.join("target"), SECRET);
        std::fs::set_permissions(&outside, PermissionsExt::from_mode(0o700)).expect("chmod");
        let open = |path: &Path| {
            std::fs::set_permissions(path, PermissionsExt::from_mode(0o777)).expect("chmod");
        };
        let setup = setup.seed(|tiers| {
            for tier in tiers {
                put(tier.join("w/dir/target"), "inside");
                put(tier.join("w/file"), "inside");
                std::os::unix::fs::symlink("../../outside", tier.join("w/dirlink")).expect("link");
                let secret = outside.join("target");
                std::os::unix::fs::symlink(secret, tier.join("w/filelink")).expect("link");
                open(&tier.join("w"));
                open(&tier.join("w/dir"));
            }
        });
        Some(Field { mount: setup.mount()?, attacker })
    }

    fn race(&self, homes: &[std::path::PathBuf; 2]) {
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let _end = wait::AtEnd(&done);
            for (home, pair) in homes.iter().zip([("dir", "dirlink"), ("file", "filelink")]) {
                let swap = |pair: (&str, &str)| {
                    let names = (home.join(pair.0), home.join(pair.1));
                    let _ = rename(names.0, names.1, RenameFlags::EXCHANGE);
                };
                let done = &done;
                scope.spawn(move || {
                    self.attacker.run(|| {
                        while !done.load(Ordering::Relaxed) {
                            swap(pair);
                            swap(("dir", "dirlink"));
                        }
                    });
                });
            }
            for round in 0..ROUNDS {
                self.victim(round);
            }
        });
        self.check();
    }

    /// A careful program of root: it follows no link itself, so what it reaches was served.
    fn victim(&self, round: usize) {
        let follow = OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = rustix::fs::open(self.mount.path("w"), follow | OFlags::PATH, Mode::empty());
        let folder = folder.expect("w is never swapped");
        look(&folder, "file");
        let flags = follow | OFlags::DIRECTORY;
        if let Ok(dir) = rustix::fs::openat(&folder, "dir", flags, Mode::empty()) {
            look(&dir, "target");
            let name = format!("made{round}");
            let create = follow | OFlags::CREATE | OFlags::WRONLY;
            let _ = rustix::fs::openat(&dir, &name, create, Mode::from_raw_mode(0o666));
            let _ = rustix::fs::renameat(&dir, &name, &dir, "renamed");
            let _ = rustix::fs::linkat(&dir, "target", &dir, "linked", AtFlags::empty());
            let _ = rustix::fs::unlinkat(&dir, "linked", AtFlags::empty());
            let _ = rustix::fs::unlinkat(&dir, "renamed", AtFlags::empty());
            let _ = rustix::fs::mkdirat(&dir, "folder", Mode::from_raw_mode(0o777));
            let _ = rustix::fs::unlinkat(&dir, "folder", AtFlags::REMOVEDIR);
        }
        let write = follow | OFlags::WRONLY | OFlags::TRUNC;
        if let Ok(file) = rustix::fs::openat(&folder, "file", write, Mode::empty()) {
            let _ = rustix::io::write(&file, b"inside");
            let _ = rustix::fs::fchmod(&file, Mode::from_raw_mode(0o666));
        }
    }

    fn check(&self) {
        let outside = self.mount.home().join("outside");
        assert_eq!(names(&outside), ["target"], "something was made outside");
        assert_eq!(get(outside.join("target")), SECRET);
        assert_eq!(stat(outside.join("target")).mode() & 0o7777, 0o644);
        assert_eq!(stat(&outside).mode() & 0o7777, 0o700);
    }
}

/// Reads a file by all ways and fails if it is the secret.
fn look(folder: &OwnedFd, name: &str) {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(file) = rustix::fs::openat(folder, name, flags, Mode::empty()) else { return };
    let mut bytes = [0; 100];
    let length = rustix::io::pread(&file, &mut bytes, 0).unwrap_or(0);
    let text = String::from_utf8_lossy(&bytes[..length]);
    assert!(!text.contains("secret"), "the daemon followed a link out of the tier");
}
