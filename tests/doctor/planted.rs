//! Troubles that are planted one by one.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Said;
use crate::common::fs::put;
use crate::common::loopfs::LoopFs;
use crate::common::mount::{Setup, program, temp_dir};
use crate::common::{need, user};

/// Two tiers, a mount point, and a configuration of these.
struct Place {
    home: tempfile::TempDir,
    tiers: [PathBuf; 2],
}

impl Place {
    fn new() -> Place {
        let home = temp_dir();
        let tiers = ["fast", "slow"].map(|name| home.path().join(name));
        Place::on(home, tiers)
    }

    fn on(home: tempfile::TempDir, tiers: [PathBuf; 2]) -> Place {
        tiers.iter().for_each(|tier| std::fs::create_dir_all(tier).expect("mkdir"));
        std::fs::create_dir_all(home.path().join("mnt")).expect("mkdir");
        let place = Place { home, tiers };
        place.configure("");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn configure(&self, more: &str) {
        let [fast, slow] = self.tiers.each_ref().map(|tier| tier.display().to_string());
        let text = format!(
            "version: 1\nmountpoint: {}\nprimary: {{path: {fast}}}\nsecondary: {{path: {slow}}}\n{more}",
            self.path("mnt").display()
        );
        put(self.path("docs.yaml"), text);
    }

    fn said(&self) -> Said {
        Said::by(&mut self.tierfs(), &[self.path("docs.yaml").as_os_str()])
    }

    fn tierfs(&self) -> Command {
        let mut command = Command::new(program());
        command.env("TIERFS_RUNTIME_DIR", self.path("run"));
        command
    }
}

fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("chmod");
}

#[test]
fn a_configuration_with_a_mistake_or_with_open_rights_is_told() {
    let place = Place::new();
    let said = place.said();
    assert_eq!((said.told("configuration"), said.told("configuration-rights")), (None, None), "{:?}", said.list);
    chmod(&place.path("docs.yaml"), 0o666);
    assert_eq!(place.said().told("configuration-rights").map(|(level, _)| level), Some("trouble"));
    place.configure("mont: {}\n");
    let said = place.said();
    let (level, found) = said.told("configuration").expect("told");
    assert!(level == "trouble" && found.contains("docs.yaml:5:1: unknown field `mont`"), "{found}");
    assert_eq!(said.code, Some(3));
}

#[test]
fn files_of_passphrases_and_policies_are_looked_at_and_never_read() {
    let place = Place::new();
    put(
        place.path("p.yaml"),
        "version: 1\nrules:\n- {older_than: 1y, action: demote}\n- {name: late, older_than: 2y, action: keep}\n",
    );
    put(place.path("pass"), "hunter2\n");
    let text = format!(
        "version: 1\nmountpoint: {}\nprimary: {{path: {}, encryption: {{passfile: pass}}}}\nsecondary: {{path: {}}}\npolicy: p.yaml\n",
        place.path("mnt").display(),
        place.tiers[0].display(),
        place.tiers[1].display()
    );
    put(place.path("docs.yaml"), text);
    chmod(&place.path("pass"), 0o644);
    let said = place.said();
    assert_eq!(said.told("passphrase-file").map(|(level, _)| level), Some("trouble"));
    assert!(
        said.told("policy-rules").is_some_and(|(_, found)| found.contains("`late` never decides")),
        "{:?}",
        said.list
    );
    assert!(!format!("{:?}", said.list).contains("hunter2"));
    chmod(&place.path("pass"), 0o600);
    assert_eq!(place.said().told("passphrase-file"), None);
    std::fs::remove_file(place.path("pass")).expect("removed");
    assert_eq!(place.said().told("passphrase-file").map(|(level, _)| level), Some("trouble"));
    put(place.path("p.yaml"), "version: 1\nrules: [{older_than: 1y}]\n");
    assert_eq!(place.said().told("policy").map(|(level, _)| level), Some("trouble"));
}

#[test]
fn a_tier_that_is_gone_and_one_within_another_are_told() {
    let place = Place::new();
    assert_eq!(place.said().told("markers").map(|(level, _)| level), Some("hint"), "not initialized yet");
    let made = crate::common::wait::output(place.tierfs().args(["init"]).arg(place.path("docs.yaml")));
    let init = || {
        let mut command = place.tierfs();
        command.arg("init").arg(crate::common::mount::spec(&place.tiers));
        crate::common::wait::output(&mut command)
    };
    let made = if made.status.success() { made } else { init() };
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let said = place.said();
    assert_eq!((said.told("markers"), said.told("tier")), (None, None));
    std::fs::rename(&place.tiers[1], place.path("away")).expect("renamed");
    let said = place.said();
    assert_eq!(said.told("tier").map(|(level, _)| level), Some("trouble"));
    assert_eq!(said.told("markers").map(|(level, _)| level), Some("trouble"));
    std::os::unix::fs::symlink(place.path("fast/within"), &place.tiers[1]).expect("a link");
    std::fs::create_dir(place.path("fast/within")).expect("mkdir");
    let said = place.said();
    assert!(said.told("overlap").is_some_and(|(_, found)| found.contains("lies inside")), "{:?}", said.list);
}

#[test]
fn names_that_differ_in_case_are_told_mounted_and_not() {
    let Some(mount) = Setup::new().mount() else { return };
    put(mount.path("a/Report"), "1");
    assert_eq!(Said::of(&mount).told("case-conflicts"), None);
    put(mount.tier(1, "a/report"), "2");
    let spec = crate::common::mount::spec(mount.roots());
    let alone = Said::by(&mut mount.tierfs(), &[&spec]);
    let told = alone.told("case-conflicts").map(|(level, found)| (level, found.contains("/a/Report and /a/report")));
    assert_eq!(told, Some(("hint", true)), "{:?}", alone.list);
    crate::common::wait::until("the mount shows both", || mount.path("a/report").exists().then_some(()));
    assert!(Said::of(&mount).told("case-conflicts").is_some());
}

#[test]
fn filesystems_that_lack_something_are_told() {
    let Some(noatime) = LoopFs::with("ext4", 16, "noatime") else { return };
    let Some(memory) = LoopFs::new("tmpfs", 4) else { return };
    let place = Place::on(temp_dir(), [noatime.path().join("t"), memory.path().join("t")]);
    put(place.path("p.yaml"), "version: 1\nrules: [{older_than: 1y, action: demote}]\n");
    place.configure("policy: p.yaml\n");
    let said = place.said();
    assert_eq!(said.told("access-times").map(|(level, _)| level), Some("warning"), "{:?}", said.list);
    assert_eq!(said.told("one-filesystem"), None);
    place.configure("policy: p.yaml\nmount: {track_access: true}\n");
    assert_eq!(place.said().told("access-times"), None);
    // Full to the last byte.
    let full = std::fs::write(memory.path().join("fill"), vec![7; 5 << 20]).is_err();
    assert!(full, "a tmpfs of 4 MiB takes 5");
    assert_eq!(place.said().told("space").map(|(level, _)| level), Some("trouble"));
    std::fs::remove_file(memory.path().join("fill")).expect("removed");
    assert_eq!(place.said().told("space"), None);
    let run = |words: &[&str]| {
        let status = Command::new("mount").args(words).arg(noatime.path()).status().expect("mount runs");
        assert!(status.success());
    };
    run(&["-o", "remount,ro"]);
    assert_eq!(place.said().told("read-only").map(|(level, _)| level), Some("trouble"));
    run(&["-o", "remount,rw"]);
}

/// Runs doctor where files of `/etc` are others, in a namespace of mounts of its own.
fn with_etc(place: &Place, files: &[(&str, &str)]) -> Option<Said> {
    if !need::root() {
        return None;
    }
    need::programs(["unshare", "mount", "sh"])?;
    let etc = place.path("etc");
    let _ = std::fs::remove_dir_all(&etc);
    crate::common::loopfs::run(Command::new("cp").args(["-a", "/etc"]).arg(&etc));
    for (name, text) in files {
        put(etc.join(name), text);
    }
    let script = format!("mount --bind {} /etc && exec \"$@\"", etc.display());
    let mut command = Command::new("unshare");
    command.args(["-m", "--propagation", "private", "sh", "-c", &script, "sh"]).arg(program());
    command.env("TIERFS_RUNTIME_DIR", place.path("run"));
    Some(Said::by(&mut command, &[place.path("docs.yaml").as_os_str()]))
}

#[test]
fn shares_and_exports_out_of_a_tier_are_told() {
    let place = Place::new();
    let share = |path: &Path| format!("[global]\nsecurity = user\n[docs]\npath = {}\n", path.display());
    let said = |smb: &str, exports: &str| {
        with_etc(&place, &[("samba/smb.conf", smb), ("exports", exports), ("exports.d/more.exports", "")])
    };
    place.configure("mount: {allow_other: true}\n");
    let Some(good) = said(&share(&place.path("mnt")), &format!("{} *(rw,fsid=7)\n", place.path("mnt").display()))
    else {
        return;
    };
    for check in ["samba-path", "samba-allow-other", "nfs-path", "nfs-export"] {
        assert_eq!(good.told(check), None, "{:?}", good.list);
    }
    let bad =
        said(&share(&place.path("slow/sub")), &format!("{} *(rw)\n", place.path("fast").display())).expect("root");
    assert_eq!(bad.told("samba-path").map(|(level, _)| level), Some("trouble"), "{:?}", bad.list);
    assert_eq!(bad.told("nfs-path").map(|(level, _)| level), Some("trouble"));
    place.configure("");
    let closed = said(&share(&place.path("mnt/a")), &format!("{} *(rw)\n", place.path("mnt").display())).expect("root");
    assert_eq!(closed.told("samba-allow-other").map(|(level, _)| level), Some("trouble"));
    assert_eq!(closed.told("nfs-export").map(|(level, _)| level), Some("warning"));
}

#[test]
fn jobs_and_an_indexer_beside_the_mount_are_told() {
    let place = Place::new();
    let job = |path: &Path| format!("0 3 * * * root find {} -name '*.tmp' -delete\n", path.display());
    let Some(good) = with_etc(&place, &[("cron.d/clean", &job(&place.path("mnt")))]) else { return };
    assert_eq!(good.told("beside"), None);
    let bad = with_etc(&place, &[("cron.d/clean", &job(&place.tiers[1]))]).expect("root");
    assert_eq!(bad.told("beside").map(|(level, _)| level), Some("hint"), "{:?}", bad.list);
}

#[test]
fn a_mount_point_that_is_missing_or_not_empty_is_told() {
    let place = Place::new();
    assert_eq!(place.said().told("mount-point"), None);
    put(place.path("mnt/left-by-a-program"), "");
    let said = place.said();
    let (level, found) = said.told("mount-point").expect("told");
    assert!(level == "warning" && found.contains("is not empty"), "{found}");
    std::fs::remove_dir_all(place.path("mnt")).expect("rmdir");
    let said = place.said();
    let (level, found) = said.told("mount-point").expect("told");
    assert!(level == "trouble" && found.ends_with("mnt does not exist"), "{found}");
}

/// The disks instead of the directories on them that are the tiers.
#[test]
fn a_union_around_another_is_told_and_never_made() {
    let place = Place::new();
    let disks = ["disk1", "disk2"].map(|name| place.path(name));
    let inner = disks.each_ref().map(|disk| disk.join("docs"));
    let spec = |paths: &[PathBuf; 2]| paths.each_ref().map(|path| path.display().to_string()).join(":");
    inner.iter().for_each(|path| std::fs::create_dir_all(path).expect("mkdir"));
    crate::common::loopfs::run(place.tierfs().args(["init", &spec(&inner)]));
    let outer = spec(&disks);
    let said = Said::by(&mut place.tierfs(), &[outer.as_ref()]);
    let (level, found) = said.told("overlap").expect("told");
    assert!(level == "trouble" && found.contains("a tier of another union"), "{found}");
    let point = place.path("mnt").display().to_string();
    for (words, code) in [(&["init", &outer][..], 1), (&["mount", &outer, &point], 78)] {
        let output = crate::common::wait::output(place.tierfs().args(words));
        let line = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{line}");
        assert!(line.contains("a tier of another union: name that") && line.lines().count() == 1, "{line}");
    }
    assert!(disks.iter().all(|disk| !disk.join(".tierfs").exists()), "nothing was written");
}

/// A union that only a line of fstab names is looked at as any other, with that line.
#[test]
fn a_union_in_fstab_alone_is_looked_at() {
    if !need::root() {
        return;
    }
    let place = Place::new();
    let point = place.path("mnt");
    let spec = place.tiers.each_ref().map(|tier| tier.display().to_string()).join(":");
    let said = |spec: &str, options: &str| {
        put(place.path("fstab"), format!("{spec} {} tierfs {options} 0 0\n", point.display()));
        let mut command = place.tierfs();
        command.env("TIERFS_FSTAB", place.path("fstab")).env("TIERFS_CRON", place.path("cron"));
        Said::by(&mut command, &[point.as_os_str()])
    };
    let bad = said(&spec, "defaults");
    let boot: Vec<&str> =
        bad.list.iter().filter(|it| it["check"] == "boot").filter_map(|it| it["found"].as_str()).collect();
    assert!(boot.len() == 2 && boot[0].contains("has no nofail") && boot[1].contains("nothing is mounted"), "{boot:?}");
    assert!(bad.told("migration").is_some_and(|(level, found)| level == "hint" && found.contains("no cron")));
    put(place.path("cron"), format!("30 1 * * * root tierfs migrate {} --older-than 1y\n", point.display()));
    let good = said(&spec, "nofail,noauto");
    assert_eq!((good.told("boot"), good.told("migration")), (None, None), "{:?}", good.list);
    assert!(good.list.iter().any(|it| it["check"] == "space"), "its tiers are looked at: {:?}", good.list);
    let wrong = said(&spec, "alow_other");
    let (level, found) = wrong.told("configuration").expect("told");
    assert!(level == "trouble" && found.contains("in /etc/fstab: -o alow_other: unknown option"), "{found}");
}

#[test]
fn an_ordinary_user_is_told_what_only_root_may_grant() {
    let Some([user, _]) = user::User::two() else { return };
    let place = Place::new();
    place.configure("mount: {allow_other: true}\n");
    for name in ["fast", "slow", "mnt", "docs.yaml"] {
        std::os::unix::fs::chown(place.path(name), Some(user.uid), Some(user.gid)).expect("chown");
    }
    let copy = place.path("tierfs");
    crate::common::fs::copy_program(program(), &copy);
    chmod(&copy, 0o755);
    let granted = std::fs::read_to_string("/etc/fuse.conf")
        .is_ok_and(|text| text.lines().any(|line| line.trim() == "user_allow_other"));
    let said = Said::by(&mut user.command(&copy), &[place.path("docs.yaml").as_os_str()]);
    assert_eq!(said.told("user-allow-other").is_none(), granted, "{:?}", said.list);
    assert_eq!(said.told("configuration-rights"), None, "{:?}", said.list);
}
