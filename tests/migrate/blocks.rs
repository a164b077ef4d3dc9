//! What keeps a file where it is: each is left alone with its reason, counted, and moves once nothing
//! is in its way.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::fcntl::{FcntlArg, fcntl};
use rustix::fs::FlockOperation;
use tierfs::sys::{lease, signal};
use tierfs::types::lease::Excludes;

use crate::common::fs::{exists, get, put};
use crate::common::loopfs::run;
use crate::common::mount::{Setup, TestMount};
use crate::common::{need, wait};
use crate::kit::{Ran, migrate, moved_by, on, recall, tierfs};

/// A mount over ext4 and xfs, with passthrough and without, of a file `f`, and another that is free.
fn each_way(check: impl Fn(&TestMount, &Path)) {
    for option in ["passthrough", "nopassthrough"] {
        let Some((_tiers, setup)) = on(["ext4", "xfs"], 512) else { return };
        put(setup.tier(0).join("f"), "contents");
        put(setup.tier(0).join("free"), "free");
        let Some(mount) = setup.option(option).mount() else { return };
        eprintln!("{option}");
        check(&mount, &mount.path("f"));
    }
}

/// `f` stays for this reason and the other file goes; then nothing is in the way any more.
#[track_caller]
fn stays(mount: &TestMount, why: &str) {
    let in_use = "in use";
    // The kernel tells of the last close a moment after it.
    let ran = wait::until("the file stays for another reason", || {
        let ran = migrate(mount, &[]).ends(0);
        (why == in_use || !ran.skipped().contains_key(in_use)).then_some(ran)
    });
    let skipped = ran.skipped();
    assert_eq!(skipped.iter().map(|(why, count)| (why.as_str(), *count)).collect::<Vec<_>>(), [(why, 1)], "{ran:?}");
    let events = ran.json();
    let event = events.iter().find(|event| event["event"] == "skipped").expect("an event");
    assert_eq!((event["path"].as_str(), event["reason"].as_str()), (Some("f"), Some(why)));
    assert!(exists(mount.tier(0, "f")) && !exists(mount.tier(1, "f")), "it has moved");
    assert!(exists(mount.tier(1, "free")), "the other one stays");
}

#[track_caller]
fn goes(mount: &TestMount) {
    // The kernel tells of the last close a moment after it.
    wait::until("the file may go", || (migrate(mount, &[]).ends(0).count("moved") == 1).then_some(()));
    assert!(!exists(mount.tier(0, "f")) && exists(mount.tier(1, "f")));
    assert_eq!(get(mount.path("f")), "contents");
}

/// Open for reading, for writing or for both, through the mount.
#[test]
fn open_through_the_mount() {
    for (read, write) in [(true, false), (false, true), (true, true)] {
        each_way(|mount, path| {
            let held = File::options().read(read).write(write).open(path).expect("open");
            stays(mount, "in use");
            drop(held);
            goes(mount);
        });
    }
}

/// Open beside the mount, in the tier itself.
#[test]
fn open_beside_the_mount() {
    for write in [false, true] {
        each_way(|mount, _| {
            let held = File::options().read(true).write(write).open(mount.tier(0, "f")).expect("open");
            stays(mount, "in use");
            drop(held);
            goes(mount);
        });
    }
}

/// A file that was made through the mount is in use only until it is closed.
#[test]
fn a_file_made_through_the_mount_goes_once_it_is_closed() {
    each_way(|mount, path| {
        std::fs::remove_file(path).expect("unlink");
        let mut made = File::create_new(path).expect("create");
        made.write_all(b"contents").expect("write");
        stays(mount, "in use");
        drop(made);
        goes(mount);
    });
}

/// A program that maps a file and closes it.
struct Mapped(Child);

impl Mapped {
    fn over(path: &Path, how: &str) -> Option<Mapped> {
        let [xfs_io] = need::programs(["xfs_io"])?;
        let mut command = Command::new(xfs_io);
        command.args(if how == "-r" { &["-r"][..] } else { &[] }).arg(path);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("xfs_io runs");
        let words = format!("mmap {how} 0 8\nclose\nmread -v 0 1\n");
        child.stdin.as_mut().expect("a pipe").write_all(words.as_bytes()).expect("words");
        let maps = format!("/proc/{}/maps", child.id());
        let (fds, name) = (format!("/proc/{}/fd", child.id()), path.file_name().expect("a name").to_owned());
        wait::until("the mapping without a descriptor", || {
            let mapped = std::fs::read_to_string(&maps).unwrap_or_default().contains("/f\n");
            let open = std::fs::read_dir(&fds).ok()?.any(|entry| {
                let target = entry.ok().and_then(|entry| std::fs::read_link(entry.path()).ok());
                target.is_some_and(|target| target.file_name() == Some(&name))
            });
            (mapped && !open).then_some(())
        });
        Some(Mapped(child))
    }

    fn end(mut self) {
        drop(self.0.stdin.take());
        self.0.wait().expect("xfs_io ends");
    }
}

/// A mapping through the mount whose descriptor was closed long ago.
#[test]
fn mapped_and_closed() {
    for how in ["-rw", "-r"] {
        each_way(|mount, path| {
            let Some(mapped) = Mapped::over(path, how) else { return };
            stays(mount, "in use");
            mapped.end();
            goes(mount);
        });
    }
}

/// A mapping beside the mount.
#[test]
fn mapped_and_closed_beside() {
    each_way(|mount, _| {
        let Some(mapped) = Mapped::over(&mount.tier(0, "f"), "-rw") else { return };
        stays(mount, "in use");
        mapped.end();
        goes(mount);
    });
}

/// Locked by flock, by a POSIX lock, by a lock of the open file.
#[test]
fn locked() {
    let region = |kind: i32| nix::libc::flock {
        l_type: i16::try_from(kind).expect("a type of lock"),
        l_whence: 0,
        l_start: 0,
        l_len: 4,
        l_pid: 0,
    };
    type Lock = fn(&File, nix::libc::flock);
    let locks: [(&str, Lock); 3] = [
        ("flock", |file, _| rustix::fs::flock(file, FlockOperation::LockExclusive).expect("flock")),
        ("POSIX", |file, region| assert_eq!(fcntl(file, FcntlArg::F_SETLK(&region)), Ok(0))),
        ("OFD", |file, region| assert_eq!(fcntl(file, FcntlArg::F_OFD_SETLK(&region)), Ok(0))),
    ];
    for (name, lock) in locks {
        each_way(|mount, path| {
            eprintln!("{name}");
            let held = File::options().read(true).write(true).open(path).expect("open");
            lock(&held, region(nix::libc::F_WRLCK));
            stays(mount, "in use");
            drop(held);
            goes(mount);
        });
    }
}

/// Leased, as Samba does for its clients, beside the mount.
#[test]
fn leased() {
    signal::ignore_stray();
    for excludes in [Excludes::Writers, Excludes::All] {
        each_way(|mount, _| {
            let held = File::open(mount.tier(0, "f")).expect("open");
            assert_eq!(lease::take(held.as_fd(), excludes), Ok(true));
            stays(mount, "in use");
            drop(held);
            goes(mount);
        });
    }
}

/// A program that runs.
#[test]
fn running() {
    let Some([sleep]) = need::programs(["sleep"]) else { return };
    each_way(|mount, path| {
        crate::common::fs::copy_program(&sleep, path);
        let rights = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(path, rights).expect("chmod");
        let mut child = Command::new(path).arg("1000").spawn().expect("runs");
        stays(mount, "in use");
        child.kill().expect("kill");
        child.wait().expect("wait");
        wait::until("the program may go", || (migrate(mount, &[]).ends(0).count("moved") == 1).then_some(()));
        let mut moved = Command::new(path).arg("1000").spawn().expect("runs from the secondary");
        let back = recall(mount, "f").ends(0);
        assert_eq!(back.skipped().get("in use"), Some(&1), "{back:?}");
        moved.kill().expect("kill");
        moved.wait().expect("wait");
    });
}

/// `chattr +i` and `+a`.
#[test]
fn immutable() {
    let Some([chattr]) = need::programs(["chattr"]) else { return };
    for flag in ["i", "a"] {
        each_way(|mount, path| {
            run(Command::new(&chattr).arg(format!("+{flag}")).arg(path));
            stays(mount, "immutable");
            run(Command::new(&chattr).arg(format!("-{flag}")).arg(path));
            goes(mount);
        });
    }
}

/// A hard link outside of the named paths; with it, all names go together.
#[test]
fn linked_from_outside() {
    each_way(|mount, path| {
        std::fs::create_dir(mount.path("in")).expect("mkdir");
        std::fs::hard_link(path, mount.path("in/one")).expect("link");
        std::fs::hard_link(path, mount.path("in/two")).expect("link");
        let within = mount.path("in");
        let words = ["migrate".as_ref(), "--older-than".as_ref(), "0".as_ref(), "--json".as_ref(), within.as_os_str()];
        let ran = tierfs(mount, words).ends(0);
        // A summary counts names here, as each of them was named.
        assert_eq!(ran.skipped().get("with hard links outside of the paths"), Some(&2), "{ran:?}");
        assert_eq!(ran.count("moved"), 0);
        assert_eq!(migrate(mount, &[]).ends(0).count("moved"), 2, "the group and the free file");
        for name in ["f", "in/one", "in/two"] {
            assert!(!exists(mount.tier(0, name)) && get(mount.tier(1, name)) == "contents", "{name}");
        }
    });
}

/// A file that hides another copy stays: the hidden one would come to light.
#[test]
fn hiding_another_copy() {
    each_way(|mount, _| {
        put(mount.tier(1, "f"), "the hidden copy");
        wait::until("the mount knows", || Some(()));
        stays_with_copy(mount);
        assert_eq!(get(mount.tier(1, "f")), "the hidden copy");
        // The hidden copy cannot come up either.
        let up = recall(mount, "f").ends(0);
        assert_eq!((up.count("moved"), up.skipped().get("hidden by another copy")), (0, Some(&1)), "{up:?}");
        assert_eq!((get(mount.path("f")), get(mount.tier(1, "f"))), ("contents".into(), "the hidden copy".into()));
    });
}

fn stays_with_copy(mount: &TestMount) {
    let ran = migrate(mount, &[]).ends(0);
    assert_eq!(ran.skipped().get("whose name is taken on the other tier"), Some(&1), "{ran:?}");
    assert!(exists(mount.tier(0, "f")));
}

/// Pinned, itself or by a directory above; a pin to the secondary moves it there whatever its age.
#[test]
fn pinned() {
    let Some((_tiers, setup)) = on(["ext4", "xfs"], 512) else { return };
    for path in ["own/f", "above/deep/er/f", "above/deep/own", "down/f", "free"] {
        put(setup.tier(0).join(path), path);
    }
    let Some(mount) = setup.mount() else { return };
    let pin = |words: &[&str], path: &str| {
        let path = mount.path(path);
        tierfs(&mount, words.iter().map(std::ffi::OsStr::new).chain([path.as_os_str()])).ends(0)
    };
    pin(&["pin"], "own/f");
    pin(&["pin"], "above");
    pin(&["pin", "--tier", "secondary"], "above/deep/own");
    pin(&["pin", "--tier", "secondary"], "down");
    let listed = tierfs(&mount, [std::ffi::OsStr::new("pins"), mount.root().as_os_str()]).ends(0);
    for path in ["own/f", "above", "above/deep/own", "down"] {
        assert!(listed.out.lines().any(|line| line.contains(path)), "{path}: {}", listed.out);
    }
    moved_by(|| migrate(&mount, &[]));
    let rank = |path: &str| usize::from(!exists(mount.tier(0, path)));
    let ranks = ["own/f", "above/deep/er/f", "above/deep/own", "down/f", "free"].map(rank);
    assert_eq!(ranks, [0, 0, 1, 1, 1]);
    pin(&["unpin"], "above");
    pin(&["unpin"], "own/f");
    moved_by(|| migrate(&mount, &[]));
    assert_eq!(["own/f", "above/deep/er/f"].map(rank), [1, 1]);
}

/// What is no regular file stays and troubles nobody.
#[test]
fn special_files() {
    each_way(|mount, _| {
        std::os::unix::fs::symlink("f", mount.path("link")).expect("symlink");
        nix::unistd::mkfifo(&mount.path("fifo"), nix::sys::stat::Mode::S_IRWXU).expect("mkfifo");
        let _socket = std::os::unix::net::UnixListener::bind(mount.path("socket")).expect("bind");
        let ran: Ran = migrate(mount, &[]).ends(0);
        assert_eq!((ran.count("moved"), ran.count("failed")), (2, 0), "{ran:?}");
        for name in ["link", "fifo", "socket"] {
            assert!(exists(mount.tier(0, name)) && !exists(mount.tier(1, name)), "{name}");
        }
        assert_eq!(get(mount.path("link")), "contents");
    });
}

/// A file open for months does not keep another in its directory from going, nor its own links.
#[test]
fn one_of_many_is_open() {
    let setup = Setup::new().seed(|tiers| {
        for at in 0..50 {
            put(tiers[0].join(format!("d/{at}")), at.to_string());
        }
    });
    let Some(mount) = setup.mount() else { return };
    let _held = File::open(mount.path("d/7")).expect("open");
    let ran = migrate(&mount, &[]).ends(0);
    assert_eq!((ran.count("moved"), ran.skipped().get("in use")), (49, Some(&1)), "{ran:?}");
}
