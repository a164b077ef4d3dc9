//! Mounts in every state.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::common::fs::{put, set_times};
use crate::common::mount::{Setup, TestMount};
use crate::common::user::User;
use crate::common::wait;
use crate::{eventually, ran, status, status_once};

/// Long before any age that the tests name.
const LONG_AGO: i64 = 1_000_000_000;

fn signal(mount: &TestMount, signal: Signal) {
    kill(Pid::from_raw(mount.pid().cast_signed()), signal).unwrap();
}

/// Lets a stopped daemon go on, whatever becomes of the test.
struct Stopped<'a>(&'a TestMount);

impl Stopped<'_> {
    fn stop(mount: &TestMount) -> Stopped<'_> {
        signal(mount, Signal::SIGSTOP);
        Stopped(mount)
    }
}

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        signal(self.0, Signal::SIGCONT);
    }
}

/// Tiers, space, watch and runs; the same by a path below the mount point, and all is well.
#[test]
fn a_mount_that_serves_is_told_whole() {
    let setup = Setup::new().seed(|tiers| {
        put(tiers[0].join("d/old"), "old");
        set_times(tiers[0].join("d/old"), LONG_AGO, LONG_AGO);
    });
    let Some(mount) = setup.mount() else { return };
    let before = status(&mount, &["--json"]).object();
    let told = |key: &str| before[key].clone();
    assert_eq!((told("state"), told("degraded"), told("running")), (json!("serving"), json!(false), Value::Null));
    assert_eq!((told("last_run"), told("last_run_written"), told("troubles")), (Value::Null, Value::Null, json!([])));
    let tiers = before["tiers"].as_array().unwrap();
    assert_eq!(tiers.iter().map(|tier| tier["tier"].clone()).collect::<Vec<_>>(), ["primary", "secondary"]);
    for tier in tiers {
        assert_eq!(tier["state"], "serving");
        assert!(tier["space"]["total_bytes"].as_u64() > Some(0) && tier["filesystem"].is_string(), "{tier}");
        assert_eq!(tier["pending"], json!({ "moves": 0, "renames": 0, "oldest": null, "lost": 0 }));
    }
    let root = mount.root();
    ran(&mut mount.tierfs_with(&["migrate", "-q", "--older-than", "1y", root.to_str().unwrap()])).ended(0);
    let after = eventually(&mount, "its runs are read", |told| !told["last_run_written"].is_null());
    assert_eq!((&after["last_run"]["moved"], &after["last_run"]["well"]), (&json!(1), &json!(true)));
    assert_eq!(after["last_run_written"]["what"], "migrate");
    let below = mount.path("d");
    let shown = ran(&mut mount.tierfs_with(&["status", below.to_str().unwrap()]));
    shown.says(
        0,
        &["mnt: serving since ", "\n  primary    serving", "migrate: 1 file, 3B in ", "\n  pending    nothing"],
    );
    assert!(!shown.out.contains("TROUBLE"), "{}", shown.out);
    status(&mount, &["--check"]).says(0, &["all is well: 1 mount\n"]);
    // A mount that began after the run knows it from what is written down.
    let mount = mount.remount();
    wait::until("its runs are read", || status(&mount, &[]).out.contains("migrate: 1 file, 3B in ").then_some(()));
}

/// Whoever sees a mount for the first time is told what begins runs, and what would move.
#[test]
fn the_next_run_is_told_with_the_job_of_cron() {
    let Some(mount) = Setup::new().mount() else { return };
    let root = mount.root().display().to_string();
    let told = |cron: &str| {
        put(mount.home().join("cron/tierfs"), format!("MAILTO=root\n{cron}\n"));
        let mut command = mount.tierfs_with(&["status", &root]);
        ran(command.env("TIERFS_CRON", mount.home().join("cron")))
    };
    let job = format!("30 1 * * *  root  /usr/local/bin/tierfs migrate {root} --older-than 1y --quiet");
    told(&job).says(0, &["\n  next run   by cron at `30 1 * * *` (", "cron/tierfs)\n", "`tierfs report "]);
    let none = "\n  next run   none: it has no timer, and cron";
    told(&format!("# {job}")).says(0, &[none]);
    told("30 1 * * * root tierfs migrate /srv/elsewhere --older-than 1y").says(0, &[none]);
}

/// A user is told of his own mounts, and of others that he may not ask them.
#[test]
fn an_ordinary_user_sees_his_own_mounts() {
    let Some([user, _]) = User::two() else { return };
    let Some(own) = Setup::new().by(&user).mount() else { return };
    let Some(roots) = Setup::new().mount() else { return };
    let as_user = |words: &[&std::path::Path]| {
        let mut command = own.tierfs();
        ran(command.arg("status").args(words))
    };
    as_user(&[&own.root()]).says(0, &["serving since ", "secondary"]);
    let all = as_user(&[]);
    all.says(0, &[own.root().to_str().unwrap(), "mounted by root, and only that user and root may ask it"]);
    let denied = as_user(&[&roots.root()]);
    assert_eq!(denied.code, Some(1));
    assert!(denied.err.contains("run this with sudo") && denied.err.lines().count() == 1, "{}", denied.err);
    // Root is told of it, too, where it can find the socket.
    status(&own, &["--check"]).says(0, &["all is well"]);
}

#[test]
fn a_dead_mount_is_told_with_what_to_do() {
    let Some(mut mount) = Setup::new().mount() else { return };
    mount.kill();
    let root = mount.root();
    let cure = format!("run `tierfs umount {}`, then mount again", root.display());
    status(&mount, &[]).says(0, &["mnt: DEAD\n", &cure]);
    status(&mount, &["--check"]).says(3, &[&cure]);
    assert_eq!(status(&mount, &["--json"]).object()["state"], "dead");
    mount.forsake();
}

/// The program is stopped and answers neither commands nor the kernel: `status` ends all the same.
#[test]
fn a_mount_that_hangs_holds_nobody_up() {
    let Some(mount) = Setup::new().mount() else { return };
    let stopped = Stopped::stop(&mount);
    let told = status_once(&mount, &["--json"]).object();
    let trouble = told["troubles"][0].as_str().unwrap();
    assert!(told["state"] == "silent" && trouble.contains("its program does not answer"), "{told}");
    drop(stopped);
    status(&mount, &["--check"]).ended(0);
}

/// The secondary is on a filesystem that hangs: the others are told, and of it that it does not answer.
#[test]
fn a_tier_that_hangs_is_told_beside_the_others() {
    let Some(below) = Setup::new().option("dev").mount() else { return };
    let fast = below.home().join("fast");
    let Some(mount) = Setup::new().roots(&[fast, below.path("slow")]).mount() else { return };
    status(&mount, &["--check"]).ended(0);
    let stopped = Stopped::stop(&below);
    // On a busy machine the answer, or that of the primary, may come too late, too.
    wait::until("only the secondary is silent", || {
        let told = status_once(&mount, &["--json"]).object();
        let states = told["tiers"].as_array()?.iter().map(|tier| tier["state"].clone()).collect::<Vec<Value>>();
        (states == ["serving", "silent"]).then_some(())
    });
    wait::until("that is trouble", || {
        let check = status_once(&mount, &["--check"]);
        (check.code == Some(3) && check.out.contains("the secondary does not answer")).then_some(())
    });
    drop(stopped);
    eventually(&mount, "the tier answers again", |told| told["tiers"][1]["state"] == "serving");
}

#[test]
fn a_missing_tier_is_told_as_trouble() {
    let setup = Setup::new();
    let Ok(mount) = setup.try_mount() else { panic!("no mount") };
    let setup = mount.unmount();
    std::fs::rename(setup.tier(1), setup.home().join("gone")).unwrap();
    std::fs::create_dir(setup.tier(1)).unwrap();
    let Some(mount) = setup.option("on_missing=degraded").mount() else { return };
    let told = status(&mount, &["--json"]).object();
    assert_eq!((&told["degraded"], &told["tiers"][1]["state"]), (&json!(true), &json!("missing")));
    let shown = ["\n  secondary  MISSING", "TROUBLE    the secondary is missing", "nothing moves while a tier is away"];
    status(&mount, &[]).says(0, &shown);
    // What is not counted is told, and not taken for all there is.
    let root = mount.root();
    let report = ran(&mut mount.tierfs_with(&["report", root.to_str().unwrap()]));
    report.says(3, &["No files.\nThe secondary is missing: what is only there is not counted.\n"]);
    status(&mount, &["--check"]).says(3, &["the secondary is missing"]);
}

/// What a crash has left stays on record until it is finished; so do contents without a name.
#[test]
fn what_was_cut_short_is_told() {
    let Some(mount) = Setup::new().mount() else { return };
    for own in [".tierfs/moves", ".tierfs/lost"] {
        let dir = mount.tier(0, own);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        put(dir.join("left"), "");
        set_times(dir.join("left"), LONG_AGO, LONG_AGO);
    }
    let told = status(&mount, &["--json"]).object();
    let pending = json!({ "moves": 1, "renames": 0, "oldest": LONG_AGO, "lost": 1 });
    assert_eq!(told["tiers"][0]["pending"], pending);
    let check = status(&mount, &["--check"]);
    check.says(3, &["1 moves or renames that were cut short", "/.tierfs/lost: see `tierfs check`"]);
    assert_eq!(check.out.lines().count(), 2, "{}", check.out);
    std::fs::remove_file(mount.tier(0, ".tierfs/moves/left")).unwrap();
}

/// A run is told while it works: how far it is, and that it goes on.
#[test]
fn a_run_at_work_is_told_with_its_progress() {
    let setup = Setup::new().seed(|tiers| {
        for at in 0..40 {
            let name = tiers[0].join(format!("f{at}"));
            put(&name, vec![b'x'; 100_000]);
            set_times(name, LONG_AGO, LONG_AGO);
        }
    });
    let Some(mount) = setup.mount() else { return };
    let root = mount.root();
    // Slowly: it is still at work when it is asked for.
    let slow = ["migrate", "-q", "--older-than", "1y", "--bwlimit", "200K", root.to_str().unwrap()];
    let mut run = mount.tierfs_with(&slow).spawn().unwrap();
    let told = eventually(&mount, "the run has a plan", |told| told["running"]["planned_files"] == json!(40));
    assert_eq!((&told["running"]["what"], &told["running"]["by_itself"]), (&json!("migrate"), &json!(false)));
    status(&mount, &[]).says(0, &["\n  at work    migrate, for ", " of 40 files, "]);
    kill(Pid::from_raw(run.id().cast_signed()), Signal::SIGINT).unwrap();
    run.wait().unwrap();
    let told = eventually(&mount, "the run has ended", |told| told["running"].is_null());
    assert_eq!((&told["last_run"]["stopped"], &told["last_run"]["well"]), (&json!("interrupted"), &json!(true)));
}
