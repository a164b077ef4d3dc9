//! What a change of the ciphertext means, and how damage is told of.

use std::os::fd::AsFd;

use super::{Home, caller, long, name, variants};
use crate::tier::encrypted::outside::outside;
use crate::tier::{Open, Outside};
use crate::types::name::Name;

#[test]
fn a_change_of_the_ciphertext_is_told_by_the_name_in_plaintext() {
    for (variant, features) in variants() {
        let home = Home::new(features);
        home.make(&name("short"), b"");
        home.make(&long('l'), b"");
        let root = home.root();
        let dir = root.descriptor().unwrap();
        let told = |stored: &[u8]| outside(&home.volume, dir.as_fd(), stored);
        let stored = |name: &Name| root.stored_name(name).unwrap();
        assert_eq!(told(&stored(&name("short"))), Outside::of(b"short"), "{variant}");
        assert_eq!(told(&stored(&long('l'))), Outside::of("l".repeat(200).as_bytes()), "{variant}");
        if home.volume.names().is_plain() {
            assert_eq!(
                told(b"gocryptfs.conf"),
                Outside::of(b"gocryptfs.conf"),
                "any file below the root may be so called"
            );
            continue;
        }
        assert_eq!(told(b"gocryptfs.conf"), Outside::Nothing, "{variant}");
        let side = [&stored(&long('l')), &b".name"[..]].concat();
        assert_eq!(told(&side), Outside::of("l".repeat(200).as_bytes()), "{variant}");
        assert_eq!(told(b"gocryptfs.diriv"), Outside::Any, "{variant}");
        assert_eq!(told(b"gocryptfs.longname.draft-1-2-3.name"), Outside::Nothing, "{variant}");
        assert_eq!(told(b"lost+found"), Outside::Nothing, "{variant}");
        root.unlink(&long('l')).unwrap();
        assert_eq!(told(&side), Outside::Any, "{variant}: the name is gone with its side file");
    }
}

#[test]
fn damage_is_told_of_with_both_paths() {
    let home = Home::gcm();
    let root = home.root();
    root.mkdir(&name("dir"), 0o755, &caller()).unwrap();
    let dir = root.open_dir(&name("dir")).unwrap();
    let stored = dir.stored_name(&name("file")).unwrap();
    drop(dir.create(&name("file"), 0o644, Open::ReadWrite, &caller()).unwrap());
    let path = home.stored(&name("dir")).join(std::str::from_utf8(&stored).unwrap());
    let plain = home.tier.root.shared.teller.plain(&path);
    assert_eq!(plain.unwrap(), std::path::Path::new("/dir/file"));
    let plain = home.tier.root.shared.teller.plain(&path.with_file_name("forged"));
    assert_eq!(plain.unwrap(), std::path::Path::new("/dir/forged"));
    assert!(home.tier.root.shared.teller.is_news(Some(&path), "block 1"));
    assert!(!home.tier.root.shared.teller.is_news(Some(&path), "block 1"), "once is enough");
    assert!(home.tier.root.shared.teller.is_news(Some(&path), "block 2"));
}
