//! Extended attributes and access control lists.

use std::process::Command;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use crate::common::fs::{get, put, set_xattr, stat, user_xattrs, xattr, xattr_names};
use crate::common::loopfs::run;
use crate::common::mount::Setup;
use crate::common::need;
use crate::common::setting::only_plain;
use crate::common::user::User;

/// Set, replace, list, remove; flags and errors as the kernel documents.
#[test]
fn attributes_of_files_links_and_directories() {
    if !need::root() {
        return;
    }
    let setup = Setup::new().seed(|tiers| {
        put(tiers[1].join("file"), "x");
        put(tiers[1].join("dir/x"), "x");
        set_xattr(tiers[1].join("file"), "user.seeded", b"\0bytes\xff");
        std::os::unix::fs::symlink("file", tiers[1].join("link")).expect("symlink");
    });
    let Some(mount) = setup.mount() else { return };
    assert_eq!(xattr(mount.path("file"), "user.seeded").expect("get"), b"\0bytes\xff");
    for name in ["file", "dir"] {
        let path = mount.path(name);
        set_xattr(&path, "user.one", b"1");
        set_xattr(&path, "user.two", &vec![2; 3000]);
        set_xattr(&path, "user.empty", b"");
        assert_eq!(xattr(&path, "user.two").expect("get").len(), 3000, "{name}");
        assert_eq!(xattr(&path, "user.empty").expect("get"), b"", "{name}");
        let set = |key: &str, flags| rustix::fs::setxattr(&path, key, b"new", flags);
        assert_eq!(set("user.one", XattrFlags::CREATE), Err(Errno::EXIST), "{name}");
        assert_eq!(set("user.none", XattrFlags::REPLACE), Err(Errno::NODATA), "{name}");
        set("user.one", XattrFlags::REPLACE).expect("replace");
        assert_eq!(xattr(&path, "user.one").expect("get"), b"new", "{name}");
        rustix::fs::removexattr(&path, "user.two").expect("remove");
        assert_eq!(xattr(&path, "user.two"), Err(Errno::NODATA), "{name}");
        let gone = rustix::fs::removexattr(&path, "user.two");
        assert_eq!(gone, Err(Errno::NODATA), "{name}");
        assert!(xattr_names(&path).contains("user.one"), "{name}");
        assert_eq!(user_xattrs(mount.tier(1, name)), user_xattrs(&path), "{name}");
    }
    let mut small = [0; 2];
    let short = rustix::fs::getxattr(mount.path("file"), "user.one", &mut small[..]);
    assert_eq!(short, Err(Errno::RANGE));
    if only_plain("Linux allows links no attributes of the kind that the format has") {
        return;
    }
    set_xattr(mount.path("link"), "trusted.of-the-link", b"x");
    assert_eq!(xattr(mount.path("link"), "trusted.of-the-link").expect("get"), b"x");
    assert_eq!(xattr(mount.path("file"), "trusted.of-the-link"), Err(Errno::NODATA));
}

/// What tierfs keeps in attributes of its own is not listed and cannot be read or set.
#[test]
fn own_attributes_are_hidden() {
    let setup = Setup::new().seed(|tiers| put(tiers[1].join("dir/old"), "x"));
    let Some(mount) = setup.mount() else { return };
    put(mount.path("dir/new"), "x");
    let stamped = xattr_names(mount.tier(0, "dir"));
    assert!(xattr_names(mount.path("dir")).iter().all(|name| !name.contains("tierfs")));
    for name in stamped.iter().filter(|name| name.contains("tierfs")) {
        assert!(xattr(mount.path("dir"), name).is_err(), "{name}");
        let path = mount.path("dir/new");
        let set = rustix::fs::setxattr(&path, name.as_str(), b"x", XattrFlags::empty());
        assert!(set.is_err(), "{name}");
    }
}

/// `user.tierfs.tier` answers which tier holds a path, and is not in the listing, so that copying
/// programs do not take it along.
#[test]
fn the_tier_of_a_path_can_be_asked() {
    let setup = Setup::new().seed(|tiers| {
        put(tiers[0].join("fast"), "x");
        put(tiers[1].join("slow"), "x");
    });
    let Some(mount) = setup.mount() else { return };
    let [fast, slow] = ["fast", "slow"].map(|name| xattr(mount.path(name), "user.tierfs.tier").expect("an answer"));
    assert_ne!(fast, slow);
    assert!(!xattr_names(mount.path("fast")).contains("user.tierfs.tier"));
}

/// ACLs: set, shown, enforced for those they name, kept on every copy of a directory.
#[test]
fn access_control_lists_are_enforced() {
    let Some([friend, stranger]) = User::two() else { return };
    let Some([setfacl, getfacl]) = need::programs(["setfacl", "getfacl"]) else { return };
    let setup = Setup::new().seed(|tiers| {
        for tier in tiers {
            put(tier.join("dir").join(tier.file_name().expect("name")), "secret");
        }
    });
    let Some(mount) = setup.mount() else { return };
    let acl = |words: &str, path: &std::path::Path| {
        run(Command::new(&setfacl).args(["-m", words]).arg(path));
    };
    let rule = format!("u::rwx,g::-,o::-,u:{}:rx", friend.uid);
    acl(&rule, &mount.path("dir"));
    for file in ["t0", "t1"] {
        acl(&format!("o::-,g::-,u:{}:r", friend.uid), &mount.path("dir").join(file));
        let path = mount.path("dir").join(file);
        assert_eq!(friend.run(|| get(&path)), "secret", "{file}");
        assert!(stranger.run(|| std::fs::read(&path)).is_err(), "{file}");
        assert!(friend.run(|| std::fs::write(&path, "x")).is_err(), "{file}");
    }
    for rank in 0..2 {
        let shown = run(Command::new(&getfacl).args(["-cpn"]).arg(mount.tier(rank, "dir")));
        assert!(shown.contains(&format!("user:{}:r-x", friend.uid)), "tier {rank}: {shown}");
    }
    let mode = stat(mount.path("dir/t1")).permissions();
    std::fs::set_permissions(mount.path("dir/t1"), mode).expect("chmod");
    run(Command::new(&setfacl).arg("-b").arg(mount.path("dir/t1")));
    assert!(friend.run(|| std::fs::read(mount.path("dir/t1"))).is_err());
}

/// A default ACL is inherited by files and directories made through the mount, also into a
/// directory that was cloned for them.
#[test]
fn default_acls_are_inherited() {
    let Some([maker, friend]) = User::two() else { return };
    let Some([setfacl, getfacl]) = need::programs(["setfacl", "getfacl"]) else { return };
    let setup = Setup::new().seed(|tiers| {
        let dir = tiers[1].join("dir");
        std::fs::create_dir(&dir).expect("mkdir");
        let rules = format!("u:{}:rwx,d:u:{}:rwx,d:u:{}:rx", maker.uid, maker.uid, friend.uid);
        run(Command::new(&setfacl).args(["-m", &rules]).arg(&dir));
    });
    let Some(mount) = setup.mount() else { return };
    maker.run(|| {
        put(mount.path("dir/file"), "x");
        std::fs::create_dir(mount.path("dir/sub")).expect("mkdir");
    });
    let reference = mount.home().join("reference");
    std::fs::create_dir(&reference).expect("mkdir");
    let rules = format!("u:{}:rwx,d:u:{}:rwx,d:u:{}:rx", maker.uid, maker.uid, friend.uid);
    run(Command::new(&setfacl).args(["-m", &rules]).arg(&reference));
    maker.run(|| {
        put(reference.join("file"), "x");
        std::fs::create_dir(reference.join("sub")).expect("mkdir");
    });
    let shown = |path: std::path::PathBuf| run(Command::new(&getfacl).args(["-cpn"]).arg(path));
    for name in ["", "file", "sub"] {
        assert_eq!(shown(mount.path("dir").join(name)), shown(reference.join(name)), "{name:?}");
        let mode = |path: std::path::PathBuf| std::os::unix::fs::MetadataExt::mode(&stat(path));
        assert_eq!(mode(mount.path("dir").join(name)), mode(reference.join(name)), "{name:?}");
    }
    friend.run(|| assert_eq!(get(mount.path("dir/file")), "x"));
}
