//! Whose a new file is, who may do what, and mounts made by ordinary users.
//!
//! Most tests do the same in the mount and in a plain directory and compare: the kernel's own
//! behaviour on a local filesystem is the definition of right.

use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::common::fs::{errno, exists, get, names, open, put, stat};
use crate::common::mount::{Setup, TestMount};
use crate::common::need;
use crate::common::user::{User, with_umask};

fn chmod(path: impl AsRef<Path>, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("chmod");
}

/// Owner, group and mode.
fn rights(path: impl AsRef<Path>) -> (u32, u32, u32) {
    let shown = stat(path);
    (shown.uid(), shown.gid(), shown.mode())
}

/// A mount with a directory `dir` on the slower tier, and a plain directory, both prepared
/// alike; and two users.
struct Pair {
    mount: TestMount,
    plain: PathBuf,
    users: [User; 2],
}

impl Pair {
    fn new(prepare: impl Fn(&Path, &[User; 2])) -> Option<Pair> {
        let users = User::two()?;
        let setup = Setup::new().option("suid").seed(|tiers| {
            std::fs::create_dir(tiers[1].join("dir")).expect("mkdir");
            prepare(&tiers[1].join("dir"), &users);
        });
        let plain = setup.home().join("plain/dir");
        std::fs::create_dir_all(&plain).expect("mkdir");
        prepare(&plain, &users);
        Some(Pair { mount: setup.mount()?, plain, users })
    }

    /// Does the same in both and compares the answers and the rights of everything there.
    fn same<T: PartialEq + std::fmt::Debug>(&self, what: &str, act: impl Fn(&Path) -> T) {
        let mounted = self.mount.path("dir");
        assert_eq!(act(&mounted), act(&self.plain), "{what}: mount, plain directory");
        let listed = names(&self.plain);
        assert_eq!(names(&mounted), listed, "{what}");
        for name in listed {
            let shown = (rights(mounted.join(&name)), rights(self.plain.join(&name)));
            assert_eq!(shown.0, shown.1, "{what}: {name:?}: mount, plain directory");
        }
        assert_eq!(rights(&mounted), rights(&self.plain), "{what}: the directory itself");
    }
}

/// Files, directories, nodes and links belong to the caller, with his umask.
#[test]
fn new_things_belong_to_the_caller() {
    let made = |dir: &Path, mask: u32| {
        with_umask(mask, || {
            put(dir.join(format!("file{mask:o}")), "x");
            open(dir.join(format!("exact{mask:o}")), OFlags::CREATE | OFlags::RDWR, 0o6777).expect("create");
            std::fs::create_dir(dir.join(format!("dir{mask:o}"))).expect("mkdir");
            let fifo = dir.join(format!("fifo{mask:o}"));
            rustix::fs::mkfifoat(rustix::fs::CWD, fifo, Mode::from_raw_mode(0o666)).expect("fifo");
            std::os::unix::fs::symlink("x", dir.join(format!("link{mask:o}"))).expect("symlink");
        });
    };
    let Some(pair) = Pair::new(|dir, _| chmod(dir, 0o777)) else { return };
    for mask in [0o000, 0o022, 0o077, 0o027] {
        pair.same("root", |dir| made(dir, mask));
    }
    for user in &pair.users {
        let Some(pair) = Pair::new(|dir, _| chmod(dir, 0o777)) else { return };
        for mask in [0o000, 0o022, 0o077] {
            pair.same(&user.name, |dir| user.run(|| made(dir, mask)));
        }
    }
}

/// A directory of a group gives its group on, and the set-group-id bit to directories.
#[test]
fn setgid_directories_give_their_group_on() {
    let prepare = |dir: &Path, users: &[User; 2]| {
        chown(dir, Some(users[0].uid), Some(users[1].gid)).expect("chown");
        chmod(dir, 0o2777);
    };
    let Some(pair) = Pair::new(prepare) else { return };
    for (place, user) in pair.users.iter().enumerate() {
        pair.same(&user.name, |dir| {
            user.run(|| {
                put(dir.join(format!("file{place}")), "x");
                std::fs::create_dir(dir.join(format!("dir{place}"))).expect("mkdir");
                put(dir.join(format!("dir{place}/below")), "x");
                let flags = OFlags::CREATE | OFlags::RDWR;
                open(dir.join(format!("bits{place}")), flags, 0o2775).expect("create");
            });
            rights(dir.join(format!("dir{place}/below")))
        });
    }
    pair.same("root", |dir| put(dir.join("root"), "x"));
}

/// Supplementary groups open doors, and are no more than the caller really has.
#[test]
fn supplementary_groups_count() {
    let Some([user, other]) = User::two() else { return };
    let group = 54321;
    let prepare = |dir: &Path, _: &[User; 2]| {
        chown(dir, Some(0), Some(group)).expect("chown");
        chmod(dir, 0o770);
        put(dir.join("file"), "shared");
        chown(dir.join("file"), Some(0), Some(group)).expect("chown");
        chmod(dir.join("file"), 0o660);
    };
    let Some(pair) = Pair::new(prepare) else { return };
    let member = user.clone().member_of(group);
    pair.same("a member", |dir| {
        member.run(|| {
            put(dir.join("new"), "x");
            std::fs::create_dir(dir.join("sub")).expect("mkdir");
            std::fs::write(dir.join("file"), "written").expect("write");
            let chgrp = chown(dir.join("new"), None, Some(group));
            chgrp.expect("a member may give his file to the group");
            chmod(dir.join("new"), 0o2775);
        });
    });
    for outsider in [user, other] {
        pair.same("an outsider", |dir| {
            outsider.run(|| {
                let made = std::fs::write(dir.join("no"), "x");
                (errno(made), errno(std::fs::read(dir.join("file"))))
            })
        });
    }
}

/// Without the right, no: reading, writing, listing, making, deleting, changing.
#[test]
fn permissions_are_the_kernels() {
    let prepare = |dir: &Path, users: &[User; 2]| {
        let mine = dir.join("mine");
        put(&mine, "x");
        chown(&mine, Some(users[0].uid), Some(users[0].gid)).expect("chown");
        chmod(&mine, 0o640);
        put(dir.join("roots"), "x");
        chmod(dir.join("roots"), 0o600);
        std::fs::create_dir(dir.join("sticky")).expect("mkdir");
        chmod(dir.join("sticky"), 0o1777);
        put(dir.join("sticky/roots"), "x");
        std::fs::create_dir(dir.join("closed")).expect("mkdir");
        chmod(dir.join("closed"), 0o700);
        put(dir.join("closed/file"), "x");
    };
    let Some(pair) = Pair::new(prepare) else { return };
    for user in &pair.users {
        pair.same(&user.name, |dir| {
            user.run(|| {
                let code = |outcome: std::io::Result<()>| outcome.map_err(|error| error.raw_os_error());
                let now = std::time::SystemTime::now();
                vec![
                    code(std::fs::read(dir.join("mine")).map(drop)),
                    code(std::fs::write(dir.join("mine"), "y")),
                    code(std::fs::read(dir.join("roots")).map(drop)),
                    code(std::fs::write(dir.join("new"), "y")),
                    code(std::fs::create_dir(dir.join("newdir"))),
                    code(std::fs::remove_file(dir.join("mine"))),
                    code(std::fs::remove_file(dir.join("sticky/roots"))),
                    code(std::fs::rename(dir.join("sticky/roots"), dir.join("sticky/x"))),
                    code(std::fs::read_dir(dir.join("closed")).map(drop)),
                    code(std::fs::read(dir.join("closed/file")).map(drop)),
                    code(std::fs::set_permissions(dir.join("mine"), PermissionsExt::from_mode(0o600))),
                    code(std::fs::set_permissions(dir.join("roots"), PermissionsExt::from_mode(0o666))),
                    code(chown(dir.join("mine"), Some(0), None)),
                    code(std::fs::File::open(dir.join("mine")).and_then(|file| file.set_modified(now))),
                    code(std::fs::hard_link(dir.join("roots"), dir.join("sticky/link"))),
                ]
            })
        });
    }
}

/// Something that changes a file.
type Change<'a> = &'a (dyn Fn(&Path) + Sync);

/// Set-id bits go when somebody else writes, truncates, allocates or changes the owner.
#[test]
fn set_id_bits_are_cleared_by_changes() {
    let prepare = |dir: &Path, _: &[User; 2]| chmod(dir, 0o777);
    let Some(pair) = Pair::new(prepare) else { return };
    let user = &pair.users[0];
    // A group in which neither the user nor the daemon is.
    let group = 54321;
    let edit = |path: &Path| std::fs::File::options().write(true).open(path).expect("open");
    let changes: [(&str, Change); 5] = [
        ("write", &|path| edit(path).write_all(b"y").expect("write")),
        ("truncate", &|path| edit(path).set_len(1).expect("truncate")),
        ("open", &|path| std::fs::write(path, "").expect("open to truncate")),
        ("allocate", &|path| {
            rustix::fs::fallocate(edit(path), FallocateFlags::empty(), 0, 5000).expect("allocate");
        }),
        ("write twice", &|path| {
            let mut file = edit(path);
            file.write_all(b"y").expect("write");
            file.write_all(b"z").expect("write");
        }),
    ];
    for (name, change) in changes {
        for mode in [0o4777, 0o2777, 0o6777, 0o2767] {
            pair.same(&format!("{name} {mode:o}"), |dir| {
                let path = dir.join("program");
                put(&path, "xyz");
                chown(&path, None, Some(group)).expect("chown");
                chmod(&path, mode);
                user.run(|| change(&path));
                let shown = rights(&path);
                std::fs::remove_file(&path).expect("unlink");
                shown
            });
        }
    }
    pair.same("chown", |dir| {
        let path = dir.join("program");
        put(&path, "xyz");
        chmod(&path, 0o6777);
        chown(&path, Some(user.uid), None).expect("chown");
        rights(&path)
    });
}

/// A file capability goes with the first write.
#[test]
fn capabilities_are_cleared_by_writes() {
    let Some([setcap, getcap]) = need::programs(["setcap", "getcap"]) else { return };
    let Some(pair) = Pair::new(|dir, _| chmod(dir, 0o777)) else { return };
    pair.same("a write", |dir| {
        let path = dir.join("program");
        put(&path, "xyz");
        chmod(&path, 0o777);
        let mut command = std::process::Command::new(&setcap);
        crate::common::loopfs::run(command.arg("cap_net_raw+ep").arg(&path));
        let has = || {
            let mut command = std::process::Command::new(&getcap);
            crate::common::loopfs::run(command.arg(&path)).contains("cap_net_raw")
        };
        let before = has();
        let mut file = std::fs::File::options().write(true).open(&path).expect("open");
        pair.users[0].run(|| file.write_all(b"a")).expect("write");
        (before, has())
    });
}

/// Only the mounting user gets in without `allow_other`.
#[test]
fn others_stay_out_without_allow_other() {
    let Some([owner, other]) = User::two() else { return };
    let Some(mount) = Setup::new().by(&owner).mount() else { return };
    owner.run(|| put(mount.path("file"), "x"));
    let refused = other.run(|| errno(std::fs::read(mount.path("file"))));
    assert_eq!(refused, Errno::ACCESS);
    assert_eq!(errno(std::fs::read_dir(mount.root())), Errno::ACCESS, "root also");
}

/// An ordinary user mounts through fusermount3 and works in it.
#[test]
fn an_ordinary_user_mounts_and_works() {
    if need::programs(["fusermount3", "setpriv"]).is_none() {
        return;
    }
    let Some([owner, _]) = User::two() else { return };
    let setup = Setup::new().seed(|tiers| {
        put(tiers[0].join("shared"), "fast");
        put(tiers[1].join("shared"), "slow");
        put(tiers[1].join("docs/old"), "old");
        for path in ["docs", "docs/old", "shared"] {
            chown(tiers[1].join(path), Some(owner.uid), Some(owner.gid)).expect("chown");
        }
        chown(tiers[0].join("shared"), Some(owner.uid), Some(owner.gid)).expect("chown");
    });
    let Some(mount) = setup.by(&owner).mount() else { return };
    let (uid, gid) = (owner.uid, owner.gid);
    owner.run(|| {
        assert_eq!(get(mount.path("shared")), "fast");
        put(mount.path("docs/new"), "new");
        assert_eq!(names(mount.path("docs")), ["new", "old"]);
        std::fs::rename(mount.path("docs"), mount.path("papers")).expect("rename");
        std::fs::hard_link(mount.path("papers/old"), mount.path("again")).expect("link");
        assert_eq!(stat(mount.path("again")).nlink(), 2);
        std::fs::write(mount.path("papers/old"), "changed").expect("write");
        chmod(mount.path("papers/old"), 0o600);
        let shown = rights(mount.path("papers/new"));
        assert_eq!((shown.0, shown.1), (uid, gid));
        std::fs::remove_file(mount.path("shared")).expect("unlink");
        assert!(!exists(mount.path("shared")));
        let given_away = chown(mount.path("again"), Some(0), None);
        assert_eq!(errno(given_away), Errno::PERM);
    });
    assert_eq!(get(mount.tier(1, "papers/old")), "changed");
    assert!(!exists(mount.tier(1, "shared")) && !exists(mount.tier(0, "docs")));
    let mount = mount.remount();
    owner.run(|| assert_eq!(names(mount.path("papers")), ["new", "old"]));
}

/// What appeared under a name that the kernel believes absent is opened only by who may open it.
#[test]
fn regression_creating_does_not_open_what_appeared_beside_the_mount() {
    let Some([user, _]) = User::two() else { return };
    let setup = Setup::new().option("allow_other").option("out_of_band=never");
    let Some(mount) = setup.mount() else { return };
    std::fs::set_permissions(mount.root(), PermissionsExt::from_mode(0o777)).expect("chmod");
    assert!(!exists(mount.path("secret")), "the kernel learns that it is absent");
    put(mount.tier(1, "secret"), "root only");
    std::fs::set_permissions(mount.tier(1, "secret"), PermissionsExt::from_mode(0o600)).expect("chmod");
    let path = mount.path("secret");
    let opened = user.run(|| open(&path, OFlags::RDWR | OFlags::CREATE, 0o644).map(drop));
    assert_eq!(errno(opened), Errno::ACCESS);
    assert_eq!(get(mount.tier(1, "secret")), "root only");
}
