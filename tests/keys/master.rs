//! The master key: what it is good for when something is lost.

use super::*;
use common::need;
use common::volume::Volume;

/// A volume with a file, and the files `master` and `wrong` with keys.
fn with_files(kind: &str) -> Option<Home> {
    if need::programs(["gocryptfs"]).is_none() || !need::root() {
        return None;
    }
    let home = Home::new();
    home.key(&format!("init --scrypt-cost 10 {kind} --passfile OLD VOLUME")).done();
    let mounted = home.stock("old").mount(&home.path("plain"));
    fs::put(home.path("plain/file"), "words");
    drop(mounted);
    let master = home.master("old");
    home.secret("master", &master);
    home.secret("wrong", &another(&master));
    Some(home)
}

/// Another key than this one.
pub(crate) fn another(master: &str) -> String {
    let first = if master.starts_with('0') { "1" } else { "0" };
    format!("{first}{}", &master[1..])
}

#[test]
fn a_forgotten_passphrase_is_replaced_by_the_master_key() {
    let Some(home) = with_files("") else { return };
    home.key("passwd --master-key --passfile @wrong --new-passfile NEW VOLUME").refused(77, "not the master key");
    home.key("test --passfile OLD VOLUME").done();
    home.key("passwd --master-key --passfile @master --new-passfile NEW VOLUME").done();
    let mounted = home.stock("new").mount(&home.path("plain"));
    assert_eq!(fs::get(home.path("plain/file")), "words");
    drop(mounted);
    home.key("passwd --master-key --passfile OLD --new-passfile NEW VOLUME").refused(77, "64 hexadecimal digits");
}

#[test]
fn a_lost_configuration_is_made_again_by_the_master_key() {
    for (kind, other) in [("", "--cipher siv"), ("--cipher xchacha --deterministic-names", ""), ("--cipher siv", "")] {
        let Some(home) = with_files(kind) else { return };
        let restore = format!("restore --scrypt-cost 10 {kind} --new-passfile NEW VOLUME");
        home.key(&format!("{restore} --passfile @master")).refused(1, "passwd --master-key");
        std::fs::remove_file(home.volume().join("gocryptfs.conf")).expect("removed");
        home.key(&format!("{restore} --passfile @wrong")).refused(77, "not the master key");
        home.key(&format!("restore {other} --passfile @master --new-passfile NEW VOLUME")).refused(77, "");
        home.key(&format!("{restore} --passfile @master")).done();
        let mounted = home.stock("new").mount(&home.path("plain"));
        assert_eq!(fs::get(home.path("plain/file")), "words");
        drop(mounted);
        home.stock("new").is_clean(kind);
    }
}

/// The contents open whatever is said of names.
#[test]
fn a_configuration_is_not_made_again_with_names_of_another_kind() {
    let kinds = ["", "--deterministic-names", "--plaintext-names"];
    for kind in kinds {
        let Some(home) = with_files(kind) else { return };
        std::fs::remove_file(home.volume().join("gocryptfs.conf")).expect("removed");
        for other in kinds.into_iter().filter(|other| *other != kind) {
            // Encrypted names are as good in clear as any.
            if (kind, other) != ("--deterministic-names", "--plaintext-names") {
                let ran = home.key(&format!("restore {other} --passfile @master --new-passfile NEW VOLUME"));
                assert_eq!(ran.code, Some(77), "{kind} {other}: {ran:?}");
            }
        }
        home.key(&format!("restore {kind} --scrypt-cost 10 --passfile @master --new-passfile NEW VOLUME")).done();
    }
}

#[test]
fn the_configuration_of_another_volume_is_told_from_a_wrong_passphrase() {
    let Some(home) = with_files("") else { return };
    let conf = home.volume().join("gocryptfs.conf");
    std::fs::create_dir(home.path("other")).expect("directory");
    home.key("init --scrypt-cost 10 --passfile OLD @other").done();
    std::fs::remove_file(&conf).expect("removed");
    std::fs::copy(home.path("other/gocryptfs.conf"), &conf).expect("copied");
    home.key("test --passfile OLD VOLUME").refused(78, "another volume");
    std::fs::remove_file(&conf).expect("removed");
    home.key("info VOLUME").refused(78, "key restore");
    home.key("init --passfile OLD VOLUME").refused(1, "key restore");
}

#[test]
fn a_master_key_is_not_tried_on_the_plaintext_of_a_reverse_view() {
    let home = Home::new();
    fs::put(home.volume().join("file"), "words");
    home.key("init --reverse --scrypt-cost 10 --passfile OLD VOLUME").done();
    home.secret("master", &home.master("old"));
    home.key("test --passfile OLD VOLUME").done();
    home.key("passwd --master-key --passfile @master --new-passfile NEW VOLUME").refused(1, "--unchecked");
    home.key("passwd --master-key --unchecked --passfile @master --new-passfile NEW VOLUME").done();
    home.key("test --passfile NEW VOLUME").done();
}

#[test]
fn an_empty_volume_takes_a_master_key_only_unchecked() {
    let home = Home::with_volume();
    home.secret("master", &home.master("old"));
    let passwd = "passwd --master-key --passfile @master --new-passfile NEW VOLUME";
    home.key(passwd).refused(1, "--unchecked");
    home.key(&format!("{passwd} --unchecked")).done();
    home.key("test --passfile NEW VOLUME").done();
}

#[test]
fn gocryptfs_takes_the_master_key_as_it_is_shown() {
    let Some(home) = with_files("") else { return };
    let mut command = Command::new("gocryptfs");
    // Such a volume needs no configuration.
    std::fs::remove_file(home.volume().join("gocryptfs.conf")).expect("removed");
    let key = format!("-masterkey={}", fs::get(home.path("master")));
    let point = home.path("again");
    std::fs::create_dir(&point).expect("directory");
    let output = wait::output(command.args(["-q", &key, "--"]).arg(home.volume()).arg(&point));
    assert!(output.status.success(), "{output:?}");
    let text = std::fs::read_to_string(point.join("file"));
    mount::unmount_for_sure(&point);
    assert_eq!(text.expect("file"), "words");
}

#[test]
fn the_owner_of_a_configuration_stays_when_root_changes_the_passphrase() {
    if !need::root() {
        return;
    }
    let home = Home::with_volume();
    let conf = home.volume().join("gocryptfs.conf");
    std::os::unix::fs::chown(&conf, Some(1234), Some(4321)).expect("chown");
    home.key("passwd --passfile OLD --new-passfile NEW VOLUME").done();
    let stat = fs::stat(&conf);
    use std::os::unix::fs::MetadataExt;
    assert_eq!((stat.uid(), stat.gid(), stat.mode() & 0o7777), (1234, 4321, 0o400));
}

#[test]
fn the_cost_of_a_try_changes_with_the_passphrase_where_it_is_given() {
    let home = Home::with_volume();
    home.key("passwd --scrypt-cost 11 --passfile OLD --new-passfile NEW VOLUME").done();
    assert!(home.key("info VOLUME").done().contains("2^11"));
    home.key("passwd --passfile NEW --new-passfile OLD VOLUME").done();
    assert!(home.key("info VOLUME").done().contains("2^11"));
    if need::programs(["gocryptfs"]).is_some() {
        Volume::at(&home.volume(), &home.path("old")).is_clean("after a change of cost");
    }
}
