//! Damaged links and extended attributes, and what the format cannot hold.

use std::os::unix::fs::{FileExt, MetadataExt, symlink};

use rustix::fs::SeekFrom as Seeking;
use rustix::io::Errno;

use crate::cipher::{real, tierfs, told, union};
use crate::common::fs::{errno, exists, get, names, put, set_xattr, stat, xattr, xattr_names};
use crate::common::trees::{bytes, long};
use crate::common::volume::{FLAVOURS, Flavour};

#[test]
fn a_damaged_link_is_an_error_and_hides_nothing() {
    let Some(mount) = union(Flavour::DEFAULT).mount() else { return };
    for name in ["bad", "cut", "good"] {
        symlink(format!("target of {name}"), mount.path(name)).expect("symlink");
    }
    let paths = ["bad", "cut"].map(|name| real(&mount, 0, name));
    let setup = mount.unmount();
    for (path, act) in paths.iter().zip([0, 1]) {
        let target = std::fs::read_link(path).expect("readlink").into_os_string().into_string().expect("base64");
        let edited = if act == 0 {
            let first = if target.starts_with('A') { 'B' } else { 'A' };
            format!("{first}{}", &target[1..])
        } else {
            target[..target.len() - 5].to_owned()
        };
        std::fs::remove_file(path).expect("rm");
        symlink(edited, path).expect("symlink");
    }
    let Some(mount) = setup.mount() else { return };
    assert_eq!(names(mount.root()), ["bad", "cut", "good"]);
    for name in ["bad", "cut"] {
        assert_eq!(errno(std::fs::read_link(mount.path(name))), Errno::IO, "{name}");
    }
    assert_eq!(std::fs::read_link(mount.path("good")).expect("readlink").to_str(), Some("target of good"));
    assert_eq!(stat(mount.path("good")).len(), "target of good".len() as u64);
    // What is damaged can be removed.
    std::fs::remove_file(mount.path("bad")).expect("unlink");
    let base = paths[1].file_name().and_then(|name| name.to_str()).expect("text");
    crate::common::wait::until("the link is in the log", || {
        let log = mount.log();
        (log.contains(base) || log.contains("cut")).then_some(())
    });
    let setup = mount.unmount();
    let words = told(&tierfs(&setup, &["check", "--read-data", setup.union().to_str().expect("text")]));
    assert!(words.contains("cut"), "check does not name the link: {words}");
}

#[test]
fn a_damaged_attribute_is_an_error_and_the_others_are_there() {
    let Some(mount) = union(Flavour::DEFAULT).mount() else { return };
    put(mount.path("file"), "contents");
    set_xattr(mount.path("file"), "user.only", b"value");
    let path = real(&mount, 0, "file");
    let stored = xattr_names(&path).into_iter().find(|name| name.starts_with("user.gocryptfs.")).expect("stored");
    set_xattr(mount.path("file"), "user.other", b"another");
    let setup = mount.unmount();
    let mut value = xattr(&path, &stored).expect("getxattr");
    value[20] ^= 1;
    set_xattr(&path, &stored, &value);
    set_xattr(&path, "user.gocryptfs.forged", b"forged");
    let Some(mount) = setup.mount() else { return };
    let file = mount.path("file");
    assert_eq!(xattr(&file, "user.only"), Err(Errno::IO));
    assert_eq!(xattr(&file, "user.other").expect("getxattr"), b"another");
    assert!(xattr_names(&file).contains("user.other"));
    assert_eq!(get(&file), "contents");
    set_xattr(&file, "user.only", b"healed");
    assert_eq!(xattr(&file, "user.only").expect("getxattr"), b"healed");
    mount.unmount();
}

/// A hole of the ciphertext is one of the plaintext where it covers whole blocks.
#[test]
fn holes_are_found_by_blocks() {
    let Some(mount) = union(Flavour::DEFAULT).mount() else { return };
    let file = std::fs::File::create(mount.path("sparse")).expect("create");
    file.write_all_at(&bytes(1, 4096), 0).expect("write");
    file.write_all_at(&bytes(2, 4096), 1 << 20).expect("write");
    file.set_len(4 << 20).expect("truncate");
    file.sync_all().expect("fsync");
    let file = std::fs::File::open(mount.path("sparse")).expect("open");
    let seek = |to| rustix::fs::seek(&file, to);
    // Its edges share pages of the storage with data.
    assert_eq!(seek(Seeking::Hole(0)), Ok(4096));
    assert_eq!(seek(Seeking::Data(4096)), Ok(1 << 20));
    assert_eq!(seek(Seeking::Hole(1 << 20)), Ok((1 << 20) + 4096));
    assert_eq!(seek(Seeking::End(0)), Ok(4 << 20));
    assert!(stat(mount.path("sparse")).blocks() < 200, "sparse");
    let whole = std::fs::read(mount.path("sparse")).expect("read");
    assert!(whole[..4096] == bytes(1, 4096) && whole[1 << 20..][..4096] == bytes(2, 4096));
    assert_eq!(whole.iter().filter(|byte| **byte != 0).count(), {
        let written = [bytes(1, 4096), bytes(2, 4096)].concat();
        written.iter().filter(|byte| **byte != 0).count()
    });
}

/// What is longer than the format can hold is refused with the error that a filesystem has for it, and what
/// is as long as that is kept.
#[test]
fn limits_of_the_format_are_plain_errors() {
    for flavour in [FLAVOURS[0], FLAVOURS[3]] {
        let Some(mount) = union(flavour).mount() else { return };
        put(mount.path(long('n', 255)), "long");
        assert_eq!(errno(std::fs::write(mount.path(long('n', 256)), "")), Errno::NAMETOOLONG);
        symlink(long('t', 3000), mount.path("long-link")).expect("symlink");
        assert_eq!(std::fs::read_link(mount.path("long-link")).expect("readlink").as_os_str().len(), 3000);
        assert_eq!(errno(symlink(long('t', 4000), mount.path("too-long"))), Errno::NAMETOOLONG);
        assert!(!exists(mount.path("too-long")));
        put(mount.path("file"), "");
        set_xattr(mount.path("file"), "user.value", &bytes(1, 2000));
        assert_eq!(xattr(mount.path("file"), "user.value").expect("getxattr"), bytes(1, 2000));
        let setup = mount.unmount();
        crate::cipher::volume(&setup, 0).is_clean("limits");
    }
}
