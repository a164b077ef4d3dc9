//! New files, directories and nodes: on the primary, below cloned ancestors.

use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::common::fs::{errno, exists, get, open, put, set_times, set_xattr, stat, user_xattrs};
use crate::common::loopfs::{LoopFs, run};
use crate::common::mount::Setup;
use crate::common::{need, wait};

/// New things go to the primary and nowhere else.
#[test]
fn new_files_are_made_on_the_primary() {
    let Some(mount) = Setup::new().mount() else { return };
    put(mount.path("file"), "x");
    std::fs::create_dir(mount.path("dir")).expect("mkdir");
    std::os::unix::fs::symlink("file", mount.path("link")).expect("symlink");
    for name in ["file", "dir", "link"] {
        assert!(exists(mount.tier(0, name)), "{name}");
        assert!(!exists(mount.tier(1, name)), "{name}");
    }
}

/// An ancestor that is only on a slower tier is cloned with all that makes it what it is.
#[test]
fn missing_ancestors_are_cloned_with_their_metadata() {
    if !need::root() {
        return;
    }
    let Some([setfacl, getfacl]) = need::programs(["setfacl", "getfacl"]) else { return };
    let setup = Setup::new().seed(|tiers| {
        let dir = tiers[1].join("a/b");
        put(dir.join("old"), "");
        for (path, uid, mode) in [("a", 7, 0o2755), ("a/b", 8, 0o1770)] {
            let path = tiers[1].join(path);
            std::os::unix::fs::chown(&path, Some(uid), Some(uid + 100)).expect("chown");
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(&path, mode).expect("chmod");
            set_xattr(&path, "user.note", b"kept");
            let mut command = std::process::Command::new(&setfacl);
            run(command.args(["-m", "u:9:rx,d:u:9:rwx"]).arg(&path));
            set_times(&path, 1_000_000, 1_500_000);
        }
    });
    let Some(mount) = setup.mount() else { return };
    let acl = |path: &std::path::Path| run(std::process::Command::new(&getfacl).args(["-cpn"]).arg(path));
    let shown = acl(&mount.path("a"));
    put(mount.path("a/b/new"), "x");
    assert!(exists(mount.tier(0, "a/b/new")));
    for path in ["a", "a/b"] {
        let (fast, slow) = (mount.tier(0, path), mount.tier(1, path));
        let (clone, origin) = (stat(&fast), stat(&slow));
        assert_eq!(clone.mode(), origin.mode(), "{path}");
        assert_eq!((clone.uid(), clone.gid()), (origin.uid(), origin.gid()), "{path}");
        assert_eq!(user_xattrs(&fast), user_xattrs(&slow), "{path}");
        assert_eq!(acl(&fast), acl(&slow), "{path}");
    }
    assert_eq!(stat(mount.tier(0, "a")).mtime_nsec(), 123_456_789, "an ancestor keeps its mtime");
    assert_eq!(stat(mount.tier(0, "a")).mtime(), 1_500_000);
    assert_eq!(stat(mount.path("a")).mtime(), 1_500_000, "nothing in `a` itself changed");
    assert!(stat(mount.path("a/b")).mtime() > 1_500_000, "a name in `a/b` is new");
    assert_eq!(acl(&mount.path("a")), shown);
    assert_eq!(get(mount.path("a/b/new")), "x");
    assert!(exists(mount.path("a/b/old")));
}

/// A name that is there on any tier is EEXIST.
#[test]
fn a_name_on_a_slower_tier_is_taken() {
    let setup = Setup::new().seed(|tiers| {
        put(tiers[1].join("file"), "slow");
        std::fs::create_dir(tiers[1].join("dir")).expect("mkdir");
    });
    let Some(mount) = setup.mount() else { return };
    for name in ["file", "dir"] {
        let path = mount.path(name);
        assert_eq!(errno(std::fs::create_dir(&path)), Errno::EXIST);
        assert_eq!(errno(std::os::unix::fs::symlink("x", &path)), Errno::EXIST);
        assert_eq!(errno(std::fs::File::create_new(&path)), Errno::EXIST);
    }
    assert!(!exists(mount.tier(0, "file")) && !exists(mount.tier(0, "dir")));
    assert_eq!(errno(std::fs::write(mount.path("dir"), "x")), Errno::ISDIR);
    assert_eq!(errno(std::fs::write(mount.path("no/such"), "x")), Errno::NOENT);
    assert_eq!(errno(std::fs::write(mount.path("file/below"), "x")), Errno::NOTDIR);
}

/// Fifos, sockets and device nodes.
#[test]
fn special_files_are_made_and_work() {
    if !need::root() {
        return;
    }
    let Some(mount) = Setup::new().option("dev").mount() else { return };
    let here = rustix::fs::CWD;
    let make = |name: &str, kind, device| {
        rustix::fs::mknodat(here, mount.path(name), kind, Mode::from_raw_mode(0o644), device).expect(name);
        stat(mount.path(name))
    };
    assert!(make("fifo", FileType::Fifo, 0).file_type().is_fifo());
    assert!(make("socket", FileType::Socket, 0).file_type().is_socket());
    let null = make("null", FileType::CharacterDevice, rustix::fs::makedev(1, 3));
    assert!(null.file_type().is_char_device());
    assert_eq!(null.rdev(), rustix::fs::makedev(1, 3));
    let block = make("block", FileType::BlockDevice, rustix::fs::makedev(7, 200));
    assert!(block.file_type().is_block_device());
    assert!(make("plain", FileType::RegularFile, 0).is_file());
    std::fs::write(mount.path("null"), "gone").expect("write to the null device");
    let listener = std::os::unix::net::UnixListener::bind(mount.path("bound")).expect("bind");
    std::os::unix::net::UnixStream::connect(mount.path("bound")).expect("connect");
    drop(listener);
    let fifo = mount.path("fifo");
    let writer = std::thread::spawn(move || std::fs::write(fifo, "through the fifo"));
    assert_eq!(get(mount.path("fifo")), "through the fifo");
    writer.join().expect("writer").expect("write");
}

/// A primary that takes no more files sends new ones to the next tier.
#[test]
fn a_full_primary_spills_to_the_next_tier() {
    let Some(small) = LoopFs::new("tmpfs", 64) else { return };
    let Some(large) = LoopFs::new("tmpfs", 64) else { return };
    let roots = [small.path().join("fast"), large.path().join("slow")];
    let Some(mount) = Setup::new().roots(&roots).option("min_free=0").mount() else { return };
    put(mount.path("first"), "x");
    let mut remount = std::process::Command::new("mount");
    run(remount.args(["-o", "remount,nr_inodes=20"]).arg(small.path()));
    let filled = (0..40).take_while(|number| std::fs::create_dir(roots[0].join(format!("ballast{number}"))).is_ok());
    assert!(filled.count() < 40, "the primary is full now");
    put(mount.path("dir/spilled"), "y");
    std::os::unix::fs::symlink("x", mount.path("dir/link")).expect("symlink");
    assert_eq!(get(mount.path("dir/spilled")), "y");
    assert_eq!(get(mount.tier(1, "dir/spilled")), "y");
    let Some(mount) = mount.unmount().option("nospill").mount() else { return };
    assert_eq!(errno(std::fs::write(mount.path("another"), "z")), Errno::NOSPC);
}

/// With little free on the primary, new files go to the next tier.
#[test]
fn below_min_free_new_files_go_to_the_next_tier() {
    let Some(small) = LoopFs::new("tmpfs", 8) else { return };
    let Some(large) = LoopFs::new("tmpfs", 64) else { return };
    let roots = [small.path().join("fast"), large.path().join("slow")];
    let Some(mount) = Setup::new().roots(&roots).option("min_free=4M").mount() else { return };
    put(mount.path("first"), vec![1; 5 << 20]);
    assert!(exists(mount.tier(0, "first")));
    // What is free is looked up now and then, not for every file.
    let mut number = 0;
    wait::until("new files go to the next tier", || {
        number += 1;
        put(mount.path(format!("next{number}")), "x");
        exists(mount.tier(1, format!("next{number}"))).then_some(())
    });
}

/// O_CREAT|O_EXCL and O_TMPFILE: the first is exact, the second is refused as documented.
#[test]
fn o_excl_and_o_tmpfile() {
    let Some(mount) = Setup::new().mount() else { return };
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR;
    open(mount.path("new"), flags, 0o600).expect("create");
    assert_eq!(errno(open(mount.path("new"), flags, 0o600)), Errno::EXIST);
    let nameless = open(mount.root(), OFlags::TMPFILE | OFlags::RDWR, 0o600);
    assert_eq!(errno(nameless), Errno::OPNOTSUPP);
}

/// A file made read-only can still be written through the descriptor that made it.
#[test]
fn a_file_created_without_write_permission_is_writable_once() {
    use std::io::Write;
    let Some(mount) = Setup::new().mount() else { return };
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
    let mut file = open(mount.path("file"), flags, 0o444).expect("create");
    file.write_all(b"written").expect("write");
    drop(file);
    assert_eq!(get(mount.path("file")), "written");
    assert_eq!(stat(mount.path("file")).mode() & 0o777, 0o444);
}
