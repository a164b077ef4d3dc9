//! What must not be taken away: files that are put, removed or changed beside the mount in the middle of a
//! move, and what a record finds at the next start.

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{TryRecvError, channel};

use super::race_tests::{Bench, PATIENCE, down, go, look, name, request, union_of, up};
use super::spy_tests::{Spy, beside};
use super::*;
use crate::tier::Rename;
use crate::types::attr::{SetAttr, SetTime, Time};
use crate::types::ids::Ino;
use crate::union::open::Access;

/// What lies in `.tierfs/lost` of a tier.
fn lost(bench: &Bench, rank: usize) -> Vec<String> {
    let Ok(dir) = fs::read_dir(bench.on(rank, ".tierfs/lost")) else { return Vec::new() };
    dir.map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap()).collect()
}

/// Other bytes under the same times, as `O_DSYNC` and a power cut leave them.
fn overwrite(path: &Path, text: &str) {
    let before = fs::metadata(path).unwrap();
    fs::write(path, text).unwrap();
    let times = fs::FileTimes::new().set_accessed(before.accessed().unwrap()).set_modified(before.modified().unwrap());
    fs::File::options().write(true).open(path).unwrap().set_times(times).unwrap();
}

/// Runs until this call, in which the process dies.
fn dies(bench: &Bench, request: &Request, op: &'static str, rank: u8) {
    bench.spy.before(op, rank, "f", || panic!("planted by the test"));
    assert_eq!(go(bench.union, request).stopped, Some(Stop::Errors));
}

/// A promotion deleted a new file that was put under the source's name while the target was made durable.
#[test]
fn a_new_file_under_the_name_of_a_hidden_source_is_not_deleted() {
    for linked in [false, true] {
        let bench = Bench::new(&[(1, "f", "text")]);
        let (spy, path) = (Arc::clone(&bench.spy), bench.on(1, "f"));
        bench.spy.before("rename to", 0, "f", move || {
            spy.before("fsync", 0, "", move || {
                let aside = path.with_file_name("aside");
                if linked { fs::hard_link(&path, aside) } else { fs::rename(&path, aside) }.unwrap();
                let new = path.with_file_name("new");
                fs::write(&new, "new").unwrap();
                fs::rename(new, path).unwrap();
                Ok(())
            });
            Ok(())
        });
        assert_eq!(go(bench.union, &up()).moved, 0);
        assert_eq!(bench.read(1, "f").as_deref(), Some("new"), "linked: {linked}");
        assert_eq!(bench.read(1, "aside").as_deref(), Some("text"));
        assert_eq!(bench.read(0, "f"), None, "the copy hides what is new");
    }
}

/// A demotion took the source although its copy had been removed or replaced beside the mount.
#[test]
fn a_source_whose_copy_has_gone_stays() {
    for replaced in [false, true] {
        let bench = Bench::new(&[(0, "f", "text")]);
        let (spy, copy) = (Arc::clone(&bench.spy), bench.on(1, "f"));
        bench.spy.before("rename to", 1, "f", move || {
            spy.before("fsync", 1, "", move || {
                fs::remove_file(&copy).unwrap();
                if replaced {
                    fs::write(&copy, "other").unwrap();
                }
                Ok(())
            });
            Ok(())
        });
        let summary = go(bench.union, &down());
        assert_eq!((summary.moved, summary.skipped.get(&Skip::Changed)), (0, Some(&1)));
        assert_eq!(bench.read(0, "f").as_deref(), Some("text"), "replaced: {replaced}");
        assert_eq!(bench.read(1, "f").is_some(), replaced);
    }
}

/// An attribute that was set on the hidden source of a promotion was lost: the lease does not tell of it.
#[test]
fn an_attribute_set_on_a_hidden_source_is_kept() {
    let bench = Bench::new(&[(1, "f", "text")]);
    let (spy, dir) = (Arc::clone(&bench.spy), bench.on(1, ""));
    let (tell, told) = channel();
    bench.spy.before("rename to", 0, "f", move || {
        spy.before("fsync", 0, "", move || {
            let held = crate::sys::by_path::hold(&dir).unwrap();
            let key = c"user.key";
            tell.send(crate::sys::xattr::set(std::os::fd::AsFd::as_fd(&held), Some(c"f"), key, b"1", 0)).unwrap();
            Ok(())
        });
        Ok(())
    });
    let moved = go(bench.union, &up()).moved;
    if told.recv().unwrap().is_err() {
        return eprintln!("skipped: the temporary directory has no extended attributes");
    }
    assert_eq!((moved, bench.read(0, "f")), (0, None));
    let ino = look(bench.union, Ino::ROOT, "f").unwrap().ino;
    assert_eq!(bench.union.getxattr(ino, c"user.key").unwrap(), b"1");
}

/// A promotion whose source cannot be removed, as in a directory with `chattr +i`, was left half done, and
/// the next mount did not start.
#[test]
fn a_source_that_cannot_be_removed_takes_its_copy_back() {
    let bench = Bench::new(&[(1, "f", "text")]);
    bench.spy.before("rename from", 1, "f", || Err(Errno::EPERM));
    let summary = go(bench.union, &up());
    assert_eq!((summary.moved, summary.failed), (0, 1));
    assert_eq!((bench.read(0, "f"), bench.read(1, "f").as_deref()), (None, Some("text")));
    assert_eq!(fs::read_dir(bench.on(0, ".tierfs/moves")).unwrap().count(), 0);
}

/// The same at the next start: the copy is whole, so the union is served.
#[test]
fn recovery_leaves_a_source_that_cannot_be_removed() {
    let bench = Bench::new(&[(1, "f", "text")]);
    dies(&bench, &up(), "rename from", 1);
    let spy = Arc::new(Spy::default());
    spy.before("unlink", 1, "f", || Err(Errno::EPERM));
    let union = union_of(&bench.tiers, &spy);
    assert_eq!(recover(&union), Ok(()));
    assert_eq!(bench.read(0, "f").as_deref(), Some("text"));
    assert_eq!(fs::read_dir(bench.on(0, ".tierfs/moves")).unwrap().count(), 0);
}

/// A directory that was renamed while its files were copied: the record would have named them by the old path.
#[test]
fn files_of_a_directory_that_was_renamed_stay() {
    for beside_the_mount in [false, true] {
        let bench = Bench::new(&[(0, "d/f", "text"), (1, "d/g", "text")]);
        let (union, from, to) = (bench.union, bench.on(0, "d"), bench.on(0, "e"));
        bench.spy.before("create", 1, "*", move || {
            if beside_the_mount {
                fs::rename(from, to).unwrap();
                return Ok(());
            }
            union.rename((Ino::ROOT, &name("d")), (Ino::ROOT, &name("e")), Rename::Replace)
        });
        assert_eq!(go(union, &down()).moved, 0, "beside the mount: {beside_the_mount}");
        assert_eq!(bench.read(0, "e/f").as_deref(), Some("text"));
        assert_eq!((bench.read(1, "e/f"), bench.read(1, "d/f")), (None, None));
    }
}

/// Bytes that are durable without their times: recovery deleted a copy that had been seen and written to.
#[test]
fn recovery_deletes_no_copy_with_other_contents() {
    let bench = Bench::new(&[(0, "f", "text")]);
    dies(&bench, &down(), "rename from", 0);
    overwrite(&bench.on(1, "f"), "TEXT");
    bench.next_start();
    assert_eq!((bench.read(0, "f").as_deref(), bench.read(1, "f")), (Some("text"), None));
    assert_eq!(lost(&bench, 1), ["TEXT"]);
}

/// The same while a file moves up and the name of the copy was lost with the power.
#[test]
fn recovery_clears_no_staged_copy_with_other_contents() {
    let bench = Bench::new(&[(1, "f", "text")]);
    dies(&bench, &up(), "rename to", 0);
    let staged = fs::read_dir(bench.on(0, ".tierfs/staging")).unwrap().next().unwrap().unwrap().path();
    overwrite(&staged, "TEXT");
    bench.next_start();
    assert_eq!((bench.read(0, "f"), bench.read(1, "f").as_deref()), (None, Some("text")));
    assert_eq!(lost(&bench, 0), ["TEXT"]);
}

/// And a source in the way of its copy, written beside the mount.
#[test]
fn recovery_deletes_no_source_with_other_contents() {
    let bench = Bench::new(&[(1, "f", "text")]);
    dies(&bench, &up(), "rename from", 1);
    overwrite(&bench.on(1, "f"), "TEXT");
    bench.next_start();
    assert_eq!((bench.read(0, "f").as_deref(), bench.read(1, "f").as_deref()), (Some("text"), Some("TEXT")));
}

/// A source that vanished between a crash and the next start took the only copy along.
#[test]
fn recovery_deletes_no_copy_without_a_source() {
    let bench = Bench::new(&[(0, "f", "text")]);
    fs::hard_link(bench.on(0, "f"), bench.on(0, "g")).unwrap();
    dies(&bench, &down(), "rename from", 0);
    for gone in ["f", "g"] {
        fs::remove_file(bench.on(0, gone)).unwrap();
    }
    bench.next_start();
    assert_eq!((bench.read(1, "f"), bench.read(1, "g")), (None, None), "a deleted file is back");
    assert_eq!(lost(&bench, 1), ["text", "text"]);
}

/// The kernel makes bytes durable that are written by passthrough, so nobody writes before the move is.
#[test]
fn opening_for_writing_waits_until_the_move_is_durable() {
    let bench = Bench::new(&[(0, "f", "text")]);
    let (union, spy) = (bench.union, Arc::clone(&bench.spy));
    let ino = look(union, Ino::ROOT, "f").unwrap().ino;
    let (tell, told) = channel();
    bench.spy.before("rename from", 0, "f", move || {
        spy.before("fsync", 0, "", move || {
            let read =
                beside(move || union.open(ino, Access::Read, 0, None).map(|opened| union.release(ino, opened.fh)));
            assert_eq!(read.recv_timeout(PATIENCE), Ok(Ok(())), "a reader need not wait");
            let write =
                beside(move || union.open(ino, Access::Write, 0, None).map(|opened| union.release(ino, opened.fh)));
            assert_eq!(write.try_recv(), Err(TryRecvError::Empty), "it could write what a power cut takes back");
            tell.send(write).unwrap();
            Ok(())
        });
        Ok(())
    });
    assert_eq!(go(union, &down()).moved, 1);
    assert_eq!(told.recv().unwrap().recv_timeout(PATIENCE), Ok(Ok(())));
}

/// Times that a program gave a directory during a swap were set back with those of before it.
#[test]
fn times_set_on_a_directory_during_a_swap_stay() {
    let bench = Bench::new(&[(0, "d/f", "text"), (1, "d/g", "text")]);
    let union = bench.union;
    let dir = look(union, Ino::ROOT, "d").unwrap().ino;
    let (tell, told) = channel();
    let mtime = Time { sec: 1_000_000_000, nsec: 5 };
    bench.spy.before("rename to", 1, "f", move || {
        let change = SetAttr { mtime: Some(SetTime::At(mtime)), ..SetAttr::default() };
        tell.send(beside(move || union.setattr(dir, None, &change).map(|_| ()))).unwrap();
        Ok(())
    });
    assert_eq!(go(union, &down()).moved, 1);
    assert_eq!(told.recv().unwrap().recv_timeout(PATIENCE), Ok(Ok(())));
    for rank in 0..2 {
        let found = fs::metadata(bench.on(rank, "d")).unwrap();
        assert_eq!(std::os::unix::fs::MetadataExt::mtime(&found), mtime.sec, "on {rank}");
    }
}

/// A file that was damaged on its tier came up, was hashed anew, and looked whole from then on.
#[test]
fn a_damaged_file_does_not_come_up_unnoticed() {
    let bench = Bench::new(&[(0, "f", "text"), (0, "g", "text"), (0, "h", "text")]);
    let down = go(bench.union, &down());
    assert_eq!(down.moved, 3);
    overwrite(&bench.on(1, "f"), "teXt");
    fs::write(bench.on(1, "g"), "new").unwrap();
    let undo = request(What::Undo(down.run));
    for what in [&up(), &undo] {
        let summary = go(bench.union, what);
        assert_eq!((summary.failed, bench.read(0, "f")), (1, None));
    }
    assert!(bench.read(0, "h").is_some() && bench.read(0, "g").as_deref() == Some("new"), "the others come up");
    assert_eq!(go(bench.union, &Request { verify: Verify::Size, ..up() }).moved, 1, "wanted as it is");
}

/// Runs until the source named last has been taken aside and its tier is to be made durable.
fn dies_after_aside(bench: &Bench, request: &Request, rank: u8, last: &str) {
    let spy = Arc::clone(&bench.spy);
    bench.spy.before("rename from", rank, last, move || {
        spy.before("fsync", rank, "", || panic!("planted by the test"));
        Ok(())
    });
    assert_eq!(go(bench.union, request).stopped, Some(Stop::Errors));
}

/// A recovery that is cut short at this call.
fn half_recovered(bench: &Bench, op: &'static str, rank: u8) {
    let spy = Arc::new(Spy::default());
    spy.before(op, rank, "*", || Err(Errno::EIO));
    assert!(recover(&union_of(&bench.tiers, &spy)).is_err(), "it was not cut");
}

fn in_trash(bench: &Bench, rank: usize) -> std::path::PathBuf {
    fs::read_dir(bench.on(rank, ".tierfs/trash")).unwrap().next().unwrap().unwrap().path()
}

/// A source that was written to in the trash is saved from there; the second recovery then took the copy
/// away, too, for it counted what lies in the trash.
#[test]
fn a_recovery_that_is_cut_short_is_finished_by_the_next() {
    for linked in [false, true] {
        let bench = Bench::new(&[(0, "f", "text")]);
        let names: &[&str] = if linked { &["f", "g"] } else { &["f"] };
        if linked {
            fs::hard_link(bench.on(0, "f"), bench.on(0, "g")).unwrap();
        }
        dies_after_aside(&bench, &down(), 0, names[names.len() - 1]);
        fs::write(in_trash(&bench, 0), "written beside").unwrap();
        half_recovered(&bench, "unlink", 0);
        bench.next_start();
        for name in names {
            assert_eq!((bench.read(0, name), bench.read(1, name).as_deref()), (None, Some("text")), "{name}");
        }
        assert!(lost(&bench, 0).iter().all(|text| text == "written beside") && !lost(&bench, 0).is_empty());
    }
}

/// The same for links that were deleted before the crash: one of them came back.
#[test]
fn deleted_links_do_not_come_back_by_a_second_recovery() {
    let bench = Bench::new(&[(0, "f", "text")]);
    fs::hard_link(bench.on(0, "f"), bench.on(0, "g")).unwrap();
    dies_after_aside(&bench, &down(), 0, "g");
    for gone in ["f", "g"] {
        bench.union.unlink(Ino::ROOT, &name(gone)).unwrap();
    }
    half_recovered(&bench, "unlink", 0);
    bench.next_start();
    for gone in ["f", "g"] {
        assert_eq!((bench.read(0, gone), bench.read(1, gone)), (None, None), "{gone}");
    }
}

/// A copy that lost its name and has changed: it was saved before the source went back, and the second
/// recovery took the source for one that had moved.
#[test]
fn a_source_goes_back_before_its_changed_copy_is_saved() {
    let bench = Bench::new(&[(1, "f", "text")]);
    dies_after_aside(&bench, &up(), 1, "f");
    let trash = in_trash(&bench, 1);
    let staged = trash.file_name().unwrap().to_str().unwrap().strip_suffix(".0").unwrap().to_owned();
    let staged = bench.on(0, ".tierfs/staging").join(staged);
    fs::rename(bench.on(0, "f"), &staged).unwrap();
    overwrite(&staged, "TEXT");
    half_recovered(&bench, "rename from", 1);
    bench.next_start();
    assert_eq!((bench.read(1, "f").as_deref(), lost(&bench, 0)), (Some("text"), vec!["TEXT".to_owned()]));
}

/// A program that had found the source before it went gets at it when the process is killed.
#[test]
fn what_is_written_to_a_promoted_source_in_the_trash_is_kept() {
    let bench = Bench::new(&[(1, "f", "text")]);
    dies_after_aside(&bench, &up(), 1, "f");
    fs::write(in_trash(&bench, 1), "written beside").unwrap();
    bench.next_start();
    assert_eq!((bench.read(0, "f").as_deref(), lost(&bench, 1)), (Some("text"), vec!["written beside".to_owned()]));
}

/// The same when the batch has moved and only the deletion of its sources was cut short.
#[test]
fn what_is_written_to_a_source_that_waits_for_its_end_is_kept() {
    for (rank, what) in [(0, down()), (1, up())] {
        let bench = Bench::new(&[(rank, "f", "text"), (rank, "g", "text")]);
        let (spy, on) = (Arc::clone(&bench.spy), u8::try_from(rank).unwrap());
        let dies = move || spy.before("unlink", on, "*", || panic!("planted by the test"));
        if rank == 0 {
            // The first removal on the primary is that of the note of times.
            bench.spy.before("unlink", 0, "*", move || {
                dies();
                Ok(())
            });
        } else {
            dies();
        }
        go(bench.union, &what);
        let trash = in_trash(&bench, rank);
        fs::write(&trash, "written beside").unwrap();
        bench.next_start();
        assert_eq!(lost(&bench, rank), ["written beside"], "on {rank}");
        for moved in ["f", "g"] {
            assert_eq!((bench.read(rank, moved), bench.read(1 - rank, moved).as_deref()), (None, Some("text")));
        }
        assert_eq!(fs::read_dir(bench.on(0, ".tierfs/moves")).unwrap().count(), 0);
    }
}

/// Another file that is put under a name just before the process dies is not deleted with the source.
#[test]
fn another_file_in_the_trash_is_kept() {
    for (rank, what, linked) in [(0, down(), true), (1, up(), false)] {
        let bench = Bench::new(&[(rank, "f", "text")]);
        let last = if linked { "g" } else { "f" };
        if linked {
            fs::hard_link(bench.on(rank, "f"), bench.on(rank, "g")).unwrap();
        }
        let (spy, path, on) = (Arc::clone(&bench.spy), bench.on(rank, last), u8::try_from(rank).unwrap());
        bench.spy.before("rename from", on, last, move || {
            let new = path.with_file_name("new");
            fs::write(&new, "new").unwrap();
            fs::rename(new, &path).unwrap();
            spy.before("stat", on, "*", || panic!("planted by the test"));
            Ok(())
        });
        go(bench.union, &what);
        bench.next_start();
        let shown = bench.read(rank, last).as_deref() == Some("new");
        assert!(shown || lost(&bench, rank).contains(&"new".to_owned()), "on {rank}");
    }
}

/// The record went though the source could not be saved, and the next start deleted the trash.
#[test]
fn what_is_written_to_a_source_that_could_not_be_saved_is_saved_by_the_next_start() {
    let bench = Bench::new(&[(0, "f", "text")]);
    let (spy, trash) = (Arc::clone(&bench.spy), bench.on(0, ".tierfs/trash"));
    let in_the_way = bench.on(0, ".tierfs/lost");
    fs::create_dir_all(in_the_way.parent().unwrap()).unwrap();
    fs::write(&in_the_way, "").unwrap();
    bench.spy.before("rename from", 0, "f", move || {
        // Once the batch is on record as done.
        spy.before("unlink", 0, "*", move || {
            let source = fs::read_dir(trash).unwrap().next().unwrap().unwrap().path();
            let refused = fs::OpenOptions::new().write(true).custom_flags(nix::libc::O_NONBLOCK).open(source);
            assert!(refused.is_err(), "the source is claimed");
            Ok(())
        });
        Ok(())
    });
    assert_eq!(go(bench.union, &down()).moved, 1);
    fs::write(in_trash(&bench, 0), "written beside").unwrap();
    fs::remove_file(&in_the_way).unwrap();
    let _union = bench.next_start();
    assert_eq!((bench.read(1, "f").as_deref(), lost(&bench, 0)), (Some("text"), vec!["written beside".to_owned()]));
}

/// A record of a primary that is full kept the mount from starting.
#[test]
fn a_start_makes_no_directory_that_it_does_not_need() {
    for rank in [0, 1] {
        let bench = Bench::new(&[(0, "f", "text")]);
        dies_after_aside(&bench, &down(), 0, "f");
        recover(&union_of(&bench.tiers, &Arc::default())).unwrap();
        assert!(!bench.on(rank, ".tierfs/lost").exists());
        assert_eq!((bench.read(0, "f"), bench.read(1, "f").as_deref()), (None, Some("text")));
    }
}

/// `chattr +a` of the directory: no start succeeded until it was taken off.
#[test]
fn a_copy_that_cannot_be_taken_back_stays_and_the_mount_starts() {
    let bench = Bench::new(&[(0, "d/f", "text")]);
    bench.spy.before("rename from", 0, "f", || panic!("planted by the test"));
    assert_eq!(go(bench.union, &down()).stopped, Some(Stop::Errors));
    assert_eq!(bench.read(1, "d/f").as_deref(), Some("text"));
    let spy = Arc::new(Spy::default());
    spy.before("unlink", 1, "f", || Err(Errno::EPERM));
    spy.before("set_attr", 1, "", || Err(Errno::EPERM));
    recover(&union_of(&bench.tiers, &spy)).unwrap();
    assert_eq!((bench.read(0, "d/f").as_deref(), bench.read(1, "d/f").as_deref()), (Some("text"), Some("text")));
}
