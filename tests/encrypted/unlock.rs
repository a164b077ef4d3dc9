//! How tiers are unlocked: by each source, by mounts and by commands without one; and what is refused.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::cipher::{tierfs, told};
use crate::common::fs::{exists, get, names, put};
use crate::common::mount::{Setup, TestMount};
use crate::common::setting::Encrypted;
use crate::common::volume::{PASSPHRASE, Volume};
use crate::common::wait;

/// A union of a plain primary and an encrypted secondary, not mounted. The stock program stays away from it.
fn cold() -> Option<Setup> {
    let mut setup = Setup::new().encrypted(Encrypted::only(&[1]));
    setup.hide();
    let is_ready = setup.ready();
    let _no_volume = std::fs::set_permissions(setup.home().join("passphrase"), std::fs::Permissions::from_mode(0o600));
    is_ready.then_some(setup)
}

/// Another configuration of the same tiers, whose second has this section.
fn configure(setup: &Setup, file: &str, section: &str) -> PathBuf {
    let path = setup.home().join(file);
    let (fast, cold, point) = (setup.place(0), setup.place(1), setup.mountpoint());
    let text = format!(
        "version: 1\nmountpoint: {}\ntiers:\n- path: {}\n- path: {}\n  {section}\n",
        point.display(),
        fast.display(),
        cold.display()
    );
    put(&path, text);
    path
}

fn path(path: &std::path::Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// What it says where it fails with that code.
#[track_caller]
fn fails(setup: &Setup, words: &[&str], code: i32) -> String {
    let output = tierfs(setup, words);
    assert_eq!(output.status.code(), Some(code), "{words:?}: {}", told(&output));
    let lines = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
    assert_eq!(lines.lines().count(), 1, "{lines}");
    lines
}

#[track_caller]
fn works(setup: &Setup, words: &[&str]) -> String {
    let output = tierfs(setup, words);
    assert_eq!(output.status.code(), Some(0), "{words:?}: {}", told(&output));
    told(&output)
}

#[test]
fn a_volume_without_a_section_is_never_taken_for_a_tier() {
    let Some(setup) = cold() else { return };
    let (before, file) = (names(setup.place(1)), configure(&setup, "bare.yaml", "min_free: 0"));
    let spec = format!("{}:{}", setup.place(0).display(), setup.place(1).display());
    let point = setup.mountpoint();
    for (words, code) in [
        (&["mount", "--config", path(&file)][..], 78),
        (&["mount", &spec, path(&point)], 78),
        (&["init", &spec], 1),
        (&["report", &spec], 78),
    ] {
        let line = fails(&setup, words, code);
        assert!(line.contains("give it a section `encryption:`"), "{words:?}: {line}");
    }
    assert_eq!((names(setup.place(1)), names(setup.place(0))), (before, Vec::new()), "something was adopted");
}

#[test]
fn a_section_without_a_volume_is_told_what_to_do() {
    let Some(setup) = cold() else { return };
    let conf = setup.place(1).join("gocryptfs.conf");
    let (away, iv) = (setup.home().join("away"), setup.place(1).join("gocryptfs.diriv"));
    std::fs::rename(&conf, &away).expect("rename");
    let union = setup.union();
    let mount = ["mount", "--config", union.to_str().expect("UTF-8")];
    let line = fails(&setup, &mount, 78);
    assert!(line.contains("lost its gocryptfs.conf") && line.contains("tierfs key restore"), "{line}");
    std::fs::remove_file(iv).expect("unlink");
    let line = fails(&setup, &mount, 78);
    assert!(line.contains("run `tierfs key init"), "{line}");
    assert_eq!((names(setup.place(1)).len(), names(setup.place(0)).len()), (0, 0), "something was adopted");
}

#[test]
fn files_in_clear_are_not_taken_for_ciphertext() {
    let Some(setup) = cold() else { return };
    let Some(mount) = setup.mount() else { return };
    put(mount.path("file"), "x");
    let setup = mount.unmount();
    let file = setup.home().join("swapped.yaml");
    let text = std::fs::read_to_string(setup.home().join("union.yaml")).expect("read");
    let (fast, passfile) = (setup.place(0), setup.home().join("passphrase"));
    let path_line = text.lines().find(|line| line.contains(path(&fast))).expect("the primary").to_owned();
    put(&file, text.replace(&path_line, &format!("{path_line}\n    encryption: {{passfile: {}}}", passfile.display())));
    let line = fails(&setup, &["mount", "--config", path(&file)], 78);
    assert!(line.contains("holds files in clear"), "{line}");
}

#[test]
fn every_source_gives_the_passphrase() {
    let Some(setup) = cold() else { return };
    let home = setup.home().to_owned();
    put(home.join("credentials/docs"), format!("{PASSPHRASE}\n"));
    put(home.join("key"), PASSPHRASE);
    works(&setup, &["init", "--config", setup.union().to_str().expect("UTF-8")]);
    for section in [
        "{passfile: passphrase}".to_owned(),
        "{keyfile: key}".to_owned(),
        format!("{{extpass: cat {}/passphrase}}", home.display()),
        "{credential: docs}".to_owned(),
    ] {
        let file = configure(&setup, "source.yaml", &format!("encryption: {section}"));
        let mut command = setup.tierfs();
        command.args(["check", path(&file)]).env("CREDENTIALS_DIRECTORY", home.join("credentials"));
        let output = wait::output(&mut command);
        assert_eq!(output.status.code(), Some(0), "{section}: {}", told(&output));
    }
    let file = configure(&setup, "source.yaml", "encryption: {passfile: key}");
    put(home.join("key"), "something else");
    let line = fails(&setup, &["check", path(&file)], 77);
    assert!(line.ends_with("wrong passphrase"), "{line}");
    // Nobody is there to be asked.
    let file = configure(&setup, "source.yaml", "encryption:");
    let mut command = setup.tierfs();
    let output = wait::output(command.args(["check", path(&file)]).stdin(std::process::Stdio::null()));
    assert_eq!(output.status.code(), Some(78), "{}", told(&output));
}

#[test]
fn a_configuration_elsewhere_unlocks_a_tier() {
    let Some(setup) = cold() else { return };
    let conf = setup.home().join("docs.conf");
    std::fs::rename(setup.place(1).join("gocryptfs.conf"), &conf).expect("rename");
    let file = configure(&setup, "else.yaml", "encryption: {conf: docs.conf, passfile: passphrase}");
    put(setup.place(0).join("dir/file"), "x");
    works(&setup, &["init", "--config", path(&file)]);
    works(&setup, &["migrate", "--older-than", "0", path(&file)]);
    assert!(!exists(setup.place(0).join("dir/file")));
    assert!(works(&setup, &["check", "--read-data", path(&file)]).contains("no problem"));
}

/// One that is not there needs no passphrase.
#[test]
fn a_missing_tier_is_not_unlocked() {
    let Some(setup) = cold() else { return };
    let Some(mount) = setup.mount() else { return };
    put(mount.path("file"), "x");
    let setup = mount.unmount();
    let away = setup.home().join("away");
    std::fs::rename(setup.place(1), &away).expect("rename");
    std::fs::rename(setup.home().join("passphrase"), setup.home().join("kept")).expect("rename");
    let union = setup.union();
    let line = fails(&setup, &["mount", "--config", union.to_str().expect("UTF-8")], 78);
    assert!(line.contains("cannot be opened"), "{line}");
    let mut command = setup.tierfs();
    let output = wait::output(command.args(["mount", "-o", "on_missing=degraded", "--config"]).arg(&union));
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert_eq!(get(setup.mountpoint().join("file")), "x");
    works(&setup, &["umount", path(&setup.mountpoint())]);
    std::fs::rename(away, setup.place(1)).expect("rename");
    std::fs::rename(setup.home().join("kept"), setup.home().join("passphrase")).expect("rename");
}

#[test]
fn commands_without_a_mount_unlock_by_the_configuration() {
    let Some(setup) = cold() else { return };
    let union = setup.union();
    let union = union.to_str().expect("UTF-8");
    works(&setup, &["init", "--config", union]);
    put(setup.place(0).join("dir/file"), "contents");
    assert!(works(&setup, &["migrate", "--older-than", "0", union]).contains("moved 1 file"));
    assert!(works(&setup, &["check", "--read-data", union]).contains("no problem"));
    assert!(works(&setup, &["history", union]).contains("migrate"));
    assert!(works(&setup, &["report", union]).contains("1 files, 8 B"));
    let passfile = setup.home().join("passphrase");
    let volume = Volume::at(&setup.place(1), &passfile);
    let shown = setup.home().join("stock");
    std::fs::create_dir(&shown).expect("mkdir");
    assert_eq!(get(volume.mount(&shown).path("dir/file")), "contents");
    volume.is_clean("after a migration without a mount");
}

fn mounted(encrypted: Encrypted) -> Option<TestMount> {
    let mut setup = Setup::new().encrypted(encrypted);
    setup.hide();
    setup.mount()
}

#[test]
fn a_mount_takes_commands_without_a_key() {
    for encrypted in [Encrypted::only(&[1]), Encrypted::all()] {
        let Some(mount) = mounted(encrypted) else { return };
        put(mount.path("dir/file"), "contents");
        let home = mount.home().to_owned();
        let (passfile, away) = (home.join("passphrase"), home.join("away"));
        std::fs::rename(&passfile, &away).expect("rename");
        let look = || wait::output(mount.tierfs().arg("where").arg(mount.path("dir/file")));
        // Who has written it may let go of it late.
        wait::until("the file moves", || {
            for union in [mount.union().into_string().expect("UTF-8"), path(&mount.root()).to_owned()] {
                let mut command = mount.tierfs();
                let output = wait::output(command.args(["migrate", "--older-than", "0", &union]));
                assert_eq!(output.status.code(), Some(0), "{union}: {}", told(&output));
            }
            told(&look()).contains(": secondary ").then_some(())
        });
        let real = PathBuf::from(look().line(": secondary "));
        assert!(real.starts_with(mount.place(1, "")) && exists(&real), "{real:?}");
        // To read the tiers beside the mount takes the key, by the configuration of the mount.
        let output = wait::output(mount.tierfs().arg("history").arg(mount.root()));
        assert_eq!(output.status.code(), Some(1), "{}", told(&output));
        std::fs::rename(&away, &passfile).expect("rename");
        for words in [&["history"][..], &["report"], &["check", "--read-data"]] {
            let output = wait::output(mount.tierfs().args(words).arg(mount.root()));
            assert_eq!(output.status.code(), Some(0), "{words:?}: {}", told(&output));
        }
        mount.unmount();
    }
}

#[test]
fn where_tells_links_and_pipes_by_the_names_of_the_storage() {
    let Some(mount) = mounted(Encrypted::all()) else { return };
    std::fs::create_dir(mount.path("dir")).expect("mkdir");
    std::os::unix::fs::symlink("nowhere", mount.path("dir/link")).expect("symlink");
    assert!(std::process::Command::new("mkfifo").arg(mount.path("dir/pipe")).status().expect("mkfifo").success());
    for name in ["dir", "dir/link", "dir/pipe"] {
        let real = PathBuf::from(wait::output(mount.tierfs().arg("where").arg(mount.path(name))).line(": primary "));
        assert!(real.starts_with(mount.place(0, "")) && real.symlink_metadata().is_ok(), "{name}: {real:?}");
    }
    mount.unmount();
}

/// The rest of the line in which something is said.
trait Line {
    fn line(&self, after: &str) -> String;
}

impl Line for std::process::Output {
    fn line(&self, after: &str) -> String {
        let text = told(self);
        text.lines().find_map(|line| Some(line.split_once(after)?.1.to_owned())).unwrap_or_else(|| panic!("{text}"))
    }
}
