//! smbtorture: what passes on a native directory passes on the mount.

use std::collections::BTreeMap;

use crate::common::need;
use crate::kit::{Server, Share, Shared, open_to_all};

/// The suites that take little time. `TIERFS_TORTURE` names others: see docs/SAMBA.md.
const SUITES: &[&str] = &["smb2.read", "smb2.rename", "smb2.getinfo", "smb2.acls", "smb2.streams", "smb2.lock"];

/// Each case of a suite and how it ended: `success`, `failure`, `error` or `skip`.
fn verdicts(server: &Server, shared: &Shared, share: &str, suite: &str) -> (BTreeMap<String, String>, String) {
    let mut command = server.inside("smbtorture");
    command.args([format!("//127.0.0.1/{share}").as_str(), suite, "-U", &server.credentials(&shared.users[0])]);
    let output = crate::kit::finished(&mut command);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let verdict = |line: &str| {
        let (word, name) = line.split_once(": ")?;
        let name = name.trim_end_matches(" [").to_owned();
        ["success", "failure", "error", "skip"].contains(&word).then(|| (name, word.to_owned()))
    };
    (text.lines().filter_map(verdict).collect(), text)
}

#[test]
fn smbtorture_passes_where_it_passes_natively() {
    if need::programs(["smbtorture"]).is_none() {
        return;
    }
    let Some(shared) = Shared::over("tmpfs", 128, &[]) else { return };
    let native = shared.primary().path().join("native");
    std::fs::create_dir(&native).expect("mkdir");
    open_to_all(&native);
    let root = shared.mount.root();
    let shares = [
        Share { name: "mount", path: &root, lines: "" },
        Share { name: "native", path: &native, lines: "root preexec =\n" },
    ];
    let Some(server) = Server::start(&shares, &shared.users) else { return };
    let mut passed = 0;
    let asked = std::env::var("TIERFS_TORTURE").unwrap_or_else(|_| SUITES.join(" "));
    for suite in asked.split_whitespace() {
        let (natively, said) = verdicts(&server, &shared, "native", suite);
        assert!(natively.values().any(|verdict| verdict == "success"), "{suite} natively: {said}");
        let wanted: Vec<&String> = natively.iter().filter(|(_, how)| *how == "success").map(|(case, _)| case).collect();
        passed += wanted.len();
        // Many cases have a clock in them, and a busy machine makes one fail now and then. What is wrong fails again.
        let mut missing = wanted;
        let mut said = String::new();
        for _ in 0..3 {
            let (mounted, text) = verdicts(&server, &shared, "mount", suite);
            missing.retain(|case| mounted.get(*case).is_none_or(|how| how != "success"));
            said = text;
            if missing.is_empty() {
                break;
            }
        }
        assert!(missing.is_empty(), "{suite} on the mount, but not natively: {missing:?}: {said}");
    }
    assert!(passed > 0);
    eprintln!("{passed} cases of {asked} pass on both");
}
