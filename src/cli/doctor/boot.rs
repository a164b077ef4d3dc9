//! Facts about how a union comes at boot, and what moves its files.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::child::{self, PATIENCE};
use super::unions::DIRECTORY;
use crate::cli::{cron, fstab};
use crate::config::MountConfig;
use crate::doctor::facts::{Asked, Boot};

/// What is asked of each unit.
const PROPERTIES: &str = "LoadState,ActiveState,UnitFileState,Result,Before,LastTriggerUSec";

/// Looks at how a union comes at boot: that of a configuration file, or of a line of fstab alone.
pub(super) fn look(file: Option<&Path>, config: &MountConfig) -> Boot {
    let line = fstab::line_at(&fstab::text(), &config.mountpoint);
    let mut boot = Boot {
        fstab: line.map(|line| line.options.to_string_lossy().into_owned()),
        cron: cron::migrations(&config.mountpoint, file).into_iter().next().map(|job| job.file),
        ..Boot::default()
    };
    let named = file.filter(|file| file.parent() == Some(Path::new(DIRECTORY))).and_then(Path::file_stem);
    let Some(instance) = named.and_then(|stem| stem.to_str()).map(str::to_owned) else { return boot };
    boot.ordered =
        ["/run/systemd/generator", "/etc/systemd/system", "/run/systemd/generator.late"].iter().any(|above| {
            let dir = Path::new(above).join(format!("tierfs@{instance}.service.d"));
            fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some())
        });
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
            named && !cron::runs_tierfs(line)
        };
        cron::jobs(names).into_iter().next().map(|job| (job.file, tier.path.clone()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_read_line_by_line() {
        let read = properties("ActiveState=active\nBefore=a.service b.service\nResult=\nnothing\n");
        assert_eq!(read["Before"], "a.service b.service");
        assert_eq!((read["Result"].as_str(), read.len()), ("", 3));
    }
}
