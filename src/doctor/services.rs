//! How a union comes at boot, and what moves its files regularly.

use std::collections::BTreeMap;
use std::path::Path;

use super::facts::{Asked, Boot, Machine, Union};
use super::{Book, Finding};

/// A timer that has not begun a run for so long does not do what it is there for.
const RUN_SECS_MAX: i64 = 8 * 86_400;

/// Judges one union that has a configuration.
pub fn judge(union: &Union, machine: &Machine) -> Vec<Finding> {
    if union.config.is_none() || machine.uid != 0 {
        return Vec::new();
    }
    let mut book = Book::new(&union.name);
    let boot = &union.boot;
    let Some(name) = &boot.instance else {
        if let Some(options) = &boot.fstab {
            fstab(&mut book, options, union, machine);
            by_cron(&mut book, union);
        }
        return book.close();
    };
    if boot.silent {
        book.warning("boot", "systemd does not answer", "systemctl status; journalctl -b -u init.scope");
        return book.close();
    }
    at_boot(&mut book, name, union, machine);
    state(&mut book, name, boot, union.mounted);
    order(&mut book, name, boot);
    regular(&mut book, name, union, machine);
    book.close()
}

fn is(properties: &BTreeMap<String, String>, key: &str, values: &[&str]) -> bool {
    properties.get(key).is_some_and(|value| values.contains(&value.as_str()))
}

fn is_enabled(properties: &BTreeMap<String, String>) -> bool {
    is(properties, "UnitFileState", &["enabled", "enabled-runtime", "static", "linked"])
}

fn at_boot(book: &mut Book, name: &str, union: &Union, machine: &Machine) {
    const CHECK: &str = "boot";
    let boot = &union.boot;
    let by_service = is_enabled(&boot.service);
    match &boot.fstab {
        Some(_) if by_service => book.warning(
            CHECK,
            "both /etc/fstab and its service mount it at boot",
            format!("systemctl disable tierfs@{name}, or take the line out of /etc/fstab"),
        ),
        Some(options) => fstab(book, options, union, machine),
        None if by_service => book.fine(CHECK, format!("tierfs@{name} mounts it at boot")),
        None if machine.systemd => book.hint(
            CHECK,
            "nothing mounts it at boot",
            format!("systemctl enable --now tierfs@{name}, or a line in /etc/fstab (docs/BOOT.md)"),
        ),
        None => book.hint(CHECK, "nothing in /etc/fstab mounts it at boot", "add a line (docs/BOOT.md)"),
    }
}

fn fstab(book: &mut Book, options: &str, union: &Union, machine: &Machine) {
    const CHECK: &str = "boot";
    let words: Vec<&str> = options.split(',').collect();
    let is_at_boot = !words.contains(&"noauto") && !words.contains(&"x-systemd.automount");
    let point = union.config.as_ref().map(|config| config.mountpoint.display().to_string()).unwrap_or_default();
    if is_at_boot && !words.contains(&"nofail") {
        book.warning(
            CHECK,
            "its line in /etc/fstab has no nofail: a missing disk keeps the machine from booting",
            "add nofail to its options in /etc/fstab",
        );
    } else {
        book.fine(CHECK, "its line in /etc/fstab does not keep the machine from booting");
    }
    if is_at_boot && !union.mounted {
        let found = "its line in /etc/fstab is to mount it at boot, and nothing is mounted";
        book.warning(CHECK, found, format!("mount {point}, which says why if it cannot"));
    }
    for disk in unordered(&words, union).into_iter().filter(|_| machine.systemd && is_at_boot) {
        book.warning(
            "order",
            format!("its line in /etc/fstab does not say that it needs {disk}: systemd may mount it too early"),
            format!("add x-systemd.requires-mounts-for={disk} to its options, then: systemctl daemon-reload"),
        );
    }
}

/// Mount points of tiers, but for the root filesystem, for which a line does not wait.
fn unordered(words: &[&str], union: &Union) -> Vec<String> {
    let waits: Vec<&str> =
        words.iter().filter_map(|word| word.strip_prefix("x-systemd.requires-mounts-for=")).collect();
    let points = union.tiers.iter().filter_map(Asked::told).map(|tier| &tier.point);
    let mut points: Vec<String> = points
        .filter(|point| point.parent().is_some() && !waits.iter().any(|path| Path::new(path).starts_with(point)))
        .map(|point| point.display().to_string())
        .collect();
    points.sort();
    points.dedup();
    points
}

/// What moves the files of a union that is in /etc/fstab alone.
fn by_cron(book: &mut Book, union: &Union) {
    const CHECK: &str = "migration";
    let policy = union.policy.as_ref().and_then(|(_, policy)| policy.as_ref().ok());
    let point = union.config.as_ref().map(|config| config.mountpoint.display().to_string()).unwrap_or_default();
    if let Some(file) = &union.boot.cron {
        book.fine(CHECK, format!("cron runs tierfs migrate ({})", file.display()));
    } else if policy.is_some_and(|policy| !policy.watermarks.is_empty()) {
        book.fine(CHECK, "the mount moves files by itself, by the watermarks of its policy");
    } else if union.config.as_ref().is_some_and(|config| config.tiers.len() > 1) {
        let what = if policy.is_some() { "" } else { " --older-than 1y" };
        book.hint(
            CHECK,
            "nothing moves its files: no cron, no watermarks",
            format!("a line in /etc/cron.d/tierfs: 30 1 * * * root tierfs migrate {point}{what} --quiet"),
        );
    }
}

fn state(book: &mut Book, name: &str, boot: &Boot, mounted: bool) {
    const CHECK: &str = "service";
    if is(&boot.service, "ActiveState", &["failed"]) {
        let result = boot.service.get("Result").map(String::as_str).unwrap_or_default();
        let todo = format!("journalctl -u tierfs@{name} -n 20, then: systemctl restart tierfs@{name}");
        book.trouble(CHECK, format!("tierfs@{name} has failed ({result})"), todo);
    } else if is_enabled(&boot.service) && !mounted {
        let todo = format!("systemctl start tierfs@{name}; systemctl status tierfs@{name}");
        book.warning(CHECK, format!("tierfs@{name} is enabled, and nothing is mounted"), todo);
    } else {
        book.fine(CHECK, "its service is as it should be");
    }
}

fn order(book: &mut Book, name: &str, boot: &Boot) {
    const CHECK: &str = "order";
    if !is_enabled(&boot.service) {
        return;
    }
    if !boot.ordered {
        let found = "systemd does not know on which disks its tiers are, and may start it too early";
        book.warning(CHECK, found, "systemctl daemon-reload (it runs tierfs-generator; see docs/BOOT.md)");
    } else {
        book.fine(CHECK, "its service waits for the disks of its tiers");
    }
    let before = boot.service.get("Before").map(String::as_str).unwrap_or_default();
    if !before.split_whitespace().any(|unit| unit == "smbd.service") {
        book.warning(
            "order",
            format!("tierfs@{name} is not ordered before smbd: Samba can start over an empty directory"),
            "systemctl cat tierfs@NAME: a copy of the unit in /etc/systemd lacks Before=smbd.service",
        );
    }
}

fn regular(book: &mut Book, name: &str, union: &Union, machine: &Machine) {
    const CHECK: &str = "migration";
    let boot = &union.boot;
    let policy = union.policy.as_ref().and_then(|(_, policy)| policy.as_ref().ok());
    let timed = is_enabled(&boot.timer) || is(&boot.timer, "ActiveState", &["active"]);
    if is(&boot.run, "ActiveState", &["failed"]) {
        let todo = format!("journalctl -u tierfs-migrate@{name} -n 50; tierfs explain FILE tells of one file");
        book.warning(CHECK, "the last run of tierfs-migrate has failed", todo);
    } else if timed {
        let last = boot.timer.get("LastTriggerUSec").and_then(|at| at.strip_prefix('@')).and_then(|at| at.parse().ok());
        timer(book, name, last, machine.now, is(&boot.timer, "ActiveState", &["active"]));
    } else if let Some(file) = &boot.cron {
        book.fine(CHECK, format!("cron runs tierfs migrate ({})", file.display()));
    } else if policy.is_some_and(|policy| !policy.watermarks.is_empty()) {
        book.fine(CHECK, "the mount moves files by itself, by the watermarks of its policy");
    } else if union.config.as_ref().is_some_and(|config| config.tiers.len() > 1) {
        let what = if policy.is_some() { "" } else { ", after `policy: FILE` was added to its configuration" };
        book.hint(
            CHECK,
            "nothing moves its files: no timer, no cron, no watermarks",
            format!("systemctl enable --now tierfs-migrate@{name}.timer{what}"),
        );
    }
}

fn timer(book: &mut Book, name: &str, last: Option<i64>, now: i64, active: bool) {
    const CHECK: &str = "migration";
    let unit = format!("tierfs-migrate@{name}.timer");
    if !active {
        book.warning(CHECK, format!("{unit} is enabled, and not running"), format!("systemctl start {unit}"));
        return;
    }
    match last.filter(|at| *at > 0) {
        Some(at) if now.saturating_sub(at) > RUN_SECS_MAX => {
            let days = (now - at) / 86_400;
            book.warning(
                CHECK,
                format!("{unit} has begun no run for {days} days"),
                format!("systemctl list-timers {unit}"),
            );
        }
        _ => book.fine(CHECK, format!("{unit} begins its runs")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    fn properties(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn good() -> Boot {
        Boot {
            instance: Some("docs".into()),
            service: properties(&[
                ("UnitFileState", "enabled"),
                ("ActiveState", "active"),
                ("Before", "x smbd.service"),
            ]),
            timer: properties(&[
                ("UnitFileState", "enabled"),
                ("ActiveState", "active"),
                ("LastTriggerUSec", "@9999000"),
            ]),
            ordered: true,
            ..Boot::default()
        }
    }

    fn judged(boot: Boot, mounted: bool) -> Vec<(&'static str, Level)> {
        let text = "version: 1\nmountpoint: /m\nprimary: {path: /a}\nsecondary: {path: /b}\n";
        let config = crate::config::check::finish(crate::config::load::parse(text).unwrap()).unwrap();
        let union = Union { config: Some(config), boot, mounted, ..Union::default() };
        let machine = Machine { systemd: true, now: 10_000_000, ..Machine::default() };
        let found = judge(&union, &machine);
        found.iter().filter(|it| it.level > Level::Fine).map(|it| (it.check, it.level)).collect()
    }

    #[test]
    fn a_union_in_order_has_nothing_to_tell() {
        assert_eq!(judged(good(), true), []);
        assert_eq!(judged(Boot { instance: None, ..Boot::default() }, false), []);
    }

    #[test]
    fn what_is_wrong_at_boot_is_told() {
        let service = |pairs: &[(&str, &str)]| {
            let mut boot = good();
            boot.service.extend(properties(pairs));
            boot
        };
        for (boot, mounted, expected) in [
            (service(&[("UnitFileState", "disabled")]), true, ("boot", Level::Hint)),
            (Boot { fstab: Some("nofail".into()), ..good() }, true, ("boot", Level::Warning)),
            (service(&[("ActiveState", "failed")]), true, ("service", Level::Trouble)),
            (good(), false, ("service", Level::Warning)),
            (Boot { ordered: false, ..good() }, true, ("order", Level::Warning)),
            (service(&[("Before", "nfs-server.service")]), true, ("order", Level::Warning)),
            (Boot { silent: true, ..good() }, true, ("boot", Level::Warning)),
        ] {
            assert_eq!(judged(boot.clone(), mounted), [expected], "{boot:?}");
        }
        let by_fstab = |options: &str| Boot { service: BTreeMap::new(), fstab: Some(options.into()), ..good() };
        assert_eq!(judged(by_fstab("rw"), true), [("boot", Level::Warning)]);
        assert_eq!(judged(by_fstab("rw,nofail"), true), []);
    }

    #[test]
    fn a_union_that_nothing_migrates_is_told() {
        let timer = |pairs: &[(&str, &str)]| Boot { timer: properties(pairs), ..good() };
        let run = Boot { run: properties(&[("ActiveState", "failed")]), ..good() };
        for (boot, expected) in [
            (timer(&[]), vec![("migration", Level::Hint)]),
            (timer(&[("UnitFileState", "enabled")]), vec![("migration", Level::Warning)]),
            (timer(&[("ActiveState", "active"), ("LastTriggerUSec", "@1000")]), vec![("migration", Level::Warning)]),
            (timer(&[("ActiveState", "active"), ("LastTriggerUSec", "")]), vec![]),
            (run, vec![("migration", Level::Warning)]),
            (Boot { cron: Some("/etc/cron.d/tierfs".into()), ..timer(&[]) }, vec![]),
        ] {
            assert_eq!(judged(boot.clone(), true), expected, "{boot:?}");
        }
    }
}
