//! What is configured and not mounted, and what systemd says of it. The configurations are the test's own.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::common::fs::put;
use crate::common::mount::{program, temp_dir};
use crate::{Ran, ran};

fn status(home: &Path, words: &[&str]) -> Ran {
    let mut command = Command::new(program());
    command.arg("status").args(words).current_dir(home);
    command.env("TIERFS_CONFIG_DIR", home.join("etc")).env("TIERFS_RUNTIME_DIR", home.join("run"));
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
    put(home.join("etc/wrong.yaml"), "version: 1\ntears: []\n");
    put(home.join("other.yaml"), config("/nowhere/other"));
    put(
        home.join("bin/systemctl"),
        "#!/bin/sh\nprintf 'Id=tierfs-migrate@docs.timer\\nActiveState=active\\nNextElapseUSecRealtime=@1900000000\\n\\n'\n\
         printf 'Id=tierfs-migrate@docs.service\\nActiveState=failed\\n'\n",
    );
    std::fs::set_permissions(home.join("bin/systemctl"), std::fs::Permissions::from_mode(0o755)).unwrap();
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
    assert!(!all.out.contains("old.yaml") && !all.out.contains("other"), "a policy is no mount: {}", all.out);
    // A systemd that does not answer holds nobody up.
    put(home.join("bin/systemctl"), "#!/bin/sh\nexec sleep 600\n");
    assert!(status(home, &["docs", "--json"]).object()["timer"].is_null());
    let unknown = status(home, &["nosuch"]);
    assert_eq!(unknown.code, Some(2), "{}{}", unknown.out, unknown.err);
    assert!(unknown.err.contains("is neither in a mounted tierfs nor a configuration"), "{}", unknown.err);
}
