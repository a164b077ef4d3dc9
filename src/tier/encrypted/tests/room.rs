//! A full disk takes nothing away that was there.

use std::process::Command;

use super::{Home, bytes, contents, name, variants};
use crate::sys::creds;
use crate::tier::Tier;
use crate::types::attr::SetAttr;
use crate::types::errno::Errno;

/// A small filesystem in memory, which goes with the value.
struct Small(tempfile::TempDir);

impl Small {
    fn new() -> Option<Small> {
        let dir = tempfile::tempdir().unwrap();
        let mount = ["-t", "tmpfs", "-o", "size=256k", "tmpfs"];
        let mounted = creds::is_root() && Command::new("mount").args(mount).arg(dir.path()).status().unwrap().success();
        if !mounted {
            eprintln!("skipped: no filesystem can be mounted here");
            return None;
        }
        Some(Small(dir))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(self.0.path()).status().unwrap();
    }
}

/// Takes all room but so many bytes.
fn fill(small: &Small, leave: usize) {
    let path = small.0.path().join("ballast");
    let mut data = vec![1; 1 << 20];
    std::fs::write(&path, &data).unwrap_err();
    data.truncate(usize::try_from(std::fs::metadata(&path).unwrap().len()).unwrap().saturating_sub(leave));
    std::fs::write(&path, data).unwrap();
}

#[test]
fn what_does_not_fit_leaves_the_old_contents() {
    for (variant, features) in variants().into_iter().take(3) {
        for (old, leave) in [(0, 0), (3000, 0), (4096, 4096), (5000, 4096), (5000, 8192), (20_000, 12_288), (8000, 0)] {
            let Some(small) = Small::new() else { return };
            let dir = tempfile::tempdir_in(small.0.path()).unwrap();
            let home = Home::at(dir, features);
            let (one, data) = (name("file"), bytes(old));
            let file = home.make(&name("file"), &data);
            fill(&small, leave);
            let check = |wanted: &[u8], what: &str| {
                let got = contents(home.afresh().root().as_ref(), &one);
                assert!(got.as_deref() == Ok(wanted), "{variant}, {old} bytes with {leave} free: {what}");
            };
            let mut wanted = data.clone();
            let big = vec![9; 100_000];
            match file.append(&big) {
                Ok(len) => wanted.extend(&big[..len]),
                Err(errno) => assert_eq!(errno, Errno::ENOSPC),
            }
            check(&wanted, "appending");
            let at = wanted.len() as u64 + 50_000;
            let write = file.write_at(&big, at);
            if let Ok(len) = write {
                wanted.resize(usize::try_from(at).unwrap(), 0);
                wanted.extend(&big[..len]);
            }
            check(&wanted, "writing behind the end");
            let size = wanted.len() as u64 + 30_001;
            if file.set_attr(&SetAttr { size: Some(size), ..SetAttr::default() }).is_ok() {
                wanted.resize(usize::try_from(size).unwrap(), 0);
            }
            check(&wanted, "growing");
            if old > 100 {
                file.set_attr(&SetAttr { size: Some(99), ..SetAttr::default() }).unwrap();
                wanted.truncate(99);
                check(&wanted, "shrinking needs no room");
            }
        }
    }
}

#[test]
fn filling_a_hole_without_room_leaves_the_hole() {
    let Some(small) = Small::new() else { return };
    let home = Home::at(tempfile::tempdir_in(small.0.path()).unwrap(), variants()[0].1);
    let one = name("file");
    let file = home.make(&one, b"begin");
    file.set_attr(&SetAttr { size: Some(400_000), ..SetAttr::default() }).unwrap();
    fill(&small, 6000);
    let mut wanted = vec![0; 400_000];
    wanted[..5].copy_from_slice(b"begin");
    match file.write_at(&[7; 100_000], 50_000) {
        Ok(len) => wanted[50_000..50_000 + len].fill(7),
        Err(errno) => assert_eq!(errno, Errno::ENOSPC),
    }
    let got = contents(home.afresh().root().as_ref(), &one).unwrap();
    assert!(got == wanted);
}
