//! Requests and errors in the middle of a move.

use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use super::*;
use crate::policy::Criteria;
use crate::tier::Rename;
use crate::tier::directory::{DirectoryTier, Known};
use crate::types::attr::{SetAttr, Time};
use crate::types::ids::Ino;
use crate::types::name::Name;
use crate::union::{Found, MinFree, Settings, Slot, SpaceOf, Union};

use super::spy_tests::{SpiedTier, Spy, beside};

pub(super) struct Bench {
    pub(super) tiers: Vec<tempfile::TempDir>,
    pub(super) spy: Arc<Spy>,
    pub(super) union: &'static Union,
}

impl Bench {
    /// Two tiers with these files (rank, path, contents).
    pub(super) fn new(files: &[(usize, &str, &str)]) -> Bench {
        Bench::with(2, files, Spy::default())
    }

    /// The same with so many tiers.
    pub(super) fn over(tiers: usize, files: &[(usize, &str, &str)]) -> Bench {
        Bench::with(tiers, files, Spy::default())
    }

    /// Two, where no tier can be synced as a whole.
    pub(super) fn alone(files: &[(usize, &str, &str)]) -> Bench {
        Bench::with(2, files, Spy::alone())
    }

    fn with(tiers: usize, files: &[(usize, &str, &str)], spy: Spy) -> Bench {
        // A broken lease sends SIGIO.
        crate::sys::signal::ignore_stray();
        let tiers: Vec<_> = (0..tiers).map(|_| tempfile::tempdir().unwrap()).collect();
        for dir in &tiers {
            std::fs::DirBuilder::new().mode(0o700).create(dir.path().join(".tierfs")).unwrap();
        }
        for (rank, path, text) in files {
            let path = tiers[*rank].path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let spy = Arc::new(spy);
        // It lives until the test's process ends: threads that a failed test leaves hanging use it.
        let union = Box::leak(Box::new(union_of(&tiers, &spy)));
        Bench { tiers, spy, union }
    }

    pub(super) fn on(&self, rank: usize, path: &str) -> std::path::PathBuf {
        self.tiers[rank].path().join(path)
    }

    pub(super) fn read(&self, rank: usize, path: &str) -> Option<String> {
        std::fs::read_to_string(self.on(rank, path)).ok()
    }

    /// A union over the same tiers, as the next start makes it.
    pub(super) fn next_start(&self) -> Union {
        let union = union_of(&self.tiers, &Arc::new(Spy::default()));
        recover(&union).unwrap();
        union
    }

    /// Renames `a` over `b` in a process that dies of what the spy was told.
    pub(super) fn dies_in_rename(&self) {
        let died = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            self.union.rename((Ino::ROOT, &name("a")), (Ino::ROOT, &name("b")), crate::tier::Rename::Replace)
        }));
        assert!(died.is_err(), "the case that is tested");
    }

    pub(super) fn staged(&self, rank: usize) -> usize {
        std::fs::read_dir(self.on(rank, ".tierfs/staging")).map_or(0, Iterator::count)
    }
}

pub(super) fn union_of(tiers: &[tempfile::TempDir], spy: &Arc<Spy>) -> Union {
    let slots = tiers.iter().zip(0u8..).map(|(dir, rank)| {
        let root = crate::sys::durable::open_root(dir.path()).unwrap();
        let known = Known { seed: u64::from(rank) + 1, stamps: true, given: Some(Time::default()) };
        let inner = DirectoryTier::new(&root, dir.path().to_path_buf(), known, Box::new(|_| Ok(()))).unwrap();
        let tier = SpiedTier { inner, spy: Arc::clone(spy), rank };
        Slot { tier: Some(Arc::new(tier)), min_free: MinFree::Bytes(0) }
    });
    let settings = Settings {
        ttl: Duration::ZERO,
        file_ttl: std::time::Duration::MAX,
        space_of: SpaceOf::Sum,
        spill: true,
        read_only: false,
        remember: 0,
        offline_from: None,
        dirs_max: 64,
        root: nix::unistd::geteuid().is_root(),
    };
    Union::new(slots.collect(), settings).unwrap()
}

pub(super) fn request(what: What) -> Request {
    Request {
        what,
        paths: Vec::new(),
        limits: Limits::default(),
        until_free_percent: None,
        order: Order::Tree,
        verify: Verify::Hash,
        errors_max: None,
        dry_run: false,
    }
}

pub(super) fn down() -> Request {
    request(What::Policy(Box::new(Policy::from_criteria(Criteria::default()))))
}

pub(super) fn up() -> Request {
    request(What::To(Rank::PRIMARY))
}

pub(super) fn go(union: &Union, request: &Request) -> Summary {
    run(union, request, &mut |_| Go::On).unwrap()
}

pub(super) fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

pub(super) fn look(union: &Union, dir: Ino, text: &str) -> Option<crate::union::Attr> {
    match union.lookup(dir, &name(text)).unwrap() {
        Found::Object(attr) => Some(attr),
        Found::Absent(_) => None,
    }
}

pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// A lookup that has looked on the primary before a file comes back to it, and looks on the
/// secondary after that.
#[test]
fn a_file_that_comes_back_is_never_absent() {
    let bench = Bench::new(&[(1, "f", "text")]);
    let union = bench.union;
    bench.spy.before("stat", 1, "f", move || {
        assert_eq!(go(union, &up()).moved, 1);
        Ok(())
    });
    assert!(look(union, Ino::ROOT, "f").is_some(), "the kernel would remember for an hour that it is absent");
}

/// The same of a listing.
#[test]
fn a_file_that_comes_back_is_in_every_listing() {
    let bench = Bench::new(&[(1, "f", "text")]);
    let union = bench.union;
    let fh = union.opendir(Ino::ROOT).unwrap();
    let (tell, told) = channel();
    bench.spy.before("list", 1, "", move || {
        tell.send(beside(move || go(union, &up()).moved)).unwrap();
        Ok(())
    });
    let listing = union.listing(fh, true).unwrap();
    let listed = (0..).map_while(|at| listing.get(at)).any(|entry| entry.name == b"f");
    assert_eq!(told.recv().unwrap().recv_timeout(PATIENCE), Ok(1));
    assert!(listed, "whoever mirrors this tree deletes the file");
}

/// A file that has been down and up again carries its number in a stamp, which goes with it.
#[test]
fn a_lookup_during_the_second_move_tells_the_same_number() {
    let bench = Bench::new(&[(0, "f", "text")]);
    let union = bench.union;
    let before = look(union, Ino::ROOT, "f").unwrap().ino;
    assert_eq!((go(union, &down()).moved, go(union, &up()).moved), (1, 1));
    bench.spy.before("get_xattr", 0, "f", move || {
        assert_eq!(go(union, &down()).moved, 1);
        Ok(())
    });
    assert_eq!(look(union, Ino::ROOT, "f").unwrap().ino, before);
}

/// A directory that is removed while the migrator clones it stays removed.
#[test]
fn a_removed_directory_does_not_come_back() {
    let bench = Bench::new(&[(0, "d/f", "text"), (0, "other", "")]);
    let union = bench.union;
    let dir = look(union, Ino::ROOT, "d").unwrap().ino;
    let (tell, told) = channel();
    bench.spy.before("rename to", 1, "d", move || {
        let removed = beside(move || {
            union.unlink(dir, &name("f")).unwrap();
            union.rmdir(Ino::ROOT, &name("d"))
        });
        tell.send(removed).unwrap();
        Ok(())
    });
    go(union, &down());
    assert_eq!(told.recv().unwrap().recv_timeout(PATIENCE), Ok(Ok(())));
    assert!(look(union, Ino::ROOT, "d").is_none(), "rmdir has succeeded");
}

/// The hidden source of a file that came back may go only when the copy is durable.
#[test]
fn a_rename_does_not_lose_a_file_that_has_just_come_back() {
    let bench = Bench::new(&[(1, "f", "text"), (0, "x", "")]);
    let (union, spy) = (bench.union, Arc::clone(&bench.spy));
    look(union, Ino::ROOT, "f").unwrap();
    let (tell, told) = channel();
    // The first sync of the directory on the primary makes the copy's name durable.
    bench.spy.before("rename to", 0, "f", move || {
        spy.clone().before("fsync", 0, "", move || {
            spy.log.lock().clear();
            tell.send(beside(move || union.rename((Ino::ROOT, &name("f")), (Ino::ROOT, &name("g")), Rename::Replace)))
                .unwrap();
            Ok(())
        });
        Ok(())
    });
    go(union, &up());
    assert_eq!(told.recv().unwrap().recv_timeout(PATIENCE), Ok(Ok(())));
    let log = bench.spy.log();
    let gone = log.iter().position(|call| *call == ("unlink", 1, "f".into()));
    let safe = log.iter().position(|call| *call == ("fsync", 0, String::new()));
    assert!(gone.is_none_or(|gone| safe.is_some_and(|safe| safe < gone)), "a power cut now leaves neither: {log:?}");
}

/// A file that has just gone down is renamed: after a power cut its source could be back under the
/// old name, beside the copy under the new one, both with one number.
#[test]
fn a_rename_waits_until_a_move_is_durable() {
    let bench = Bench::new(&[(0, "f", "text"), (1, "x", "")]);
    let (union, spy) = (bench.union, Arc::clone(&bench.spy));
    look(union, Ino::ROOT, "f").unwrap();
    let (tell, told) = channel();
    bench.spy.before("rename from", 0, "f", move || {
        spy.clone().before("fsync", 0, "", move || {
            spy.log.lock().clear();
            tell.send(beside(move || union.rename((Ino::ROOT, &name("f")), (Ino::ROOT, &name("g")), Rename::Replace)))
                .unwrap();
            Ok(())
        });
        Ok(())
    });
    assert_eq!(go(union, &down()).moved, 1);
    assert_eq!(told.recv().unwrap().recv_timeout(PATIENCE), Ok(Ok(())));
    let log = bench.spy.log();
    let renamed = log.iter().position(|call| *call == ("rename to", 1, "g".into())).unwrap();
    let durable = log.iter().position(|call| *call == ("fsync", 0, String::new())).unwrap();
    assert!(durable < renamed, "{log:?}");
}

/// As above, with another name in place of a new one.
#[test]
fn a_link_waits_until_a_move_is_durable() {
    let bench = Bench::new(&[(0, "f", "text"), (1, "x", "")]);
    let (union, spy) = (bench.union, Arc::clone(&bench.spy));
    let ino = look(union, Ino::ROOT, "f").unwrap().ino;
    let (tell, told) = channel();
    bench.spy.before("rename from", 0, "f", move || {
        spy.clone().before("fsync", 0, "", move || {
            spy.log.lock().clear();
            tell.send(beside(move || union.link(ino, Ino::ROOT, &name("g")).map(|attr| attr.ino))).unwrap();
            Ok(())
        });
        Ok(())
    });
    assert_eq!(go(union, &down()).moved, 1);
    assert_eq!(told.recv().unwrap().recv_timeout(PATIENCE), Ok(Ok(ino)));
    let durable = bench.spy.log().iter().position(|call| *call == ("fsync", 0, String::new())).unwrap();
    // `link_to` goes from the held file; the look at the new name comes right after it.
    let linked = bench.spy.log().iter().rposition(|call| *call == ("stat", 1, "g".into())).unwrap();
    assert!(durable < linked, "{:?}", bench.spy.log());
}

/// The clone, which is what programs see, had the mode of before.
#[test]
fn a_mode_that_is_set_while_a_directory_is_cloned_is_not_lost() {
    let bench = Bench::new(&[(1, "a/f", "f")]);
    let union = bench.union;
    let ino = look(union, Ino::ROOT, "a").unwrap().ino;
    let (tell, told) = channel();
    bench.spy.before("rename to", 0, "a", move || {
        let change = SetAttr { mode: Some(0o700), ..SetAttr::default() };
        let done = beside(move || union.setattr(ino, None, &change).unwrap());
        // It may wait for the clone, or be done before it.
        let early = done.recv_timeout(Duration::from_millis(200)).is_ok();
        tell.send((early, done)).unwrap();
        Ok(())
    });
    go(union, &up());
    let (early, done) = told.recv().unwrap();
    if !early {
        done.recv_timeout(PATIENCE).unwrap();
    }
    assert_eq!(union.getattr(ino).unwrap().stat.mode & 0o777, 0o700);
}
