//! What is configured and not mounted, and what systemd says of it. The configurations are the test's own.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::common::fs::{put, put_script};
use crate::common::mount::{program, temp_dir};
use crate::common::wait;
use crate::{Ran, ran};

fn status(home: &Path, words: &[&str]) -> Ran {
    let mut command = Command::new(program());
    command.arg("status").args(words).current_dir(home);
    command.env("TIERFS_CONFIG_DIR", home.join("etc")).env("TIERFS_RUNTIME_DIR", home.join("run"));
    command.env("TIERFS_FSTAB", home.join("fstab")).env("TIERFS_CRON", home.join("cron"));
    let path = std::env::var("PATH").unwrap_or_default();
    ran(command.env("PATH", format!("{}:{path}", home.join("bin").display())))
}

#[test]
fn what_is_configured_and_not_mounted_is_told() {
    let home = temp_dir();
    let home = home.path();
    let config =
        |point: &str| format!("version: 1\nmountpoint: {point}\ntiers: [{{path: /nofast}}, {{path: /noslow}}]\n");
    put(home.join("etc/docs.yaml"), config("/nowhere/docs"));
    put(home.join("etc/old.yaml"), "version: 1\nrules: [{older_than: 1y, action: demote}]\n");
    put(home.join("etc/view.yaml"), "version: 1\nmountpoint: /nowhere/view\nsources: [{path: /home}]\n");
    put(home.join("etc/wrong.yaml"), "version: 1\ntears: []\n");
    put(home.join("other.yaml"), config("/nowhere/other"));
    put_script(
        home.join("bin/systemctl"),
        "#!/bin/sh\nprintf 'Id=tierfs-migrate@docs.timer\\nActiveState=active\\nNextElapseUSecRealtime=@1900000000\\n\\n'\n\
         printf 'Id=tierfs-migrate@docs.service\\nActiveState=failed\\n'\n",
    );
    // It is given two seconds.
    let answered = || !status(home, &["docs", "--json"]).object()["timer"].is_null();
    wait::until("systemctl answers in time", || answered().then_some(()));
    status(home, &["docs"]).says(
        0,
        &[
            "/nowhere/docs: NOT MOUNTED\n",
            "TROUBLE    is not mounted: `systemctl start tierfs@docs`",
            "the last run by the timer has failed: `journalctl -u tierfs-migrate@docs`",
        ],
    );
    let told = status(home, &["docs", "--json"]).object();
    assert_eq!((&told["state"], &told["name"]), (&json!("not_mounted"), &json!("docs")));
    assert_eq!(told["timer"], json!({ "active": true, "next": 1_900_000_000, "last_failed": true }));
    status(home, &["wrong", "--check"]).says(3, &["wrong.yaml: 2:1: unknown field `tears`"]);
    status(home, &["other.yaml", "--check"]).says(3, &["/nowhere/other: is not mounted: `tierfs mount --config "]);
    let all = status(home, &[]);
    all.says(0, &["/nowhere/docs: NOT MOUNTED\n", "wrong.yaml: no usable configuration\n"]);
    assert!(
        ["etc/old.yaml", "/nowhere/view", "/nowhere/other"].iter().all(|name| !all.out.contains(name)),
        "a policy is no mount: {}",
        all.out
    );
    // A systemd that does not answer holds nobody up.
    put_script(home.join("bin/systemctl"), "#!/bin/sh\nexec sleep 600\n");
    assert!(status(home, &["docs", "--json"]).object()["timer"].is_null());
    let unknown = status(home, &["nosuch"]);
    assert_eq!(unknown.code, Some(2), "{}{}", unknown.out, unknown.err);
    assert!(unknown.err.contains("is neither in a mounted tierfs nor a configuration"), "{}", unknown.err);
}

/// What /etc/fstab alone mounts is told while it is not mounted, and as trouble where it is to be there since boot.
#[test]
fn what_fstab_mounts_is_told_while_it_is_not_mounted() {
    let home = temp_dir();
    let home = home.path();
    put(home.join("etc/docs.yaml"), "version: 1\ntiers: [{path: /nofast}, {path: /noslow}]\n");
    put(home.join("etc/both.yaml"), "version: 1\nmountpoint: /nowhere/both\ntiers: [{path: /1}, {path: /2}]\n");
    let table = format!(
        "UUID=1 / ext4 defaults 0 1\n# /a:/b /nowhere/comment tierfs nofail 0 0\n\
         /f:/s /nowhere/a\\040b tierfs allow_other,nofail 0 0\n\
         none /nowhere/docs tierfs config={}/etc/docs.yaml,nofail 0 0\n\
         /f:/s /nowhere/later fuse.tierfs noauto,user 0 0\n\
         /f:/s /nowhere/auto tierfs x-systemd.automount 0 0\n\
         /f:/s /nowhere/wrong tierfs allow_others 0 0\n\
         none /nowhere/both tierfs config={}/etc/both.yaml 0 0\n",
        home.display(),
        home.display()
    );
    put(home.join("fstab"), table);
    let all = status(home, &[]);
    all.says(
        0,
        &[
            "/nowhere/a b: NOT MOUNTED\n  configured by its line in /etc/fstab\n  TROUBLE    is not mounted: `mount ",
            "/nowhere/docs: NOT MOUNTED\n",
            "/etc/docs.yaml, mounted by /etc/fstab\n",
            "/nowhere/later: not mounted; `mount /nowhere/later` does it when it is wanted\n",
            "/nowhere/auto: not mounted; it is when somebody goes there\n",
            "TROUBLE    its line in /etc/fstab cannot be mounted: -o allow_others: unknown option",
        ],
    );
    assert!(!all.out.contains("comment") && all.out.matches("both: NOT MOUNTED").count() == 1, "{}", all.out);
    let check = status(home, &["--check"]);
    check.ended(3);
    // Other tests have mounts, too.
    let ours = check.out.lines().filter(|line| line.starts_with("/nowhere/")).count();
    assert_eq!(ours, 4, "what nobody has to mount is no trouble: {}", check.out);
    let told = status(home, &["/nowhere/later/below", "--json"]).object();
    assert_eq!(told["fstab"], json!({ "options": "noauto,user", "at_boot": false }));
    assert_eq!((&told["state"], &told["troubles"]), (&json!("not_mounted"), &json!([])));
    status(home, &["/nowhere/docs", "--check"]).says(3, &["`mount /nowhere/docs` does it by its line in /etc/fstab"]);
}
