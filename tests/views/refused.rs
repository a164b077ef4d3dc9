//! When a view must not start, and in which words.

use std::ffi::{OsStr, OsString};

use crate::common::fs::{exists, put};
use crate::common::mount::is_mounted;
use crate::kit::{Ground, labelled, words};

/// One line that holds each of `parts`, and this exit code.
#[track_caller]
fn refused(ground: &Ground, what: &str, arguments: &[&OsStr], code: i32, parts: &[&str]) {
    match ground.start(what, "view", arguments) {
        Ok(_) => panic!("the view must be refused: {arguments:?}"),
        Err((ended, line)) => {
            assert_eq!(ended, Some(code), "{line}");
            let line = line.trim();
            assert_eq!(line.lines().count(), 1, "one line: {line}");
            for part in parts {
                assert!(line.contains(part), "no {part:?} in: {line}");
            }
            assert!(!is_mounted(&ground.path("view")));
        }
    }
}

#[test]
fn a_wrong_passphrase_is_refused() {
    let Some(ground) = Ground::new() else { return };
    ground.init(&[]);
    let volume = ground.forward("volume");
    put(ground.pass(), "wrong horse\n");
    refused(&ground, "encrypt-view", &[ground.source().as_os_str()], 77, &["source", "passphrase"]);
    refused(&ground, "decrypt-view", &[volume.cipher.as_os_str()], 77, &["volume", "passphrase"]);
}

#[test]
fn what_is_no_source_is_refused() {
    let Some(ground) = Ground::new() else { return };
    let absent = ground.path("absent");
    refused(&ground, "encrypt-view", &[absent.as_os_str()], 1, &["absent: No such file"]);
    put(ground.path("file"), "x");
    refused(&ground, "encrypt-view", &[ground.path("file").as_os_str()], 1, &["file: Not a directory"]);
    let source = ground.source();
    put(source.join("file"), "x");
    refused(
        &ground,
        "encrypt-view",
        &[source.as_os_str()],
        78,
        &["reverse.conf is not there", "tierfs key init --reverse"],
    );
    ground.init(&[]);
    refused(&ground, "decrypt-view", &[source.as_os_str()], 78, &["holds plaintext", "encrypt-view"]);
    put(ground.path("bad"), "{}");
    let bad = ground.path("bad");
    refused(&ground, "encrypt-view", &["--conf".as_ref(), bad.as_os_str(), source.as_os_str()], 78, &["bad: "]);
}

#[test]
fn a_key_of_another_cipher_is_refused() {
    let Some(ground) = Ground::new() else { return };
    let conf = ground.forward("volume").cipher.join("gocryptfs.conf");
    let source = ground.source();
    put(source.join("file"), "x");
    refused(&ground, "encrypt-view", &["--conf".as_ref(), conf.as_os_str(), source.as_os_str()], 78, &["AES-SIV"]);
}

#[test]
fn labels_must_differ_and_need_a_key_outside() {
    let Some(ground) = Ground::new() else { return };
    let conf = ground.init_outside(&[]);
    let (one, other) = (ground.dir("a/docs"), ground.dir("b/docs"));
    let with_conf = |sources: &[OsString]| [&["--conf".into(), conf.clone().into()], sources].concat();
    let twice = with_conf(&[one.clone().into(), other.clone().into()]);
    refused(&ground, "encrypt-view", &words(&twice), 2, &["two directories would be called docs", "LABEL="]);
    let bad = labelled("..", &one);
    refused(&ground, "encrypt-view", &words(&with_conf(&[bad])), 2, &["cannot be a label"]);
    refused(&ground, "encrypt-view", &[one.as_os_str(), ground.source().as_os_str()], 2, &["--conf"]);
    refused(&ground, "encrypt-view", &[], 2, &["a directory to show"]);
}

#[test]
fn a_mount_point_within_the_source_is_refused() {
    let Some(ground) = Ground::new() else { return };
    let conf = ground.init_outside(&[]);
    let within = ground.dir("source/deep/point");
    let link = ground.path("link");
    std::os::unix::fs::symlink(&within, &link).expect("symlink");
    for point in ["source/deep/point", "source", "link"] {
        let (code, line) = ground
            .start("encrypt-view", point, &["--conf".as_ref(), conf.as_os_str(), ground.source().as_os_str()])
            .expect_err("refused");
        assert_eq!(code, Some(78), "{line}");
        assert!(line.contains("must be apart"), "{line}");
    }
    // The other way round it would be under its own mount.
    let above = ground.dir("view/x");
    put(above.join("file"), "x");
    refused(&ground, "encrypt-view", &["--conf".as_ref(), conf.as_os_str(), above.as_os_str()], 78, &["apart"]);
    assert!(!exists(ground.source().join(".tierfs")), "nothing was written");
}

#[test]
fn what_the_command_line_says_wrong_is_told() {
    let Some(ground) = Ground::new() else { return };
    ground.init(&[]);
    let source = ground.source();
    for (words, part) in [(["--exclude", "a//b"], "from the root"), (["--on-change", "maybe"], "fail or serve")] {
        let words = words.map(OsStr::new);
        refused(&ground, "encrypt-view", &[words[0], words[1], source.as_os_str()], 2, &[part]);
    }
    refused(&ground, "encrypt-view", &["-o".as_ref(), "nospill".as_ref(), source.as_os_str()], 2, &["allow_other"]);
    put(ground.path("view.yaml"), "version: 1\nsources: []\nmont: /x\n");
    let file = ground.path("view.yaml");
    refused(
        &ground,
        "encrypt-view",
        &["--config".as_ref(), file.as_os_str()],
        78,
        &[":3:1: unknown field `mont`", "mountpoint"],
    );
}
