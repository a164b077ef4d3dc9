//! Clients at work while files move.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::common::wait;
use crate::kit::{Shared, demote, promote};

/// Files of the huge directory: fewer where the program is not optimised.
const MANY: usize = if cfg!(debug_assertions) { 3_000 } else { 20_000 };

/// Moves everything down and up again, over and over, while `work` is done; how many rounds that were.
fn meanwhile(shared: &Shared, work: impl FnOnce()) -> usize {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let mover = scope.spawn(|| {
            let mut rounds = 0;
            while !over.load(Ordering::Relaxed) || rounds == 0 {
                demote(&shared.mount);
                promote(&shared.mount);
                rounds += 1;
            }
            rounds
        });
        // The mover ends also if the work fails.
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        over.store(true, Ordering::Relaxed);
        let rounds = mover.join().expect("the mover");
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        rounds
    })
}

#[test]
fn two_users_put_get_rename_and_delete_while_files_move() {
    let Some(shared) = Shared::over("ext4", 96, &[]) else { return };
    shared.client(0, "mkdir one");
    shared.client(1, "mkdir two");
    let versions = [0u8, 1, 2].map(|version| vec![version; 150_000 + usize::from(version)]);
    let locals = [0, 1, 2].map(|version| shared.local(&format!("v{version}"), &versions[version]));
    let rounds = meanwhile(&shared, || {
        for round in 0..8 {
            for (user, folder) in ["one", "two"].into_iter().enumerate() {
                let [a, b, c] = [0, 1, 2].map(|version| locals[version].display());
                let commands = [
                    format!("cd {folder}; put {a} a; put {b} b; put {c} keep{round}; rename a c; rename b a"),
                    format!("put {c} b; rename b c -f; put {a} gone; del gone; ls"),
                ];
                shared.client(user, &commands.join("; "));
                assert!(shared.get(1 - user, &format!("{folder}/a")) == versions[1]);
                assert!(shared.get(1 - user, &format!("{folder}/c")) == versions[2]);
                shared.client(user, &format!("cd {folder}; del a; del c"));
            }
        }
    });
    for folder in ["one", "two"] {
        let names = crate::common::fs::names(shared.mount.path(folder));
        assert_eq!(names.len(), 8, "after {rounds} rounds: {names:?}");
        for name in names {
            assert!(shared.get(0, &format!("{folder}/{}", name.display())) == versions[2], "{name:?}");
        }
    }
}

#[test]
fn a_huge_directory_is_listed_whole_while_its_files_move() {
    let Some(shared) = Shared::over("tmpfs", 400, &[]) else { return };
    std::fs::create_dir(shared.mount.path("huge")).expect("mkdir");
    for number in 0..MANY {
        std::fs::write(shared.mount.path(format!("huge/file {number:05}.dat")), b"x").expect("write");
    }
    let list = || {
        let text = shared.client(0, "cd huge; ls");
        let mut lines: Vec<String> = text.lines().filter(|line| line.contains(".dat")).map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let before = list();
    assert_eq!(before.len(), MANY);
    // One move down and up of all; the listings go on until it has ended.
    std::thread::scope(|scope| {
        let mover = scope.spawn(|| {
            // Samba may let go late of what it has just put there.
            wait::until("all are down", || {
                demote(&shared.mount);
                (crate::common::fs::names(shared.mount.tier(1, "huge")).len() == MANY).then_some(())
            });
            promote(&shared.mount);
        });
        let mut listings = 0;
        while !mover.is_finished() || listings == 0 {
            assert!(list() == before, "listing {listings} is another");
            listings += 1;
        }
        mover.join().expect("the mover");
    });
    assert!(list() == before);
}

/// The client has the file open for itself, by an oplock. It is skipped, and nothing of that is taken from it.
#[test]
fn an_open_file_keeps_its_oplock_while_others_move() {
    let Some(shared) = Shared::over("ext4", 32, &[]) else { return };
    let local = shared.local("local", b"other");
    shared.client(1, &(0..20).map(|n| format!("put {} other{n}", local.display())).collect::<Vec<_>>().join("; "));
    let mut client = shared.server.stay(&shared.users[0], "docs", "hold", "mine");
    assert_eq!(client.line(), "open");
    let held = || {
        let locks = shared.server.status("-L");
        locks.lines().find(|line| line.contains("mine")).unwrap_or_else(|| panic!("{locks}")).to_owned()
    };
    let at_first = held();
    assert!(at_first.contains("BATCH"), "{at_first}");
    let mut expected = String::new();
    for round in 0..3 {
        let words = format!("round{round},");
        assert_eq!(client.tell(&format!("write {words}")), "written");
        expected += &words;
        shared.demote_all(&["other7"]);
        assert_eq!((shared.rank("mine"), shared.rank("other7")), (Some(0), Some(1)));
        assert_eq!(held(), at_first);
        assert_eq!(client.tell("read"), expected);
        promote(&shared.mount);
        assert_eq!(held(), at_first);
        assert_eq!(client.tell("read"), expected);
    }
    assert_eq!(client.tell("close"), "closed");
    shared.demote_all(&["mine"]);
    assert_eq!(shared.get(1, "mine"), expected.as_bytes());
}

/// A move is no change: whoever watches the directory hears of real ones alone.
#[test]
fn a_watching_client_hears_nothing_of_a_move() {
    let Some(shared) = Shared::over("ext4", 32, &[]) else { return };
    let local = shared.local("local", b"contents");
    shared.client(1, "mkdir folder");
    shared.client(1, &(0..20).map(|n| format!("put {} folder/f{n}", local.display())).collect::<Vec<_>>().join("; "));
    let mut watcher = shared.server.stay(&shared.users[0], "docs", "watch", "folder");
    assert_eq!(watcher.line(), "watching");
    // Samba answers before another of its processes has begun to watch.
    let heard = (0..200).any(|n| {
        shared.client(1, &format!("mkdir folder/probe{n}"));
        watcher.line_soon().is_some()
    });
    assert!(heard, "not even changes are told");
    shared.client(1, "mkdir folder/started");
    while watcher.line() != "1 started" {}
    shared.demote_all(&["folder/f7"]);
    promote(&shared.mount);
    demote(&shared.mount);
    shared.client(1, "mkdir folder/real");
    // Samba gives a new directory its attributes after it has made it, and tells that as well.
    let mut next = || std::iter::repeat_with(|| watcher.line()).find(|line| !line.ends_with(" started"));
    assert_eq!(next().as_deref(), Some("1 real"));
    // A file that lies on the slower tier now is changed and removed.
    shared.client(1, "rename folder/f3 folder/renamed");
    while !next().is_some_and(|line| line.ends_with("renamed")) {}
}
