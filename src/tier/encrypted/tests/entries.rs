//! Names: long ones, directories and what a crash leaves of them, attributes, links.

use std::ffi::OsStr;
use std::path::Path;

use super::{Home, bytes, caller, contents, listed, long, name, open_at, variants, volume};
use crate::crypt::{Cipher, Features};
use crate::tier::{Open, Rename, SetXattr, Tier};
use crate::types::attr::Kind;
use crate::types::errno::Errno;

/// The names in a directory of the storage, sorted.
fn stored_in(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn side(home: &Home, name: &crate::types::name::Name) -> std::path::PathBuf {
    let mut path = home.stored(name).into_os_string();
    path.push(".name");
    path.into()
}

#[test]
fn the_side_file_of_a_long_name_comes_and_goes_with_it() {
    let home = Home::gcm();
    let (one, two, short) = (long('a'), long('b'), name("c"));
    let has_side = |name| side(&home, name).exists();
    home.make(&one, b"1");
    assert!(has_side(&one));
    assert_eq!(home.root().create(&one, 0o600, Open::Read, &caller()).err(), Some(Errno::EEXIST));
    assert!(has_side(&one), "a failed creation takes nothing away");
    home.root().rename(&one, home.root().as_ref(), &two, Rename::NoReplace).unwrap();
    assert!(!has_side(&one) && has_side(&two));
    home.root().rename(&two, home.root().as_ref(), &two, Rename::Replace).unwrap();
    assert!(has_side(&two), "a rename to itself");
    home.root().link(&two, home.root().as_ref(), &one).unwrap();
    home.root().rename(&two, home.root().as_ref(), &one, Rename::Replace).unwrap();
    assert!(has_side(&one) && has_side(&two), "both names of one file stay");
    home.make(&short, b"2");
    home.root().rename(&short, home.root().as_ref(), &one, Rename::Exchange).unwrap();
    assert!(has_side(&one) && contents(home.root().as_ref(), &one) == Ok(b"2".to_vec()));
    assert_eq!(
        home.root().rename(&name("none"), home.root().as_ref(), &long('z'), Rename::Replace),
        Err(Errno::ENOENT)
    );
    assert!(!has_side(&long('z')), "a failed rename leaves nothing");
    assert_eq!(home.root().unlink(&long('z')), Err(Errno::ENOENT));
    for name in [&one, &two, &short] {
        home.root().unlink(name).unwrap();
    }
    assert_eq!(stored_in(home.dir.path()), ["gocryptfs.diriv"]);
}

#[test]
fn a_side_file_that_a_crash_left_is_in_nobodys_way() {
    let home = Home::gcm();
    home.root().mkdir(&name("dir"), 0o755, &caller()).unwrap();
    for left in ["", "rest of"] {
        std::fs::write(side(&home, &long('a')), left).unwrap();
        home.make(&long('a'), b"1");
        assert_eq!(listed(home.afresh().root().as_ref()), ["a".repeat(200), "dir".into()]);
        home.root().unlink(&long('a')).unwrap();
    }
    // Neither are drafts.
    let dir = home.stored(&name("dir"));
    std::fs::write(dir.join("gocryptfs.longname.draft-1.name"), "").unwrap();
    std::fs::create_dir(dir.join("gocryptfs.longname.draft-2.name")).unwrap();
    std::fs::write(dir.join("gocryptfs.longname.draft-2.name/gocryptfs.diriv"), [1; 16]).unwrap();
    std::fs::write(dir.join("gocryptfs.longname.orphan.name"), "").unwrap();
    assert_eq!(listed(home.root().open_dir(&name("dir")).unwrap().as_ref()), [""; 0]);
    home.root().rmdir(&name("dir")).unwrap();
    assert_eq!(stored_in(home.dir.path()), ["gocryptfs.diriv"]);
}

#[test]
fn an_empty_directory_without_an_iv_gets_one_and_a_full_one_is_told_of() {
    for lost in [None, Some("")] {
        let home = Home::gcm();
        home.root().mkdir(&name("dir"), 0o755, &caller()).unwrap();
        let iv = home.stored(&name("dir")).join("gocryptfs.diriv");
        let lose = || match lost {
            None => std::fs::remove_file(&iv).unwrap(),
            Some(text) => {
                std::fs::remove_file(&iv).unwrap();
                std::fs::write(&iv, text).unwrap();
            }
        };
        lose();
        let dir = home.afresh().root().open_dir(&name("dir")).unwrap();
        drop(dir.create(&name("file"), 0o644, Open::ReadWrite, &caller()).unwrap());
        assert_eq!(std::fs::read(&iv).unwrap().len(), 16);
        assert_eq!(listed(home.afresh().root().open_dir(&name("dir")).unwrap().as_ref()), ["file"]);
        let whole = std::fs::read(&iv).unwrap();
        lose();
        let dir = home.afresh().root().open_dir(&name("dir")).unwrap();
        assert_eq!(dir.list(&mut |_| ()), Err(Errno::EIO));
        assert_eq!(dir.stat(Some(&name("file"))), Err(Errno::EIO));
        assert_eq!(home.root().rmdir(&name("dir")), Err(Errno::ENOTEMPTY));
        assert_eq!(listed(home.root().as_ref()), ["dir"], "the others are not concerned");
        let _gone = std::fs::remove_file(&iv);
        std::fs::write(&iv, whole).unwrap();
        assert_eq!(listed(dir.as_ref()), ["file"], "restored");
    }
}

#[test]
fn a_directory_that_cannot_be_removed_keeps_its_iv() {
    let home = Home::gcm();
    home.root().mkdir(&name("dir"), 0o755, &caller()).unwrap();
    let dir = home.root().open_dir(&name("dir")).unwrap();
    drop(dir.create(&name("file"), 0o644, Open::ReadWrite, &caller()).unwrap());
    assert_eq!(home.root().rmdir(&name("dir")), Err(Errno::ENOTEMPTY));
    home.root().mkdir(&name("other"), 0o755, &caller()).unwrap();
    let rename =
        |from: &str, to: &str| home.root().rename(&name(from), home.root().as_ref(), &name(to), Rename::Replace);
    assert_eq!(rename("other", "dir"), Err(Errno::ENOTEMPTY));
    assert_eq!(listed(home.afresh().root().open_dir(&name("dir")).unwrap().as_ref()), ["file"]);
    rename("dir", "other").unwrap();
    assert_eq!(listed(home.afresh().root().as_ref()), ["other"]);
    assert_eq!(listed(home.afresh().root().open_dir(&name("other")).unwrap().as_ref()), ["file"]);
    assert_eq!(rename("other", "other"), Ok(()));
    assert_eq!(listed(dir.as_ref()), ["file"], "an open directory goes on");
    assert_eq!(stored_in(home.dir.path()).len(), 2);
}

#[test]
fn a_removed_directory_that_is_open_takes_nothing_in() {
    let home = Home::gcm();
    home.root().mkdir(&name("dir"), 0o755, &caller()).unwrap();
    for touched in [false, true] {
        let dir = home.root().open_dir(&name("dir")).unwrap();
        if touched {
            assert_eq!(dir.stat(Some(&name("a"))), Ok(None));
        }
        home.root().rmdir(&name("dir")).unwrap();
        assert_eq!(dir.create(&name("a"), 0o644, Open::Read, &caller()).err(), Some(Errno::ENOENT));
        assert_eq!(dir.stat(Some(&name("a"))), Ok(None));
        assert_eq!(dir.list(&mut |_| ()), Err(Errno::ENOENT), "as on a plain tier");
        home.root().mkdir(&name("dir"), 0o755, &caller()).unwrap();
    }
}

#[test]
fn targets_of_links_have_their_length_and_their_limit() {
    for (variant, features) in variants() {
        let home = Home::new(features);
        for len in [1, 2, 3, 15, 16, 17, 100, 3000] {
            let (link, target) = (name(format!("l{len}")), "ä/".repeat(len).as_bytes()[..len].to_vec());
            home.root().symlink(&link, std::os::unix::ffi::OsStrExt::from_bytes(&target), &caller()).unwrap();
            let root = home.afresh().root();
            assert_eq!(root.readlink(&link), Ok(target), "{variant}");
            assert_eq!(root.stat(Some(&link)).unwrap().unwrap().size, len as u64, "{variant}");
            assert_eq!(root.open(&link, Open::Hold).unwrap().stat().unwrap().size, len as u64, "{variant}");
        }
        let too_long = "x".repeat(4096);
        assert_eq!(home.root().symlink(&name("l"), OsStr::new(&too_long), &caller()), Err(Errno::ENAMETOOLONG));
    }
}

#[test]
fn attributes_are_encrypted_but_those_that_the_kernel_needs() {
    let home = Home::gcm();
    let file = home.make(&name("file"), b"x");
    let how = SetXattr::default();
    for (key, value) in [(c"user.mime", &b"text/plain"[..]), (c"user.empty", b""), (c"trusted.tierfs.stamp", b"1234")] {
        file.set_xattr(key, value, how).unwrap();
        assert_eq!(file.get_xattr(key), Ok(value.to_vec()));
        assert_eq!(home.afresh().root().get_xattr(Some(&name("file")), key), Ok(value.to_vec()));
    }
    let mut keys = crate::tier::split_keys(&file.list_xattr().unwrap());
    keys.sort();
    assert_eq!(keys, [c"trusted.tierfs.stamp".to_owned(), c"user.empty".into(), c"user.mime".into()]);
    let below = super::plain_tier(home.dir.path()).root();
    let stored = super::name(home.stored(&name("file")).file_name().unwrap().as_encoded_bytes());
    let stored_keys = crate::tier::split_keys(&below.list_xattr(Some(&stored)).unwrap());
    assert!(stored_keys.iter().all(|key| key.to_bytes().starts_with(b"user.gocryptfs.")), "{stored_keys:?}");
    // Those of others, and damaged ones, hide nothing.
    below.set_xattr(Some(&stored), c"user.tierfs.other", b"x", how).unwrap();
    below.set_xattr(Some(&stored), c"user.gocryptfs.forged", b"x", how).unwrap();
    assert_eq!(crate::tier::split_keys(&file.list_xattr().unwrap()).len(), 3);
    let mime = stored_keys
        .iter()
        .find(|key| home.volume.names().decode_xattr(key.to_bytes()).is_ok_and(|plain| plain == b"user.mime"));
    below.set_xattr(Some(&stored), mime.unwrap(), b"forged value that is long enough to be one", how).unwrap();
    assert_eq!(file.get_xattr(c"user.mime"), Err(Errno::EIO));
    assert_eq!(file.get_xattr(c"user.none"), Err(Errno::ENODATA));
    file.remove_xattr(c"user.mime").unwrap();
    assert_eq!(file.get_xattr(c"user.mime"), Err(Errno::ENODATA));
    assert_eq!(file.set_xattr(c"user.empty", b"y", SetXattr { flags: 1, ..how }), Err(Errno::EEXIST));
    assert_eq!(file.set_xattr(c"user.new", b"y", SetXattr { flags: 2, ..how }), Err(Errno::ENODATA));
    home.root().set_xattr(None, c"user.on root", b"z", how).unwrap();
    assert_eq!(home.afresh().root().get_xattr(None, c"user.on root"), Ok(b"z".to_vec()));
}

#[test]
fn the_configuration_is_no_entry() {
    for (variant, features) in variants() {
        let home = Home::new(features);
        std::fs::write(home.dir.path().join("gocryptfs.conf"), "{}").unwrap();
        let (conf, root) = (name("gocryptfs.conf"), home.root());
        assert_eq!(listed(root.as_ref()), [""; 0], "{variant}");
        assert_eq!(root.stat(Some(&conf)), Ok(None), "{variant}");
        assert_eq!(root.unlink(&conf), Err(Errno::ENOENT), "{variant}");
        assert_eq!(root.rmdir(&conf), Err(Errno::ENOENT), "{variant}");
        let made = root.create(&conf, 0o644, Open::ReadWrite, &caller());
        assert_eq!(made.err(), features.names.eq(&crate::crypt::NameMode::Plain).then_some(Errno::EPERM), "{variant}");
        assert_eq!(std::fs::read(home.dir.path().join("gocryptfs.conf")).unwrap(), b"{}", "{variant}");
    }
}

#[test]
fn names_with_the_hash_of_a_link_survive_a_held_file() {
    let home = Home::gcm();
    let held = {
        home.make(&name("one"), &bytes(10));
        home.root().open(&name("one"), Open::Hold).unwrap()
    };
    held.link_to(home.root().as_ref(), &long('k')).unwrap();
    home.root().unlink(&name("one")).unwrap();
    assert_eq!(listed(home.afresh().root().as_ref()), ["k".repeat(200)]);
    assert_eq!(contents(home.root().as_ref(), &long('k')), Ok(bytes(10)));
    assert_eq!(held.link_to(home.root().as_ref(), &long('k')), Err(Errno::EEXIST));
    assert!(side(&home, &long('k')).exists());
    home.root().mknod(&long('f'), Kind::Fifo.mode() | 0o600, 0, &caller()).unwrap();
    assert_eq!(listed(home.afresh().root().as_ref()).len(), 2);
}

#[test]
fn a_directory_without_rights_is_made_and_removed() {
    let home = Home::gcm();
    for mode in [0o000, 0o111, 0o500, 0o2755, 0o1777] {
        home.root().mkdir(&name("dir"), mode, &caller()).unwrap();
        let stat = home.root().stat(Some(&name("dir"))).unwrap().unwrap();
        assert_eq!(stat.mode & 0o777, mode & 0o755, "{mode:o}");
        assert_eq!(home.root().mkdir(&name("dir"), mode, &caller()), Err(Errno::EEXIST));
        home.root().rmdir(&name("dir")).unwrap();
    }
}

#[test]
fn two_tiers_with_one_key_name_nothing_alike_but_with_deterministic_names() {
    let gcm = Features::new(Cipher::Gcm);
    for (features, alike) in [(gcm, false), (gcm.with_deterministic_names(), true)] {
        let (one, two) = (Home::new(features), tempfile::tempdir().unwrap());
        let other = open_at(two.path(), &volume(features)).root();
        let stored = |dir: &dyn crate::tier::Dir| {
            dir.mkdir(&name("a"), 0o755, &caller()).unwrap();
            dir.stored_name(&name("a")).unwrap()
        };
        assert_eq!(stored(one.root().as_ref()) == stored(other.as_ref()), alike);
    }
}

/// Every directory below has its IV, every long name its side file, and nothing else is there.
fn assert_whole(at: &Path) {
    let names = stored_in(at);
    assert!(names.iter().any(|name| name == "gocryptfs.diriv"), "{}", at.display());
    for name in &names {
        let path = at.join(name);
        if let Some(long) = name.strip_suffix(".name") {
            assert!(names.iter().any(|other| other == long), "{name} has no entry");
        } else if name.starts_with("gocryptfs.longname.") {
            assert!(names.contains(&format!("{name}.name")), "{name} has no side file");
        }
        if std::fs::symlink_metadata(&path).unwrap().is_dir() {
            assert_whole(&path);
        }
    }
}

#[test]
fn many_at_once_leave_whole_directories() {
    let home = Home::gcm();
    let dirs = [name("d"), long('d'), name("e")];
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let (root, dirs) = (home.root(), &dirs);
            scope.spawn(move || {
                let mut dice = super::Dice(seed);
                let mut pick = |count: usize| usize::try_from(dice.roll(count as u64)).unwrap();
                for _ in 0..400 {
                    let (one, two) = (&dirs[pick(3)], &dirs[pick(3)]);
                    let file = [name("f"), long('f'), long('g')][pick(3)].clone();
                    let answer = match pick(6) {
                        0 | 1 => root.mkdir(one, 0o755, &caller()),
                        2 => root.rmdir(one),
                        3 => root.rename(one, root.as_ref(), two, [Rename::Replace, Rename::Exchange][pick(2)]),
                        4 => {
                            root.open_dir(one).and_then(|dir| dir.create(&file, 0o644, Open::Read, &caller()).map(drop))
                        }
                        _ => root.open_dir(one).and_then(|dir| dir.unlink(&file)),
                    };
                    let usual = [Errno::ENOENT, Errno::EEXIST, Errno::ENOTEMPTY];
                    assert!(answer.is_ok() || usual.contains(&answer.unwrap_err()), "{answer:?}");
                }
            });
        }
    });
    assert_whole(home.dir.path());
}

/// `tierfs check` and the like are other processes than the mount, with locks of their own.
#[test]
fn who_only_looks_at_a_directory_on_its_way_out_gives_it_no_new_iv() {
    let home = Home::gcm();
    home.root().mkdir(&name("dir"), 0o755, &caller()).unwrap();
    let serving = home.root().open_dir(&name("dir")).unwrap();
    assert_eq!(serving.stat(Some(&name("file"))), Ok(None), "it knows the IV now");
    let (iv, parked) = (home.stored(&name("dir")).join("gocryptfs.diriv"), home.dir.path().join("parked"));
    std::fs::rename(&iv, &parked).unwrap();
    let looking = home.afresh().root().open_dir(&name("dir")).unwrap();
    assert_eq!(listed(looking.as_ref()), [""; 0]);
    assert_eq!(looking.stat(Some(&name("file"))), Ok(None));
    assert_eq!(looking.unlink(&name("file")), Err(Errno::ENOENT));
    assert_eq!(looking.survey(&mut |_| std::ops::ControlFlow::Continue(())), Ok(()));
    assert!(!iv.exists(), "rmdir would fail, and the old IV could not be put back");
    std::fs::rename(&parked, &iv).unwrap();
    drop(serving.create(&name("file"), 0o644, Open::ReadWrite, &caller()).unwrap());
    assert_eq!(listed(looking.as_ref()), ["file"]);
    assert_eq!(listed(home.afresh().root().open_dir(&name("dir")).unwrap().as_ref()), ["file"]);
}

#[test]
fn a_long_name_whose_hash_begins_like_a_draft_is_no_draft() {
    use crate::tier::encrypted::names::{Role, draft, role};
    let hash = format!("gocryptfs.longname.draft-{}", "A".repeat(37));
    assert_eq!(role(hash.as_bytes()), Role::Long);
    assert_eq!(role(draft().unwrap().as_bytes()), Role::Draft);
}

/// `chattr +a` lets names into a directory and none out, so the IV cannot simply go back.
#[test]
fn a_directory_in_an_append_only_one_keeps_its_iv() {
    const APPEND_ONLY: u32 = 0x20;
    let home = Home::gcm();
    let root = home.root();
    root.mkdir(&name("parent"), 0o755, &caller()).unwrap();
    let parent = root.open_dir(&name("parent")).unwrap();
    parent.mkdir(&name("dir"), 0o755, &caller()).unwrap();
    let dir = parent.open_dir(&name("dir")).unwrap();
    drop(dir.create(&name("first"), 0o644, Open::ReadWrite, &caller()).unwrap());
    dir.unlink(&name("first")).unwrap();
    let flags = parent.as_file().unwrap();
    if let Err(errno) = flags.set_flags(APPEND_ONLY) {
        return eprintln!("skipped: no directory can be made append-only here: {errno}");
    }
    let removed = parent.rmdir(&name("dir"));
    let entered = dir.create(&name("second"), 0o644, Open::ReadWrite, &caller()).map(drop);
    flags.set_flags(0).unwrap();
    assert_eq!((removed, entered), (Err(Errno::EPERM), Ok(())));
    let afresh = home.afresh().root().open_dir(&name("parent")).unwrap().open_dir(&name("dir")).unwrap();
    assert_eq!(listed(afresh.as_ref()), ["second"]);
}
