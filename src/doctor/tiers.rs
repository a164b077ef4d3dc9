//! Where the tiers are: that they are there, on filesystems that can keep what programs give them.

use std::path::Path;

use crate::config::MountConfig;
use crate::policy::{AgeBy, Policy};

use super::facts::{Asked, Machine, Markers, Tier, Tried, Union};
use super::{Book, Finding, answered, word};

/// A Windows ACL of many entries, as Samba keeps it in `security.NTACL`, is larger than this.
const ATTRIBUTE_MIN: u64 = 16 << 10;

/// Filesystems on which names have no case, whatever their flags say.
const WITHOUT_CASE: [&str; 5] = ["vfat", "msdos", "exfat", "ntfs3", "hfsplus"];

/// Judges the tiers of one union.
pub fn judge(union: &Union, machine: &Machine) -> Vec<Finding> {
    let Some(config) = &union.config else { return Vec::new() };
    let mut found = whole(union, config);
    for (path, tier) in config.tiers.iter().map(|tier| tier.path.as_path()).zip(&union.tiers) {
        let mut book = Book::new(&union.name);
        present(&mut book, path, tier);
        found.extend(book.close());
    }
    for (rank, path, tier) in answered(union) {
        let mut book = Book::new(&union.name);
        writable(&mut book, path, tier, config.options.read_only);
        access_times(&mut book, path, tier, union, machine);
        flags(&mut book, path, tier, config);
        case(&mut book, path, tier);
        if config.tiers.get(rank).is_some_and(|tier| tier.encryption.is_none()) {
            root(&mut book, path, tier);
        }
        features(&mut book, path, tier, union.shared);
        renames(&mut book, path, tier, config.options.read_only);
        own(&mut book, path, tier, union.mounted);
        found.extend(book.close());
    }
    found
}

fn whole(union: &Union, config: &MountConfig) -> Vec<Finding> {
    let mut book = Book::new(&union.name);
    match &union.overlap {
        Some(line) => book.trouble("overlap", line, "give each its own directory, none within another"),
        None => book.fine("overlap", "tiers and mount point are apart"),
    }
    let paths = || config.tiers.iter().map(|tier| word(&tier.path)).collect::<Vec<_>>();
    match &union.markers {
        Markers::Good => book.fine("markers", "the markers make one union"),
        Markers::Fresh => book.hint(
            "markers",
            "no tier has a marker yet, by which a disk that is not mounted is told from an empty one",
            format!("tierfs init {}", paths().join(":")),
        ),
        Markers::Missing(line) => {
            book.trouble(
                "markers",
                line,
                format!("mount the missing disk: findmnt -T {}", paths().join("; findmnt -T ")),
            );
        }
        Markers::Foreign(line) => book.trouble("markers", line, "name the right directories, the fastest first"),
    }
    if let Some((file, tier)) = &union.beside {
        book.hint(
            "beside",
            format!("{} has a job that works on {}, beside the mount", file.display(), tier.display()),
            format!("have it work on {}, unless it only reads", word(&config.mountpoint)),
        );
    }
    book.close()
}

fn present(book: &mut Book, path: &Path, tier: &Asked<Tier>) {
    const CHECK: &str = "tier";
    let path = word(path);
    match tier {
        Asked::Told(_) => book.fine(CHECK, format!("{path} is there")),
        Asked::Refused(why) => {
            let todo = format!("mount its disk, or correct the path: findmnt -T {path}");
            book.trouble(CHECK, format!("{path} cannot be used: {why}"), todo);
        }
        Asked::Silent => {
            let todo = format!("look at its disk or server: findmnt -T {path}; dmesg | tail; ps ax | grep ' D '");
            book.trouble(CHECK, format!("{path} does not answer"), todo);
        }
    }
}

fn has(tier: &Tier, option: &str) -> bool {
    tier.options.iter().any(|given| given == option)
}

fn writable(book: &mut Book, path: &Path, tier: &Tier, read_only: bool) {
    const CHECK: &str = "read-only";
    if has(tier, "ro") && !read_only {
        let point = word(&tier.point);
        let found = format!("{} is on {point}, which is mounted read-only", path.display());
        let todo = format!("see why (dmesg | grep -i -e error -e remount), then: mount -o remount,rw {point}");
        book.trouble(CHECK, found, todo);
    } else {
        book.fine(CHECK, format!("{} can be written to as far as its mount says", path.display()));
    }
}

/// Whether the policy counts ages from what reading sets.
fn counts_reads(policy: &Policy) -> bool {
    let by_access = |by: AgeBy| by != AgeBy::Mtime;
    let by_rule = policy.rules.iter().any(|rule| {
        let counts = rule.older_than.is_some() || rule.younger_than.is_some();
        counts && by_access(rule.age_by)
    });
    by_rule || policy.watermarks.iter().any(|marks| by_access(marks.age_by))
}

fn access_times(book: &mut Book, path: &Path, tier: &Tier, union: &Union, machine: &Machine) {
    const CHECK: &str = "access-times";
    let policy = union.policy.as_ref().and_then(|(_, policy)| policy.as_ref().ok());
    let track = union.config.as_ref().is_some_and(|config| config.options.track_access) && machine.uid == 0;
    let (point, path) = (word(&tier.point), path.display());
    if has(tier, "noatime") && !track {
        let todo = format!(
            "track_access: true in the configuration (root), or mount -o remount,relatime {point} and the same in \
             fstab, or age_by: mtime in the policy"
        );
        match policy {
            Some(policy) if counts_reads(policy) => book.warning(
                CHECK,
                format!("{path} is mounted noatime, but the policy counts from the last access: files in use grow old"),
                todo,
            ),
            _ => book.fine(CHECK, format!("{path} is mounted noatime: only changes make a file young")),
        }
    } else if has(tier, "strictatime") || (!has(tier, "relatime") && !has(tier, "noatime") && !has(tier, "ro")) {
        book.hint(
            CHECK,
            format!("{path} is mounted strictatime: every read is a write to the disk"),
            format!("mount -o remount,relatime {point}, and the same in fstab"),
        );
    } else {
        book.fine(CHECK, format!("reading sets access times on {path}"));
    }
}

fn flags(book: &mut Book, path: &Path, tier: &Tier, config: &MountConfig) {
    let options = &config.options;
    for (flag, wanted, works) in
        [("nosuid", options.suid, "set-user-id programs"), ("nodev", options.dev, "device nodes")]
    {
        if wanted && has(tier, flag) {
            let found = format!("{} is mounted {flag}, while the union is to allow {works}", path.display());
            book.hint("mount-flags", found, format!("mount the tier without {flag}, or take the option out"));
        }
    }
}

fn case(book: &mut Book, path: &Path, tier: &Tier) {
    const CHECK: &str = "case";
    let path = path.display();
    if WITHOUT_CASE.contains(&tier.kind.as_str()) {
        book.trouble(
            CHECK,
            format!("{path} is on {}, where names have no case and files no owner", tier.kind),
            "use ext4, xfs or btrfs for tiers",
        );
    } else if tier.casefold {
        book.trouble(
            CHECK,
            format!("{path} has the flag +F, by which names have no case: the tiers disagree about what is one name"),
            "copy its files to a new directory without the flag (chattr -F works on an empty one)",
        );
    } else {
        book.fine(CHECK, format!("names on {path} have case"));
    }
}

/// Whoever can write the root of a tier can put anything there, and rename `.tierfs` away.
fn root(book: &mut Book, path: &Path, tier: &Tier) {
    const CHECK: &str = "tier-rights";
    if tier.mode & 0o002 != 0 && tier.mode & 0o1000 == 0 {
        let found = format!("everybody can write in the root of {} (mode {:03o})", path.display(), tier.mode & 0o7777);
        let todo = format!("chmod o-w {0}, or chmod +t {0} if all are to make files at the top", word(path));
        book.hint(CHECK, found, todo);
    } else {
        book.fine(CHECK, format!("the root of {} is not everybody's", path.display()));
    }
}

fn features(book: &mut Book, path: &Path, tier: &Tier, samba: bool) {
    const CHECK: &str = "attributes";
    let shown = path.display();
    let tried = match &tier.tried {
        Asked::Told(tried) => tried,
        Asked::Refused(why) => return book.fine(CHECK, format!("{shown}: attributes were not tried: {why}")),
        Asked::Silent => {
            let todo = format!("look at its disk: findmnt -T {}; dmesg | tail", word(path));
            return book.trouble(CHECK, format!("{shown} does not answer when something is written"), todo);
        }
    };
    let lacking: Vec<String> =
        [("user.*", &tried.user), ("trusted.*", &tried.trusted), ("security.*", &tried.security)]
            .into_iter()
            .filter_map(|(which, why)| why.as_ref().map(|why| format!("{which} ({why})")))
            .collect();
    if lacking.is_empty() {
        book.fine(CHECK, format!("{shown} keeps extended attributes"));
    } else {
        book.warning(
            CHECK,
            format!(
                "{shown} on {} keeps no attributes {}: files that have some cannot move there",
                tier.kind,
                lacking.join(", ")
            ),
            attributes_cure(tier),
        );
    }
    match &tried.acl {
        None => book.fine("acl", format!("{shown} keeps POSIX ACLs")),
        Some(why) => book.warning(
            "acl",
            format!("{shown} on {} keeps no POSIX ACLs ({why}): files that have some cannot move there", tier.kind),
            format!("mount -o remount,acl {}, or use ext4, xfs or btrfs", word(&tier.point)),
        ),
    }
    capacity(book, path, tier, tried, samba);
}

/// What a move does with names must never cost a file that a program has made meanwhile.
fn renames(book: &mut Book, path: &Path, tier: &Tier, read_only: bool) {
    const CHECK: &str = "renames";
    let shown = path.display();
    match &tier.renames {
        Some(Asked::Told(false)) if !read_only => book.warning(
            CHECK,
            format!(
                "{shown} on {} cannot rename a file without the danger of replacing another (RENAME_NOREPLACE): no \
                 files are moved to it or from it, and a directory that is on another tier only cannot be made there",
                tier.kind
            ),
            "put the tier on ext4, xfs or btrfs, on this machine or by iSCSI: NFS and many FUSE servers cannot do it. \
             What is on the tier is served all the same",
        ),
        Some(Asked::Told(_)) => book.fine(CHECK, format!("{shown} can rename without replacing")),
        Some(Asked::Refused(why)) => book.fine(CHECK, format!("{shown}: renames were not tried: {why}")),
        // That it does not answer has been said.
        Some(Asked::Silent) | None => {}
    }
}

fn attributes_cure(tier: &Tier) -> &'static str {
    match tier.kind.as_str() {
        "tmpfs" => "a tmpfs keeps user.* since Linux 6.6; a tmpfs as tier loses its files at every boot anyway",
        kind if kind.starts_with("nfs") => {
            "NFS keeps only user.* (NFSv4.2, Linux 5.9): put the tier on a local disk or iSCSI"
        }
        _ => "use ext4, xfs or btrfs for tiers",
    }
}

fn capacity(book: &mut Book, path: &Path, tier: &Tier, tried: &Tried, samba: bool) {
    let shown = path.display();
    if samba && tried.user.is_none() && tried.largest < ATTRIBUTE_MIN {
        let todo =
            "xfs, btrfs, or ext4 made with mkfs.ext4 -O ea_inode, where ACLs or streams are large (docs/SAMBA.md)";
        let found = format!(
            "{shown} on {} keeps about {} bytes of attributes of a file: Samba's ACLs and streams can be larger",
            tier.kind, tried.largest
        );
        book.hint("attribute-size", found, todo);
    } else {
        book.fine("attribute-size", format!("{shown} keeps attributes of {} bytes", tried.largest));
    }
    let able = [("reflink", tried.reflink), ("fallocate", tried.reserve), ("holes", tried.punch)];
    let able: Vec<_> = able.into_iter().filter(|(_, can)| *can).map(|(what, _)| what).collect();
    let able = if able.is_empty() { "none of reflink, fallocate, holes".into() } else { able.join(", ") };
    book.fine("features", format!("{shown} on {}: {able}", tier.kind));
}

fn own(book: &mut Book, path: &Path, tier: &Tier, mounted: bool) {
    let Some(own) = &tier.own else { return };
    let shown = path.display();
    if own.records > 0 && !mounted {
        book.hint(
            "pending",
            format!("{shown} has {} records of renames or moves that were cut short", own.records),
            "mount the union: the next start finishes them",
        );
    } else {
        book.fine("pending", format!("nothing on {shown} waits for a start"));
    }
    if own.lost > 0 {
        let dir = word(&path.join(".tierfs/lost"));
        book.warning(
            "lost",
            format!("{shown} has {} files in .tierfs/lost: contents that recovery could give no name", own.lost),
            format!("ls -l {dir}; copy what is wanted, then remove them there"),
        );
    } else {
        book.fine("lost", format!("nothing is in .tierfs/lost of {shown}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;
    use crate::doctor::facts::Own;
    use crate::policy::load;

    fn tier() -> Tier {
        Tier {
            kind: "ext4".into(),
            options: vec!["rw".into(), "relatime".into()],
            mode: 0o755,
            tried: Asked::Told(Tried { largest: 65536, ..Tried::default() }),
            renames: None,
            own: Some(Own::default()),
            ..Tier::default()
        }
    }

    fn union(more: &str, policy: &str, tier: Tier) -> Union {
        let text = format!("version: 1\nmountpoint: /m\nprimary: {{path: /a}}\nsecondary: {{path: /b}}\n{more}");
        let config = crate::config::check::finish(crate::config::load::parse(&text).unwrap()).unwrap();
        let policy = load::parse(&format!("version: 1\nrules: [{policy}]\n"), &|_| None).unwrap();
        Union {
            config: Some(config),
            policy: Some(("p.yaml".into(), Ok(policy))),
            tiers: vec![Asked::Told(self::tier()), Asked::Told(tier)],
            ..Union::default()
        }
    }

    fn told_of(union: &Union, shared: bool) -> Vec<(&'static str, Level)> {
        let found = judge(&Union { shared, ..union.clone() }, &Machine::default());
        found.iter().filter(|it| it.level > Level::Fine).map(|it| (it.check, it.level)).collect()
    }

    const BY_ACCESS: &str = "{older_than: 1y, action: demote}";
    const BY_CHANGE: &str = "{older_than: 1y, age_by: mtime, action: demote}";

    #[test]
    fn tiers_in_order_have_nothing_to_tell() {
        assert_eq!(told_of(&union("", BY_ACCESS, tier()), true), []);
    }

    #[test]
    fn a_tier_that_is_not_there_or_does_not_answer_is_told() {
        for (state, says) in
            [(Asked::Refused("no such file".into()), "cannot be used"), (Asked::Silent, "does not answer")]
        {
            let mut union = union("", BY_ACCESS, tier());
            union.tiers[1] = state;
            let found = judge(&union, &Machine::default());
            let told: Vec<_> = found.iter().filter(|it| it.level == Level::Trouble).collect();
            assert!(told.len() == 1 && told[0].found.contains("/b ") && told[0].found.contains(says), "{told:?}");
        }
    }

    #[test]
    fn what_a_filesystem_lacks_is_told() {
        let tried = |tried: Tried| Tier { tried: Asked::Told(tried), ..tier() };
        let none = || Some("none".to_owned());
        for (tier, expected) in [
            (Tier { options: vec!["ro".into(), "relatime".into()], ..tier() }, ("read-only", Level::Trouble)),
            (Tier { options: vec!["rw".into(), "noatime".into()], ..tier() }, ("access-times", Level::Warning)),
            (Tier { options: vec!["rw".into()], ..tier() }, ("access-times", Level::Hint)),
            (Tier { kind: "vfat".into(), ..tier() }, ("case", Level::Trouble)),
            (Tier { casefold: true, ..tier() }, ("case", Level::Trouble)),
            (Tier { mode: 0o777, ..tier() }, ("tier-rights", Level::Hint)),
            (tried(Tried { user: none(), ..Tried::default() }), ("attributes", Level::Warning)),
            (tried(Tried { trusted: none(), largest: 65536, ..Tried::default() }), ("attributes", Level::Warning)),
            (tried(Tried { security: none(), largest: 65536, ..Tried::default() }), ("attributes", Level::Warning)),
            (tried(Tried { acl: none(), largest: 65536, ..Tried::default() }), ("acl", Level::Warning)),
            (tried(Tried { largest: 3800, ..Tried::default() }), ("attribute-size", Level::Hint)),
            (Tier { tried: Asked::Silent, ..tier() }, ("attributes", Level::Trouble)),
            (Tier { renames: Some(Asked::Told(false)), ..tier() }, ("renames", Level::Warning)),
            (Tier { own: Some(Own { records: 1, ..Own::default() }), ..tier() }, ("pending", Level::Hint)),
            (Tier { own: Some(Own { lost: 1, ..Own::default() }), ..tier() }, ("lost", Level::Warning)),
        ] {
            assert_eq!(told_of(&union("", BY_ACCESS, tier.clone()), true), [expected], "{tier:?}");
        }
    }

    #[test]
    fn what_does_not_matter_to_this_union_is_not_told() {
        let noatime = || Tier { options: vec!["rw".into(), "noatime".into()], ..tier() };
        let small = Tier { tried: Asked::Told(Tried { largest: 3800, ..Tried::default() }), ..tier() };
        for (union, samba) in [
            (union("", BY_CHANGE, noatime()), true),
            (union("mount: {track_access: true}", BY_ACCESS, noatime()), true),
            (union("", BY_ACCESS, small), false),
            (union("", BY_ACCESS, Tier { mode: 0o1777, ..tier() }), true),
            (union("", BY_ACCESS, Tier { tried: Asked::Refused("no".into()), ..tier() }), true),
            (
                union("mount: {ro: true}", BY_ACCESS, Tier { options: vec!["ro".into(), "relatime".into()], ..tier() }),
                true,
            ),
        ] {
            assert_eq!(told_of(&union, samba), [], "{union:?}");
        }
        let mut mounted = union("", BY_ACCESS, Tier { own: Some(Own { records: 1, ..Own::default() }), ..tier() });
        mounted.mounted = true;
        assert_eq!(told_of(&mounted, true), []);
    }

    #[test]
    fn flags_of_a_tier_against_what_the_union_is_to_allow_are_told() {
        let tier = Tier { options: ["rw", "relatime", "nosuid", "nodev"].map(str::to_owned).to_vec(), ..tier() };
        assert_eq!(told_of(&union("", BY_ACCESS, tier.clone()), true), []);
        let told = told_of(&union("mount: {suid: true, dev: true}", BY_ACCESS, tier), true);
        assert_eq!(told, [("mount-flags", Level::Hint), ("mount-flags", Level::Hint)]);
    }

    #[test]
    fn what_concerns_the_union_as_a_whole_is_told() {
        let with = |change: fn(&mut Union)| {
            let mut union = union("", BY_ACCESS, tier());
            change(&mut union);
            told_of(&union, true)
        };
        assert_eq!(with(|it| it.overlap = Some("/a lies inside /b".into())), [("overlap", Level::Trouble)]);
        assert_eq!(with(|it| it.markers = Markers::Fresh), [("markers", Level::Hint)]);
        assert_eq!(with(|it| it.markers = Markers::Missing("/b".into())), [("markers", Level::Trouble)]);
        assert_eq!(with(|it| it.markers = Markers::Foreign("/b".into())), [("markers", Level::Trouble)]);
        assert_eq!(with(|it| it.beside = Some(("/etc/cron.d/x".into(), "/b".into()))), [("beside", Level::Hint)]);
    }
}
