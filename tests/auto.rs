//! What a mount does by itself under a policy: watermarks, promotion, and a policy file that changes.
//! On real mounts; waits for what must happen and never for a time.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

mod common;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::fs::{exists, get, put, set_times, stat};
use common::loopfs::{LoopFs, run};
use common::mount::{Setup, TestMount, program};
use common::{need, wait};

const DAY: i64 = 86_400;

fn days_ago(days: i64) -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap() - days * DAY
}

/// A file of so many bytes, last read and changed so many days ago.
fn aged(path: impl AsRef<Path>, bytes: usize, days: i64) {
    put(&path, vec![b'x'; bytes]);
    set_times(path, days_ago(days), days_ago(days));
}

/// Puts a policy into its place as editors do.
fn write_policy(home: &Path, policy: &str) {
    put(home.join("new"), format!("version: 1\n{policy}\n"));
    fs::rename(home.join("new"), home.join("policy.yaml")).unwrap();
}

fn with_policy(setup: Setup, policy: &str) -> Setup {
    let home = setup.home().to_path_buf();
    write_policy(&home, policy);
    put(home.join("config.yaml"), "version: 1\npolicy: policy.yaml\n");
    setup.verbose().option(&format!("config={}", home.join("config.yaml").display()))
}

/// Two tiers with these files on the secondary, each a year old.
fn below(files: &[&str], policy: &str) -> Option<TestMount> {
    let setup = Setup::new().seed(|roots| files.iter().for_each(|file| aged(roots[1].join(file), 5, 365)));
    with_policy(setup, policy).mount()
}

fn until_on(mount: &TestMount, rank: usize, path: &str) {
    wait::until(&format!("{path} is on tier {rank} alone"), || {
        let here = exists(mount.tier(rank, path)) && !exists(mount.tier(1 - rank, path));
        here.then_some(())
    });
}

fn until_said(mount: &TestMount, says: &str, times: usize) {
    wait::until(&format!("the log says {says:?} {times} times"), || {
        (mount.log().matches(says).count() >= times).then_some(())
    });
}

fn append(path: impl AsRef<Path>) {
    File::options().append(true).open(path).unwrap().write_all(b"more").unwrap();
}

fn tierfs(arguments: &[&str]) -> std::process::Output {
    wait::output(Command::new(program()).args(arguments))
}

#[test]
fn a_written_file_moves_up_and_others_stay() {
    let Some(mount) = below(&["d/written", "d/opened", "d/read"], "promote: {when: write}") else { return };
    let ino = stat(mount.path("d/written")).ino();
    // What changed within the same moment counts as written.
    wait::until("the files are not of this moment", || {
        let stat = stat(mount.tier(1, "d/opened"));
        let changed = Duration::new(stat.ctime().unsigned_abs(), u32::try_from(stat.ctime_nsec()).unwrap());
        (UNIX_EPOCH.elapsed().unwrap() > changed + Duration::from_millis(200)).then_some(())
    });
    assert_eq!(get(mount.path("d/read")), "xxxxx");
    drop(File::options().read(true).write(true).open(mount.path("d/opened")).unwrap());
    append(mount.path("d/written"));
    until_on(&mount, 0, "d/written");
    assert_eq!((get(mount.path("d/written")), stat(mount.path("d/written")).ino()), ("xxxxxmore".into(), ino));
    assert!(exists(mount.tier(1, "d/opened")) && exists(mount.tier(1, "d/read")));
    let mut open = File::options().append(true).open(mount.path("d/read")).unwrap();
    open.write_all(b"1").unwrap();
    append(mount.path("d/opened"));
    until_on(&mount, 0, "d/opened");
    assert!(exists(mount.tier(1, "d/read")), "somebody has it open");
    open.write_all(b"2").unwrap();
    drop(open);
    until_on(&mount, 0, "d/read");
    assert_eq!(get(mount.path("d/read")), "xxxxx12");
}

/// A mount that began without one of its tiers never followed its policy again.
#[test]
fn what_is_written_while_a_tier_is_away_moves_up_when_it_is_back() {
    let setup =
        Setup::new().tiers(3).option("on_missing=degraded").seed(|roots| aged(roots[1].join("written"), 5, 365));
    let Some(mount) = with_policy(setup, "promote: {when: write}").mount() else { return };
    let setup = mount.unmount();
    let (tier, away) = (setup.tier(2).to_path_buf(), setup.home().join("away"));
    fs::rename(&tier, &away).unwrap();
    let Some(mount) = setup.mount() else { return };
    append(mount.path("written"));
    assert!(exists(mount.tier(1, "written")));
    fs::rename(&away, &tier).unwrap();
    until_on(&mount, 0, "written");
    assert_eq!(get(mount.path("written")), "xxxxxmore");
    mount.unmount();
}

#[test]
fn the_option_alone_promotes_what_is_written() {
    let setup = Setup::new().seed(|roots| aged(roots[1].join("f"), 5, 365)).option("on_write=promote");
    let Some(mount) = setup.mount() else { return };
    append(mount.path("f"));
    until_on(&mount, 0, "f");
    assert_eq!(get(mount.path("f")), "xxxxxmore");
}

#[test]
fn a_file_that_is_read_often_moves_up() {
    let Some(mount) = below(&["often", "twice"], "promote: {when: reads, reads: 3, within: 1h}") else { return };
    for _ in 0..2 {
        assert_eq!(get(mount.path("twice")), "xxxxx");
    }
    for _ in 0..3 {
        assert_eq!(get(mount.path("often")), "xxxxx");
    }
    until_on(&mount, 0, "often");
    assert!(exists(mount.tier(1, "twice")) && !exists(mount.tier(0, "twice")));
    assert_eq!(get(mount.path("twice")), "xxxxx");
    until_on(&mount, 0, "twice");
}

#[test]
fn a_pin_and_a_rule_hold_what_is_used() {
    let policy = "rules: [{match: held/, action: keep}]\npromote: {when: write}";
    let Some(mount) = below(&["held/f", "pinned/f", "free"], policy) else { return };
    let pinned = mount.path("pinned");
    let pin = tierfs(&["pin", "--tier", "secondary", pinned.to_str().unwrap()]);
    assert!(pin.status.success(), "{pin:?}");
    for file in ["held/f", "pinned/f", "free"] {
        append(mount.path(file));
    }
    until_on(&mount, 0, "free");
    // Those were closed before it, and are decided on no later.
    for file in ["held/f", "pinned/f"] {
        assert!(exists(mount.tier(1, file)) && !exists(mount.tier(0, file)), "{file}");
    }
}

/// A copy of a program that is called `scanner`.
fn scanner(home: &Path, like: &str) -> PathBuf {
    let [program] = need::programs([like]).unwrap();
    let scanner = home.join(like).join("scanner");
    fs::create_dir(home.join(like)).unwrap();
    common::fs::copy_program(program, &scanner);
    scanner
}

#[test]
fn what_an_ignored_program_reads_stays_as_it_was() {
    for option in ["passthrough", "nopassthrough"] {
        let policy = "ignore_processes: scanner\npromote: {when: reads, reads: 2, within: 1h}";
        let seed = |roots: &[PathBuf]| {
            aged(roots[1].join("f"), 5, 365);
            aged(roots[1].join("other"), 5, 365);
            aged(roots[0].join("fast"), 5, 365);
        };
        let Some(mount) = with_policy(Setup::new().seed(seed).option(option), policy).mount() else { return };
        let [tail, scanner] = ["tail", "cat"].map(|like| scanner(mount.home(), like));
        let atime = |rank, file| stat(mount.tier(rank, file)).atime();
        let scan = |file: &str| run(Command::new(&scanner).arg(mount.path(file)));
        let before = (atime(1, "f"), atime(0, "fast"));
        for _ in 0..4 {
            assert_eq!((scan("f"), scan("fast")), ("xxxxx".into(), "xxxxx".into()));
        }
        assert_eq!((atime(1, "f"), atime(0, "fast")), before, "{option}");
        // Another program has it open, and its own reads count.
        let mut open = File::open(mount.path("other")).unwrap();
        assert_eq!(scan("other"), "xxxxx");
        assert_eq!(std::io::read_to_string(&mut open).unwrap(), "xxxxx");
        drop(open);
        assert_eq!(get(mount.path("other")), "xxxxx");
        assert_eq!(get(mount.path("fast")), "xxxxx");
        wait::until("reading sets the access time", || (atime(0, "fast") > days_ago(1)).then_some(()));
        until_on(&mount, 0, "other");
        assert!(exists(mount.tier(1, "f")) && !exists(mount.tier(0, "f")), "{option}");
        // While the scanner reads, others read and write as ever.
        let mut tail = Command::new(tail);
        let mut reading = tail.args(["-n", "+1", "-f"]).arg(mount.path("f")).stdout(Stdio::piped()).spawn().unwrap();
        let mut out = reading.stdout.take().unwrap();
        out.read_exact(&mut [0; 5]).unwrap();
        append(mount.path("f"));
        assert_eq!(get(mount.path("f")), "xxxxxmore");
        out.read_exact(&mut [0; 4]).unwrap();
        reading.kill().unwrap();
        reading.wait().unwrap();
        append(mount.path("f"));
        assert_eq!(get(mount.path("f")), "xxxxxmoremore");
    }
}

#[test]
fn a_good_policy_takes_the_place_of_the_old_and_a_bad_one_does_not() {
    let Some(mount) = below(&["a", "b", "c"], "promote: {when: never}") else { return };
    append(mount.path("a"));
    write_policy(mount.home(), "promote: {when: write}");
    until_said(&mount, "is in force", 1);
    append(mount.path("b"));
    until_on(&mount, 0, "b");
    assert!(exists(mount.tier(1, "a")), "written under a policy that promotes nothing");
    // In place, not by a rename.
    put(mount.home().join("policy.yaml"), "version: 1\npromot: {when: never}\n");
    until_said(&mount, "policy.yaml:2:1: unknown field `promot`", 1);
    mount.until_said("did you mean `promote`?");
    append(mount.path("c"));
    until_on(&mount, 0, "c");
    let explained = tierfs(&["explain", mount.path("a").to_str().unwrap()]);
    let text = String::from_utf8_lossy(&explained.stderr).into_owned();
    assert_eq!(explained.status.code(), Some(78), "{text}");
    assert!(text.contains("policy.yaml:2:1") && text.contains("read before"), "{text}");
    fs::remove_file(mount.home().join("policy.yaml")).unwrap();
    until_said(&mount, "policy.yaml: cannot be read", 1);
    write_policy(mount.home(), "promote: {when: write}\nrules: []");
    until_said(&mount, "is in force", 2);
    assert!(tierfs(&["explain", mount.path("a").to_str().unwrap()]).status.success());
    let bad = mount.log().matches("unknown field").count();
    assert_eq!(bad, 1, "one line: {}", mount.log());
}

#[test]
fn a_mount_does_not_begin_with_a_bad_policy() {
    if !need::fuse() {
        return;
    }
    for (policy, says) in [
        ("rules: [{older_than: 1m, action: demote}]", "policy.yaml:2:22: rules[0].older_than"),
        ("rules: [{match: a, action: pin, to: tier2}]", "names the tier `tier2`"),
    ] {
        let refused = with_policy(Setup::new(), policy).try_mount().unwrap_err();
        assert_eq!(refused.code, Some(78), "{refused:?}");
        assert!(refused.message.contains(says), "{refused:?}");
        let config = refused.setup.home().join("config.yaml");
        let tiers = [0, 1].map(|rank| format!("- path: {}\n", refused.setup.tier(rank).display())).concat();
        put(&config, format!("version: 1\nmountpoint: /m\npolicy: policy.yaml\ntiers:\n{tiers}"));
        let checked = tierfs(&["config", "check", config.to_str().unwrap()]);
        let text = String::from_utf8_lossy(&checked.stderr).into_owned();
        assert!(checked.status.code() == Some(78) && text.contains(says), "{text}");
    }
}

/// A window that is not now: three days from today, by the clock of this machine.
fn closed_window() -> String {
    let today: usize = run(Command::new("date").arg("+%u")).trim().parse().unwrap();
    let days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    format!("window: {} 00:00-24:00", days[(today - 1 + 3) % 7])
}

#[test]
fn outside_of_the_window_nothing_moves() {
    let policy = format!("promote: {{when: write}}\n{}", closed_window());
    let Some(mount) = below(&["f"], &policy) else { return };
    append(mount.path("f"));
    // Each time the file is read again, the thread has gone once through all it could do.
    for (round, more) in ["rules: []", "order: oldest"].into_iter().enumerate() {
        write_policy(mount.home(), &format!("{policy}\n{more}"));
        until_said(&mount, "is in force", round + 1);
    }
    assert!(exists(mount.tier(1, "f")) && !exists(mount.tier(0, "f")));
    write_policy(mount.home(), "promote: {when: write}");
    until_on(&mount, 0, "f");
}

/// Hundredths in use, as `df` counts.
fn percent(path: &Path) -> u64 {
    let space = rustix::fs::statvfs(path).unwrap();
    let used = space.f_blocks - space.f_bfree;
    used * 100 / (used + space.f_bavail)
}

fn two_disks(size_mib: u64) -> Option<[LoopFs; 2]> {
    Some([LoopFs::new("tmpfs", size_mib)?, LoopFs::new("ext4", 4 * size_mib)?])
}

#[test]
fn a_tier_above_high_gives_its_oldest_until_low() {
    let Some(disks) = two_disks(64) else { return };
    let roots = disks.each_ref().map(|disk| disk.path().join("tier"));
    let policy = "watermarks: [{tier: primary, high: 80%, low: 40%, never_younger_than: 30d}]";
    let seed = |roots: &[PathBuf]| {
        for n in 0..10 {
            aged(roots[0].join(format!("d/{n}")), 4 << 20, 100 + i64::from(n));
        }
    };
    let Some(mount) = with_policy(Setup::new().roots(&roots).seed(seed), policy).mount() else { return };
    assert!((50..80).contains(&percent(&roots[0])), "between the two at first");
    put(mount.path("young"), vec![b'y'; 14 << 20]);
    wait::until("the primary is at low", || (percent(&roots[0]) <= 40).then_some(()));
    until_said(&mount, "trigger=\"watermark\"", 1);
    let gone: Vec<_> = (0..10).filter(|n| !exists(mount.tier(0, format!("d/{n}")))).collect();
    assert_eq!(gone, (10 - gone.len()..10).collect::<Vec<_>>(), "the oldest");
    assert!(exists(mount.tier(0, "young")), "younger than the policy allows");
    assert!(gone.len() < 10 && percent(&roots[0]) > 30, "and no more than that: {}%", percent(&roots[0]));
    for n in 0..10 {
        assert_eq!(stat(mount.path(format!("d/{n}"))).len(), 4 << 20);
    }
    // Nothing is left to go: it is told once, and not tried again and again.
    put(mount.path("younger"), vec![b'y'; 32 << 20]);
    until_said(&mount, "no file may or can leave it", 1);
    assert!(exists(mount.tier(0, "young")) && exists(mount.tier(0, "younger")));
}

#[test]
fn watermarks_are_useless_where_tiers_share_a_filesystem() {
    let policy = "watermarks: [{tier: primary, high: 2%, low: 1%}]";
    let setup = Setup::new().seed(|roots| aged(roots[0].join("f"), 5, 365));
    let Some(mount) = with_policy(setup, policy).mount() else { return };
    until_said(&mount, "on the same filesystem", 1);
    assert!(exists(mount.tier(0, "f")));
}

#[test]
fn a_command_does_not_wait_for_what_the_mount_does_by_itself() {
    let Some(disks) = two_disks(64) else { return };
    let roots = disks.each_ref().map(|disk| disk.path().join("tier"));
    let policy = "watermarks: [{tier: primary, high: 50%, low: 10%}]\nlimits: {bandwidth: 100KiB/s}";
    let seed = |roots: &[PathBuf]| {
        aged(roots[0].join("large"), 40 << 20, 365);
        aged(roots[1].join("cold"), 5, 365);
    };
    let Some(mount) = with_policy(Setup::new().roots(&roots).seed(seed), policy).mount() else { return };
    let staging = mount.tier(1, ".tierfs/staging");
    wait::until("the mount copies", || fs::read_dir(&staging).ok()?.next().and_then(Result::ok));
    let cold = mount.path("cold");
    let recalled = tierfs(&["recall", cold.to_str().unwrap()]);
    assert!(recalled.status.success(), "{recalled:?}");
    assert!(exists(mount.tier(0, "cold")) && exists(mount.tier(0, "large")));
    // The mount ends although the copy, which is begun again, would take long.
    mount.unmount();
}

#[test]
fn reading_counts_on_a_noatime_tier_if_it_is_wanted() {
    for (option, counts) in [("track_access", true), ("notrack_access", false)] {
        let Some(disks) = two_disks(32) else { return };
        let roots = disks.each_ref().map(|disk| disk.path().join("tier"));
        run(Command::new("mount").args(["-o", "remount,bind,noatime"]).arg(disks[1].path()));
        let setup = Setup::new().roots(&roots).seed(|roots| aged(roots[1].join("f"), 5, 365)).option(option);
        let Some(mount) = setup.mount() else { return };
        let ctime = stat(mount.path("f")).ctime();
        assert_eq!(get(mount.path("f")), "xxxxx");
        let atime = stat(mount.path("f")).atime();
        assert_eq!(atime > days_ago(1), counts, "{option}");
        assert_eq!(stat(mount.path("f")).ctime(), ctime);
    }
}
