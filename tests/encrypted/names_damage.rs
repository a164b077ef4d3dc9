//! Damaged names, directories and configurations: what is damaged is named, everything else is there.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::cipher::{real, tierfs, told, union};
use crate::common::fs::{errno, exists, get, names, put};
use crate::common::mount::{Setup, TestMount};
use crate::common::trees::long;
use crate::common::volume::{FLAVOURS, Flavour};

/// Three directories; in the middle one the tests damage something.
fn planted(flavour: Flavour) -> Option<(TestMount, PathBuf)> {
    let mount = union(flavour).mount()?;
    for dir in ["before", "dir", "zafter"] {
        put(mount.path(dir).join("one"), format!("one of {dir}"));
        put(mount.path(dir).join("two"), format!("two of {dir}"));
        put(mount.path(dir).join(long('l', 200)), format!("long of {dir}"));
    }
    let dir = real(&mount, 0, "dir");
    Some((mount, dir))
}

/// What is outside of the damaged directory is there.
#[track_caller]
fn others_are_there(mount: &TestMount) {
    assert_eq!(names(mount.root()), ["before", "dir", "zafter"]);
    for dir in ["before", "zafter"] {
        assert_eq!(names(mount.path(dir)).len(), 3);
        assert_eq!(get(mount.path(dir).join(long('l', 200))), format!("long of {dir}"));
    }
}

/// `check --read-data` finds something that has these words.
#[track_caller]
fn check_finds(setup: &Setup, word: &str) {
    let union = setup.union();
    let output = tierfs(setup, &["check", "--read-data", union.to_str().expect("text")]);
    let words = told(&output);
    assert!(!output.status.success() && words.contains(word), "check does not tell of {word}: {words}");
}

#[test]
fn forged_names_hide_nothing_else() {
    for flavour in [FLAVOURS[0], FLAVOURS[1], FLAVOURS[4]] {
        let Some((mount, dir)) = planted(flavour) else { return };
        let setup = mount.unmount();
        let forged = ["AAAA", "no base64!", "AAAAAAAAAAAAAAAAAAAAAA", "gocryptfs.longname.forged", "x.name"];
        for name in forged {
            std::fs::write(dir.join(name), "forged").expect("write");
        }
        let Some(mount) = setup.mount() else { return };
        others_are_there(&mount);
        // Of random keys, one in a few hundred makes a name of the sixteen bytes.
        let mut shown = names(mount.path("dir"));
        let is_name = shown.len() == 4;
        shown.retain(|name| !is_name || [long('l', 200).as_str(), "one", "two"].iter().any(|known| name == known));
        assert_eq!(shown, [long('l', 200).as_str(), "one", "two"], "{}", flavour.name);
        assert_eq!(get(mount.path("dir/two")), "two of dir");
        for name in forged[..4].iter().filter(|name| !(is_name && name.len() == 22)) {
            mount.until_said(name);
        }
        let setup = mount.unmount();
        check_finds(&setup, "no base64!");
    }
}

#[test]
fn a_long_name_without_its_side_file_hides_only_itself() {
    let Some((mount, dir)) = planted(FLAVOURS[0]) else { return };
    put(mount.path("dir").join(long('m', 201)), "another");
    let (lost, edited) =
        (real(&mount, 0, &format!("dir/{}", long('l', 200))), real(&mount, 0, &format!("dir/{}", long('m', 201))));
    let setup = mount.unmount();
    let side = |path: &Path| PathBuf::from(format!("{}.name", path.to_str().expect("text")));
    std::fs::remove_file(side(&lost)).expect("rm");
    std::fs::set_permissions(side(&edited), PermissionsExt::from_mode(0o644)).expect("chmod");
    std::fs::write(side(&edited), "AAAAAAAAAAAAAAAAAAAAAA").expect("edit");
    let Some(mount) = setup.mount() else { return };
    others_are_there(&mount);
    assert_eq!(names(mount.path("dir")), ["one", "two"]);
    for path in [&lost, &edited] {
        mount.until_said(path.file_name().and_then(|name| name.to_str()).expect("text"));
    }
    let setup = mount.unmount();
    check_finds(&setup, lost.file_name().and_then(|name| name.to_str()).expect("text"));
    drop(dir);
}

#[test]
fn a_damaged_diriv_spoils_its_directory_and_no_other() {
    type Act = fn(&Path);
    let ways: [(&str, Act); 4] = [
        ("missing", |iv| std::fs::remove_file(iv).expect("rm")),
        ("empty", |iv| replace(iv, &[])),
        ("short", |iv| replace(iv, &[1; 15])),
        ("long", |iv| replace(iv, &[1; 17])),
    ];
    for (way, act) in ways {
        let Some((mount, dir)) = planted(FLAVOURS[0]) else { return };
        let setup = mount.unmount();
        act(&dir.join("gocryptfs.diriv"));
        let Some(mount) = setup.mount() else { return };
        others_are_there(&mount);
        assert_eq!(errno(std::fs::read(mount.path("dir/one"))).raw_os_error(), 5, "{way}");
        let listed = std::fs::read_dir(mount.path("dir")).and_then(|mut entries| entries.next().transpose());
        assert_eq!(errno(listed).raw_os_error(), 5, "{way}: listed");
        let stored = dir.file_name().and_then(|name| name.to_str()).expect("text");
        mount.until_said(stored);
        let setup = mount.unmount();
        check_finds(&setup, "dir");
    }
}

fn replace(path: &Path, bytes: &[u8]) {
    std::fs::remove_file(path).expect("rm");
    std::fs::write(path, bytes).expect("write");
}

#[test]
fn a_foreign_diriv_gives_no_wrong_names() {
    let Some((mount, dir)) = planted(FLAVOURS[0]) else { return };
    let other = real(&mount, 0, "before");
    let setup = mount.unmount();
    replace(&dir.join("gocryptfs.diriv"), &std::fs::read(other.join("gocryptfs.diriv")).expect("read"));
    let Some(mount) = setup.mount() else { return };
    others_are_there(&mount);
    // Names are not authenticated: one of 256 forged ones looks like a name. Not three of three.
    let shown = names(mount.path("dir"));
    assert!(shown.len() < 3, "{shown:?}");
    for name in ["one", "two"] {
        assert!(!exists(mount.path("dir").join(name)), "{name}");
    }
    mount.unmount();
}

fn conf(setup: &Setup) -> PathBuf {
    setup.place(0).join("gocryptfs.conf")
}

/// The mount is refused in words that contain `word`, and nothing is served.
#[track_caller]
fn refused(setup: Setup, word: &str) -> Setup {
    match setup.try_mount() {
        Ok(_) => panic!("a mount with an edited configuration ({word})"),
        Err(refused) => {
            let message = refused.message.to_lowercase();
            assert!(message.contains(word), "{:?} without `{word}`: {message}", refused.code);
            refused.setup
        }
    }
}

#[test]
fn an_edited_configuration_is_refused() {
    let Some((mount, _)) = planted(FLAVOURS[0]) else { return };
    let mut setup = mount.unmount();
    setup.hide();
    let whole = get(conf(&setup));
    let edits: [(&str, String, &str); 6] = [
        ("cut", whole[..whole.len() / 2].to_owned(), "gocryptfs.conf"),
        ("empty", String::new(), "gocryptfs.conf"),
        ("unknown flag", whole.replace("\"DirIV\"", "\"DirIVX\""), "dirivx"),
        ("other key", edit_key(&whole), "passphrase"),
        ("plain names", plain_names(&whole), "gocryptfs.conf"),
        ("deterministic names", whole.replace("\"DirIV\",", ""), "gocryptfs.conf"),
    ];
    for (what, text, word) in edits {
        assert_ne!(text, whole, "{what}");
        replace(&conf(&setup), text.as_bytes());
        eprintln!("{what}");
        setup = refused(setup, word);
    }
    replace(&conf(&setup), whole.as_bytes());
    let Some(mount) = setup.mount() else { return };
    others_are_there(&mount);
    mount.unmount();
}

/// Another first byte of the wrapped key.
fn edit_key(whole: &str) -> String {
    let at = whole.find("EncryptedKey\": \"").expect("the key") + "EncryptedKey\": \"".len() + 30;
    let other = if &whole[at..=at] == "A" { "B" } else { "A" };
    format!("{}{other}{}", &whole[..at], &whole[at + 1..])
}

/// What an attacker would like: new names in clear.
fn plain_names(whole: &str) -> String {
    let mut conf: serde_json::Value = serde_json::from_str(whole).expect("JSON");
    conf["FeatureFlags"] = serde_json::json!(["GCMIV128", "HKDF", "PlaintextNames"]);
    conf.to_string()
}

#[test]
fn a_wrong_passphrase_is_refused_and_named_so() {
    let Some((mount, _)) = planted(FLAVOURS[0]) else { return };
    let mut setup = mount.unmount();
    setup.hide();
    let passfile = setup.home().join("passphrase");
    std::fs::write(&passfile, "wrong horse\n").expect("write");
    let setup = refused(setup, "passphrase");
    assert!(!setup.log().contains("wrong horse"), "the passphrase is in the log");
    std::fs::remove_file(&passfile).expect("rm");
    refused(setup, "passphrase");
}
