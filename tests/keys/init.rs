//! Making volumes, and what is refused.

use super::*;
use common::loopfs::LoopFs;
use common::need;

#[test]
fn a_volume_is_made_in_an_empty_directory_alone() {
    let home = Home::new();
    fs::put(home.volume().join("old file"), "x");
    home.key("init --passfile OLD VOLUME").refused(1, "not empty (old file)");
    std::fs::remove_file(home.volume().join("old file")).expect("removed");
    std::fs::create_dir(home.volume().join("lost+found")).expect("directory");
    home.key("init --passfile OLD VOLUME").refused(1, "a directory below it");
    assert_eq!(fs::names(home.volume()), ["lost+found"], "nothing was left");
    home.key("init --passfile OLD @absent").refused(1, "mkdir -p");
    home.key("init --passfile OLD OLD").refused(1, "Not a directory");
    home.key("test --passfile OLD VOLUME").refused(1, "no encrypted volume");
    home.key("test --passfile OLD @absent").refused(1, "No such file");
}

#[test]
fn a_volume_is_not_made_twice() {
    let home = Home::with_volume();
    let conf = std::fs::read(home.volume().join("gocryptfs.conf")).expect("conf");
    home.key("init --passfile NEW VOLUME").refused(1, "is there already");
    home.key("init --reverse --passfile NEW VOLUME").done();
    home.key("init --reverse --passfile NEW VOLUME").refused(1, "is there already");
    assert_eq!(std::fs::read(home.volume().join("gocryptfs.conf")).expect("conf"), conf);
}

#[test]
fn files_have_the_modes_of_gocryptfs() {
    let home = Home::with_volume();
    for (name, mode) in [("gocryptfs.conf", 0o400), ("gocryptfs.diriv", 0o444)] {
        assert_eq!(fs::stat(home.volume().join(name)).permissions().mode() & 0o7777, mode, "{name}");
    }
    assert_eq!(fs::names(home.volume()).len(), 2);
    let home = Home::new();
    home.key("init --deterministic-names --scrypt-cost 10 --passfile OLD VOLUME").done();
    assert_eq!(fs::names(home.volume()), ["gocryptfs.conf"]);
}

#[test]
fn the_configuration_may_be_elsewhere() {
    let home = Home::new();
    home.key("init --scrypt-cost 10 --conf @docs.conf --passfile OLD VOLUME").done();
    assert_eq!(fs::names(home.volume()), ["gocryptfs.diriv"]);
    home.key("test --conf @docs.conf --passfile OLD").done();
    std::os::unix::fs::symlink("docs.conf", home.path("link")).expect("link");
    home.key("passwd --conf @link --passfile OLD --new-passfile NEW").done();
    home.key("test --conf @docs.conf --passfile NEW").done();
    assert!(std::fs::symlink_metadata(home.path("link")).expect("link").is_symlink());
    home.key("info --conf @docs.conf").done();
}

#[test]
fn what_does_not_go_together_is_wrong_usage() {
    let home = Home::new();
    for arguments in [
        "init --passfile OLD",
        "init --reverse --cipher gcm --passfile OLD VOLUME",
        "init --plaintext-names --deterministic-names --passfile OLD VOLUME",
        "init --long-name-max 61 --passfile OLD VOLUME",
        "init --scrypt-cost 9 --passfile OLD VOLUME",
        "init --cipher des --passfile OLD VOLUME",
        "test --passfile OLD",
        "passwd --unchecked --passfile OLD VOLUME",
    ] {
        let ran = home.key(arguments);
        ran.refused(2, "");
        assert!(fs::names(home.volume()).is_empty(), "{arguments}");
    }
}

#[test]
fn what_is_no_conf_ends_with_78() {
    let home = Home::with_volume();
    let path = home.volume().join("gocryptfs.conf");
    let conf = fs::get(&path);
    let put = |text: String| {
        std::fs::remove_file(&path).expect("removed");
        fs::put(&path, text);
    };
    for (text, says) in [
        (String::new(), "empty"),
        ("nonsense".into(), "not a gocryptfs configuration"),
        (conf.replace("\"Raw64\"", "\"Raw64\", \"NewThing\""), "NewThing"),
        (conf.replace("\"Version\": 2", "\"Version\": 9"), "version 9"),
        (conf.replace("1024", "1000"), "power of two"),
        (conf.replace("1024", "1099511627776"), "2^40"),
        (conf.replace("\"Raw64\"", "\"Raw64\", \"FIDO2\""), "--master-key"),
    ] {
        put(text);
        home.key("test --passfile OLD VOLUME").refused(78, says);
    }
    put(conf);
    home.key("test --passfile OLD VOLUME").done();
}

#[test]
fn full_disks_and_directories_without_rights_keep_the_volume_as_it_was() {
    let Some(disk) = LoopFs::new("tmpfs", 1) else { return };
    let home = Home::new();
    let volume = disk.path().join("volume");
    std::fs::create_dir(&volume).expect("directory");
    let key = |arguments: &str| {
        let mut command = home.command(arguments);
        Ran::of(&wait::output(command.arg(&volume)))
    };
    key("init --scrypt-cost 10 --passfile OLD").done();
    fs::put(disk.path().join("ballast"), vec![0; (1 << 20) - 8192]);
    let _full = std::fs::write(disk.path().join("rest"), vec![0; 65536]);
    let ran = key("passwd --passfile OLD --new-passfile NEW");
    ran.refused(1, "No space left");
    key("test --passfile OLD").done();
    assert_eq!(fs::names(&volume).len(), 2, "no scratch file stays");
}

#[test]
fn a_filesystem_without_capitals_is_refused() {
    let Some([mkfs, chattr]) = need::programs(["mkfs.ext4", "chattr"]) else { return };
    if !need::root() {
        return;
    }
    let home = Home::new();
    let (image, point) = (home.path("image"), home.path("point"));
    std::fs::File::create(&image).and_then(|file| file.set_len(16 << 20)).expect("image");
    std::fs::create_dir(&point).expect("directory");
    common::loopfs::run(Command::new(mkfs).args(["-q", "-F", "-O", "casefold"]).arg(&image));
    let mounted = wait::output(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&point));
    if !mounted.status.success() {
        // A kernel without case folding has no such filesystem.
        eprintln!("not tried: {}", String::from_utf8_lossy(&mounted.stderr).trim());
        return;
    }
    let folded = point.join("folded");
    std::fs::create_dir(&folded).expect("directory");
    let set = wait::output(Command::new(chattr).arg("+F").arg(&folded));
    let ran = Ran::of(&wait::output(home.command("init --scrypt-cost 10 --passfile OLD").arg(&folded)));
    let left = fs::names(&folded);
    let plain = home.command("init --plaintext-names --scrypt-cost 10 --passfile OLD").arg(&folded).output();
    common::loopfs::run(Command::new("umount").arg(&point));
    assert!(set.status.success());
    ran.refused(1, "capitals");
    assert!(left.is_empty(), "{left:?}");
    assert!(plain.expect("runs").status.success());
}
