//! What the kernel keeps of the contents of files that tierfs serves itself.

use std::process::Command;

use crate::common::loopfs::LoopFs;
use crate::common::mount::Setup;
use crate::common::need;

/// SQLite read a page again while a write to it was under way, went on with what had been there before, and
/// its database was damaged.
#[test]
fn what_was_written_stays_visible_whoever_looks_meanwhile() {
    if need::programs([need::PYTHON, "fsfreeze"]).is_none() {
        return;
    }
    let Some(disk) = LoopFs::new("ext4", 64) else { return };
    let [tier, slow] = ["tier", "slow"].map(|name| disk.path().join(name));
    for root in [&tier, &slow] {
        std::fs::create_dir(root).expect("mkdir");
    }
    let setup = Setup::new().roots(&[tier.clone(), slow]).option("nopassthrough");
    let Some(mount) = setup.mount() else { return };
    for look in ["stat", "open"] {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mount/pages.py");
        let mut command = Command::new(need::PYTHON);
        command.arg(script).arg(mount.path(format!("file.{look}"))).arg(&tier).arg(look);
        let output = command.output().expect("python3 runs");
        assert!(output.status.success(), "{look}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
