//! A tier that a FUSE server shows: the kernel asks the server for nothing when such a tier is synced as a whole.

use std::process::Command;

use crate::common::fs::{exists, get, put};
use crate::common::loopfs::LoopFs;
use crate::common::mount::{self, Setup};
use crate::common::volume::{Flavour, Volume};
use crate::common::{need, wait};

/// Its directories have no files of their own, which gocryptfs leaves to the cache.
const FLAVOUR: Flavour = Flavour { name: "gcm-deterministic", flags: &["-deterministic-names"] };

/// All copies were there, with 0 bytes, and the sources were gone.
#[test]
fn files_moved_to_a_served_tier_survive_a_power_cut_of_its_disk() {
    if need::programs([need::PYTHON, "gocryptfs"]).is_none() {
        return;
    }
    let Some(disk) = LoopFs::with("ext4", 96, "noatime") else { return };
    let fast = mount::temp_dir();
    let passfile = fast.path().join("passphrase");
    let Some(volume) = Volume::init(&disk.path().join("cipher"), &passfile, FLAVOUR) else { return };
    let point = fast.path().join("view");
    let server = volume.mount(&point);
    let roots = [fast.path().join("tier"), server.path("tier")];
    // More files and more directories than are made durable one by one where all can be at once.
    let paths: Vec<String> = (0..12).map(|at| format!("d{at}/f")).collect();
    let setup = Setup::new().plain().roots(&roots).seed(|roots| {
        for path in &paths {
            put(roots[0].join(path), path);
        }
    });
    let Some(mount) = setup.mount() else { return };
    let setup = mount.unmount();
    disk.sync();
    let mut command = Command::new(mount::program());
    command.args(["migrate", "--older-than", "0"]).arg(mount::spec(&roots));
    let ran = wait::output(&mut command);
    assert!(disk.cut_power());
    drop(server);
    disk.restart();
    let server = volume.mount(&point);
    assert!(ran.status.success() && !paths.iter().any(|path| exists(roots[0].join(path))), "the case that is tested");
    let found: Vec<String> = paths.iter().map(|path| get(roots[1].join(path))).collect();
    assert_eq!(found, paths);
    drop((setup, server));
}
