//! What open descriptors keep while the names around them change, and locks.

use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::common::fs::{errno, exists, get, ino, names, open, put, stat};
use crate::common::mount::Setup;
use crate::common::wait;

const OPTIONS: [&str; 2] = ["passthrough", "nopassthrough"];

fn seeded(option: &str) -> Setup {
    Setup::new().option(option).seed(|tiers| {
        put(tiers[0].join("fast"), "fast content");
        put(tiers[1].join("slow"), "slow content");
    })
}

/// An unlinked file lives on through its descriptor: read, write, size, links, mode, xattr.
#[test]
fn an_unlinked_file_lives_while_open() {
    for option in OPTIONS {
        let Some(mount) = seeded(option).mount() else { return };
        for name in ["fast", "slow"] {
            let path = mount.path(name);
            let number = ino(&path);
            let mut file = std::fs::File::options().read(true).write(true).open(&path).expect("open");
            std::fs::remove_file(&path).expect("unlink");
            assert!(!exists(&path));
            let shown = file.metadata().expect("fstat");
            assert_eq!((shown.nlink(), shown.ino()), (0, number), "{option}, {name}");
            let mut text = String::new();
            file.read_to_string(&mut text).expect("read");
            assert_eq!(text, format!("{name} content"), "{option}");
            file.write_all(b" and more").expect("write");
            assert_eq!(file.metadata().expect("fstat").len(), 21, "{option}, {name}");
            file.set_len(4).expect("ftruncate");
            assert_eq!(file.metadata().expect("fstat").len(), 4, "{option}, {name}");
            rustix::fs::fchmod(&file, Mode::from_raw_mode(0o600)).expect("fchmod");
            assert_eq!(file.metadata().expect("fstat").mode() & 0o777, 0o600, "{option}, {name}");
            file.sync_all().expect("fsync");
            put(&path, "a new file of the old name");
            assert_ne!(ino(&path), number, "{option}, {name}");
            assert_eq!(file.metadata().expect("fstat").len(), 4, "{option}, {name}");
            assert_eq!(get(&path), "a new file of the old name");
        }
        mount.unmount();
    }
}

/// A file renamed while open keeps its descriptor; a file renamed over lives on unnamed.
#[test]
fn descriptors_survive_renames() {
    for option in OPTIONS {
        let Some(mount) = seeded(option).mount() else { return };
        let (fast, slow) = (mount.path("fast"), mount.path("slow"));
        let moved = std::fs::File::options().read(true).write(true).open(&slow).expect("open");
        let replaced = std::fs::File::open(&fast).expect("open");
        let numbers = (ino(&slow), ino(&fast));
        std::fs::rename(&slow, &fast).expect("rename over");
        let shown = moved.metadata().expect("fstat of the renamed file");
        assert_eq!((shown.ino(), shown.len(), shown.nlink()), (numbers.0, 12, 1), "{option}");
        let shown = replaced.metadata().expect("fstat of the replaced file");
        assert_eq!((shown.ino(), shown.len(), shown.nlink()), (numbers.1, 12, 0), "{option}");
        moved.write_all_at(b"SLOW", 0).expect("write");
        assert_eq!(get(&fast), "SLOW content", "{option}");
        let mut bytes = [0; 12];
        replaced.read_exact_at(&mut bytes, 0).expect("read");
        assert_eq!(&bytes, b"fast content", "{option}");
        drop((moved, replaced));
        mount.unmount();
    }
}

/// A file opened below a directory that is then renamed.
#[test]
fn descriptors_survive_renames_of_directories() {
    let setup = Setup::new().seed(|tiers| {
        put(tiers[0].join("dir/fast"), "x");
        put(tiers[1].join("dir/slow"), "y");
    });
    let Some(mount) = setup.mount() else { return };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let folder = open(mount.path("dir"), flags, 0).expect("open");
    let file = std::fs::File::options().write(true).open(mount.path("dir/slow")).expect("open");
    std::fs::rename(mount.path("dir"), mount.path("moved")).expect("rename");
    file.write_all_at(b"Y", 0).expect("write");
    assert_eq!(file.metadata().expect("fstat").len(), 1);
    assert_eq!(get(mount.path("moved/slow")), "Y");
    let made = rustix::fs::openat(&folder, "new", OFlags::CREATE | OFlags::WRONLY, 0o644.into());
    made.expect("create below the moved directory");
    assert_eq!(names(mount.path("moved")), ["fast", "new", "slow"]);
}

/// A removed directory that is still open is empty, and nothing can be made in it.
#[test]
fn a_removed_open_directory_is_dead() {
    let setup = Setup::new().seed(|tiers| {
        for tier in tiers {
            std::fs::create_dir(tier.join("dir")).expect("mkdir");
        }
    });
    let Some(mount) = setup.mount() else { return };
    let folder = open(mount.path("dir"), OFlags::RDONLY | OFlags::DIRECTORY, 0).expect("open");
    std::fs::remove_dir(mount.path("dir")).expect("rmdir");
    assert_eq!(folder.metadata().expect("fstat").nlink(), 0);
    let listed = rustix::fs::Dir::read_from(&folder).expect("opendir");
    let left = listed.filter_map(Result::ok).filter(|entry| !matches!(entry.file_name().to_bytes(), b"." | b".."));
    assert_eq!(left.count(), 0);
    let made = rustix::fs::openat(&folder, "new", OFlags::CREATE | OFlags::WRONLY, 0o644.into());
    assert_eq!(made.map(drop), Err(Errno::NOENT));
    let made = rustix::fs::mkdirat(&folder, "new", 0o755.into());
    assert_eq!(made, Err(Errno::NOENT));
    std::fs::create_dir(mount.path("dir")).expect("mkdir of the same name");
    assert!(names(mount.path("dir")).is_empty());
    let gone = rustix::fs::statat(&folder, "new", AtFlags::empty());
    assert_eq!(gone.map(drop), Err(Errno::NOENT));
}

/// Many handles on one file, some reading, some writing, in any order of closing.
#[test]
fn many_handles_share_one_file() {
    for option in OPTIONS {
        let Some(mount) = seeded(option).mount() else { return };
        for name in ["fast", "slow"] {
            let path = mount.path(name);
            let readers: Vec<_> = (0..20).map(|_| std::fs::File::open(&path).expect("open")).collect();
            for round in 0..20u8 {
                let writer = std::fs::File::options().write(true).open(&path).expect("open");
                writer.write_all_at(&[b'a' + round], 0).expect("write");
                drop(writer);
                for reader in &readers {
                    let mut byte = [0];
                    reader.read_exact_at(&mut byte, 0).expect("read");
                    assert_eq!(byte[0], b'a' + round, "{option}, {name}");
                }
            }
        }
        mount.unmount();
    }
}

/// flock and POSIX locks exclude, are seen by all names of the file, and end with the holder.
#[test]
fn locks_exclude() {
    let Some(mount) = seeded("passthrough").mount() else { return };
    std::fs::hard_link(mount.path("slow"), mount.path("second name")).expect("link");
    let edit = |name: &str| std::fs::File::options().read(true).write(true).open(mount.path(name)).expect("open");
    let (first, second) = (edit("slow"), edit("second name"));
    rustix::fs::flock(&first, FlockOperation::LockExclusive).expect("flock");
    let refused = rustix::fs::flock(&second, FlockOperation::NonBlockingLockExclusive);
    assert_eq!(refused, Err(Errno::WOULDBLOCK));
    drop(first);
    wait::until("the lock ends with its holder", || {
        rustix::fs::flock(&second, FlockOperation::NonBlockingLockExclusive).ok()
    });
    let Some([flock]) = crate::common::need::programs(["flock"]) else { return };
    let other = |words: &[&str]| {
        let mut command = std::process::Command::new(&flock);
        let path = mount.path("slow");
        command.args(words).arg(&path).args(["-c", "true"]).status().expect("flock runs").success()
    };
    assert!(!other(&["-n"]), "another process sees the lock");
    rustix::fs::flock(&second, FlockOperation::Unlock).expect("unlock");
    assert!(other(&["-n"]));
    posix_locks_exclude_processes(&mount.path("slow"));
}

/// POSIX locks belong to processes: sqlite, which uses nothing else, sees the lock of another.
fn posix_locks_exclude_processes(path: &std::path::Path) {
    let holder = std::fs::File::options().read(true).write(true).open(path).expect("open");
    let lock = FlockOperation::NonBlockingLockExclusive;
    rustix::fs::fcntl_lock(&holder, lock).expect("POSIX lock");
    let locks = std::fs::read_to_string("/proc/locks").expect("locks");
    let held = format!(":{} ", stat(path).ino());
    let line = locks.lines().find(|line| line.contains("POSIX") && line.contains(&held));
    assert!(line.is_some_and(|line| line.contains("WRITE")), "{held} is not in\n{locks}");
    rustix::fs::fcntl_lock(&holder, FlockOperation::Unlock).expect("unlock");
}

/// A database that locks, maps and syncs works on a file of the slower tier.
#[test]
fn sqlite_works_on_the_slower_tier() {
    let Some([sqlite]) = crate::common::need::programs(["sqlite3"]) else { return };
    let Some(mount) = Setup::new().mount() else { return };
    let sql = |database: &std::path::Path, statement: &str| {
        let mut command = std::process::Command::new(&sqlite);
        crate::common::loopfs::run(command.arg(database).arg(statement))
    };
    sql(&mount.tier(1, "db"), "create table t(a); insert into t values (1);");
    wait::until("the file made beside the mount shows", || exists(mount.path("db")).then_some(()));
    for mode in ["delete", "wal"] {
        sql(&mount.path("db"), &format!("pragma journal_mode={mode};"));
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..10 {
                        let insert = "pragma busy_timeout=600000; insert into t values (2);";
                        sql(&mount.path("db"), insert);
                    }
                });
            }
        });
        assert_eq!(sql(&mount.path("db"), "pragma integrity_check;").trim(), "ok", "{mode}");
    }
    assert_eq!(sql(&mount.path("db"), "select count(*) from t;").trim(), "61");
}

/// A descriptor that cannot be had: opening what is not there, or for what is not allowed.
#[test]
fn opens_that_fail_leave_nothing_behind() {
    let Some(mount) = seeded("passthrough").mount() else { return };
    assert_eq!(get(mount.path("slow")), "slow content");
    let before = mount.descriptors();
    for _ in 0..200 {
        assert_eq!(errno(std::fs::File::open(mount.path("no"))), Errno::NOENT);
        assert_eq!(errno(std::fs::write(mount.root(), "x")), Errno::ISDIR);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        assert_eq!(errno(open(mount.path("slow"), flags, 0)), Errno::NOTDIR);
        drop(std::fs::File::open(mount.path("slow")).expect("open"));
    }
    wait::until("the daemon closes what it opened", || (mount.descriptors() <= before + 4).then_some(()));
}
