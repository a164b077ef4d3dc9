//! Volumes of one program, opened by the other.

use super::*;
use common::need;
use common::volume::{FLAVOURS, Volume};

#[test]
fn gocryptfs_opens_volumes_of_every_kind_and_their_files_prove_the_master_key() {
    if need::programs(["gocryptfs"]).is_none() || !need::root() {
        return;
    }
    let names = ["", "--plaintext-names", "--deterministic-names", "--long-name-max 100"];
    for kind in
        ["gcm", "xchacha", "siv"].iter().flat_map(|cipher| names.map(|names| format!("--cipher {cipher} {names}")))
    {
        let home = Home::new();
        home.key(&format!("init --scrypt-cost 10 {kind} --passfile OLD VOLUME")).done();
        let before = home.master("old");
        home.secret("master", &before);
        home.key("test --master-key --passfile @master VOLUME").refused(1, "no encrypted files");
        let volume = home.stock("old");
        let mounted = volume.mount(&home.path("plain"));
        let file = home.path("plain").join("x".repeat(200));
        fs::put(&file, "words");
        std::os::unix::fs::symlink("target", home.path("plain/link")).expect("link");
        drop(mounted);
        volume.is_clean(&kind);
        home.key("test --master-key --passfile @master VOLUME").done();
        home.secret("wrong", &super::master::another(&before));
        home.key("test --master-key --passfile @wrong VOLUME").refused(77, "not the master key");
        home.key("passwd --passfile OLD --new-passfile NEW VOLUME").done();
        let mounted = home.stock("new").mount(&home.path("plain"));
        assert_eq!(fs::get(&file), "words", "{kind}");
        drop(mounted);
        assert!(home.stock("old").try_mount(&home.path("plain")).is_err());
    }
}

#[test]
fn volumes_of_gocryptfs_of_every_kind_unlock() {
    for flavour in FLAVOURS {
        let home = Home::new();
        let Some(volume) = Volume::init(&home.volume(), &home.secret("old", ""), *flavour) else { return };
        home.key("test --passfile OLD VOLUME").done();
        home.key("test --passfile NEW VOLUME").refused(77, "wrong passphrase");
        home.key("passwd --passfile OLD --new-passfile NEW VOLUME").done();
        home.key("test --passfile OLD VOLUME").refused(77, "wrong passphrase");
        let info = home.key("info --json VOLUME").done();
        let info: serde_json::Value = serde_json::from_str(&info).expect("JSON");
        assert_eq!(info["names"] == "plain", flavour.plain_names(), "{}", flavour.name);
        assert_eq!(info["cipher"] == "aes-siv", flavour.has("-aessiv"), "{}", flavour.name);
        assert_eq!(info["long_name_max"] == 100, flavour.has("-longnamemax"), "{}", flavour.name);
        assert_eq!(info["scrypt"]["log_n"], 10);
        Volume::at(&volume.cipher, &home.path("new")).is_clean(flavour.name);
    }
}

#[test]
fn a_passphrase_that_gocryptfs_changes_is_the_new_one_here() {
    let Some([gocryptfs]) = need::programs(["gocryptfs"]) else { return };
    let home = Home::with_volume();
    let mut command = Command::new(gocryptfs);
    // It takes both from the same program.
    home.secret("both", "correct horse\n");
    let script = "#!/bin/sh\nif [ -e second ]; then echo battery staple; else touch second; echo correct horse; fi\n";
    let program = home.path("ask");
    fs::put_script(&program, script);
    command.args(["-passwd", "-q", "-scryptn", "10", "-extpass"]).arg(&program).arg("--").arg(home.volume());
    let output = wait::output(command.current_dir(home.dir.path()));
    assert!(output.status.success(), "{output:?}");
    home.key("test --passfile OLD VOLUME").refused(77, "wrong passphrase");
    home.key("test --passfile NEW VOLUME").done();
    assert_eq!(fs::stat(home.volume().join("gocryptfs.conf")).permissions().mode() & 0o7777, 0o400);
}

#[test]
fn a_reverse_view_of_gocryptfs_takes_our_configuration() {
    if need::programs(["gocryptfs"]).is_none() || !need::root() {
        return;
    }
    let home = Home::new();
    fs::put(home.volume().join("plain file"), "words");
    home.key("init --reverse --scrypt-cost 10 --passfile OLD VOLUME").done();
    let info = home.key("info VOLUME").done();
    assert!(info.contains(".gocryptfs.reverse.conf") && info.contains("aes-siv"), "{info}");
    home.key("test --passfile OLD VOLUME").done();
    let point = home.path("view");
    std::fs::create_dir(&point).expect("directory");
    let mut command = Command::new("gocryptfs");
    command.args(["-reverse", "-q", "-passfile"]).arg(home.path("old")).arg("--").arg(home.volume()).arg(&point);
    let output = wait::output(&mut command);
    assert!(output.status.success(), "{output:?}");
    let names = fs::names(&point);
    mount::unmount_for_sure(&point);
    assert!(names.iter().any(|name| name == "gocryptfs.conf") && names.len() == 3, "{names:?}");
}
