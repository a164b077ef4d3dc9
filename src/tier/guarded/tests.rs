//! Instances that go and come.

use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicUsize;

use super::*;
use crate::tier::directory::{DirectoryTier, Known};
use crate::tier::{Open, Rename};

struct Setting {
    home: tempfile::TempDir,
    tier: Guarded,
    suspected: Arc<AtomicUsize>,
}

impl Setting {
    fn new() -> Setting {
        let home = tempfile::tempdir().unwrap();
        let setting =
            Setting { tier: Guarded::new(home.path().to_path_buf()), home, suspected: Arc::new(AtomicUsize::new(0)) };
        setting.install();
        setting
    }

    fn install(&self) {
        let fd: OwnedFd = std::fs::File::open(self.home.path()).unwrap().into();
        let inner =
            DirectoryTier::new(&fd, self.home.path().to_path_buf(), Known::default(), Box::new(|_| Ok(()))).unwrap();
        let suspected = Arc::clone(&self.suspected);
        let guard = Guard::new(None, move || {
            suspected.fetch_add(1, Ordering::Relaxed);
        });
        self.tier.install(Arc::new(inner), guard);
    }

    fn name(text: &str) -> Name {
        Name::new(text.as_bytes()).unwrap()
    }
}

#[test]
fn what_was_opened_on_one_instance_never_reaches_the_next() {
    let setting = Setting::new();
    std::fs::write(setting.home.path().join("a"), "x").unwrap();
    let (a, b) = (Setting::name("a"), Setting::name("b"));
    let root = setting.tier.root();
    let file = root.open(&a, Open::ReadWrite).unwrap();
    assert_eq!(file.write_at(b"y", 0), Ok(1));
    assert!(file.backing().is_some());
    drop(setting.tier.remove());
    assert!(!setting.tier.is_there());
    assert_eq!(setting.tier.root().stat(None).unwrap_err(), Errno::EIO);
    assert_eq!(file.write_at(b"z", 0), Err(Errno::EIO));
    setting.install();
    assert_eq!(file.write_at(b"z", 0), Err(Errno::EIO));
    assert!(file.backing().is_none());
    assert_eq!(root.stat(Some(&a)), Err(Errno::EIO));
    let again = setting.tier.root();
    assert!(again.stat(Some(&a)).unwrap().is_some());
    assert_eq!(again.rename(&a, root.as_ref(), &b, Rename::Replace), Err(Errno::EIO), "between two instances");
    again.rename(&a, again.as_ref(), &b, Rename::Replace).unwrap();
    assert_eq!(std::fs::read(setting.home.path().join("b")).unwrap(), b"y");
}

#[test]
fn absence_is_an_answer_only_of_a_tier_that_is_there() {
    let setting = Setting::new();
    let root = setting.tier.root();
    let absent = Setting::name("absent");
    assert_eq!(root.stat(Some(&absent)), Ok(None));
    assert_eq!(root.open_dir(&absent).unwrap_err(), Errno::ENOENT);
    let guard = setting.tier.guard().unwrap();
    guard.close();
    // Of a call that was under way when the guard was closed.
    assert_eq!(guard.look(|| Ok(Some(1)), |answer: &Option<i32>| answer.is_none()), Err(Errno::EIO));
    assert_eq!(guard.judge(Errno::ENOENT), Errno::EIO);
    assert_eq!(root.stat(Some(&absent)), Err(Errno::EIO));
    guard.open();
    assert_eq!(root.stat(Some(&absent)), Ok(None));
}

#[test]
fn errors_of_dead_filesystems_are_suspect_and_others_are_not() {
    let setting = Setting::new();
    let guard = setting.tier.guard().unwrap();
    assert_eq!(guard.judge(Errno::ENOENT), Errno::ENOENT);
    assert_eq!(guard.judge(Errno::ENOSPC), Errno::ENOSPC);
    assert_eq!(setting.suspected.load(Ordering::Relaxed), 0);
    assert_eq!(guard.judge(Errno::ENOTCONN), Errno::EIO, "the mount itself is connected");
    assert_eq!(guard.judge(Errno::ESTALE), Errno::ESTALE);
    assert_eq!(setting.suspected.load(Ordering::Relaxed), 2);
}

/// Something whose close is told, and waits.
#[derive(Debug)]
struct Slow(std::sync::mpsc::Sender<std::thread::ThreadId>, std::sync::mpsc::Receiver<()>);

impl Drop for Slow {
    fn drop(&mut self) {
        let _told = self.0.send(std::thread::current().id());
        let _end = self.1.recv();
    }
}

/// A server's file is written out at its close: of as many closes as there were threads the mount stood still.
#[test]
fn nobody_waits_for_closes_on_a_tier_that_does_not_answer_and_one_thread_makes_them() {
    let guard = Guard::new(None, || ());
    guard.close();
    let (tell, told) = std::sync::mpsc::channel();
    let ends: Vec<_> = (0..3)
        .map(|_| {
            let (end, ended) = std::sync::mpsc::channel();
            guard.close_later(Box::new(Slow(tell.clone(), ended)));
            end
        })
        .collect();
    let inside = || calls::under_way().iter().filter(|call| call.guard == guard.id()).count();
    let mut threads = std::collections::HashSet::new();
    for end in ends {
        threads.insert(told.recv().unwrap());
        assert_eq!(inside(), 1, "it is a call into the tier");
        assert!(told.try_recv().is_err(), "one after the other");
        drop(end);
    }
    assert!(threads.len() == 1 && !threads.contains(&std::thread::current().id()));
    while inside() > 0 {
        std::thread::yield_now();
    }
}

/// Between two closes nobody was inside, and the tier could be taken in with some still to come.
#[test]
fn somebody_is_inside_until_the_last_close_that_was_left_to_the_thread() {
    #[derive(Debug)]
    struct Told(Insiders, std::sync::mpsc::Sender<bool>);
    impl Drop for Told {
        fn drop(&mut self) {
            // As between two closes: this thread is in no tier.
            calls::outside(|| self.1.send(self.0.any()).unwrap());
        }
    }
    let guard = Guard::new(None, || ());
    guard.close();
    let insiders = guard.insiders();
    assert!(!insiders.any());
    let (tell, told) = std::sync::mpsc::channel();
    for _ in 0..3 {
        guard.close_later(Box::new(Told(insiders.clone(), tell.clone())));
    }
    drop(tell);
    assert_eq!(told.iter().collect::<Vec<_>>(), [true; 3]);
    while insiders.any() {
        std::thread::yield_now();
    }
}

#[test]
fn a_file_of_a_tier_that_is_given_up_is_closed_by_another_thread() {
    let setting = Setting::new();
    std::fs::write(setting.home.path().join("a"), "x").unwrap();
    let open_files = || {
        let own = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        own.filter(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| to.starts_with(setting.home.path()))).count()
    };
    let before = open_files();
    let open = || setting.tier.root().open(&Setting::name("a"), Open::ReadWrite).unwrap();
    drop(open());
    assert_eq!(open_files(), before, "at once where the tier is there");
    let file = open();
    setting.tier.guard().unwrap().close();
    drop(file);
    while open_files() > before {
        std::thread::yield_now();
    }
}
