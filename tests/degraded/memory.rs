//! What the kernel has in memory of files on a tier that loses what was not synced.

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::common::fs::{get, put};
use crate::common::loopfs::LoopFs;
use crate::common::mount::Setup;
use crate::common::{need, wait};
use crate::gone::{until_back, until_gone};

/// A program that had the file open for writing kept what others read in memory. They were shown what the tier had
/// lost, and an fsync said that it was durable.
#[test]
fn what_a_tier_has_lost_is_shown_to_nobody_once_it_is_back() {
    let Some([_python]) = need::programs([need::PYTHON]) else { return };
    for (kind, size_mib, options) in [("xfs", 320, "noatime,nouuid"), ("ext4", 64, "noatime")] {
        let Some(mut disk) = LoopFs::with(kind, size_mib, options) else { return };
        let setup = Setup::new().plain().option("nopassthrough");
        let roots = [setup.tier(0).to_owned(), disk.path().join("tier")];
        let setup = setup.roots(&roots).seed(|tiers| {
            put(tiers[1].join("file"), "a".repeat(4096));
            put(tiers[1].join("other"), "other");
        });
        disk.sync();
        let Some(mount) = setup.mount() else { return };
        let path = mount.path("file");
        let open = || File::options().read(true).write(true).open(&path).expect("open");
        // One that reads, one that writes, and one that writes and goes on living.
        let (reader, writer) = (File::open(&path).expect("open"), open());
        assert!(get(&path).starts_with('a'));
        open().write_all_at(&[b'b'; 4096], 0).expect("write");
        assert!(get(&path).starts_with('b'));
        assert!(disk.cut_power());
        until_gone(&mount, "other");
        disk.replug();
        until_back(&mount);
        // What is there now, whether or not the disk had been given what was written.
        let there = get(mount.tier(1, "file"));
        assert_eq!(get(&path)[..1], there[..1], "on {kind}");
        assert!(writer.write_all_at(b"lost", 0).is_err() && writer.sync_all().is_err(), "what was open is dead");
        assert_eq!(get(&path)[..1], there[..1], "on {kind}, after a write that failed");
        // Who writes now is one that writes: beside the mount it is changed, and the kernel keeps what it has.
        let live = open();
        live.write_all_at(&[b'c'; 4096], 0).expect("write");
        drop((reader, writer));
        live.sync_all().expect("fsync");
        assert!(get(&path).starts_with('c'));
        drop(live);
        put(mount.tier(1, "file"), "d".repeat(4096));
        wait::until("a change beside the mount is seen", || get(&path).starts_with('d').then_some(()));
        mount.unmount();
    }
}
