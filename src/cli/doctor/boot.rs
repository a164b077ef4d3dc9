//! Facts about how a union comes at boot, and what moves its files.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::child::{self, PATIENCE};
use super::unions::DIRECTORY;
use crate::cli::remount::{FSTAB, in_fstab};
use crate::config::MountConfig;
use crate::doctor::facts::{Asked, Boot};

/// What is asked of each unit.
const PROPERTIES: &str = "LoadState,ActiveState,UnitFileState,Result,Before,LastTriggerUSec";

/// Where cron looks for what it is to do.
const CRON: [&str; 8] = [
    "/etc/crontab",
    "/etc/cron.d",
    "/etc/cron.hourly",
    "/etc/cron.daily",
    "/etc/cron.weekly",
    "/etc/cron.monthly",
    "/var/spool/cron/crontabs",
    "/var/spool/cron",
];

/// A file of cron is small.
const CRON_LEN_MAX: u64 = 1 << 20;

/// Looks at how the union of a configuration file comes at boot.
pub(super) fn look(file: &Path, config: &MountConfig) -> Boot {
    if file.parent() != Some(Path::new(DIRECTORY)) {
        return Boot::default();
    }
    let Some(instance) = file.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned) else {
        return Boot::default();
    };
    let fstab = fs::read(FSTAB).unwrap_or_default();
    let mut boot = Boot {
        fstab: in_fstab(&fstab, &config.mountpoint).map(|options| options.to_string_lossy().into_owned()),
        ordered: ["/run/systemd/generator", "/etc/systemd/system", "/run/systemd/generator.late"].iter().any(|above| {
            let dir = Path::new(above).join(format!("tierfs@{instance}.service.d"));
            fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some())
        }),
        cron: cron(|line| runs_tierfs(line) && line.contains("migrate")),
        ..Boot::default()
    };
    if Path::new("/run/systemd/system").is_dir() {
        let units = [
            (format!("tierfs@{instance}.service"), &mut boot.service),
            (format!("tierfs-migrate@{instance}.timer"), &mut boot.timer),
            (format!("tierfs-migrate@{instance}.service"), &mut boot.run),
        ];
        for (unit, to) in units {
            match show(&unit) {
                Asked::Told(properties) => *to = properties,
                Asked::Refused(_) => {}
                Asked::Silent => {
                    boot.silent = true;
                    break;
                }
            }
        }
    }
    boot.instance = Some(instance);
    boot
}

fn show(unit: &str) -> Asked<BTreeMap<String, String>> {
    let mut command = Command::new("systemctl");
    command.args(["show", "--timestamp=unix", "--property", PROPERTIES, unit]);
    match child::output(&mut command, PATIENCE) {
        Asked::Told((true, bytes)) => Asked::Told(properties(&String::from_utf8_lossy(&bytes))),
        Asked::Told((false, _)) => Asked::Refused("systemctl has failed".into()),
        Asked::Refused(why) => Asked::Refused(why),
        Asked::Silent => Asked::Silent,
    }
}

fn properties(text: &str) -> BTreeMap<String, String> {
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// Whether a line has tierfs for a command.
fn runs_tierfs(line: &str) -> bool {
    line.split([' ', '\t', ';', '&', '|', '(']).any(|word| word.rsplit('/').next() == Some("tierfs"))
}

/// The first file of cron that has a line of which `is_it` says yes.
pub(super) fn cron(is_it: impl Fn(&str) -> bool) -> Option<PathBuf> {
    let files = CRON.iter().flat_map(|path| match fs::read_dir(path) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
        Err(_) => vec![PathBuf::from(path)],
    });
    let has = |file: &PathBuf| {
        let small = fs::metadata(file).is_ok_and(|found| found.is_file() && found.len() <= CRON_LEN_MAX);
        let text = small.then(|| fs::read(file).ok()).flatten().unwrap_or_default();
        let lines = text.split(|byte| *byte == b'\n').map(String::from_utf8_lossy);
        lines.filter(|line| !line.trim_start().starts_with('#')).any(|line| is_it(&line))
    };
    files.into_iter().find(has)
}

/// A job of cron that names a tier and not tierfs: it works beside the mount.
pub(super) fn beside(config: &MountConfig) -> Option<(PathBuf, PathBuf)> {
    config.tiers.iter().find_map(|tier| {
        let path = String::from_utf8_lossy(tier.path.as_os_str().as_bytes()).into_owned();
        let names = |line: &str| {
            let ends = |rest: &str| rest.is_empty() || rest.starts_with(['/', ' ', '\t', '"', '\'', ';']);
            let named = line.match_indices(path.as_str()).any(|(at, _)| {
                let begins = line[..at].ends_with([' ', '\t', '"', '\'', '=']);
                begins && line.get(at + path.len()..).is_some_and(ends)
            });
            named && !runs_tierfs(line)
        };
        cron(names).map(|file| (file, tier.path.clone()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_the_name_in_it_is_not_the_command() {
        assert!(runs_tierfs("30 1 * * * root /usr/bin/tierfs migrate -q"));
        assert!(runs_tierfs("cd /; tierfs migrate"));
        assert!(!runs_tierfs("0 3 * * * root find /mnt/tierfs/slow -delete"));
    }

    #[test]
    fn properties_are_read_line_by_line() {
        let read = properties("ActiveState=active\nBefore=a.service b.service\nResult=\nnothing\n");
        assert_eq!(read["Before"], "a.service b.service");
        assert_eq!((read["Result"].as_str(), read.len()), ("", 3));
    }
}
