//! What is refused: with one line that says what to do, and the right code.

use std::os::unix::fs::PermissionsExt;

use crate::common::fs::{get, put};
use crate::common::mount::Setup;
use crate::common::user::User;
use crate::common::{mount, need};
use crate::ran;

/// Another user is kept out by the directory of the socket and, if that is opened, by the daemon.
#[test]
fn another_user_is_refused() {
    let Some([user, _]) = User::two() else { return };
    if need::programs(["setpriv"]).is_none() {
        return;
    }
    let setup = Setup::new().seed(|tiers| put(tiers[0].join("a"), "x"));
    let runtime = setup.runtime_dir();
    let program = setup.home().join("tierfs-for-all");
    crate::common::fs::copy_program(mount::program(), &program);
    let Some(mount) = setup.mount() else { return };
    let refused = || {
        let mut command = user.command(&program);
        command.args(["migrate", "--older-than", "1y"]).arg(mount.root());
        ran(&mut command).refused(1, "only root and the user who mounted");
    };
    refused();
    let mode = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("chmod");
    };
    mode(&runtime, 0o755);
    let socket = std::fs::read_dir(&runtime).expect("list").next().expect("the socket").expect("an entry");
    assert_eq!(socket.metadata().expect("stat").permissions().mode() & 0o777, 0o600);
    mode(&socket.path(), 0o666);
    refused();
    mount.until_said("a command of another user is refused");
    mode(&runtime, 0o700);
}

/// A socket that nobody listens on any more is no obstacle, and a directory that others can write in
/// is not used; the mount serves in both cases.
#[test]
fn a_daemon_that_was_killed_leaves_nothing_in_the_way() {
    let setup = Setup::new().seed(|tiers| put(tiers[0].join("a"), "x"));
    let runtime = setup.runtime_dir();
    let Some(mut first) = setup.mount() else { return };
    // What is answered comes after the socket.
    crate::common::fs::names(first.root());
    first.kill();
    assert_eq!(std::fs::read_dir(&runtime).expect("list").count(), 1, "the dead socket");
    let point = first.root();
    let point = point.to_str().expect("UTF-8");
    let dead = ran(&mut first.tierfs_with(&["migrate", "--older-than", "1y", point]));
    dead.refused(1, "the mount is dead");
    mount::unmount_for_sure(&first.root());
    let spec = mount::spec(first.roots());
    let spec = spec.to_str().expect("UTF-8");
    ran(&mut first.tierfs_with(&["migrate", "--older-than", "1y", spec])).ended(0);
}

/// One of the tiers is enough to find the mount, but all must be named, in their order: else the mount
/// would work on a tier that nobody has named.
#[test]
fn tiers_that_are_not_those_of_the_mount_are_refused() {
    let setup = Setup::new().seed(|tiers| put(tiers[0].join("a"), "x"));
    let Some(mount) = setup.mount() else { return };
    let home = mount.home().to_path_buf();
    std::fs::create_dir_all(home.join("empty")).expect("mkdir");
    let [fast, slow] = [0, 1].map(|rank| mount.roots()[rank].display().to_string());
    let text = format!("version: 1\nprimary: {{path: {slow}}}\nsecondary: {{path: {fast}}}\n");
    put(home.join("swapped.yaml"), text);
    let home = home.display();
    for (union, says) in [
        (format!("{fast}:{home}/nosuch"), "nosuch cannot be opened"),
        (format!("{fast}:{home}/empty"), "empty has no .tierfs/marker: is its disk mounted?"),
        (format!("{slow}:{fast}"), "in their order"),
        (fast.clone() + ":" + &slow + ":" + &format!("{home}/empty"), "a union of 2 tiers"),
        (format!("{home}/swapped.yaml"), "in their order"),
    ] {
        ran(&mut mount.tierfs_with(&["migrate", "--older-than", "0s", &union])).refused(78, says);
    }
    assert!(crate::common::fs::exists(mount.tier(0, "a")), "moved by the wrong name");
}

/// A dead mount answers some questions from the kernel's memory, so every command may be the one that
/// finds it dead. Each tells the cure.
#[test]
fn every_command_tells_the_cure_of_a_dead_mount() {
    let setup = Setup::new().seed(|tiers| put(tiers[0].join("a"), "x"));
    let Some(mut mount) = setup.mount() else { return };
    let (root, file) = (mount.root(), mount.path("a"));
    let [root, file] = [&root, &file].map(|path| path.to_str().expect("UTF-8"));
    crate::common::fs::names(root);
    // Last, because what is read gets another access time, which the kernel would have to ask for.
    for path in [root, file] {
        crate::common::fs::stat(path);
    }
    mount.kill();
    assert!(std::fs::symlink_metadata(root).is_ok(), "the kernel remembers nothing");
    for (arguments, code) in [
        (&["migrate", "--older-than", "1y", root][..], 1),
        (&["migrate", "--older-than", "1y", root, file], 1),
        (&["history", root], 1),
        (&["check", root], 1),
        (&["report", root], 1),
        (&["recall", file], 1),
        (&["explain", "--older-than", "1y", file], 1),
        (&["where", file], 1),
        (&["pin", file], 1),
        (&["pins", file], 3),
        (&["pins", root], 3),
    ] {
        let ran = ran(&mut mount.tierfs_with(arguments));
        // What lists can only tell that the first could not be looked at.
        let code = if ran.code == Some(1) { 1 } else { code };
        ran.refused(code, "the mount is dead");
    }
    mount::unmount_for_sure(&mount.root());
}

/// The helper's own words are about a file that the user has never heard of.
#[test]
fn who_has_not_mounted_cannot_unmount() {
    let Some([user, _]) = User::two() else { return };
    if need::programs(["setpriv", "fusermount3"]).is_none() {
        return;
    }
    let setup = Setup::new();
    let program = setup.home().join("tierfs-for-all");
    crate::common::fs::copy_program(mount::program(), &program);
    let Some(mount) = setup.mount() else { return };
    let mut command = user.command(&program);
    ran(command.arg("umount").arg(mount.root())).refused(1, "was mounted by another user: run this as that user");
    assert!(mount::is_mounted(&mount.root()));
}

/// Without one of its tiers a mount has no right answer to what is between them; and who may not read
/// `.tierfs` is not told of damage.
#[test]
fn a_check_that_could_only_mislead_is_refused() {
    let Some([user, _]) = User::two() else { return };
    if need::programs(["setpriv"]).is_none() {
        return;
    }
    let setup = Setup::new().seed(|tiers| put(tiers[0].join("a"), "x"));
    let program = setup.home().join("tierfs-for-all");
    crate::common::fs::copy_program(mount::program(), &program);
    let Some(mount) = setup.mount() else { return };
    let spec = mount::spec(mount.roots());
    let runtime = mount.home().join("run");
    let as_user = |union: &std::ffi::OsStr, code, says: &str| {
        let mut command = user.command(&program);
        ran(command.env("TIERFS_RUNTIME_DIR", &runtime).arg("check").arg(union)).refused(code, says);
    };
    as_user(mount.root().as_os_str(), 1, "run it with sudo");
    let setup = mount.unmount();
    as_user(&spec, 1, "run this as root");
    let slow = setup.tier(1).to_path_buf();
    std::fs::rename(&slow, setup.home().join("disk")).expect("rename");
    std::fs::create_dir(&slow).expect("mkdir");
    ran(setup.tierfs().args(["migrate", "--older-than", "1y"]).arg(&spec)).refused(78, "is its disk mounted?\n");
    let Some(mount) = setup.option("on_missing=degraded").mount() else { return };
    let root = mount.root();
    let root = root.to_str().expect("UTF-8");
    ran(&mut mount.tierfs_with(&["check", root])).refused(78, "serves without its secondary");
}

/// A rule for a tier that the mount has not is told with its file and its name.
#[test]
fn a_rule_for_a_tier_that_is_not_there_is_named() {
    let setup = Setup::new().seed(|tiers| put(tiers[0].join("a"), "x"));
    let Some(mount) = setup.mount() else { return };
    let policy = mount.home().join("policy.yaml");
    put(&policy, "version: 1\nrules: [{name: cold ones, older_than: 1d, action: demote, to: tier5}]\n");
    let (root, file) = (mount.root(), mount.path("a"));
    let [policy, root, file] = [&policy, &root, &file].map(|path| path.to_str().expect("UTF-8"));
    for words in [["migrate", "--policy", policy, root], ["explain", "--policy", policy, file]] {
        let says = "policy.yaml: the rule `cold ones` names the tier `tier5`";
        ran(&mut mount.tierfs_with(&words)).refused(78, says);
    }
}

/// Every mistake is one line, and nothing is moved.
#[test]
fn mistakes_are_told_in_one_line() {
    let setup = Setup::new().seed(|tiers| put(tiers[0].join("dir/a"), "x"));
    let Some(mount) = setup.mount() else { return };
    let (root, dir, home) = (mount.root(), mount.path("dir"), mount.home().to_path_buf());
    let [root, dir] = [&root, &dir].map(|path| path.to_str().expect("UTF-8"));
    put(home.join("bad.yaml"), "version: 1\nruls: []\n");
    let at = |name: &str| home.join(name).to_str().expect("UTF-8").to_owned();
    std::fs::create_dir_all(home.join("x")).expect("mkdir");
    std::fs::create_dir_all(home.join("y")).expect("mkdir");
    let fresh = format!("{}:{}", at("x"), at("y"));
    let tier = mount.roots()[0].to_str().expect("UTF-8").to_owned();
    for (arguments, code, says) in [
        (&["migrate", root][..], 2, "--older-than 1y"),
        (&["migrate", "--older-than", "5m", root], 2, "5min or 5mo"),
        (&["migrate", "--older-than", "1y", "--until-free", "120%", root], 2, "1% to 100%"),
        (&["migrate", "--older-than", "1y", "--to", "fast", root], 2, "no tier"),
        (&["migrate", "--older-than", "1y", "--to", "tier5", root], 78, "tier5"),
        (&["migrate", "--older-than", "1y", "--policy", "p.yaml", root], 2, "cannot be used with"),
        (&["migrate", "--older-than", "1y", "/nowhere"], 1, "/nowhere: there is no such file"),
        (&["migrate", "--older-than", "1y", "/no:/where"], 78, "/no cannot be opened"),
        (&["migrate", "--older-than", "1y", &fresh], 78, "tierfs init"),
        (&["migrate", "--older-than", "1y", &tier], 1, "is a tier, not a mount"),
        (&["migrate", "--older-than", "1y", root, "/etc"], 1, "/etc: is not in a mounted tierfs"),
        (&["migrate", "--older-than", "1y", root, "../etc"], 2, "below the mount point"),
        (&["migrate", "--policy", &at("bad.yaml"), root], 78, "bad.yaml:2:1: "),
        (&["migrate", "--policy", &at("absent.yaml"), root], 78, "absent.yaml: cannot be read"),
        (&["migrate", "--older-than", "1y", &at("absent.yaml")], 78, "absent.yaml: cannot be read"),
        (&["recall", dir], 2, "give -r"),
        (&["recall", "/etc/passwd"], 1, "is not in a mounted tierfs"),
        (&["recall"], 2, "required"),
        (&["explain", "--older-than", "1y", dir], 1, "is a directory"),
        (&["history", root, "20000101T000000-ffff"], 1, "there is no such run"),
        (&["pins", "/etc"], 1, "is not in a mounted tierfs: mount it first"),
        (&["pin", "/etc/passwd"], 1, "is not in a mounted tierfs: mount it first"),
        (&["explain", "/etc/passwd"], 1, "is not in a mounted tierfs: mount it first"),
        (&["history", "nosuchrun", root], 1, "nosuchrun: there is no such run"),
    ] {
        let ran = ran(&mut mount.tierfs_with(arguments));
        assert_eq!(ran.code, Some(code), "{arguments:?}: {}", ran.err);
        if code != 1 || ran.err.lines().count() != 1 || !ran.err.contains(says) {
            ran.refused(code, says);
        }
    }
    // A relative path below what is not there moves nothing and says so.
    ran(&mut mount.tierfs_with(&["migrate", "--older-than", "1y", root, "absent"])).refused(1, "absent");
    assert!(crate::common::fs::exists(mount.tier(0, "dir/a")));
}

/// What a mount announces in its markers meanwhile was lost.
#[test]
fn init_changes_no_union_that_is_in_use() {
    let Some(mount) = Setup::new().mount() else { return };
    let marker = |rank| get(mount.tier(rank, ".tierfs/marker"));
    let before = [marker(0), marker(1)];
    let third = mount.home().join("third");
    std::fs::create_dir(&third).expect("mkdir");
    let whole = mount.union();
    let mut grown = whole.clone();
    grown.push(":");
    grown.push(&third);
    assert_eq!(ran(mount.tierfs().arg("init").arg(&whole)).code, Some(0));
    ran(mount.tierfs().arg("init").arg(&grown)).refused(75, "is in use");
    assert_eq!([marker(0), marker(1)], before);
    assert!(!third.join(".tierfs").exists());
    let setup = mount.unmount();
    assert_eq!(ran(setup.tierfs().arg("init").arg(&grown)).code, Some(0));
}
