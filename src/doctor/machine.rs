//! The kernel and what belongs to FUSE.

use super::facts::{Device, Facts, Machine};
use super::{Book, Finding};

/// What messages call it.
pub const MACHINE: &str = "this machine";

/// The first kernel with FUSE passthrough.
const PASSTHROUGH_SINCE: (u32, u32) = (6, 9);

/// Fewer watches do not reach for the directories of an ordinary tree.
const WATCHES_MIN: u64 = 65536;

/// 2026 began later than this: an earlier clock was never set.
const CLOCK_MIN: i64 = 1_750_000_000;

/// Judges what all unions share.
pub fn judge(facts: &Facts) -> Vec<Finding> {
    let machine = &facts.machine;
    let mut book = Book::new(MACHINE);
    device(&mut book, &machine.device);
    if machine.uid != 0 {
        helper(&mut book, machine);
        others(&mut book, facts);
        watches(&mut book, machine);
    }
    passthrough(&mut book, facts);
    timeouts(&mut book, machine);
    transport(&mut book, machine);
    aes(&mut book, facts);
    indexer(&mut book, facts);
    clock(&mut book, facts);
    book.close()
}

fn device(book: &mut Book, device: &Device) {
    const CHECK: &str = "fuse-device";
    match device {
        Device::Usable => book.fine(CHECK, "/dev/fuse can be used"),
        Device::Absent => book.trouble(
            CHECK,
            "/dev/fuse is not there, so nothing can be mounted",
            "modprobe fuse (in a container: have it given the device /dev/fuse)",
        ),
        Device::Refused(mode, why) => book.trouble(
            CHECK,
            format!("/dev/fuse has mode {mode:03o} and cannot be opened: {why}"),
            "chmod 666 /dev/fuse, and let udev do so at boot (in a container: allow the device)",
        ),
    }
}

fn helper(book: &mut Book, machine: &Machine) {
    const CHECK: &str = "fusermount";
    match &machine.fusermount {
        None => book.trouble(
            CHECK,
            "fusermount3 is not there: only root can mount without it",
            "apt install fuse3 (or dnf install fuse3)",
        ),
        Some((path, mode)) if mode & 0o4000 == 0 => book.trouble(
            CHECK,
            format!("{} is not set-user-id root, so only root can mount", path.display()),
            format!("chmod u+s {} (as root)", path.display()),
        ),
        Some((path, _)) => book.fine(CHECK, format!("{} is set-user-id root", path.display())),
    }
}

fn others(book: &mut Book, facts: &Facts) {
    const CHECK: &str = "user-allow-other";
    let wanted = facts.unions.iter().find(|union| union.config.as_ref().is_some_and(|it| it.options.allow_other));
    match wanted {
        Some(union) if !facts.machine.user_allow_other => book.trouble(
            CHECK,
            format!("{} says allow_other, which /etc/fuse.conf does not grant to ordinary users", union.name),
            "echo user_allow_other >>/etc/fuse.conf (as root), or take allow_other out",
        ),
        _ => book.fine(CHECK, "/etc/fuse.conf grants what is asked for"),
    }
}

fn watches(book: &mut Book, machine: &Machine) {
    const CHECK: &str = "watches";
    match machine.watches {
        Some(count) if count < WATCHES_MIN => book.hint(
            CHECK,
            format!("an ordinary user can watch {count} directories: changes beside the mount are seen late in others"),
            "sysctl -w fs.inotify.max_user_watches=1048576, and the same in /etc/sysctl.d/tierfs.conf (as root)",
        ),
        Some(count) => book.fine(CHECK, format!("an ordinary user can watch {count} directories")),
        None => {}
    }
}

/// Major and minor number of a release such as `6.12.9-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn passthrough(book: &mut Book, facts: &Facts) {
    const CHECK: &str = "passthrough";
    let machine = &facts.machine;
    let wanted = facts.unions.iter().filter_map(|union| union.config.as_ref()).any(|config| config.options.passthrough);
    let Some(found) = version(&machine.release).filter(|_| wanted) else { return };
    let release = &machine.release;
    if found < PASSTHROUGH_SINCE {
        book.hint(
            CHECK,
            format!("Linux {release} has no FUSE passthrough: data of files goes through tierfs, several times slower"),
            "boot a kernel of 6.9 or later (in Debian 12: apt install linux-image-amd64 from bookworm-backports)",
        );
    } else if machine.passthrough == Some(false) {
        book.hint(
            CHECK,
            format!("Linux {release} was built without CONFIG_FUSE_PASSTHROUGH: data of files goes through tierfs"),
            "boot the distribution's kernel, or one built with CONFIG_FUSE_PASSTHROUGH=y",
        );
    } else if machine.uid != 0 {
        book.fine(CHECK, "data of files goes through tierfs: only mounts of root have FUSE passthrough");
    } else {
        book.fine(CHECK, format!("Linux {release} has FUSE passthrough"));
    }
}

fn timeouts(book: &mut Book, machine: &Machine) {
    const CHECK: &str = "request-timeout";
    let set = [("default", machine.default_timeout), ("max", machine.max_timeout)];
    let set: Vec<_> = set.into_iter().filter_map(|(which, value)| Some((which, value.filter(|it| *it > 0)?))).collect();
    for (which, seconds) in &set {
        let key = format!("fs.fuse.{which}_request_timeout");
        book.warning(
            CHECK,
            format!(
                "{key} is {seconds}: the kernel ends a whole mount, with every open file, once one request takes \
                 {seconds} s, as on a disk that spins up or a dead NFS server"
            ),
            format!("sysctl -w {key}=0, find it in /etc/sysctl.d and set it to 0 there, then mount again"),
        );
    }
    if set.is_empty() {
        book.fine(CHECK, "no timeout ends a mount");
    }
}

fn transport(book: &mut Book, machine: &Machine) {
    if let Some(on) = machine.uring {
        let state = if on { "on" } else { "off" };
        book.fine("io-uring", format!("FUSE over io_uring is {state}; tierfs does not need it"));
    }
    if let Some(pages) = machine.max_pages {
        book.fine("max-pages", format!("one request has up to {} KiB", pages.saturating_mul(4)));
    }
}

fn aes(book: &mut Book, facts: &Facts) {
    const CHECK: &str = "aes";
    let tiers = facts.unions.iter().filter_map(|union| union.config.as_ref()).flat_map(|config| &config.tiers);
    if tiers.filter(|tier| tier.encryption.is_some()).count() == 0 {
        return;
    }
    if facts.machine.aes {
        book.fine(CHECK, "the processor has instructions for AES");
    } else {
        book.hint(
            CHECK,
            "the processor has no instructions for AES, which makes AES-GCM many times slower",
            "for a new volume choose XChaCha20: tierfs key init --help (in a virtual machine: pass the host's CPU model)",
        );
    }
}

/// The words of `KEY = "…"` in a file such as `/etc/updatedb.conf`.
fn setting<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    let value = text.lines().filter_map(|line| {
        let (name, value) = line.split_once('=')?;
        (name.trim() == key).then(|| value.trim().trim_matches('"'))
    });
    value.flat_map(str::split_whitespace).collect()
}

fn indexer(book: &mut Book, facts: &Facts) {
    const CHECK: &str = "updatedb";
    let Some(text) = &facts.machine.updatedb else { return };
    let (kinds, paths) = (setting(text, "PRUNEFS"), setting(text, "PRUNEPATHS"));
    let is_left_out = |point: &std::path::Path| paths.iter().any(|path| point.starts_with(path));
    let points = facts.unions.iter().filter_map(|union| union.config.as_ref()).map(|config| &config.mountpoint);
    let walked = points.filter(|point| !point.as_os_str().is_empty()).find(|point| !is_left_out(point));
    match walked {
        Some(point) if !kinds.iter().any(|kind| ["fuse.tierfs", "fuse"].contains(kind)) => book.hint(
            CHECK,
            format!("updatedb walks {} each night, which wakes slow tiers", point.display()),
            "add fuse.tierfs to PRUNEFS in /etc/updatedb.conf",
        ),
        _ => book.fine(CHECK, "updatedb leaves the mounts alone"),
    }
}

fn clock(book: &mut Book, facts: &Facts) {
    const CHECK: &str = "clock";
    const DAY: i64 = 86_400;
    let now = facts.machine.now;
    let tiers = facts.unions.iter().flat_map(|union| &union.tiers).filter_map(|tier| tier.told());
    let latest = tiers.filter_map(|tier| tier.own.as_ref()?.marker).max();
    let todo = "timedatectl set-ntp true, or set the clock: ages of files are counted by it";
    if now < CLOCK_MIN {
        book.trouble(CHECK, "the clock of this machine was never set", todo);
    } else if let Some(ahead) = latest.filter(|latest| *latest > now.saturating_add(DAY)) {
        let days = (ahead - now) / DAY;
        book.warning(
            CHECK,
            format!("a tier was written to {days} days in the future: the clock is or was wrong"),
            todo,
        );
    } else {
        book.fine(CHECK, "the clock is later than what was written");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;
    use crate::doctor::facts::{Asked, Own, Tier, Union};

    fn union(text: &str) -> Union {
        let text = format!("version: 1\nmountpoint: /srv/docs\n{text}\n");
        let config = crate::config::check::finish(crate::config::load::parse(&text).unwrap()).unwrap();
        Union { config: Some(config), ..Union::default() }
    }

    fn facts() -> Facts {
        let machine = Machine {
            release: "6.12.9-amd64".into(),
            default_timeout: Some(0),
            max_timeout: Some(0),
            user_allow_other: true,
            fusermount: Some(("/usr/bin/fusermount3".into(), 0o4755)),
            watches: Some(1 << 20),
            aes: true,
            updatedb: Some("PRUNEFS = \"NFS fuse.tierfs\"\n".into()),
            uring: Some(false),
            max_pages: Some(256),
            now: 1_800_000_000,
            ..Machine::default()
        };
        let unions = vec![union("primary: {path: /a, encryption: {}}\nmount: {allow_other: true}")];
        Facts { machine, unions, ..Facts::default() }
    }

    fn told(change: impl FnOnce(&mut Facts)) -> Vec<(&'static str, Level)> {
        let mut facts = facts();
        change(&mut facts);
        judge(&facts).iter().filter(|it| it.level > Level::Fine).map(|it| (it.check, it.level)).collect()
    }

    #[test]
    fn a_machine_in_order_has_nothing_to_tell() {
        assert_eq!(told(|_| {}), []);
        assert_eq!(told(|facts| facts.machine.uid = 7), []);
    }

    #[test]
    fn what_a_machine_lacks_is_told() {
        type Change = fn(&mut Facts);
        let changes: [(Change, &str, Level); 11] = [
            (|it| it.machine.device = Device::Absent, "fuse-device", Level::Trouble),
            (|it| it.machine.device = Device::Refused(0o600, "denied".into()), "fuse-device", Level::Trouble),
            (|it| it.machine.release = "6.1.0-13-amd64".into(), "passthrough", Level::Hint),
            (|it| it.machine.passthrough = Some(false), "passthrough", Level::Hint),
            (|it| it.machine.default_timeout = Some(60), "request-timeout", Level::Warning),
            (|it| it.machine.max_timeout = Some(60), "request-timeout", Level::Warning),
            (|it| it.machine.aes = false, "aes", Level::Hint),
            (|it| it.machine.updatedb = Some("PRUNEFS=\"nfs\"".into()), "updatedb", Level::Hint),
            (|it| it.machine.now = 0, "clock", Level::Trouble),
            (
                |it| {
                    let own = Some(Own { marker: Some(1_900_000_000), ..Own::default() });
                    it.unions[0].tiers = vec![Asked::Told(Tier { own, ..Tier::default() })];
                },
                "clock",
                Level::Warning,
            ),
            (|it| it.machine.updatedb = Some("PRUNEPATHS=\"/srv2 /tmp\"".into()), "updatedb", Level::Hint),
        ];
        for (change, check, level) in changes {
            assert_eq!(told(change), [(check, level)]);
        }
    }

    #[test]
    fn what_does_not_matter_here_is_not_told() {
        type Change = fn(&mut Facts);
        let changes: [Change; 4] = [
            |it| {
                it.machine.aes = false;
                it.unions = vec![union("primary: {path: /a}")];
            },
            |it| {
                it.machine.release = "6.1.0".into();
                it.unions = vec![union("primary: {path: /a}\nmount: {passthrough: false}")];
            },
            |it| it.machine.updatedb = Some("PRUNEPATHS = \"/tmp /srv\"".into()),
            |it| it.machine.updatedb = None,
        ];
        for change in changes {
            assert_eq!(told(change), []);
        }
    }

    #[test]
    fn what_an_ordinary_user_needs_is_told_to_him_alone() {
        type Change = fn(&mut Facts);
        let changes: [(Change, &str, Level); 4] = [
            (|it| it.machine.fusermount = None, "fusermount", Level::Trouble),
            (|it| it.machine.fusermount = Some(("/f".into(), 0o755)), "fusermount", Level::Trouble),
            (|it| it.machine.user_allow_other = false, "user-allow-other", Level::Trouble),
            (|it| it.machine.watches = Some(8192), "watches", Level::Hint),
        ];
        for (change, check, level) in changes {
            assert_eq!(told(change), []);
            let as_user = |facts: &mut Facts| {
                change(facts);
                facts.machine.uid = 7;
            };
            assert_eq!(told(as_user), [(check, level)]);
        }
    }
}
