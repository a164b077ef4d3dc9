//! tar: archives with ACLs and attributes, and incremental ones, which go by change times and numbers.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use crate::common::fs::{put, set_xattr, stat};
use crate::common::loopfs::LoopFs;
use crate::common::mount::TestMount;
use crate::common::{need, trees, wait};
use crate::kit::Seen;
use crate::moving::{all_down, all_up, ends_clean, on_disks, run, while_moving};

const KEEP: [&str; 6] = ["--acls", "--xattrs", "--xattrs-include=*", "--selinux", "--numeric-owner", "--sparse"];

fn tar(folder: &Path, words: &[&str]) -> String {
    run(Command::new("tar").arg("-C").arg(folder).args(KEEP).args(words))
}

/// A tree with everything an archive can hold.
pub(crate) fn plant(root: &Path) {
    std::fs::create_dir(root).expect("mkdir");
    trees::plant(root);
    for (at, rights) in ["u:games:rw,g:news:r", "u:1234:r,m::r"].iter().enumerate() {
        let path = root.join(format!("acl/f{at}"));
        put(&path, format!("with an ACL {at}"));
        run(Command::new("setfacl").args(["-m", rights]).arg(&path));
    }
    run(Command::new("setfacl").args(["-m", "d:u:games:rwx"]).arg(root.join("acl")));
    set_xattr(root.join("acl/f0"), "trusted.note", b"of root");
    for at in 0..40 {
        put(root.join(format!("many/d{}/f{at}", at % 4)), trees::bytes(at, 100 * at * at));
    }
    trees::settle(root);
}

/// Names in an archive that are not directories.
fn archived(archive: &str) -> Vec<String> {
    let listed = run(Command::new("tar").args(["-tf", archive]));
    listed.lines().filter(|name| !name.ends_with('/')).map(str::to_owned).collect()
}

/// Packed and unpacked on the mount, and compared with what it was made from.
fn pack_and_unpack(mount: &TestMount, source: &Path, round: usize) {
    let (archive, out) = (mount.path(format!("a{round}.tar")), format!("out{round}"));
    let name = archive.to_str().expect("UTF-8");
    tar(source, &["-cf", name, "."]);
    std::fs::create_dir(mount.path(&out)).expect("mkdir");
    tar(&mount.path(&out), &["-xpf", name]);
    // `-d` compares contents, sizes, times, owners and modes.
    assert_eq!(tar(&mount.path(&out), &["-df", name]), "");
    trees::same(source, &mount.path(&out), &out);
}

#[test]
fn tar_packs_unpacks_and_finds_nothing_new_after_moves() {
    if need::programs(["tar", "setfacl", "getfattr"]).is_none() {
        return;
    }
    let Some(outside) = LoopFs::new("ext4", 512) else { return };
    let Some((_tiers, mount)) = on_disks(1024, &[]) else { return };
    let source = outside.path().join("source");
    plant(&source);
    while_moving(&mount, |moves| moves.rounds(2, 20, |round| pack_and_unpack(&mount, &source, round)));
    all_up(&mount);
    let tree = mount.path("out0");
    let [first, second, list] = ["first.tar", "second.tar", "list"]
        .map(|name| mount.home().join(name).into_os_string().into_string().expect("UTF-8"));
    // Files that change in the second in which tar begins are packed once more.
    wait::until("the tree is older than a second", || {
        let changed = stat(tree.join("many")).ctime();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
        (now > changed.unsigned_abs() + 1).then_some(())
    });
    let pack = |archive: &str| drop(tar(&tree, &["-c", "--listed-incremental", &list, "-f", archive, "."]));
    pack(&first);
    // Packing has read it: from here on nothing touches it.
    let before = Seen::of(&tree);
    assert!(archived(&first).len() > 80, "{:?}", archived(&first));
    for when in ["down", "up"] {
        if when == "down" {
            all_down(&mount)
        } else {
            all_up(&mount)
        }
        pack(&second);
        assert_eq!(archived(&second), [] as [&str; 0], "{when}: archived again");
        Seen::of(&tree).same_as(&before, when);
    }
    let mount = mount.remount();
    put(tree.join("many/new"), "new");
    // The kernel gives each mount a device number of its own.
    tar(&tree, &["-c", "--no-check-device", "--listed-incremental", &list, "-f", &second, "."]);
    assert_eq!(archived(&second), ["./many/new"]);
    ends_clean(mount);
}
