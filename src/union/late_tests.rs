//! Lookups that have looked before something changed, and are remembered after it.

use super::*;
use crate::union::Found;

/// A lookup for the migrator, or by a file handle, which the kernel does not keep from renames, had the former place of
/// a directory remembered. By the next rename it came to lie below itself, and who asked for its path was never answered.
#[test]
fn a_late_lookup_does_not_bring_a_directory_back_to_where_it_was() {
    let tree = tree(&["0/a/b/f"]);
    let union = &tree.union;
    let (a, b) = (tree.find("a").ino, tree.find("a/b").ino);
    let (since, node) = (union.inodes.since(), union.dir(a).unwrap());
    let found = union.resolve(&node, &name("b")).unwrap();
    union.rename((a, &name("b")), (Ino::ROOT, &name("b")), Rename::Replace).unwrap();
    assert!(union.enter_since(since, &node, &name("b"), &found, &|| true).unwrap().is_none());
    union.rename((Ino::ROOT, &name("a")), (b, &name("a")), Rename::Replace).unwrap();
    assert_eq!(union.path_of(a), Ok(vec![name("b"), name("a")]));
    // Who looks now is believed, also where it has been renamed beside the mount.
    std::fs::rename(tree.tiers[0].path().join("b"), tree.tiers[0].path().join("c")).unwrap();
    assert_eq!(tree.find("c").ino, b);
    assert_eq!(union.path_of(b), Ok(vec![name("c")]));
}

/// Whatever may have made a ring of directories.
#[test]
fn a_ring_of_directories_is_an_error_and_no_endless_way() {
    let tree = tree(&["0/a/b/f"]);
    let union = &tree.union;
    let (a, b) = (tree.find("a").ino, tree.find("a/b").ino);
    union.inodes.renamed(a, (Ino::ROOT, &name("a")), (b, &name("a")), Rank(0));
    assert_eq!(union.path_of(a), Err(Errno::ELOOP));
    assert!(union.ensure(b, Rank(1)).is_err());
}

#[test]
fn a_late_lookup_does_not_hide_a_clone() {
    let tree = tree(&["1/d/s"]);
    let (dir, root) = (tree.find("d").ino, tree.union.dirs.root());
    let since = tree.union.inodes.since();
    let found = tree.union.resolve(&root, &name("d")).unwrap();
    tree.create(dir, "new").unwrap();
    tree.union.enter_since(since, &root, &name("d"), &found, &|| true).unwrap();
    assert_eq!(tree.union.dir(dir).unwrap().ranks(), Ranks(0b11));
    assert!(matches!(tree.union.lookup(dir, &name("new")), Ok(Found::Object(_))));
    // One that looked after it is believed.
    std::fs::remove_dir_all(tree.on(0).join("d")).unwrap();
    tree.find("d");
    assert_eq!(tree.union.dir(dir).unwrap().ranks(), Ranks(0b10));
}

#[test]
fn a_late_lookup_does_not_hide_a_rename() {
    let tree = tree(&["1/a"]);
    let (ino, root) = (tree.find("a").ino, tree.union.dirs.root());
    let found = tree.union.resolve(&root, &name("a")).unwrap();
    tree.union.rename((Ino::ROOT, &name("a")), (Ino::ROOT, &name("b")), Rename::Replace).unwrap();
    tree.union.enter(&root, &name("a"), &found).unwrap();
    assert_eq!(tree.union.getattr(ino).map(|attr| attr.ino), Ok(ino));
    assert_eq!(tree.union.inodes.named(ino).unwrap().name, name("b"));
}

/// A lookup that had read an ACL before it was changed had the former one kept for when its tier is away: who had been
/// shut out was let in.
#[test]
fn a_late_lookup_does_not_bring_an_acl_back() {
    let tree = tree(&["0/d/a", "1/d/b", "0/e/a"]);
    let (inodes, d) = (&tree.union.inodes, tree.find("d").ino);
    let changes = inodes.acl_changes();
    tree.union.after_acl(&tree.union.dir(d).unwrap());
    let known = inodes.acl(d);
    inodes.set_acl(d, Rank(0), changes, Some(b"of before".to_vec()));
    assert_eq!(inodes.acl(d), known);
    let changes = inodes.acl_changes();
    inodes.acl_changed(tree.find("e").ino);
    inodes.set_acl(d, Rank(0), changes, Some(b"of now".to_vec()));
    assert_eq!(inodes.acl(d), Some((Rank(0), Some(b"of now".as_slice().into()))));
}
