//! A union whose tiers go and come back while it is in use.

use super::*;
use crate::types::health::Condition;
use crate::union::{Found, Union};

fn lose(union: &Union, rank: u8) {
    drop(union.lose(Rank(rank), Condition::Failed, "pulled", false));
}

#[test]
fn a_directory_keeps_its_number_when_a_tier_is_back_that_holds_it_too() {
    let tree = tree(&["0/d/a", "1/d/b"]);
    lose(&tree.union, 1);
    let away = tree.find("d").ino;
    assert_eq!(tree.union.lookup(away, &name("b")), Err(Errno::EIO));
    tree.union.regain(Rank(1)).unwrap();
    assert_eq!(tree.find("d").ino, away);
    assert_eq!(tree.find("d/b").stat.size, 5);
    assert_eq!(tree.find("d/a").stat.size, 5);
    // And what is made beside the mount later is found, too.
    std::fs::remove_dir_all(tree.on(1).join("d")).unwrap();
    assert_eq!(tree.find("d").ino, away);
    assert_eq!(tree.union.dir(away).unwrap().ranks(), Ranks(0b01));
}

#[test]
fn what_is_known_of_a_tier_that_is_away_still_holds() {
    let tiers: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    tiers.iter().for_each(|tier| std::fs::create_dir(tier.path().join("d")).unwrap());
    let tree = over(tiers);
    let d = tree.find("d").ino;
    lose(&tree.union, 1);
    assert_eq!(tree.find("d").ino, d);
    assert_eq!(tree.union.inodes.dir(d).unwrap().1, Ranks(0b111));
    let opened = tree.union.opendir(d).unwrap();
    assert_eq!(tree.union.fsync_dir(d, opened), Err(Errno::EIO));
}

#[test]
fn a_clone_made_while_a_directory_is_looked_for_is_not_forgotten() {
    let tree = tree(&["1/d/s"]);
    let d = tree.find("d").ino;
    let before = tree.union.inodes.clones();
    tree.create(d, "new").unwrap();
    tree.union.inodes.settle(d, (Ranks(0b10), Ranks::NONE), before, &|| true);
    assert_eq!(tree.union.inodes.dir(d).unwrap().1, Ranks(0b11));
    assert!(matches!(tree.union.lookup(d, &name("new")), Ok(Found::Object(_))));
}

#[test]
fn room_is_told_without_a_tier_that_is_away() {
    let tree = tree(&["0/a", "1/b"]);
    lose(&tree.union, 1);
    assert!(tree.union.statfs().unwrap().blocks > 0);
}

/// Whoever reads a directory of which a part is away sees the rest, and then an error.
#[test]
fn a_file_is_looked_for_no_further_while_its_tier_is_away() {
    let tree = tree(&["1/a"]);
    let a = tree.find("a").ino;
    lose(&tree.union, 1);
    assert_eq!(tree.union.getattr(a).unwrap_err(), Errno::EIO);
    tree.union.regain(Rank(1)).unwrap();
    assert_eq!(tree.union.getattr(a).unwrap().ino, a);
}

/// Two tiers that go and come at the same moment left neither set of tiers, and everybody waited for ever.
#[test]
fn tiers_that_go_and_come_at_once_leave_a_set_of_tiers() {
    let tiers: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    tiers.iter().for_each(|tier| std::fs::create_dir(tier.path().join("d")).unwrap());
    let tree = over(tiers);
    std::thread::scope(|scope| {
        for rank in [1, 2] {
            let union = &tree.union;
            scope.spawn(move || {
                for _ in 0..2000 {
                    lose(union, rank);
                    union.regain(Rank(rank)).unwrap();
                }
            });
        }
    });
    assert!(!tree.union.is_degraded());
    let d = tree.find("d").ino;
    assert_eq!(tree.union.dir(d).unwrap().ranks(), Ranks(0b111));
}

/// Who has passed the first check may wait at a gate while the tier goes.
#[test]
fn names_are_changed_only_where_all_tiers_are_there() {
    let tree = tree(&["0/f", "1/f"]);
    let whole = tree.union.dir(Ino::ROOT).unwrap();
    lose(&tree.union, 1);
    let part = tree.union.dir(Ino::ROOT).unwrap();
    for node in [whole, part] {
        assert_eq!(tree.union.copies(&node, &name("f")).unwrap_err(), Errno::EROFS);
        assert_eq!(tree.union.check_absent(&node, &name("g"), None), Err(Errno::EROFS));
    }
}

/// Says yes to everything.
struct Anything;

impl crate::union::passthrough::Registrar for Anything {
    fn register(&self, _file: std::os::fd::BorrowedFd<'_>) -> Result<crate::union::passthrough::Token> {
        Ok(Box::new(()))
    }
}

/// What was written past tierfs to a tier that has gone is not there when it comes back as another.
#[test]
fn a_handle_on_a_tier_that_was_lost_is_never_made_durable() {
    let tree = tree(&["1/f", "0/g"]);
    let (f, g) = (tree.find("f").ino, tree.find("g").ino);
    let open = |ino| tree.union.open(ino, Access::Write, 0, Some(&Anything)).unwrap();
    let (lost, well) = (open(f), open(g));
    assert!(lost.backing.is_some() && well.backing.is_some());
    assert_eq!(tree.union.fsync(f, lost.fh, false), Ok(()));
    lose(&tree.union, 1);
    tree.union.regain(Rank(1)).unwrap();
    for _ in 0..2 {
        assert_eq!(tree.union.fsync(f, lost.fh, false), Err(Errno::EIO));
        assert_eq!(tree.union.fallocate(f, lost.fh, 0, 0, 10), Err(Errno::EIO));
        assert_eq!(
            tree.union.setattr(f, Some(lost.fh), &crate::types::attr::SetAttr::default()).err(),
            Some(Errno::EIO)
        );
    }
    assert_eq!(tree.union.fsync(g, well.fh, false), Ok(()));
    let again = open(f);
    assert_eq!(tree.union.fsync(f, again.fh, false), Ok(()));
    [(f, lost), (g, well), (f, again)].into_iter().for_each(|(ino, opened)| tree.union.release(ino, opened.fh));
}

#[test]
fn a_file_is_not_registered_across_the_loss_of_its_tier() {
    let tree = tree(&["1/f"]);
    let f = tree.find("f").ino;
    let era = tree.union.states.era();
    let file = tree.union.hold(f).unwrap();
    lose(&tree.union, 1);
    tree.union.regain(Rank(1)).unwrap();
    assert_eq!(tree.union.register(f, file.as_ref(), Some(&Anything), era).err(), Some(Errno::ESTALE));
}

/// A rename that has begun with all tiers takes no step with fewer.
#[test]
fn a_rename_takes_no_step_in_another_set_of_tiers() {
    let tree = tree(&["1/x", "0/y"]);
    let root = tree.union.dir(Ino::ROOT).unwrap();
    let (old, new) = (name("x"), name("y"));
    let (olds, news) = (tree.union.copies(&root, &old).unwrap(), tree.union.copies(&root, &new).unwrap());
    let plan = crate::union::rename::plan(&olds, &news, Rename::Replace).unwrap();
    lose(&tree.union, 1);
    tree.union.regain(Rank(1)).unwrap();
    let at = |name| crate::union::rename::Place { dir: Ino::ROOT, name };
    assert!(tree.union.perform((at(&old), at(&new), Rename::Replace), &plan, root.era).is_err());
    assert!(tree.on(0).join("y").exists() && tree.on(1).join("x").exists());
}

/// Loses a tier in the middle of an open.
struct Losing<'a>(&'a Union);

impl crate::union::passthrough::Registrar for Losing<'_> {
    fn register(&self, _file: std::os::fd::BorrowedFd<'_>) -> Result<crate::union::passthrough::Token> {
        lose(self.0, 1);
        Ok(Box::new(()))
    }
}

/// The kernel would try again, and tell the program that somebody else has made it.
#[test]
fn what_was_made_just_before_a_tier_goes_is_known_to_who_made_it() {
    let tree = tree(&["1/b"]);
    let (file, rank) = (name("new"), Rank::PRIMARY);
    let make = |dir: &dyn crate::tier::Dir| dir.mknod(&file, 0o100_600, 0, &Caller::DAEMON);
    let (node, made, ()) = tree.union.make(Ino::ROOT, &file, make).unwrap();
    assert_eq!(made, rank);
    let stat = node.copy(rank).unwrap().stat(Some(&file)).unwrap().unwrap();
    let found = crate::union::resolve::Resolution::File(rank, stat);
    lose(&tree.union, 1);
    let attr = tree.union.enter(&node, &file, &found).unwrap();
    assert_eq!(tree.union.getattr(attr.ino).unwrap().stat.mode, 0o100_600);
    std::fs::remove_file(tree.on(0).join("new")).unwrap();
    tree.union.regain(Rank(1)).unwrap();
    assert_eq!(tree.union.enter(&node, &file, &found).unwrap_err(), Errno::EIO, "it has gone meanwhile");
    let how = Create { mode: 0o644, access: Access::Write, exclusive: true };
    let (attr, opened) =
        tree.union.create(Ino::ROOT, &name("opened"), &how, &Caller::DAEMON, Some(&Losing(&tree.union))).unwrap();
    assert!(opened.backing.is_none());
    assert_eq!(tree.union.fsync(attr.ino, opened.fh, false), Ok(()));
    tree.union.release(attr.ino, opened.fh);
}

/// A directory is looked for on a tier that is back once, and not each time as long as another is away.
#[test]
fn a_directory_is_settled_on_a_tier_that_is_back_while_another_is_away() {
    let tiers: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    std::fs::create_dir(tiers[0].path().join("d")).unwrap();
    let tree = over(tiers);
    let d = tree.find("d").ino;
    [1, 2].iter().for_each(|rank| lose(&tree.union, *rank));
    tree.union.regain(Rank(1)).unwrap();
    let opened = tree.union.dir(d).unwrap();
    assert_eq!(tree.union.inodes.maybe(d), Ranks::NONE);
    assert!(Arc::ptr_eq(&opened, &tree.union.dir(d).unwrap()), "it stays open");
    tree.union.regain(Rank(2)).unwrap();
    assert_eq!(tree.union.inodes.maybe(d), Ranks(0b100));
    assert_eq!(tree.union.dir(d).unwrap().ranks(), Ranks(0b1));
}

/// Permissions are the fastest copy's, which may be stricter than those of the copy that is left.
#[test]
fn permissions_of_a_directory_stay_while_its_fastest_copy_is_away() {
    use std::os::unix::fs::PermissionsExt;
    let set = |path: std::path::PathBuf, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let tree = tree(&["0/d/a", "1/d/b"]);
    set(tree.on(0).join("d"), 0o700);
    set(tree.on(1).join("d"), 0o755);
    let d = tree.find("d").ino;
    let mode = || tree.union.getattr(d).unwrap().stat.mode & 0o7777;
    lose(&tree.union, 0);
    assert_eq!(mode(), 0o700);
    tree.union.regain(Rank(0)).unwrap();
    assert_eq!(mode(), 0o700);
    set(tree.on(0).join("d"), 0o750);
    assert_eq!(mode(), 0o750);
    lose(&tree.union, 0);
    assert_eq!(mode(), 0o750);
    tree.union.regain(Rank(0)).unwrap();
    let change = crate::types::attr::SetAttr { mode: Some(0o711), ..Default::default() };
    assert_eq!(tree.union.setattr(d, None, &change).unwrap().stat.mode & 0o7777, 0o711);
    lose(&tree.union, 0);
    assert_eq!(mode(), 0o711);
    assert_eq!(tree.union.inodes.front(d), None, "nothing is kept of what is the same everywhere");
}

/// An ACL that denies a user was forgotten with the tier: the copy that is left had none, and let him in.
#[test]
fn the_access_acl_of_a_directory_stays_while_its_fastest_copy_is_away() {
    use std::os::fd::AsFd;

    use crate::sys::{ability, xattr};
    use crate::union::xattrs::ACCESS_ACL;
    let tree = tree(&["0/d/a", "1/d/b"]);
    let [fast, slow] = [0, 1].map(|rank| std::fs::File::open(tree.on(rank).join("d")).unwrap());
    if ability::acl(&fast).is_err() {
        return eprintln!("skipped: no ACLs here");
    }
    let value = xattr::get(fast.as_fd(), None, ACCESS_ACL).unwrap();
    let d = tree.find("d").ino;
    let shown = || tree.union.getxattr(d, ACCESS_ACL);
    lose(&tree.union, 0);
    assert_eq!(shown().as_ref(), Ok(&value), "nobody has asked for it before");
    tree.union.regain(Rank(0)).unwrap();
    xattr::remove(fast.as_fd(), None, ACCESS_ACL).unwrap();
    ability::acl(&slow).unwrap();
    assert_eq!(shown(), Err(Errno::ENODATA));
    lose(&tree.union, 0);
    assert_eq!(shown(), Err(Errno::ENODATA), "what only the slower copy has opens nothing");
    tree.union.regain(Rank(0)).unwrap();
    let by = Caller { uid: 0, gid: 0, umask: 0, pid: 0 };
    tree.union.setxattr(d, ACCESS_ACL, &value, 0, &by, &Vec::new).unwrap();
    xattr::remove(slow.as_fd(), None, ACCESS_ACL).unwrap();
    lose(&tree.union, 0);
    assert_eq!(shown().as_ref(), Ok(&value), "as it was set through the mount");
    tree.union.regain(Rank(0)).unwrap();
    tree.union.removexattr(d, ACCESS_ACL, &by).unwrap();
    lose(&tree.union, 0);
    assert_eq!(shown(), Err(Errno::ENODATA));
}
