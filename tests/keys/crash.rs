//! Killed at each system call: the volume is as before or as after, and can be made once more.

use super::*;
use common::need;

/// Calls at which something changes.
const CALLS: &[&str] = &["openat", "write", "fsync", "renameat2", "unlinkat", "unlink", "fchmod", "fchown", "fchmodat"];

/// Every call of `arguments` that can be stopped at, in a home that `prepare` makes each time.
fn at_each_call(prepare: impl Fn() -> Home, arguments: &str, check: impl Fn(&Home, bool)) {
    if need::programs(["strace"]).is_none() {
        return;
    }
    let home = prepare();
    let log = home.path("strace.log");
    let (calls, status) = strace::census(&home.command(arguments), CALLS, &log);
    assert!(status.success(), "{status}");
    // A program opens its libraries first, all alike.
    let all = calls.iter().flat_map(|(call, count)| {
        let first = if call == "openat" { count.saturating_sub(8).max(1) } else { 1 };
        (first..=*count).map(move |at| (call.clone(), at))
    });
    let mut killed = 0;
    for at in all {
        let home = prepare();
        let command = home.command(arguments);
        let status = strace::under(&command, &strace::kill(&at), &log).output().expect("strace runs").status;
        killed += usize::from(strace::was_killed(status));
        check(&home, status.success());
    }
    assert!(killed > 8, "only {killed} kills");
}

#[test]
fn a_killed_change_of_passphrase_leaves_the_old_one_or_the_new_one() {
    let passwd = "passwd --passfile OLD --new-passfile NEW VOLUME";
    at_each_call(Home::with_volume, passwd, |home, done| {
        let opens = ["OLD", "NEW"].map(|file| home.key(&format!("test --passfile {file} VOLUME")).code);
        assert!(opens == [Some(0), Some(77)] || opens == [Some(77), Some(0)], "{opens:?}");
        assert!(!done || opens[1] == Some(0));
        // What is left over is in nobody's way.
        let (now, next) = if opens[0] == Some(0) { ("OLD", "NEW") } else { ("NEW", "OLD") };
        home.key(&format!("passwd --passfile {now} --new-passfile {next} VOLUME")).done();
        assert_eq!(fs::names(home.volume()).len(), 2);
    });
}

#[test]
fn a_killed_init_leaves_a_whole_volume_or_none() {
    let init = "init --scrypt-cost 10 --passfile OLD VOLUME";
    at_each_call(Home::new, init, |home, done| {
        if is_there(&home.volume().join("gocryptfs.conf")) {
            assert_eq!(fs::stat(home.volume().join("gocryptfs.diriv")).len(), 16);
        } else {
            assert!(!done);
            home.key(init).done();
        }
        home.key("test --passfile OLD VOLUME").done();
        let names = fs::names(home.volume());
        assert!(names.len() == 2, "{names:?}");
        if need::programs(["gocryptfs"]).is_some() {
            home.stock("old").is_clean("after a kill");
        }
    });
}
