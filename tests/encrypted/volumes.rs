//! Volumes as a whole: ordinary users, foreign things in them, and what is told of keys.

use crate::cipher::{tierfs, told, union, volume};
use crate::common::fs::{exists, get, names, put};
use crate::common::mount::{Setup, temp_dir};
use crate::common::trees;
use crate::common::user::User;
use crate::common::volume::{Flavour, PASSPHRASE};
use crate::common::wait;

#[test]
fn an_ordinary_user_mounts_what_is_his() {
    let Some([user, other]) = User::two() else { return };
    let Some(mount) = Setup::new().by(&user).mount() else { return };
    let root = mount.root();
    let path = |name: &str| root.join(name);
    user.run(|| {
        put(path("dir/file"), trees::bytes(1, 10_000));
        std::os::unix::fs::symlink("file", path("dir/link")).expect("symlink");
        put(path("dir").join(trees::long('l', 222)), "long");
        std::fs::rename(path("dir"), path("moved")).expect("rename");
        assert!(std::fs::read(path("moved/link")).expect("read") == trees::bytes(1, 10_000));
    });
    other.run(|| assert!(std::fs::read_dir(&root).is_err(), "another user is in"));
    let setup = mount.unmount();
    volume(&setup, 0).is_clean("an ordinary user's");
    assert_eq!(names(setup.tier(0).join("moved")).len(), 3);
    assert_eq!(get(setup.tier(0).join("moved").join(trees::long('l', 222))), "long");
}

/// Nothing of tierfs lies in the volume in clear: the stock program warns of every foreign name.
#[test]
fn tierfs_keeps_nothing_in_clear_in_a_volume() {
    let Some(mount) = union(Flavour::DEFAULT).mount() else { return };
    put(mount.path("file"), "x");
    let setup = mount.unmount();
    for rank in [0, 1] {
        volume(&setup, rank).is_clean("with a marker");
        assert!(!exists(setup.place(rank).join(".tierfs")));
        assert!(exists(setup.tier(rank).join(".tierfs/marker")), "the marker is under an encrypted name");
    }
}

/// What the stock program does not know is left alone, named, and hides nothing.
#[test]
fn foreign_files_are_left_alone() {
    let Some(mount) = union(Flavour::DEFAULT).mount() else { return };
    put(mount.path("file"), "x");
    let setup = mount.unmount();
    std::fs::create_dir(setup.place(0).join("lost+found")).expect("mkdir");
    std::fs::write(setup.place(0).join(".DS_Store"), "foreign").expect("write");
    let Some(mount) = setup.mount() else { return };
    assert_eq!(names(mount.root()), ["file"]);
    mount.until_said(".DS_Store");
    let setup = mount.unmount();
    assert_eq!(get(setup.place(0).join(".DS_Store")), "foreign");
}

/// No passphrase and no key in what is told: arguments, logs, errors.
#[test]
fn no_secret_is_ever_told() {
    let Some(mount) = union(Flavour::DEFAULT).verbose().mount() else { return };
    put(mount.path("file"), "x");
    let line = std::fs::read(format!("/proc/{}/cmdline", mount.pid())).expect("cmdline");
    let environment = std::fs::read(format!("/proc/{}/environ", mount.pid())).unwrap_or_default();
    for bytes in [line, environment] {
        assert!(!String::from_utf8_lossy(&bytes).contains(PASSPHRASE));
    }
    assert!(!mount.log().contains(PASSPHRASE), "{}", mount.log());
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", mount.pid())).expect("limits");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("a limit");
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    let setup = mount.unmount();
    let words = told(&tierfs(&setup, &["config", "check", setup.union().to_str().expect("text")]));
    assert!(words.contains("passfile") && !words.contains(PASSPHRASE), "{words}");
}

/// A new passphrase rewrites no data, and stock takes it.
#[test]
fn a_changed_passphrase_rewrites_no_data() {
    let Some(mount) = union(Flavour::DEFAULT).mount() else { return };
    put(mount.path("file"), trees::bytes(1, 20_000));
    let real = crate::cipher::real(&mount, 0, "file");
    let mut setup = mount.unmount();
    setup.hide();
    let before = std::fs::read(&real).expect("read");
    let (old, new) = (setup.home().join("passphrase"), setup.home().join("new"));
    put(&new, "another horse\n");
    for rank in [0, 1] {
        let mut command = setup.tierfs();
        command.args(["key", "passwd", "--passfile"]).arg(&old).arg("--new-passfile").arg(&new).arg(setup.place(rank));
        let output = wait::output(&mut command);
        assert!(output.status.success(), "{}", told(&output));
    }
    assert!(std::fs::read(&real).expect("read") == before);
    std::fs::copy(&new, &old).expect("copy");
    setup.reveal();
    assert!(std::fs::read(setup.tier(0).join("file")).expect("read") == trees::bytes(1, 20_000));
    let Some(mount) = setup.mount() else { return };
    assert!(std::fs::read(mount.path("file")).expect("read") == trees::bytes(1, 20_000));
    drop(temp_dir());
    mount.unmount();
}
