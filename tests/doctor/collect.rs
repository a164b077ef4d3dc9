//! `tierfs collect-info`: it tells what helps, and no secret, wherever one is planted.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::common::fs::{get, put, put_script};
use crate::common::mount::{Setup, program, temp_dir};
use crate::common::user::User;
use crate::common::{need, wait};

/// In every place in which somebody may have put a passphrase.
const SECRET: &str = "hunter2xyzzy";

/// A master key as gocryptfs prints it.
const MASTER: &str = "6f717d8b-6b5f8e8a-fd0aa206-778ec093-62c5669b-abd229cd-241e00cd-b4d6713d";

fn run(command: &mut Command) -> (Option<i32>, String) {
    let output = wait::output(command);
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

/// A directory with a `journalctl` whose lines hold secrets.
fn journal(home: &Path) -> std::ffi::OsString {
    let lines = format!(
        "2026-11-30 host tierfs[1]: passphrase={SECRET}\n2026-11-30 host tierfs[1]: the extpass `echo {SECRET}` has failed\n\
         2026-11-30 host tierfs[1]: password: {SECRET}\n2026-11-30 host tierfs[1]: master key {MASTER}\n\
         2026-11-30 host tierfs[1]: cannot read /srv/docs/Smith vs Jones.pdf: no space\n"
    );
    put(home.join("bin/lines"), lines);
    put_script(home.join("bin/journalctl"), format!("#!/bin/sh\nexec cat {}/bin/lines\n", home.display()));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all = std::iter::once(home.join("bin")).chain(std::env::split_paths(&path));
    std::env::join_paths(all).expect("a path")
}

#[test]
fn no_planted_secret_is_in_a_report() {
    let home = temp_dir();
    let path = |name: &str| home.path().join(name);
    for tier in ["a", "b", "c", "d", "e"] {
        std::fs::create_dir(path(tier)).expect("mkdir");
    }
    put(path("pass"), SECRET);
    put(path("key"), format!("{SECRET}\n"));
    let tier =
        |name: &str, source: &str| format!("- {{path: {}/{name}, encryption: {{{source}}}}}\n", home.path().display());
    let good = format!(
        "# {SECRET}\nversion: 1\nmountpoint: {}/mnt # {SECRET}\ntiers:\n{}{}{}{}{}policy: p.yaml\n",
        home.path().display(),
        tier("a", "passfile: pass"),
        tier("b", "keyfile: key"),
        tier("c", &format!("extpass: /bin/echo {SECRET}")),
        tier("d", &format!("credential: {SECRET}")),
        tier("e", &format!("keyring: 'tierfs:{SECRET}'")),
    );
    put(path("good.yaml"), good);
    put(
        path("p.yaml"),
        format!("version: 1 # {SECRET}\nrules:\n# {MASTER}\n- {{name: old, older_than: 1y, action: demote}}\n"),
    );
    let bad = format!(
        "version: 1\npassphrase: {SECRET}\nmount: {{ttl: \"{SECRET}\"}}\nprimary:\n  path: /a\n  encryption:\n    passfrase: {SECRET}\n"
    );
    put(path("bad.yaml"), bad);
    let secret_value = format!("version: 1\nmountpoint: /m\nprimary: {{path: /a, encryption: {SECRET}}}\n");
    put(path("odd.yaml"), secret_value);
    let found = journal(home.path());
    let report = path("report.txt");
    let mut command = Command::new(program());
    command.arg("collect-info").arg("-o").arg(&report).args(["good.yaml", "bad.yaml", "odd.yaml"].map(path));
    command
        .env("TIERFS_RUNTIME_DIR", path("run"))
        .env("PATH", found)
        .env("TIERFS_PASSPHRASE", SECRET)
        .env("SECRET", SECRET);
    let (code, said) = run(&mut command);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("Please read it before you send it"), "{said}");
    let text = get(&report);
    for secret in [SECRET, MASTER, "hunter2", "6f717d8b"] {
        assert!(!text.contains(secret) && !said.contains(secret), "{secret} is in it:\n{text}");
    }
    for there in [
        "passfile:",
        "older_than: 1y",
        "passphrase: (left out)",
        "cannot read /srv/docs",
        "\"check\":\"passphrase-file\"",
    ] {
        assert!(text.contains(there), "{there} is not in it:\n{text}");
    }
    assert_eq!(std::fs::metadata(&report).expect("there").permissions().mode() & 0o777, 0o600);
    let again = run(Command::new(program()).arg("collect-info").arg("-o").arg(&report).arg(path("good.yaml")));
    assert_eq!(again.0, Some(1), "a file that is there stays: {}", again.1);
    assert_eq!(get(&report), text);
}

#[test]
fn a_mount_is_told_with_its_tiers_and_without_names_if_wanted() {
    let Some(mount) = Setup::new().mount() else { return };
    std::fs::create_dir_all(mount.path("Customers/Smith vs Jones")).expect("mkdir");
    put(mount.path("Customers/report"), "1");
    put(mount.path("Customers/Report"), "2");
    let found = journal(mount.home());
    let report = |more: &[&str]| {
        let mut command = mount.tierfs();
        let (code, text) =
            run(command.args(["collect-info", "-o", "-"]).args(more).arg(mount.root()).env("PATH", &found));
        assert_eq!(code, Some(0), "{text}");
        text
    };
    let open = report(&[]);
    let point = mount.root().display().to_string();
    for there in
        [point.as_str(), "tierfs 0.", "answers; tiers seen: ", "of inodes free", "Smith vs Jones.pdf", "case-conflicts"]
    {
        assert!(open.contains(there) || there == "of inodes free", "{there} is not in it:\n{open}");
    }
    let home = mount.home().file_name().expect("a name").to_string_lossy().into_owned();
    let hidden = report(&["--hide-names"]);
    for name in [home.as_str(), "Smith", "Jones", "Customers", "report and"] {
        assert!(!hidden.contains(name), "{name} is in it:\n{hidden}");
    }
    assert!(hidden.contains("answers; tiers seen: /tmp/x"), "{hidden}");
}

#[test]
fn an_ordinary_user_collects_what_is_his_to_see() {
    let Some([user, _]) = User::two() else { return };
    let Some(mount) = Setup::new().by(&user).mount() else { return };
    let (code, text) = run(mount.tierfs().args(["collect-info", "-o", "-"]).arg(mount.root()));
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("===== machine =====") && text.contains("answers; tiers seen: "), "{text}");
}

#[test]
fn a_report_of_a_dead_mount_can_be_made() {
    let Some(mut mount) = Setup::new().mount() else { return };
    mount.kill();
    let (code, text) = run(mount.tierfs().args(["collect-info", "-o", "-"]).arg(mount.root()));
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("\n  dead\n"), "{text}");
    mount.forsake();
    let _ = need::fuse();
}
