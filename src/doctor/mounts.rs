//! What is mounted now: that it answers, and is what is installed and configured.

use crate::config::OutOfBand;

use super::facts::{Asked, Facts, Mount, Served, Union};
use super::{Book, Finding, word};

/// Fewer descriptors do not reach for directories and files of many clients.
const DESCRIPTORS_MIN: u64 = 8192;

/// Keys and passphrases need this much memory that is not swapped.
const LOCKED_MIN: u64 = 64 << 10;

/// Judges the mounts, and the sockets of those that are gone.
pub fn judge(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    for mount in &facts.mounts {
        let mut book = Book::new(mount.point.display().to_string());
        let union = facts.unions.iter().find(|union| {
            union.mounted && union.config.as_ref().is_some_and(|config| config.mountpoint == mount.point)
        });
        match &mount.state {
            None => {}
            Some(Asked::Told(served)) if served.dead => dead(&mut book, mount),
            Some(Asked::Told(served)) => alive(&mut book, mount, served, union),
            Some(Asked::Refused(why)) => book.fine("mount", format!("it cannot be asked: {why}")),
            Some(Asked::Silent) => silent(&mut book, mount),
        }
        found.extend(book.close());
    }
    let mut book = Book::new(super::machine::MACHINE);
    for socket in &facts.stale_sockets {
        let found = format!("{} is left from a mount that was killed", socket.display());
        book.hint("stale-socket", found, format!("rm {}, or mount that union again, which replaces it", word(socket)));
    }
    if facts.stale_sockets.is_empty() {
        book.fine("stale-socket", "every socket has a mount behind it");
    }
    found.extend(book.close());
    found
}

fn dead(book: &mut Book, mount: &Mount) {
    let point = word(&mount.point);
    book.trouble(
        "mount",
        "its daemon is gone: every call gives \"Transport endpoint is not connected\"",
        format!("tierfs umount {point}, then mount it again; why it died: journalctl -t tierfs, dmesg | grep -i oom"),
    );
}

fn silent(book: &mut Book, mount: &Mount) {
    let point = word(&mount.point);
    book.trouble(
        "mount",
        "it does not answer",
        format!(
            "see whether a tier hangs (tierfs doctor names it; dmesg | tail); if its disk cannot be saved: \
             tierfs umount {point}, then mount with -o on_missing=degraded"
        ),
    );
}

fn alive(book: &mut Book, mount: &Mount, served: &Served, union: Option<&Union>) {
    book.fine("mount", "it answers");
    let point = word(&mount.point);
    if served.program.as_ref().is_some_and(|program| program.ends_with(" (deleted)")) {
        book.hint(
            "upgrade",
            "it runs the program from before the last upgrade",
            format!("in a quiet hour: systemctl restart tierfs@NAME, or umount {point} and mount it again"),
        );
    } else {
        book.fine("upgrade", "it runs the program that is installed");
    }
    match served.gone.as_deref() {
        Some([]) => book.fine("degraded", "all of its tiers serve"),
        Some(gone) => book.trouble(
            "degraded",
            format!("it serves without all of its tiers: {}", gone.join("; ")),
            "bring the disk or server back (findmnt; dmesg | tail), then see: tierfs status",
        ),
        None => {}
    }
    match &served.held {
        Some((files, why)) => book.trouble(
            "held",
            format!("{files} files can be read but not changed: an error ({why}) has stopped their move halfway"),
            format!("look at the disk or server (tierfs status; dmesg | tail), then tierfs umount {point} and mount it again"),
        ),
        None => book.fine("held", "no file is held by a move that was stopped halfway"),
    }
    late(book, mount, served, union);
    if let Some(why) = &served.refused {
        let todo = served.policy.as_ref().map(|path| format!("tierfs config check {}", word(path))).unwrap_or_default();
        book.warning("policy-in-force", format!("its policy file is not in force as it is now: {why}"), todo);
    } else {
        book.fine("policy-in-force", "the policy in force is what its file says");
    }
    limits(book, served, union);
}

/// As an ordinary user it can be no other way.
fn late(book: &mut Book, mount: &Mount, served: &Served, union: Option<&Union>) {
    const CHECK: &str = "beside-seen";
    match served.late.as_slice() {
        [] => book.fine(CHECK, "changes beside the mount are seen at once, or there are to be none"),
        late if mount.user == Some(0) && is_watch_wanted(union) => {
            let late: Vec<String> = late.iter().map(|path| path.display().to_string()).collect();
            let found =
                format!("changes beside the mount on {} are seen late, or only where it is in use", late.join(", "));
            book.hint(CHECK, found, "change files through the mount; why it is so: journalctl -t tierfs");
        }
        _ => book.fine(CHECK, "changes beside the mount are seen where it is in use"),
    }
}

fn is_watch_wanted(union: Option<&Union>) -> bool {
    union.and_then(|union| union.config.as_ref()).is_none_or(|config| config.options.out_of_band == OutOfBand::Watch)
}

fn limits(book: &mut Book, served: &Served, union: Option<&Union>) {
    match served.descriptors {
        Some(count) if count < DESCRIPTORS_MIN => book.hint(
            "descriptors",
            format!("it may open {count} files at once, which many clients can use up"),
            "LimitNOFILE=1048576 in its unit, or ulimit -Hn 1048576 before it is mounted",
        ),
        Some(count) => book.fine("descriptors", format!("it may open {count} files at once")),
        None => {}
    }
    let config = union.and_then(|union| union.config.as_ref());
    let encrypted = config.is_some_and(|config| config.tiers.iter().any(|tier| tier.encryption.is_some()));
    match served.locked.filter(|_| encrypted) {
        Some(bytes) if bytes < LOCKED_MIN => book.warning(
            "locked-memory",
            format!("it may lock {bytes} bytes: keys of its encrypted tiers can get into the swap"),
            "LimitMEMLOCK=64M in its unit, or ulimit -l 65536 before it is mounted",
        ),
        Some(_) => book.fine("locked-memory", "its keys are kept out of the swap"),
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    fn judged(state: Asked<Served>) -> Vec<(&'static str, Level)> {
        let mount = Mount { point: "/m".into(), state: Some(state), user: Some(0), ..Mount::default() };
        let found = judge(&Facts { mounts: vec![mount], ..Facts::default() });
        found.iter().filter(|finding| finding.level > Level::Fine).map(|it| (it.check, it.level)).collect()
    }

    #[test]
    fn each_state_of_a_mount_is_told() {
        let good = || Served {
            gone: Some(Vec::new()),
            tiers: vec!["/a".into(), "/b".into()],
            program: Some("/usr/bin/tierfs".into()),
            descriptors: Some(1 << 20),
            locked: Some(8 << 20),
            ..Served::default()
        };
        assert_eq!(judged(Asked::Told(good())), []);
        for (served, expected) in [
            (Served { dead: true, ..good() }, ("mount", Level::Trouble)),
            (Served { program: Some("/usr/bin/tierfs (deleted)".into()), ..good() }, ("upgrade", Level::Hint)),
            (Served { gone: Some(vec!["/b: gone".into()]), ..good() }, ("degraded", Level::Trouble)),
            (Served { held: Some((3, "Input/output error".into())), ..good() }, ("held", Level::Trouble)),
            (Served { late: vec!["/b".into()], ..good() }, ("beside-seen", Level::Hint)),
            (Served { refused: Some("p:1:1: wrong".into()), ..good() }, ("policy-in-force", Level::Warning)),
            (Served { descriptors: Some(1024), ..good() }, ("descriptors", Level::Hint)),
        ] {
            assert_eq!(judged(Asked::Told(served)), [expected]);
        }
        assert_eq!(judged(Asked::Silent), [("mount", Level::Trouble)]);
        assert_eq!(judged(Asked::Refused("not yours".into())), []);
    }

    #[test]
    fn little_lockable_memory_matters_to_encrypted_tiers_alone() {
        let text = "version: 1\nmountpoint: /m\nprimary: {path: /a, encryption: {}}\n";
        let config = crate::config::check::finish(crate::config::load::parse(text).unwrap()).unwrap();
        let mut union = Union { mounted: true, config: Some(config), ..Union::default() };
        let served = Served { locked: Some(0), ..Served::default() };
        let mount = Mount { point: "/m".into(), state: Some(Asked::Told(served)), ..Mount::default() };
        let count = |union: &Union| {
            let facts = Facts { mounts: vec![mount.clone()], unions: vec![union.clone()], ..Facts::default() };
            judge(&facts).iter().filter(|it| it.check == "locked-memory" && it.level == Level::Warning).count()
        };
        assert_eq!(count(&union), 1);
        union.config.iter_mut().for_each(|config| config.tiers[0].encryption = None);
        assert_eq!(count(&union), 0);
    }

    #[test]
    fn a_socket_without_a_mount_is_told() {
        let facts = Facts { stale_sockets: vec!["/run/tierfs/1.sock".into()], ..Facts::default() };
        assert_eq!(judge(&facts)[0].level, Level::Hint);
        assert_eq!(judge(&Facts::default())[0].level, Level::Fine);
    }
}
