//! A source that changes while it is read.

use std::os::unix::fs::FileExt;

use rustix::io::Errno;

use crate::common::fs::{errno, names, put};
use crate::common::wait;
use crate::kit::Ground;

#[test]
fn a_file_that_changes_while_it_is_read_is_an_error_that_is_told_once() {
    let Some(ground) = Ground::new() else { return };
    put(ground.source().join("file"), vec![1; 300_000]);
    ground.init(&["-plaintextnames"]);
    let view = ground.view("view");
    let path = view.root().join("file");
    let (first, second) = (std::fs::File::open(&path).expect("open"), std::fs::File::open(&path).expect("open"));
    let mut buffer = vec![0; 100_000];
    first.read_exact_at(&mut buffer, 0).expect("read");
    let source = std::fs::File::options().write(true).open(ground.source().join("file")).expect("open");
    source.write_all_at(&[2], 299_999).expect("write");
    for at in [100_000, 0, 200_000] {
        assert_eq!(errno(first.read_at(&mut buffer, at)), Errno::IO);
    }
    // What another has read must not hide the change.
    let third = std::fs::File::open(&path).expect("open");
    third.read_exact_at(&mut buffer, 0).expect("read");
    assert_eq!(errno(second.read_at(&mut buffer, 0)), Errno::IO);
    let told = || view.log().lines().filter(|line| line.contains("changed while it was read")).count();
    wait::until("the log", || (told() >= 2).then_some(()));
    assert_eq!(told(), 2, "once for each open: {}", view.log());
    drop((first, second, third));
    view.unmount();
}

#[test]
fn a_file_that_changes_is_served_where_that_is_asked_for() {
    let Some(ground) = Ground::new() else { return };
    put(ground.source().join("file"), vec![1; 300_000]);
    ground.init(&["-plaintextnames"]);
    let source = ground.source();
    let view = ground.encrypt("view", &["--on-change".as_ref(), "serve".as_ref(), source.as_os_str()]);
    let file = std::fs::File::open(view.root().join("file")).expect("open");
    let size = file.metadata().expect("stat").len();
    let mut cipher = vec![0; 100_001];
    file.read_exact_at(&mut cipher, 0).expect("read");
    put(source.join("file"), vec![2; 400_000]);
    let mut rest = vec![0; 400_000];
    let len = file.read_at(&mut rest, 100_001).expect("read");
    cipher.extend_from_slice(&rest[..len]);
    assert_eq!(cipher.len() as u64, size);
    drop(file);
    view.unmount();
    // All blocks of the mixture are whole.
    let copy = ground.dir("copy");
    put(copy.join("file"), cipher);
    std::fs::copy(source.join(".gocryptfs.reverse.conf"), copy.join("gocryptfs.conf")).expect("copy");
    let stock = ground.volume(&copy).mount(&ground.path("stock"));
    let plain = std::fs::read(stock.path("file")).expect("read");
    assert_eq!(plain.len(), 300_000);
    assert!(plain[..98_304].iter().all(|byte| *byte == 1) && plain[102_400..].iter().all(|byte| *byte == 2));
}

#[test]
fn what_comes_and_goes_is_seen() {
    let Some(ground) = Ground::new() else { return };
    ground.init(&["-plaintextnames"]);
    let view = ground.view("view");
    assert_eq!(names(view.root()), ["gocryptfs.conf"]);
    put(ground.source().join("new"), "x");
    assert_eq!(names(view.root()), ["gocryptfs.conf", "new"]);
    let seen = |size: u64| {
        let path = view.root().join("new");
        wait::until("the size", || (path.metadata().ok()?.len() == size).then_some(()));
    };
    seen(18 + 32 + 1);
    put(ground.source().join("new"), "xyz");
    seen(18 + 32 + 3);
    std::fs::remove_file(ground.source().join("new")).expect("remove");
    wait::until("it is gone", || (!view.root().join("new").exists()).then_some(()));
    view.unmount();
}

/// The kernel went on with what it had read of a file that has changed in place.
#[test]
fn whoever_opens_a_file_of_a_volume_sees_what_is_in_it_now() {
    let Some(ground) = Ground::new() else { return };
    let volume = ground.forward("volume");
    let stock = volume.mount(&ground.dir("stock"));
    put(stock.path("file"), vec![b'1'; 300_000]);
    let view = ground.decrypt("view", &[volume.cipher.as_os_str()]);
    let seen = || std::fs::read(view.root().join("file")).expect("read");
    assert_eq!(seen(), vec![b'1'; 300_000]);
    for byte in [b'2', b'3'] {
        put(stock.path("file"), vec![byte; 300_000]);
        assert!(seen() == vec![byte; 300_000], "the bytes are of before");
    }
    view.unmount();
    drop(stock);
}

/// A program that asks for the size of what it has opened and reads so much would cut a block if it were told
/// the size of before a change.
#[test]
fn the_size_of_an_open_file_is_the_one_that_can_be_read() {
    let Some(ground) = Ground::new() else { return };
    ground.init(&["-plaintextnames"]);
    let view = ground.view("view");
    for round in 1..10 {
        let path = view.root().join("file");
        put(ground.source().join("file"), vec![1; 1000 * round]);
        let _remembered = path.metadata();
        put(ground.source().join("file"), vec![2; 5000 * round]);
        let file = std::fs::File::open(&path).expect("open");
        let size = file.metadata().expect("stat").len();
        let mut cipher = vec![0; 100_000];
        assert_eq!(file.read_at(&mut cipher, 0).expect("read") as u64, size, "round {round}");
    }
    view.unmount();
}
