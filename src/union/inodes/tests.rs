//! Nothing is closed under a lock of the table: on a tier that does not answer a close may take for ever, and
//! with it everybody who wants the lock.

use std::ffi::CStr;
use std::sync::mpsc::{Receiver, Sender, channel};

use super::*;
use crate::tier::{Open, unchangeable_file};
use crate::types::attr::Stat;

const INO: Ino = Ino(7);

/// Tells at its close whether the lock was free.
#[derive(Debug)]
struct Spy(Arc<Inodes>, Sender<bool>);

impl Drop for Spy {
    fn drop(&mut self) {
        let _told = self.1.send(!self.0.shard(INO).is_locked());
    }
}

#[derive(Debug)]
struct Spied(#[expect(dead_code, reason = "held to be dropped")] Spy);

impl File for Spied {
    fn stat(&self) -> Result<Stat> {
        Err(Errno::EIO)
    }

    fn read_at(&self, _buffer: &mut [u8], _offset: u64) -> Result<usize> {
        Err(Errno::EIO)
    }

    fn seek(&self, _offset: u64, _whence: i32) -> Result<u64> {
        Err(Errno::EIO)
    }

    fn get_xattr(&self, _key: &CStr) -> Result<Vec<u8>> {
        Err(Errno::EIO)
    }

    fn list_xattr(&self) -> Result<Vec<u8>> {
        Err(Errno::EIO)
    }

    fn reopen(&self, _how: Open) -> Result<Box<dyn File>> {
        Err(Errno::EIO)
    }

    unchangeable_file!();
}

struct Setting {
    inodes: Arc<Inodes>,
    tell: Sender<bool>,
    told: Receiver<bool>,
}

impl Setting {
    /// With one file that is known by its name.
    fn new() -> Setting {
        let (tell, told) = channel();
        let setting = Setting { inodes: Arc::new(Inodes::new(0)), tell, told };
        setting.see(Body(1));
        setting
    }

    fn see(&self, body: Body) {
        let name = Name::new(b"f").unwrap();
        let seen = Seen {
            ino: INO,
            parent: Ino::ROOT,
            name: &name,
            rank: Rank::PRIMARY,
            ranks: Ranks::only(Rank::PRIMARY),
            missing: Ranks::NONE,
            body,
            generation: 0,
            kind: Kind::File,
            nlink: 1,
            shown: None,
            since: Since::default(),
        };
        assert!(self.inodes.remember(&seen, &|| true).is_some());
    }

    fn spy(&self) -> Spy {
        Spy(Arc::clone(&self.inodes), self.tell.clone())
    }

    fn file(&self) -> Arc<dyn File> {
        Arc::new(Spied(self.spy()))
    }

    fn registration(&self) -> Arc<Registration> {
        Arc::new(Registration::of(Box::new(self.spy())))
    }

    /// So many were closed, each with the lock free.
    fn closed(&self, count: usize) {
        let free: Vec<bool> = self.told.try_iter().collect();
        assert_eq!(free, vec![true; count]);
    }
}

#[test]
fn what_was_open_of_a_file_whose_number_another_has_got_is_closed_after_the_lock() {
    let setting = Setting::new();
    setting.inodes.register(INO, setting.registration(), &|| true).unwrap();
    setting.inodes.keep_orphan(INO, setting.file());
    setting.closed(0);
    setting.see(Body(2));
    setting.closed(2);
}

#[test]
fn what_is_to_be_kept_of_a_file_that_is_known_no_more_is_closed_after_the_lock() {
    let setting = Setting::new();
    assert!(setting.inodes.forget(INO, 1));
    setting.inodes.keep_orphan(INO, setting.file());
    assert!(setting.inodes.register(INO, setting.registration(), &|| true).is_err());
    setting.closed(2);
}

#[test]
fn a_registration_that_comes_second_or_too_late_is_taken_back_after_the_lock() {
    let setting = Setting::new();
    setting.inodes.register(INO, setting.registration(), &|| true).unwrap();
    drop(setting.inodes.register(INO, setting.registration(), &|| true).unwrap());
    assert!(setting.inodes.register(INO, setting.registration(), &|| false).is_err());
    setting.closed(2);
    assert!(setting.inodes.unregister_idle(INO));
    setting.closed(1);
}

#[test]
fn what_is_replaced_forgotten_or_lost_with_its_tier_is_closed_after_the_lock() {
    let setting = Setting::new();
    setting.inodes.keep_orphan(INO, setting.file());
    setting.inodes.keep_orphan(INO, setting.file());
    setting.closed(1);
    drop(setting.inodes.unregister(Rank::PRIMARY));
    setting.closed(1);
    setting.inodes.keep_orphan(INO, setting.file());
    setting.inodes.moved(INO, Rank(1), Body(3), 0, None);
    setting.closed(1);
    setting.inodes.keep_orphan(INO, setting.file());
    assert!(setting.inodes.forget(INO, 1));
    setting.closed(1);
}
