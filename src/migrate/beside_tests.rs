//! Programs beside the mount, and calls that fail, in the middle of a move.

use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::sync::mpsc::channel;

use super::race_tests::{Bench, PATIENCE, down, go, look, union_of, up};
use super::spy_tests::{Spy, beside};
use super::*;
use crate::types::attr::SetAttr;
use crate::types::caller::Caller;
use crate::types::ids::{Ino, Ranks};
use crate::types::name::Name;
use crate::union::open::Access;

fn knock(path: &std::path::Path) {
    // Without waiting, but the lease is broken all the same.
    let refused = std::fs::OpenOptions::new().write(true).custom_flags(nix::libc::O_NONBLOCK).open(path);
    assert!(refused.is_err(), "the file is claimed");
}

/// A source that is to go back to its name and cannot: the copy is then all that programs see.
#[test]
fn a_source_that_cannot_go_back_costs_nothing() {
    let bench = Bench::new(&[(0, "f", "text"), (0, "d/g", "other")]);
    let (union, spy, path) = (bench.union, Arc::clone(&bench.spy), bench.on(0, "f"));
    bench.spy.before("rename from", 0, "f", move || {
        knock(&path);
        spy.before("rename to", 0, "f", || Err(Errno::ENOSPC));
        Ok(())
    });
    go(union, &down());
    assert!(look(union, Ino::ROOT, "f").is_some(), "the file has no name on any tier");
    let union = bench.next_start();
    assert!(look(&union, Ino::ROOT, "f").is_some(), "and it is deleted at the next start");
}

/// What was written into a source that could not go back to its name is not deleted.
#[test]
fn what_was_written_to_a_source_in_the_trash_is_kept() {
    let bench = Bench::new(&[(0, "f", "text")]);
    let (union, spy, path) = (bench.union, Arc::clone(&bench.spy), bench.on(0, "f"));
    bench.spy.before("rename from", 0, "f", move || {
        knock(&path);
        spy.before("rename to", 0, "f", || Err(Errno::ENOSPC));
        Ok(())
    });
    go(union, &down());
    let trash: Vec<_> = std::fs::read_dir(bench.on(0, ".tierfs/trash")).unwrap().map(|e| e.unwrap().path()).collect();
    std::fs::write(&trash[0], "written by the one who knocked").unwrap();
    bench.next_start();
    let kept = std::fs::read_dir(bench.on(0, ".tierfs/lost")).map_or(0, Iterator::count);
    let shown = [0, 1].into_iter().any(|rank| bench.read(rank, "f").is_some_and(|text| text.starts_with("written")));
    assert!(kept == 1 || shown, "the bytes are gone");
}

/// A program beside the mount makes a new file under the name while the source is aside.
#[test]
fn a_source_that_was_replaced_beside_the_mount_is_kept() {
    let bench = Bench::new(&[(0, "f", "text")]);
    let (union, spy, path) = (bench.union, Arc::clone(&bench.spy), bench.on(0, "f"));
    bench.spy.before("rename from", 0, "f", move || {
        knock(&path);
        let path = path.clone();
        spy.before("rename to", 0, "f", move || {
            std::fs::write(path, "new").unwrap();
            Ok(())
        });
        Ok(())
    });
    go(union, &down());
    bench.next_start();
    assert_eq!(bench.read(0, "f").as_deref(), Some("new"));
    let kept = std::fs::read_dir(bench.on(0, ".tierfs/lost")).map_or(0, Iterator::count);
    assert!(kept == 1 || bench.read(1, "f").is_some(), "the former contents are gone");
}

/// A primary without room for the record: the copies are worth nothing and must not stay.
#[test]
fn copies_go_if_the_record_cannot_be_written() {
    let bench = Bench::new(&[(0, "f", "text")]);
    // `small::write` names a draft; the manifest is made in another directory before.
    bench.spy.before("open", 0, "f", {
        let spy = Arc::clone(&bench.spy);
        move || {
            // Also not with the room that is kept for it.
            for _ in 0..2 {
                spy.before("create", 0, "*", || Err(Errno::ENOSPC));
            }
            Ok(())
        }
    });
    go(bench.union, &down());
    assert_eq!(bench.read(0, "f").as_deref(), Some("text"));
    assert_eq!(bench.staged(1), 0, "each run leaves a batch more on the target");
}

/// Copies of a hard-linked file have all of their names when the last step of publishing fails.
#[test]
fn a_published_copy_is_withdrawn_whatever_fails() {
    let bench = Bench::new(&[(0, "a", "text")]);
    std::fs::hard_link(bench.on(0, "a"), bench.on(0, "b")).unwrap();
    let spy = Arc::clone(&bench.spy);
    bench.spy.before("link", 1, "b", move || {
        spy.before("unlink", 1, "*", || Err(Errno::EIO));
        Ok(())
    });
    go(bench.union, &down());
    assert_eq!(bench.read(0, "a").as_deref(), Some("text"));
    assert_eq!((bench.read(1, "a"), bench.read(1, "b")), (None, None), "an old version that waits to come back");
}

/// Whoever makes a file durable is not left waiting for a swap that has died.
#[test]
fn a_swap_that_dies_holds_nobody_up() {
    let bench = Bench::new(&[(0, "f", "text")]);
    let (union, spy) = (bench.union, Arc::clone(&bench.spy));
    let ino = look(union, Ino::ROOT, "f").unwrap().ino;
    bench.spy.before("rename from", 0, "f", move || {
        spy.before("fsync", 0, "", || panic!("planted by the test"));
        Ok(())
    });
    let summary = go(union, &down());
    assert_eq!(summary.stopped, Some(Stop::Errors), "a run that died says so");
    let fh = union.open(ino, Access::Write, 0, None).unwrap().fh;
    let synced = beside(move || union.fsync(ino, fh, false));
    assert_eq!(synced.recv_timeout(PATIENCE), Ok(Ok(())), "fsync hangs for ever");
}

/// While names change under a closed gate a directory has times that it gets set back.
#[test]
fn a_directory_never_shows_the_time_of_a_move() {
    let bench = Bench::new(&[(0, "d/f", "text"), (1, "d/g", "text")]);
    let union = bench.union;
    let before = look(union, Ino::ROOT, "d").unwrap();
    let (tell, told) = channel();
    for (op, rank) in [("rename to", 1), ("rename from", 0)] {
        let (spy, tell) = (Arc::clone(&bench.spy), tell.clone());
        bench.spy.before(op, rank, "f", move || {
            // In the gate, between the change of a name and the times set back.
            spy.before("set_attr", rank, "", move || {
                let seen = beside(move || {
                    let looked = look(union, Ino::ROOT, "d").unwrap().stat.mtime;
                    (looked, union.getattr(before.ino).unwrap().stat.mtime)
                });
                tell.send(seen).unwrap();
                Ok(())
            });
            Ok(())
        });
    }
    assert_eq!(go(union, &down()).moved, 1);
    for _ in 0..2 {
        let seen = told.recv().unwrap().recv_timeout(PATIENCE).unwrap();
        assert_eq!(seen, (before.stat.mtime, before.stat.mtime), "the kernel keeps it for an hour");
    }
}

/// A rename back and forth under a closed gate is no reason to call a file stale.
#[test]
fn a_file_that_stays_is_never_stale() {
    let bench = Bench::new(&[(0, "f", "text")]);
    let (union, spy, path) = (bench.union, Arc::clone(&bench.spy), bench.on(0, "f"));
    let ino = look(union, Ino::ROOT, "f").unwrap().ino;
    let (tell, told) = channel();
    bench.spy.before("rename from", 0, "f", move || {
        knock(&path);
        spy.before("rename to", 0, "f", move || {
            tell.send(beside(move || union.getattr(ino).map(|attr| attr.stat.size))).unwrap();
            Ok(())
        });
        Ok(())
    });
    go(union, &down());
    assert_eq!(told.recv().unwrap().recv_timeout(PATIENCE), Ok(Ok(4)));
}

/// A file that was read after it was copied has another access time than its copy.
#[test]
fn an_access_time_is_not_lost() {
    let bench = Bench::new(&[(0, "f", "text")]);
    let path = bench.on(0, "f");
    let before = std::fs::metadata(&path).unwrap().accessed().unwrap();
    let (tell, told) = channel();
    bench.spy.before("rename to", 1, "f", {
        let path = path.clone();
        move || {
            assert_eq!(std::fs::read_to_string(&path).unwrap(), "text");
            tell.send(std::fs::metadata(&path).unwrap().accessed().unwrap()).unwrap();
            Ok(())
        }
    });
    go(bench.union, &down());
    let read = told.recv().unwrap();
    if read == before {
        return eprintln!("skipped: the temporary directory keeps no access times");
    }
    let rank = usize::from(!path.exists());
    assert_eq!(std::fs::metadata(bench.on(rank, "f")).unwrap().accessed().unwrap(), read);
}

/// A program beside the mount opens the hidden source for writing just before it goes.
#[test]
fn a_source_that_is_opened_while_its_copy_is_seen_comes_back() {
    for replaced in [false, true] {
        let bench = Bench::new(&[(1, "f", "text")]);
        let path = bench.on(1, "f");
        let ino = look(bench.union, Ino::ROOT, "f").unwrap().ino;
        bench.spy.before("rename from", 1, "f", move || {
            if replaced {
                let other = path.with_file_name("other");
                std::fs::write(&other, "new").unwrap();
                std::fs::rename(other, &path).unwrap();
            } else {
                knock(&path);
            }
            Ok(())
        });
        assert_eq!(go(bench.union, &up()).moved, 0);
        assert_eq!(bench.read(0, "f"), None, "the copy still hides what is written");
        let seen = look(bench.union, Ino::ROOT, "f").unwrap();
        if replaced {
            assert_eq!(bench.read(1, "f").as_deref(), Some("new"));
        } else {
            assert_eq!(seen.ino, ino);
        }
        let fh = bench.union.open(seen.ino, Access::Read, 0, None).unwrap().fh;
        bench.union.release(seen.ino, fh);
        bench.next_start();
        assert!(bench.read(1, "f").is_some() && bench.read(0, "f").is_none());
    }
}

/// A program writes the copy as soon as it is seen, and another opens the source: nothing may go.
#[test]
fn a_copy_that_was_written_does_not_give_way() {
    let bench = Bench::new(&[(1, "f", "text")]);
    let (path, copy) = (bench.on(1, "f"), bench.on(0, "f"));
    bench.spy.before("rename from", 1, "f", move || {
        knock(&path);
        std::fs::write(copy, "written through the mount").unwrap();
        Ok(())
    });
    assert_eq!(go(bench.union, &up()).moved, 0);
    assert_eq!(bench.read(0, "f").as_deref(), Some("written through the mount"));
    assert_eq!(bench.read(1, "f").as_deref(), Some("text"));
}

/// A primary that is full to the last byte: what is kept for records lets the run go on.
#[test]
fn a_full_primary_can_be_emptied() {
    let bench = Bench::new(&[(0, "f", "text"), (0, "g", "text")]);
    assert_eq!(go(bench.union, &Request { paths: vec![UnionPath::new(b"g").unwrap()], ..down() }).moved, 1);
    let room = bench.on(0, ".tierfs/reserve/room");
    assert!(room.exists(), "nothing is kept (is there no room in the directory for temporary files?)");
    let full = room.clone();
    bench.spy.before("create", 0, "*", move || if full.exists() { Err(Errno::ENOSPC) } else { Ok(()) });
    assert_eq!(go(bench.union, &down()).moved, 1);
    assert!(bench.read(1, "f").is_some());
    assert!(room.exists(), "the room is kept again");
}

/// A program had found the source under its name before it went, and opens it only after that.
#[test]
fn a_source_that_is_opened_in_the_trash_is_kept() {
    for (rank, what) in [(0, down()), (1, up())] {
        let bench = Bench::new(&[(rank, "f", "text")]);
        let trash = bench.on(rank, ".tierfs/trash");
        // The first removal of a name on the primary after a swap is that of its record.
        bench.spy.before("unlink", 0, "*", move || {
            let source = std::fs::read_dir(&trash).unwrap().next().expect("the source is in the trash").unwrap();
            knock(&source.path());
            Ok(())
        });
        assert_eq!(go(bench.union, &what).moved, 1);
        assert_eq!(bench.read(1 - rank, "f").as_deref(), Some("text"));
        let kept: Vec<_> = std::fs::read_dir(bench.on(rank, ".tierfs/lost")).unwrap().collect();
        assert_eq!(kept.len(), 1, "what is written to the source would be deleted");
    }
}

/// The files have moved: that the last line of the manifest cannot be written changes nothing about it.
#[test]
fn regression_a_manifest_that_cannot_be_ended_does_not_make_the_run_fail() {
    let bench = Bench::new(&[(0, "f", "text")]);
    let (spy, own) = (Arc::clone(&bench.spy), Arc::clone(&bench.spy));
    // After the record of the batch has gone durably, what is made durable on the primary is the manifest.
    spy.before("unlink", 0, "*", move || {
        let next = Arc::clone(&own);
        own.before("fsync", 0, "", move || {
            next.before("fsync", 0, "", || Err(Errno::ENOSPC));
            Ok(())
        });
        Ok(())
    });
    let summary = go(bench.union, &down());
    assert_eq!((summary.moved, summary.failed, summary.stopped), (1, 0, None));
    assert!(!summary.run.is_empty());
}

/// A program went on with a copy whose source could come back with its tier, and gave it another name. Then both
/// were there, former contents under the former name, with one number.
#[test]
fn a_file_whose_move_was_cut_short_is_changed_by_nobody_until_it_is_at_rest() {
    let bench = Bench::new(&[(0, "f", "text")]);
    let (union, spy) = (bench.union, Arc::clone(&bench.spy));
    let ino = look(union, Ino::ROOT, "f").unwrap().ino;
    bench.spy.before("rename from", 0, "f", move || {
        spy.before("fsync", 0, "", || Err(Errno::EIO));
        Ok(())
    });
    go(union, &down());
    let (f, g) = (Name::new(b"f").unwrap(), Name::new(b"g").unwrap());
    assert_eq!(union.open(ino, Access::Write, 0, None).map(|_| ()), Err(Errno::EIO));
    assert_eq!(union.rename((Ino::ROOT, &f), (Ino::ROOT, &g), crate::tier::Rename::Replace), Err(Errno::EIO));
    assert_eq!(union.link(ino, Ino::ROOT, &g).map(|_| ()), Err(Errno::EIO));
    assert_eq!(union.unlink(Ino::ROOT, &f), Err(Errno::EIO));
    let me = Caller { uid: 0, gid: 0, umask: 0, pid: 0 };
    let size = SetAttr { size: Some(1), ..SetAttr::default() };
    for change in [size, SetAttr { mode: Some(0o600), ..SetAttr::default() }] {
        assert_eq!(union.setattr(ino, None, &change).map(|_| ()), Err(Errno::EIO));
    }
    assert_eq!(union.removexattr(ino, c"user.a", &me), Err(Errno::EIO));
    assert_eq!(union.setxattr(ino, c"user.a", b"b", 0, &me, &Vec::new), Err(Errno::EIO));
    assert_eq!(union.set_flags(ino, 0), Err(Errno::EIO));
    assert!(union.open(ino, Access::Read, 0, None).is_ok(), "it can be read");
    let held = union.held().expect("whoever asks is told");
    assert_eq!((held.files, held.tiers, held.errno), (1, Ranks::only(Rank::PRIMARY), Errno::EIO));
    std::fs::write(bench.on(0, "other"), "other").unwrap();
    assert_eq!(go(union, &down()).moved, 1, "the next run moves what is not held");
    let union = bench.next_start();
    let ino = look(&union, Ino::ROOT, "f").unwrap().ino;
    assert!(union.open(ino, Access::Write, 0, None).is_ok());
    assert_eq!(union.unlink(Ino::ROOT, &f), Ok(()));
    assert_eq!(look(&union, Ino::ROOT, "f"), None, "and it does not come back");
}

/// A server that answers late, or is asked twice: the source lay in the trash, and its copy was withdrawn.
#[test]
fn a_rename_that_is_done_and_reported_as_failed_loses_no_file() {
    for (errno, names) in [(Errno::EIO, ["f", "f"]), (Errno::ENOENT, ["f", "f"]), (Errno::EIO, ["f", "g"])] {
        let bench = Bench::new(&[(0, "f", "text")]);
        if names[0] != names[1] {
            std::fs::hard_link(bench.on(0, names[0]), bench.on(0, names[1])).unwrap();
        }
        bench.spy.before("renamed from", 0, names[1], move || Err(errno));
        go(bench.union, &down());
        let _union = bench.next_start();
        for name in names {
            let copies = [bench.read(0, name), bench.read(1, name)];
            assert_eq!(copies.iter().flatten().count(), 1, "{errno:?} {copies:?}");
        }
    }
}

/// The copy was seen under the name, and programs that had the file wrote to the source behind it.
#[test]
fn a_copy_that_is_published_and_reported_as_failed_is_the_one_that_is_used() {
    for (hidden, names) in [(false, ["f", "f"]), (true, ["f", "f"]), (false, ["f", "g"])] {
        let bench = Bench::new(&[(1, "f", "text")]);
        if names[0] != names[1] {
            std::fs::hard_link(bench.on(1, names[0]), bench.on(1, names[1])).unwrap();
        }
        let (union, spy) = (bench.union, Arc::clone(&bench.spy));
        let ino = look(union, Ino::ROOT, "f").unwrap().ino;
        bench.spy.before("linked to", 0, names[1], || Err(Errno::EIO));
        bench.spy.before("rename to", 0, names[1], move || {
            let failing = Arc::clone(&spy);
            spy.before("renamed from", 0, "*", move || {
                if hidden {
                    failing.before("stat", 0, "f", || Err(Errno::EIO));
                }
                Err(Errno::EIO)
            });
            Ok(())
        });
        go(union, &up());
        let written = union.open(ino, Access::Write, 0, None);
        assert_eq!(written.is_err(), hidden, "nobody knows which of the two it is");
        if !hidden {
            let copies = [bench.read(0, "f"), bench.read(1, "f")];
            assert_eq!(copies.iter().flatten().count(), 1, "{names:?} {copies:?}");
        }
        drop(written);
        let _union = bench.next_start();
        for name in names {
            let copies = [bench.read(0, name), bench.read(1, name)];
            assert_eq!(copies.iter().flatten().count(), 1, "{names:?} {copies:?}");
        }
    }
}

/// One call that failed at the start left a whole copy in `.tierfs/lost`.
#[test]
fn a_passing_error_at_the_start_makes_no_copy_look_like_another() {
    let bench = Bench::new(&[(0, "f", "text")]);
    let spy = Arc::clone(&bench.spy);
    bench.spy.before("rename to", 1, "f", move || {
        spy.before("fsync", 1, "", || Err(Errno::EIO));
        Ok(())
    });
    go(bench.union, &down());
    let spy = Arc::new(Spy::default());
    spy.before("open", 1, "f", || Err(Errno::EIO));
    recover(&union_of(&bench.tiers, &spy)).unwrap();
    assert!(spy.log().iter().filter(|call| call.0 == "open" && call.2 == "f").count() > 1);
    let lost = [0, 1].map(|rank| std::fs::read_dir(bench.on(rank, ".tierfs/lost")).map_or(0, Iterator::count));
    assert_eq!((bench.read(0, "f").is_some(), bench.read(1, "f").is_some(), lost), (true, false, [0, 0]));
}
