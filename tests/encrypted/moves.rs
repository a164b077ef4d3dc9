//! Files between a plain primary and an encrypted secondary: the same file at either end, whatever stops
//! the move.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::cipher::volume;
use crate::common::fs::{exists, put, set_xattr};
use crate::common::loopfs::{LoopFs, run};
use crate::common::mount::Setup;
use crate::common::setting::Encrypted;
use crate::common::trees::{bytes, plant};
use crate::common::volume::{FLAVOURS, Flavour};
use crate::common::{need, wait};
use crate::kit::{Seen, files, migrate, nothing_left_behind, recall};

/// On filesystems where these tests' own reading leaves no trace.
fn secondary(flavour: Flavour) -> Option<([LoopFs; 2], Setup)> {
    let below = [LoopFs::with("tmpfs", 64, "noatime")?, LoopFs::with("tmpfs", 64, "noatime")?];
    let roots = [below[0].path().join("tier"), below[1].path().join("tier")];
    Some((below, Setup::new().encrypted(Encrypted::only(&[1]).flavour(flavour)).roots(&roots)))
}

/// With what only root may set.
fn plant_all(root: &Path) {
    plant(root);
    put(root.join("acl/file"), "with an ACL");
    run(Command::new("setfacl").args(["-m", "u:5:r,g:6:rw,m::rw"]).arg(root.join("acl/file")));
    run(Command::new("setfacl").args(["-m", "d:u:7:rwx"]).arg(root.join("acl")));
    set_xattr(root.join("acl"), "user.of", b"a directory");
}

#[test]
fn a_tree_goes_down_encrypted_and_comes_back() {
    if !need::root() || need::programs(["setfacl", "getfattr"]).is_none() {
        return;
    }
    for flavour in [FLAVOURS[0], FLAVOURS[4], FLAVOURS[7], FLAVOURS[10]] {
        let name = flavour.name;
        let Some((_below, setup)) = secondary(flavour) else { return };
        let Some(mount) = setup.seed(|roots| plant_all(&roots[0])).mount() else { return };
        let before = Seen::of(&mount.root());
        let ran = migrate(&mount, &[]).ends(0);
        assert!(ran.count("moved") > 30, "{name}: {ran:?}");
        Seen::of(&mount.root()).same_as(&before, &format!("{name}: down"));
        nothing_left_behind(mount.roots());
        assert_eq!(files(&mount.roots()[0]), [] as [&Path; 0], "{name}: some stayed");
        holds_no_plaintext(&mount.place(1, ""));
        let mount = mount.remount();
        Seen::of(&mount.root()).same_as(&before, &format!("{name}: after a remount"));
        recall(&mount, "").ends(0);
        Seen::of(&mount.root()).same_as(&before, &format!("{name}: up"));
        assert_eq!(files(&mount.roots()[1]), [] as [&Path; 0], "{name}: some stayed down");
        let setup = mount.unmount();
        volume(&setup, 1).is_clean(name);
    }
}

/// No line of the tree is in any file below, nor a name.
fn holds_no_plaintext(cipher: &Path) {
    let secrets = ["with an ACL", "linked", "größe", "sizes", "marked"];
    let mut rest = vec![cipher.to_owned()];
    while let Some(dir) = rest.pop() {
        for entry in std::fs::read_dir(&dir).expect("list") {
            let path: PathBuf = entry.expect("entry").path();
            let kind = path.symlink_metadata().expect("stat").file_type();
            if kind.is_dir() {
                rest.push(path.clone());
            }
            let content = if kind.is_file() { std::fs::read(&path).expect("read") } else { Vec::new() };
            let name = path.file_name().expect("name").as_encoded_bytes().to_vec();
            for secret in secrets {
                // With names in clear these are no secret.
                let named = name.windows(secret.len()).any(|part| part == secret.as_bytes())
                    && cipher.join("gocryptfs.diriv").exists();
                let inside = content.windows(secret.len()).any(|part| part == secret.as_bytes());
                assert!(!named && !inside, "{secret:?} is in clear at {path:?}");
            }
        }
    }
}

/// The command or the daemon dies in the middle; the next start leaves every file whole at one place.
#[test]
fn a_killed_move_leaves_every_file_whole() {
    if !need::root() {
        return;
    }
    let count = 60;
    let Some((_below, setup)) = secondary(Flavour::DEFAULT) else { return };
    let setup = setup.seed(|roots| {
        (0..count).for_each(|at| put(roots[0].join(format!("d{}/f{at}", at % 4)), bytes(at, 30_000 + at)));
    });
    let Some(mut mount) = setup.mount() else { return };
    let before = Seen::of(&mount.root());
    for pause_ms in [10, 40, 90, 160, 250] {
        let mut command = mount.tierfs();
        command.args(["migrate", "--older-than", "0", "--json"]).arg(mount.root());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("tierfs starts");
        let _never = wait::within(std::time::Duration::from_millis(pause_ms), || None::<()>);
        mount.kill();
        let mut setup = mount.crash();
        wait::until("the command ends", || child.try_wait().expect("wait"));
        setup.hide();
        mount = setup.try_mount().expect("mounts again");
        Seen::of(&mount.root()).same_as(&before, &format!("killed after {pause_ms} ms"));
        let mut setup = mount.unmount();
        volume(&setup, 1).is_clean(&format!("killed after {pause_ms} ms"));
        setup.reveal();
        nothing_left_behind(&[setup.tier(0).to_owned(), setup.tier(1).to_owned()]);
        mount = setup.try_mount().expect("mounts again");
        recall(&mount, "").ends(0);
        Seen::of(&mount.root()).same_as(&before, &format!("recalled after {pause_ms} ms"));
    }
    assert!(exists(mount.path("d0/f0")));
}
