//! What can be shown: several directories, parts of them, a mounted union, what a user may not read.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use rustix::io::Errno;

use crate::common::fs::{errno, exists, get, names, put};
use crate::common::mount::{Setup, is_mounted, program, unmount_for_sure};
use crate::common::trees::{plant, same};
use crate::common::user::User;
use crate::common::{need, wait};
use crate::kit::{Ground, View, labelled, words};

#[test]
fn several_directories_are_shown_under_their_labels() {
    let Some(ground) = Ground::new() else { return };
    let conf = ground.init_outside(&[]);
    let (home, www) = (ground.dir("one/home"), ground.dir("two/www"));
    plant(&home);
    put(www.join("index"), "hello");
    let arguments: Vec<OsString> =
        vec!["--conf".into(), conf.clone().into(), home.clone().into(), labelled("web", &www)];
    let view = ground.encrypt("view", &words(&arguments));
    let plain = ground.decrypt("plain", &[view.root().as_os_str()]);
    assert_eq!(names(plain.root()), ["home", "web"]);
    same(&home, &plain.root().join("home"), "under its own name");
    assert_eq!(get(plain.root().join("web/index")), "hello");
    plain.unmount();
    view.unmount();
    // The same from a file, in which paths are relative to it.
    let text = "version: 1\nsources:\n  - {path: one/home}\n  - {path: two/www, label: web}\n\
                encryption: {conf: conf, passfile: pass}\nrules:\n  - exclude: /home/*\n";
    put(ground.path("view.yaml"), text);
    let view = ground.encrypt("view", &["--config".as_ref(), ground.path("view.yaml").as_os_str()]);
    let plain = ground.decrypt("plain", &[view.root().as_os_str()]);
    assert_eq!(names(plain.root().join("home")), [""; 0]);
    assert_eq!(get(plain.root().join("web/index")), "hello");
    plain.unmount();
    view.unmount();
}

#[test]
fn the_first_rule_that_matches_decides() {
    let Some(ground) = Ground::new() else { return };
    let source = ground.source();
    for file in ["docs/a.txt", "docs/keep/b.tmp", "docs/c.tmp", "cache/x/y", "d.tmp", "e"] {
        put(source.join(file), file);
    }
    let conf = ground.init_outside(&[]);
    let rules = ["--include=/docs/keep", "--exclude=*.tmp", "--exclude", "cache/x", "--conf"].map(OsString::from);
    let rules: Vec<OsString> = rules.into_iter().chain([conf.into(), source.into()]).collect();
    let view = ground.encrypt("view", &words(&rules));
    let plain = ground.decrypt("plain", &[view.root().as_os_str()]);
    assert_eq!(names(plain.root()), ["cache", "docs", "e"]);
    assert_eq!(names(plain.root().join("docs")), ["a.txt", "keep"]);
    assert_eq!(get(plain.root().join("docs/keep/b.tmp")), "docs/keep/b.tmp");
    assert_eq!(names(plain.root().join("cache")), [""; 0]);
    plain.unmount();
    view.unmount();
}

#[test]
fn a_mounted_union_is_shown_and_can_be_used_meanwhile() {
    let Some(ground) = Ground::new() else { return };
    let Some(mount) = Setup::new().mount() else { return };
    let conf = ground.init_outside(&[]);
    put(mount.tier(0, "d/fast"), vec![1; 100_000]);
    put(mount.tier(1, "d/slow"), vec![2; 100_000]);
    std::fs::hard_link(mount.tier(1, "d/slow"), mount.tier(1, "d/again")).expect("link");
    let source = mount.path("d");
    let view = ground.encrypt("view", &["--conf".as_ref(), conf.as_os_str(), source.as_os_str()]);
    let plain = ground.decrypt("plain", &[view.root().as_os_str()]);
    assert_eq!(names(plain.root()), ["again", "fast", "slow"]);
    put(source.join("new"), "new");
    assert_eq!(get(plain.root().join("new")), "new");
    for name in ["fast", "slow", "again"] {
        assert_eq!(get(plain.root().join(name)), get(source.join(name)));
    }
    plain.unmount();
    view.unmount();
    // A mount point inside a tier of the union would be inside itself.
    let inside = mount.tier(1, "point");
    std::fs::create_dir(&inside).expect("mkdir");
    let mut command = Command::new(program());
    command.arg("encrypt-view").arg("-f").arg("--passfile").arg(ground.pass());
    command.arg("--conf").arg(&conf).arg(mount.root()).arg(&inside);
    let output = wait::output(&mut command);
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(78), "{words}");
    assert!(words.contains("must be apart"), "{words}");
}

#[test]
fn a_user_sees_all_and_reads_what_is_his() {
    let Some(ground) = Ground::new() else { return };
    let Some([user, _]) = User::two() else { return };
    let source = ground.source();
    put(source.join("mine"), "mine");
    put(source.join("not-mine"), "secret");
    std::os::unix::fs::chown(source.join("mine"), Some(user.uid), Some(user.gid)).expect("chown");
    std::fs::set_permissions(source.join("not-mine"), PermissionsExt::from_mode(0o600)).expect("chmod");
    put(source.join("closed/file"), "x");
    std::fs::set_permissions(source.join("closed"), PermissionsExt::from_mode(0o700)).expect("chmod");
    ground.init(&["-plaintextnames"]);
    let (point, copy) = (ground.dir("view"), ground.path("tierfs"));
    for path in [&source.join(".gocryptfs.reverse.conf"), &point, &ground.pass()] {
        std::os::unix::fs::chown(path, Some(user.uid), Some(user.gid)).expect("chown");
    }
    crate::common::fs::copy_program(program(), &copy);
    std::fs::set_permissions(&copy, PermissionsExt::from_mode(0o755)).expect("chmod");
    let mut command = user.command(&copy);
    command.arg("encrypt-view").arg("-f").arg("--passfile").arg(ground.pass()).arg(&source).arg(&point);
    let view = View::of(command, point.clone(), ground.path("log")).unwrap_or_else(|why| panic!("{why:?}"));
    user.run(|| {
        assert_eq!(names(&point), ["closed", "gocryptfs.conf", "mine", "not-mine"]);
        assert_eq!(std::fs::read(point.join("mine")).expect("read").len(), 18 + 32 + 4);
        assert_eq!(errno(std::fs::read(point.join("not-mine"))), Errno::ACCESS);
        assert_eq!(errno(std::fs::read_dir(point.join("closed"))), Errno::ACCESS);
    });
    view.unmount();
}

/// Without `-f` the command ends once programs can use the view, and `tierfs umount` takes it down.
#[test]
fn a_view_goes_to_the_background() {
    let Some(ground) = Ground::new() else { return };
    put(ground.source().join("file"), "x");
    ground.init(&["-plaintextnames"]);
    let point = ground.dir("view");
    let mut command = Command::new(program());
    command.arg("encrypt-view").arg("--passfile").arg(ground.pass()).arg(ground.source()).arg(&point);
    let output = wait::output(&mut command);
    let outcome = std::panic::catch_unwind(|| {
        assert!(output.status.success(), "{output:?}");
        assert!(exists(point.join("file")));
        let table = std::fs::read_to_string("/proc/self/mounts").expect("mounts");
        let line = table.lines().find(|line| line.contains(point.to_str().expect("UTF-8"))).expect("mounted");
        assert!(line.contains(" fuse.tierfs ro,"), "{line}");
        let output = wait::output(Command::new(program()).arg("umount").arg(&point));
        assert!(output.status.success(), "{output:?}");
        assert!(!is_mounted(&point));
    });
    unmount_for_sure(&point);
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn a_directory_that_is_gone_does_not_hide_the_others() {
    let Some(ground) = Ground::new() else { return };
    if !need::root() {
        return;
    }
    let conf = ground.init_outside(&["-plaintextnames"]);
    let (lost, there) = (ground.dir("lost"), ground.dir("there"));
    put(there.join("f"), "x");
    let view = ground.encrypt("view", &["--conf".as_ref(), conf.as_os_str(), lost.as_os_str(), there.as_os_str()]);
    std::fs::remove_dir(&lost).expect("rmdir");
    assert_eq!(names(view.root()), ["gocryptfs.conf", "lost", "there"]);
    assert_eq!(names(view.root().join("there")), ["f"]);
    view.unmount();
}
