//! Facts about this machine.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::UNIX_EPOCH;

use super::child;
use crate::doctor::facts::{Asked, Device, Export, Machine, Share};
use crate::doctor::shares;
use crate::sys::local;

/// Looks at this machine.
pub(super) fn look() -> Machine {
    let release = read("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned();
    let uring = read("/sys/module/fuse/parameters/enable_uring");
    Machine {
        uid: local::own_uid(),
        passthrough: built_with(&release, "CONFIG_FUSE_PASSTHROUGH"),
        release,
        uring: uring.map(|text| ["1", "Y"].contains(&text.trim())),
        max_pages: number("/proc/sys/fs/fuse/max_pages_limit"),
        default_timeout: number("/proc/sys/fs/fuse/default_request_timeout"),
        max_timeout: number("/proc/sys/fs/fuse/max_request_timeout"),
        device: device(),
        user_allow_other: read("/etc/fuse.conf")
            .is_some_and(|text| text.lines().any(|line| line.trim() == "user_allow_other")),
        fusermount: child::find("fusermount3").and_then(|path| {
            let mode = fs::metadata(&path).ok()?.permissions().mode() & 0o7777;
            Some((path, mode))
        }),
        watches: number("/proc/sys/fs/inotify/max_user_watches"),
        aes: has_aes(&read("/proc/cpuinfo").unwrap_or_default()),
        updatedb: child::find("updatedb").and_then(|_| read("/etc/updatedb.conf")),
        systemd: Path::new("/run/systemd/system").is_dir(),
        now: UNIX_EPOCH.elapsed().ok().and_then(|now| i64::try_from(now.as_secs()).ok()).unwrap_or(0),
    }
}

fn read(path: &str) -> Option<String> {
    fs::read(path).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn number(path: &str) -> Option<u64> {
    read(path)?.trim().parse().ok()
}

fn device() -> Device {
    let path = Path::new("/dev/fuse");
    match fs::OpenOptions::new().read(true).write(true).open(path) {
        Ok(_) => Device::Usable,
        Err(error) => match fs::metadata(path) {
            Ok(found) => Device::Refused(found.permissions().mode() & 0o777, error.kind().to_string()),
            Err(_) => Device::Absent,
        },
    }
}

/// What the kernel's own configuration says of an option; none where it is not to be found.
fn built_with(release: &str, option: &str) -> Option<bool> {
    let text = read(&format!("/boot/config-{release}")).or_else(|| {
        let packed = Path::new("/proc/config.gz");
        let shown = packed.exists().then(|| child::output(Command::new("zcat").arg(packed), child::PATIENCE))?;
        shown.told().map(|(_, bytes)| String::from_utf8_lossy(bytes).into_owned())
    })?;
    Some(text.lines().any(|line| line == format!("{option}=y")))
}

/// Flags are one line for each processor, on x86 `flags`, on ARM `Features`.
fn has_aes(text: &str) -> bool {
    let line = text.lines().find(|line| line.starts_with("flags") || line.starts_with("Features"));
    line.is_some_and(|line| line.split_whitespace().any(|word| word == "aes"))
}

/// What Samba shares, by its own reading of its file where it is installed.
pub(super) fn shares() -> Vec<Share> {
    let file = "/etc/samba/smb.conf";
    if !Path::new(file).exists() {
        return Vec::new();
    }
    let said = child::find("testparm").map(|testparm| child::output(Command::new(testparm).arg("-s"), child::PATIENCE));
    let text = match said {
        Some(Asked::Told((true, bytes))) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        _ => read(file),
    };
    shares::read_shares(&text.unwrap_or_default())
}

/// What the kernel's NFS server exports.
pub(super) fn exports() -> Vec<Export> {
    let more = fs::read_dir("/etc/exports.d").into_iter().flatten().flatten().map(|entry| entry.path());
    let more = more.filter(|path| path.extension().is_some_and(|word| word == "exports"));
    let files = std::iter::once(PathBuf::from("/etc/exports")).chain(more);
    files.flat_map(|file| shares::read_exports(&file, &fs::read_to_string(&file).unwrap_or_default())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_for_aes_are_found_on_each_processor() {
        assert!(has_aes("processor: 0\nflags\t\t: fpu aes avx\n"));
        assert!(has_aes("Features\t: fp asimd aes\n"));
        assert!(!has_aes("flags\t\t: fpu vaes\n"));
    }
}
