//! Trees written by one program, read and changed by the other, and read back by the first.

use std::path::Path;

use crate::cipher::{union, volume};
use crate::common::mount::{Setup, TestMount};
use crate::common::trees;
use crate::common::volume::{FLAVOURS, Flavour};
use crate::common::{fs, need};

/// A tree by stock, read and changed through the mount, read back by stock; then stock changes it, and the
/// mount sees that.
fn stock_first(flavour: Flavour) -> Option<()> {
    let reference = crate::common::mount::temp_dir();
    let reference = reference.path();
    trees::plant(reference);
    let mut setup = union(flavour).seed(|roots| trees::plant(&roots[0]));
    let name = flavour.name;
    trees::same(reference, setup.tier(0), &format!("{name}: planted by stock"));
    setup.hide();
    let mount = setup.mount()?;
    trees::same(reference, &mount.root(), &format!("{name}: by stock, seen by tierfs"));
    trees::change(reference, 1);
    trees::change(&mount.root(), 1);
    trees::same(reference, &mount.root(), &format!("{name}: changed by tierfs"));
    let mut setup = mount.unmount();
    volume(&setup, 0).is_clean(&format!("{name}: changed by tierfs"));
    setup.reveal();
    trees::same(reference, setup.tier(0), &format!("{name}: changed by tierfs, seen by stock"));
    trees::change(reference, 2);
    trees::change(setup.tier(0), 2);
    setup.hide();
    let mount = setup.mount()?;
    trees::same(reference, &mount.root(), &format!("{name}: changed by stock, seen by tierfs"));
    let setup = mount.unmount();
    volume(&setup, 0).is_clean(&format!("{name}: at the end"));
    volume(&setup, 1).is_clean(&format!("{name}: the other tier"));
    Some(())
}

/// A tree by tierfs, read and changed by stock, read back through the mount.
fn tierfs_first(flavour: Flavour) -> Option<()> {
    let reference = crate::common::mount::temp_dir();
    let reference = reference.path();
    trees::plant(reference);
    let mut setup = union(flavour);
    setup.hide();
    let mount = setup.mount()?;
    let name = flavour.name;
    trees::plant(&mount.root());
    trees::same(reference, &mount.root(), &format!("{name}: planted by tierfs"));
    let mut setup = mount.unmount();
    volume(&setup, 0).is_clean(&format!("{name}: planted by tierfs"));
    setup.reveal();
    trees::same(reference, setup.tier(0), &format!("{name}: by tierfs, seen by stock"));
    trees::change(reference, 1);
    trees::change(setup.tier(0), 1);
    setup.hide();
    let mount = setup.mount()?;
    trees::same(reference, &mount.root(), &format!("{name}: changed by stock, seen by tierfs"));
    mount.unmount();
    Some(())
}

/// The judge itself: what it cannot keep, the tests must not ask of tierfs.
#[test]
fn the_stock_program_keeps_the_tree() {
    let reference = crate::common::mount::temp_dir();
    trees::plant(reference.path());
    let setup = union(FLAVOURS[0]).seed(|roots| trees::plant(&roots[0]));
    if !fs::exists(setup.tier(0).join("sizes")) {
        return;
    }
    trees::same(reference.path(), setup.tier(0), "planted");
    for round in [1, 2] {
        trees::change(reference.path(), round);
        trees::change(setup.tier(0), round);
        trees::same(reference.path(), setup.tier(0), &format!("changed, {round}"));
    }
    volume(&setup, 0).is_clean("by stock alone");
}

/// One test for the flavours of each cipher, so that they run side by side.
fn both(cipher: &str) {
    let flavours = FLAVOURS.iter().filter(|flavour| flavour.name.starts_with(cipher));
    for flavour in flavours {
        if stock_first(*flavour).and_then(|()| tierfs_first(*flavour)).is_none() {
            return;
        }
    }
}

#[test]
fn trees_pass_between_both_programs_with_aes_gcm() {
    both("gcm");
}

#[test]
fn trees_pass_between_both_programs_with_aes_siv() {
    both("siv");
}

#[test]
fn trees_pass_between_both_programs_with_xchacha() {
    both("xchacha");
}

fn init(volume: &Path, passfile: &Path, words: &[&str]) -> Option<std::process::Output> {
    need::programs(["gocryptfs"])?;
    std::fs::create_dir_all(volume).expect("mkdir");
    fs::put(passfile, "correct horse\n");
    let mut command = std::process::Command::new(crate::common::mount::program());
    command.args(["key", "init", "--passfile"]).arg(passfile).args(words).arg(volume);
    Some(crate::common::wait::output(&mut command))
}

/// Volumes that tierfs itself makes.
#[test]
fn stock_opens_what_key_init_makes() {
    let kinds: [&[&str]; 5] = [
        &[],
        &["--cipher", "xchacha"],
        &["--cipher", "siv", "--long-name-max", "100"],
        &["--deterministic-names"],
        &["--plaintext-names"],
    ];
    for (at, kind) in kinds.iter().enumerate() {
        let setup: Setup = union(FLAVOURS[0]);
        let words = [&["--scrypt-cost", "10"], *kind].concat();
        let Some(output) = init(&setup.place(0), &setup.home().join("passphrase"), &words) else { return };
        assert!(output.status.success(), "{kind:?}: {output:?}");
        let reference = crate::common::mount::temp_dir();
        trees::plant(reference.path());
        let Some(mount): Option<TestMount> = setup.mount() else { return };
        trees::plant(&mount.root());
        let setup = mount.unmount();
        volume(&setup, 0).is_clean(&format!("{at}: {kind:?}"));
        trees::same(reference.path(), setup.tier(0), &format!("{kind:?}: seen by stock"));
    }
}
