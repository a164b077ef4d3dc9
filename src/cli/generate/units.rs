//! What systemd must know of each configured mount and cannot read in a unit that serves all of them:
//! the mounts that its tiers are on. Written at every boot and `daemon-reload` (`systemd.generator(7)`).

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::cli::fstab::line_at;
use crate::config::{MountConfig, check, load};
use crate::{policy, yaml};

/// The name of each drop-in.
const DROP_IN: &str = "50-tierfs.conf";

/// systemd makes a unit of every mount that it sees, and orders it before `local-fs.target`, and so
/// before the service that has mounted it: a cycle, of which it gives up the service's stop. It would also
/// unmount it while the service's users are still stopping. The service does both in order.
const OF_THE_SERVICE: &str = "[Unit]\nDefaultDependencies=no\n";

/// Name, relative to the directory of generated units, and text of each drop-in for the configurations
/// in `from`, of which those that `fstab` mounts need none of their own. One that is wrong is told and left out: its service will say the same when it starts.
pub(super) fn of_directory(from: &Path, fstab: &[u8]) -> Vec<(PathBuf, String)> {
    let entries = fs::read_dir(from).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    files.sort();
    let mut units = Vec::new();
    for file in files.iter().filter(|file| file.extension() == Some(OsStr::new("yaml"))) {
        match of_file(file, fstab) {
            Ok(found) => units.extend(found),
            Err(line) => eprintln!("tierfs: {line}"),
        }
    }
    units
}

fn of_file(file: &Path, fstab: &[u8]) -> Result<Vec<(PathBuf, String)>, String> {
    let name = file.file_stem().and_then(OsStr::to_str).filter(|name| is_instance(name));
    let name = name.ok_or_else(|| format!("{}: is no name for tierfs@NAME.service: rename it", file.display()))?;
    let text = load::read(file).map_err(|error| error.to_string())?;
    let keys = yaml::keys(&text);
    // A policy, or the configuration of a view.
    if policy::load::is_policy(&keys) || keys.iter().any(|key| key == "sources") {
        return Ok(Vec::new());
    }
    let config = load::load(file).and_then(check::finish).map_err(|error| error.to_string())?;
    Ok(of_mount(name, &config, fstab))
}

/// What may stand between `@` and `.service` and means itself.
fn is_instance(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":_.-".contains(&byte))
}

fn of_mount(name: &str, config: &MountConfig, fstab: &[u8]) -> Vec<(PathBuf, String)> {
    let tiers: Vec<String> = config.tiers.iter().map(|tier| value(&tier.path)).collect();
    let needs = |paths: &[String]| format!("[Unit]\nRequiresMountsFor={}\n", paths.join(" "));
    let above = config.mountpoint.parent().map(value);
    let all: Vec<String> = tiers.iter().cloned().chain(above).collect();
    let drop_in = |unit: String| PathBuf::from(format!("{unit}.d")).join(DROP_IN);
    let mut units = vec![
        (drop_in(format!("tierfs@{name}.service")), needs(&all)),
        (drop_in(format!("tierfs-migrate@{name}.service")), needs(&tiers)),
    ];
    if line_at(fstab, &config.mountpoint).is_none() {
        units.push((drop_in(mount_unit(&config.mountpoint)), OF_THE_SERVICE.into()));
    }
    units
}

/// The unit of a mount point, as `systemd-escape --path` names it.
fn mount_unit(point: &Path) -> String {
    let path = point.as_os_str().as_bytes();
    let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()).collect();
    let mut name = String::new();
    for (at, byte) in parts.join(&b'/').into_iter().enumerate() {
        match byte {
            b'/' => name.push('-'),
            b'.' if at == 0 => name.push_str("\\x2e"),
            b':' | b'_' | b'.' => name.push(char::from(byte)),
            letter if letter.is_ascii_alphanumeric() => name.push(char::from(letter)),
            other => name.push_str(&format!("\\x{other:02x}")),
        }
    }
    if name.is_empty() { "-.mount".into() } else { name + ".mount" }
}

/// A path as a value in a unit file: in quotes, with what would mean something else escaped.
fn value(path: &Path) -> String {
    let mut text = String::from('"');
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'%' => text.push_str("%%"),
            b'"' | b'\\' | 0..=31 | 127.. => text.push_str(&format!("\\x{byte:02x}")),
            plain => text.push(char::from(*plain)),
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_point_has_the_unit_that_systemd_gives_it() {
        for (point, unit) in [
            ("/srv/docs", "srv-docs.mount"),
            ("/", "-.mount"),
            ("/srv//a-b/", "srv-a\\x2db.mount"),
            ("/.x/ü y", "\\x2ex-\\xc3\\xbc\\x20y.mount"),
        ] {
            assert_eq!(mount_unit(Path::new(point)), unit);
        }
    }

    #[test]
    fn a_path_in_a_unit_means_itself() {
        assert_eq!(value(Path::new("/a b/\"50%\"\\")), "\"/a b/\\x2250%%\\x22\\x5c\"");
    }

    #[test]
    fn each_mount_needs_its_tiers_and_a_wrong_file_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        put("docs.yaml", "version: 1\nmountpoint: /srv/docs\ntiers: [{path: /fast/docs}, {path: /slow/docs}]\n");
        put("policy.yaml", "version: 1\nrules: [{older_than: 1y, action: demote}]\n");
        put("wrong.yaml", "version: 1\n");
        put("a b.yaml", "version: 1\n");
        put("docs.yaml.dpkg-old", "");
        let found = of_directory(dir.path(), b"");
        let names: Vec<String> = found.iter().map(|(name, _)| name.display().to_string()).collect();
        let expected = ["tierfs@docs.service.d", "tierfs-migrate@docs.service.d", "srv-docs.mount.d"];
        assert_eq!(names, expected.map(|dir| format!("{dir}/50-tierfs.conf")));
        let listed = of_directory(dir.path(), b"none /srv/docs tierfs config=/etc/tierfs/docs.yaml 0 0\n");
        assert_eq!(listed, found[..2], "the unit of a line of fstab keeps its order");
        assert_eq!(found[0].1, "[Unit]\nRequiresMountsFor=\"/fast/docs\" \"/slow/docs\" \"/srv\"\n");
    }
}
