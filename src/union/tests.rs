//! The union over plain directories, without a mount. Two threads' steps are put in the order that
//! matters by calling the parts of an operation one by one.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::create::Create;
use super::inodes::Place;
use super::*;
use crate::tier::Rename;
use crate::tier::directory::{DirectoryTier, Known};
use crate::types::caller::Caller;
use crate::types::ids::Ranks;
use crate::types::name::Name;

struct Tree {
    union: Union,
    tiers: Vec<tempfile::TempDir>,
}

#[path = "away_tests.rs"]
mod away;
#[path = "late_tests.rs"]
mod late;

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

fn over(tiers: Vec<tempfile::TempDir>) -> Tree {
    over_remembering(tiers, 0)
}

fn over_remembering(tiers: Vec<tempfile::TempDir>, remember: usize) -> Tree {
    let slots = tiers.iter().zip(1u64..).map(|(dir, seed)| {
        let root = crate::sys::durable::open_root(dir.path()).unwrap();
        let tier = DirectoryTier::new(
            &root,
            dir.path().to_path_buf(),
            Known { seed, stamps: true, given: None },
            Box::new(|_| Ok(())),
        )
        .unwrap();
        Slot { tier: Some(Arc::new(tier)), min_free: MinFree::Bytes(0) }
    });
    let settings = Settings {
        ttl: Duration::ZERO,
        file_ttl: std::time::Duration::MAX,
        space_of: SpaceOf::Sum,
        spill: true,
        read_only: false,
        remember,
        offline_from: None,
        dirs_max: 64,
        root: nix::unistd::geteuid().is_root(),
    };
    let union = Union::new(slots.collect(), settings).unwrap();
    Tree { union, tiers }
}

/// Two tiers that hold these files, each written as `rank/path`, with its own path as contents.
fn tree(files: &[&str]) -> Tree {
    tree_remembering(files, 0)
}

fn tree_remembering(files: &[&str], remember: usize) -> Tree {
    let tiers: Vec<_> = (0..2).map(|_| tempfile::tempdir().unwrap()).collect();
    for file in files {
        let (rank, path) = file.split_once('/').unwrap();
        let path = tiers[rank.parse::<usize>().unwrap()].path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, file).unwrap();
    }
    over_remembering(tiers, remember)
}

impl Tree {
    fn on(&self, rank: usize) -> &Path {
        self.tiers[rank].path()
    }

    fn find(&self, path: &str) -> Attr {
        let mut found = None;
        let mut at = Ino::ROOT;
        for part in path.split('/') {
            let Found::Object(attr) = self.union.lookup(at, &name(part)).unwrap() else { panic!("{part} is absent") };
            at = attr.ino;
            found = Some(attr);
        }
        found.unwrap()
    }

    fn create(&self, dir: Ino, file: &str) -> Result<Attr> {
        let how = Create { mode: 0o644, access: Access::Write, exclusive: false };
        let by =
            Caller { uid: nix::unistd::geteuid().as_raw(), gid: nix::unistd::getegid().as_raw(), umask: 0, pid: 0 };
        let (attr, opened) = self.union.create(dir, &name(file), &how, &by, None)?;
        self.union.release(attr.ino, opened.fh);
        Ok(attr)
    }
}

#[test]
fn create_never_opens_what_is_there() {
    let tree = tree(&["1/f"]);
    assert_eq!(tree.create(Ino::ROOT, "f").unwrap_err(), Errno::ESTALE);
    assert_eq!(std::fs::read(tree.on(1).join("f")).unwrap(), b"1/f");
}

#[test]
fn a_cloned_directory_is_opened_again() {
    let tree = tree(&["1/d/s"]);
    let dir = tree.find("d").ino;
    tree.create(dir, "new").unwrap();
    assert!(tree.on(0).join("d/new").exists());
    tree.union.dirs.close(dir);
    assert_eq!(tree.union.dir(dir).unwrap().ranks(), Ranks(0b11));
    assert_eq!(tree.union.getattr(dir).unwrap().ino, dir);
}

#[test]
fn a_rename_that_fails_changes_nothing() {
    let tree = tree(&["0/b", "1/a", "0/d/f", "1/d/g", "1/e/x"]);
    let root = tree.union.dirs.root();
    for (old, new, errno) in [("a", "b", Errno::ENOENT), ("d", "n", Errno::ENOTEMPTY)] {
        let (old, new) = (name(old), name(new));
        let (olds, news) = (tree.union.copies(&root, &old).unwrap(), tree.union.copies(&root, &new).unwrap());
        let mut plan = rename::plan(&olds, &news, Rename::Replace).unwrap();
        // A step that no tier takes, between the last two.
        let last = plan.steps.pop().unwrap();
        plan.steps.extend([rename::Step { act: rename::Act::Rmdir(rename::Side::Old), ..last }, last]);
        let place = |name| rename::Place { dir: Ino::ROOT, name };
        let done = tree.union.perform((place(&old), place(&new), Rename::Replace), &plan, root.era);
        assert_eq!(done, Err(rename::Failed { errno, undo: 0 }));
    }
    for path in ["0/b", "1/a", "0/d/f", "1/d/g"] {
        let (rank, inside) = path.split_once('/').unwrap();
        assert_eq!(std::fs::read(tree.on(rank.parse().unwrap()).join(inside)).unwrap(), path.as_bytes());
    }
}

#[test]
fn a_directory_is_not_cloned_while_it_is_renamed() {
    let files: Vec<_> = (0..100).map(|n| format!("1/{n}/b/c/s")).collect();
    let tree = tree(&files.iter().map(String::as_str).collect::<Vec<_>>());
    for n in 0..100 {
        let (top, below) = (tree.find(&n.to_string()).ino, tree.find(&format!("{n}/b/c")).ino);
        std::thread::scope(|scope| {
            scope.spawn(|| tree.union.ensure(below, Rank(0)).unwrap());
            tree.union.rename((top, &name("b")), (top, &name("z")), Rename::Replace).unwrap();
        });
        assert!(!tree.on(0).join(format!("{n}/b")).exists());
        assert!(tree.on(0).join(format!("{n}/z/c")).exists() && tree.on(1).join(format!("{n}/z/c/s")).exists());
    }
}

#[test]
fn a_file_opened_while_its_name_goes_stays_reachable() {
    let tree = tree(&["0/f"]);
    let (f, root) = (tree.find("f"), tree.union.dirs.root());
    let (ino, leaving) = tree.union.before_loss(&root, &name("f"), Rank(0), &f.stat).unwrap();
    let opened = tree.union.open(ino, Access::Read, 0, None).unwrap();
    std::fs::remove_file(tree.on(0).join("f")).unwrap();
    tree.union.inodes.unlinked(ino, Ino::ROOT, &name("f"), true);
    drop(leaving);
    assert_eq!(tree.union.getattr(ino).map(|attr| attr.stat.size), Ok(3));
    tree.union.release(ino, opened.fh);
}

/// Whoever has looked where an open file is, and comes there when its name has just gone, finds what
/// holds it instead.
#[test]
fn an_open_file_is_found_whenever_its_name_goes() {
    let tree = tree(&["0/f"]);
    let (f, root) = (tree.find("f"), tree.union.dirs.root());
    let opened = tree.union.open(f.ino, Access::Read, 0, None).unwrap();
    let place = || tree.union.inodes.place(f.ino).unwrap();
    let before = [place(), place()];
    let (ino, leaving) = tree.union.before_loss(&root, &name("f"), Rank(0), &f.stat).unwrap();
    std::fs::remove_file(tree.on(0).join("f")).unwrap();
    for place in before {
        assert!(matches!(place, Place::Named(_)));
        let held = tree.union.reach(ino, place, |place| tree.union.hold_from(ino, place)).unwrap();
        assert_eq!(held.stat().map(|stat| stat.size), Ok(3));
    }
    tree.union.inodes.unlinked(ino, Ino::ROOT, &name("f"), true);
    drop(leaving);
    tree.union.release(ino, opened.fh);
}

/// A server of NFS comes with numbers that the kernel has forgotten.
#[test]
fn what_the_kernel_has_forgotten_is_found_by_number_while_it_is_remembered() {
    let tree = tree_remembering(&["0/d/e/f", "1/g", "1/h"], 4);
    let forget = |attr: Attr| tree.union.forget(attr.ino, 1);
    let seen = ["d", "d/e", "d/e/f"].map(|path| tree.find(path));
    // Each of the three looks counts the directories on its way again.
    for (attr, looks) in seen.iter().zip([3, 2, 1]).rev() {
        tree.union.forget(attr.ino, looks);
    }
    let [d, e, f] = seen.map(|attr| attr.ino);
    let known = |ino: Ino| match tree.union.lookup_known(ino) {
        Ok(Found::Object(attr)) => Some((attr.ino, attr.stat.size)),
        Ok(Found::Absent(_)) | Err(Errno::ESTALE) => None,
        Err(other) => panic!("{other}"),
    };
    assert_eq!(known(f), Some((f, 7)));
    assert!(matches!(tree.union.lookup_parent(f), Ok(Found::Object(attr)) if attr.ino == e));
    tree.union.forget(f, 1);
    tree.union.forget(e, 1);
    // Another file under the name is not the one that is asked for.
    std::fs::rename(tree.on(1).join("g"), tree.on(0).join("d/e/f")).unwrap();
    assert_ne!(known(f).map(|(ino, _)| ino), Some(f));
    // The oldest go first, and what was removed is not remembered.
    for _ in 0..5 {
        forget(tree.find("h"));
    }
    assert_eq!(known(d), None);
    let h = tree.find("h").ino;
    tree.union.unlink(Ino::ROOT, &name("h")).unwrap();
    tree.union.forget(h, 1);
    assert_eq!(known(h), None);
}

/// Two names of one file may go at the same moment, in two directories.
#[test]
fn a_file_is_leaving_until_the_last_of_its_names_that_go_has_gone() {
    let tree = tree(&["0/f"]);
    let ino = tree.find("f").ino;
    let (first, second) = (tree.union.inodes.leaving(ino).0, tree.union.inodes.leaving(ino).0);
    drop(first);
    assert!(tree.union.inodes.is_leaving(ino));
    drop(second);
    assert!(!tree.union.inodes.is_leaving(ino));
}

/// The kernel has found the inode already when it asks to open it. Whether the file was served by passthrough
/// or, as on an encrypted tier, by tierfs makes no difference.
#[test]
fn a_file_that_was_open_before_its_name_went_can_be_opened_by_who_has_found_it() {
    let tree = tree(&["0/f"]);
    let (f, root) = (tree.find("f"), tree.union.dirs.root());
    let before = tree.union.open(f.ino, Access::Read, 0, None).unwrap();
    tree.union.release(f.ino, before.fh);
    let (ino, leaving) = tree.union.before_loss(&root, &name("f"), Rank(0), &f.stat).unwrap();
    std::fs::remove_file(tree.on(0).join("f")).unwrap();
    tree.union.inodes.unlinked(ino, Ino::ROOT, &name("f"), true);
    drop(leaving);
    let opened = tree.union.open(ino, Access::Read, 0, None).unwrap();
    let mut bytes = [0; 9];
    assert_eq!(tree.union.read(opened.fh, 0, &mut bytes), Ok(3));
    tree.union.release(ino, opened.fh);
}

#[test]
fn a_file_counted_open_just_before_its_name_went_is_found_gone() {
    let tree = tree(&["0/f"]);
    let (f, root) = (tree.find("f"), tree.union.dirs.root());
    let (ino, leaving) = tree.union.before_loss(&root, &name("f"), Rank(0), &f.stat).unwrap();
    tree.union.inodes.opened(ino, Access::Read).unwrap();
    std::fs::remove_file(tree.on(0).join("f")).unwrap();
    tree.union.inodes.unlinked(ino, Ino::ROOT, &name("f"), true);
    drop(leaving);
    // A registration may still be there; the open must not be answered from it.
    assert!(tree.union.inodes.is_leaving(ino));
}

#[test]
fn an_open_file_is_found_while_it_is_renamed() {
    let tree = tree(&["1/a"]);
    let ino = tree.find("a").ino;
    tree.union.inodes.foresee(ino, (Ino::ROOT, &name("b")), Rank(1));
    std::fs::rename(tree.on(1).join("a"), tree.on(1).join("b")).unwrap();
    assert_eq!(tree.union.getattr(ino).map(|attr| attr.ino), Ok(ino));
    tree.union.inodes.renamed(ino, (Ino::ROOT, &name("a")), (Ino::ROOT, &name("b")), Rank(1));
    assert_eq!(tree.union.inodes.named(ino).unwrap().name, name("b"));
    // The rename failed after all: back to the old name, with no other left.
    std::fs::rename(tree.on(1).join("b"), tree.on(1).join("a")).unwrap();
    tree.union.inodes.renamed(ino, (Ino::ROOT, &name("b")), (Ino::ROOT, &name("a")), Rank(1));
    assert_eq!(tree.union.getattr(ino).map(|attr| attr.ino), Ok(ino));
}

#[test]
fn records_in_a_directory_of_another_user_are_not_followed() {
    use std::os::unix::fs::PermissionsExt;
    let tree = tree(&["0/.tierfs/renames/1"]);
    let renames = tree.on(0).join(".tierfs/renames");
    let may = |mode| {
        std::fs::set_permissions(&renames, std::fs::Permissions::from_mode(mode)).unwrap();
        tree.union.private(Rank(0), "renames").map(drop)
    };
    assert_eq!(may(0o755), Ok(()));
    if tree.union.settings.root {
        assert_eq!(may(0o777), Err(Errno::EPERM));
        assert_eq!(tree.union.recover(), Err(Errno::EPERM));
    }
}

/// A record of a file on the slower tier that is to replace one on the faster: rolled forward, it
/// removes the old target only if the new one has come.
#[test]
fn recovery_removes_no_target_without_its_replacement() {
    for (taken_away, left) in [(false, "1/source"), (true, "0/target")] {
        let tree = tree(&["1/source", "0/target"]);
        let (source, target) = (name("source"), name("target"));
        let root = tree.union.dirs.root();
        let copies = |name: &Name| tree.union.copies(&root, name).unwrap();
        let plan = rename::plan(&copies(&source), &copies(&target), Rename::Replace).unwrap();
        let place = |name| rename::Place { dir: Ino::ROOT, name };
        tree.union.write_record(place(&source), place(&target), &plan).unwrap();
        if taken_away {
            std::fs::remove_file(tree.on(1).join("source")).unwrap();
        }
        let tree = over(tree.tiers);
        let shown = tree.find("target");
        let path = tree.on(usize::from(left.starts_with('1'))).join("target");
        assert_eq!(std::fs::read_to_string(path).unwrap(), left);
        assert_eq!(shown.stat.size, left.len() as u64);
        assert_eq!(tree.union.lookup(Ino::ROOT, &source).map(|found| matches!(found, Found::Absent(_))), Ok(true));
    }
}

/// Wants nothing, and so must not be told of anything.
#[derive(Debug)]
struct Unwilling;

impl uses::Observer for Unwilling {
    fn is_wanted(&self) -> bool {
        false
    }
    fn opens(&self, _: Ino, _: Rank, _: Access, _: u32) -> uses::Trace {
        panic!("told of an open")
    }
    fn not_opened(&self, _: Ino) {
        panic!("told of a failed open")
    }
    fn closed(&self, _: Ino, _: Rank) {
        panic!("told of a close")
    }
}

#[test]
fn regression_an_observer_that_wants_nothing_costs_an_open_nothing() {
    let tree = tree(&["0/f"]);
    tree.union.observe(Box::new(Unwilling));
    let ino = tree.find("f").ino;
    let fh = tree.union.open(ino, Access::Read, 0, None).unwrap().fh;
    tree.union.release(ino, fh);
}

/// Remembers what is open.
#[derive(Debug, Clone, Default)]
struct Willing(Arc<parking_lot::Mutex<Vec<Ino>>>);

impl uses::Observer for Willing {
    fn is_wanted(&self) -> bool {
        true
    }
    fn opens(&self, ino: Ino, _: Rank, _: Access, _: u32) -> uses::Trace {
        self.0.lock().push(ino);
        uses::Trace::Usual
    }
    fn not_opened(&self, ino: Ino) {
        self.0.lock().retain(|open| *open != ino);
    }
    fn closed(&self, ino: Ino, _: Rank) {
        self.0.lock().retain(|open| *open != ino);
    }
}

/// Each open that failed was remembered for ever, and when there were too many no use counted any more.
#[test]
fn regression_an_open_that_fails_is_not_taken_for_a_use() {
    let tree = tree(&["0/f", "0/g"]);
    let open = Willing::default();
    tree.union.observe(Box::new(open.clone()));
    let (f, g) = (tree.find("f").ino, tree.find("g").ino);
    let others = tree.union.open(g, Access::Read, 0, None).unwrap().fh;
    for file in ["f", "g"] {
        let path = tree.tiers[0].path().join(file);
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
    }
    assert!(tree.union.open(f, Access::Write, 0, None).is_err());
    assert!(tree.union.open(g, Access::Write, 0, None).is_err());
    assert_eq!(*open.0.lock(), [g, g], "somebody else has it open");
    tree.union.release(g, others);
    assert!(open.0.lock().is_empty());
}

/// Changes beside the mount were not told in a directory that was forgotten and looked up again at once.
#[test]
fn regression_a_directory_that_is_forgotten_and_found_at_once_is_known() {
    let tree = tree(&["0/d/f"]);
    let d = tree.find("d");
    // As `Union::forget` does it, with a lookup in between.
    assert!(tree.union.inodes.forget(d.ino, 1));
    tree.find("d");
    tree.union.forget_dir(d.ino);
    assert_eq!(tree.union.stale(Rank(0), d.stat.body, Some(&name("f"))).unwrap().dir, Some(d.ino));
}
