//! `-o remount`: what the kernel enforces by itself can be changed under a mount that serves. All else
//! belongs to the daemon, which reads it only at its start.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::cli::exit::{Exit, Failure, Outcome};
use crate::cli::fstab;
use crate::config::options::{self, Options};
use crate::sys::mount::{self, Enforced};
use crate::sys::{by_path, mountinfo, xattr};
use crate::types::errno::Errno;

/// Words that the kernel can act on while it is mounted.
const CHANGES: &[(&str, fn(&mut Enforced))] = &[
    ("ro", |how| how.read_only = true),
    ("rw", |how| how.read_only = false),
    ("suid", |how| how.suid = true),
    ("nosuid", |how| how.suid = false),
    ("dev", |how| how.dev = true),
    ("nodev", |how| how.dev = false),
    ("exec", |how| how.exec = true),
    ("noexec", |how| how.exec = false),
];

/// Asked of the daemon, not of the kernel: nobody has it, and removing it fails in one of two ways.
const NEVER_SET: &std::ffi::CStr = c"user.tierfs-is-writable";

/// Changes the mount at `mountpoint`.
///
/// # Errors
/// A word that only a new mount can change; what the kernel says.
pub fn run(mountpoint: &Path, options: &Options) -> Outcome {
    let standing = standing(mountpoint);
    let was = mount::enforced(mountpoint)?;
    let how = wanted(was, options, &standing).map_err(|line| Failure::new(Exit::Usage, line))?;
    mount::remount(mountpoint, how).map_err(|error| told(&error, mountpoint))?;
    if was.read_only && !how.read_only && refuses_writes(mountpoint) {
        mount::remount(mountpoint, was)?;
        let line = format!(
            "{}: was mounted with ro, or serves without one of its tiers: unmount, then mount again with rw",
            mountpoint.display()
        );
        return Err(Failure::error(line));
    }
    Ok(Exit::Ok)
}

fn told(error: &mount::MountError, mountpoint: &Path) -> Failure {
    match error {
        mount::MountError::Busy(_) => {
            let shown = mountpoint.display();
            Failure::new(Exit::Busy, format!("{shown}: files are open for writing: see who with `fuser -vm {shown}`"))
        }
        mount::MountError::Os { errno: Errno::EPERM, .. } => Failure::error("only root may remount"),
        other => Failure::error(other),
    }
}

/// Whether the daemon itself refuses what the kernel now lets through.
fn refuses_writes(mountpoint: &Path) -> bool {
    let asked = by_path::hold(mountpoint).and_then(|held| xattr::remove(held.as_fd(), None, NEVER_SET));
    asked == Err(Errno::EROFS)
}

/// The words that are in force already: `mount(8)` passes those of `/etc/fstab`, or of the mount table,
/// along with the new ones.
fn standing(mountpoint: &Path) -> BTreeSet<OsString> {
    let mounts = mountinfo::read().unwrap_or_default();
    let table = mountinfo::at(&mounts, mountpoint).map(|mount| mount.options.clone());
    let fstab = fstab::line_at(&fstab::text(), mountpoint).map(|line| line.options);
    let all: Vec<OsString> = table.into_iter().chain(fstab).collect();
    Options::new(all.iter().map(OsString::as_os_str)).words().map(OsStr::to_owned).collect()
}

/// What results from `was` by the words of `options`, of which those in `standing` are nothing new.
fn wanted(was: Enforced, options: &Options, standing: &BTreeSet<OsString>) -> Result<Enforced, String> {
    let mut how = was;
    for word in options.words() {
        let text = String::from_utf8_lossy(word.as_bytes());
        let key = text.split('=').next().unwrap_or_default();
        if let Some((_, change)) = CHANGES.iter().find(|(name, _)| *name == text) {
            change(&mut how);
        } else if text != "remount" && !options::is_accepted(key) && !standing.contains(word) {
            return Err(format!("-o {text}: cannot be changed while it is mounted: unmount, then mount again"));
        }
    }
    Ok(how)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Enforced = Enforced { read_only: false, suid: false, dev: false, exec: true };

    fn asked(words: &str, standing: &[&str]) -> Result<Enforced, String> {
        let standing = standing.iter().map(OsString::from).collect();
        wanted(PLAIN, &Options::new([OsStr::new(words)]), &standing)
    }

    #[test]
    fn what_the_kernel_enforces_changes_and_the_rest_is_one_line() {
        let all = Enforced { read_only: true, suid: true, dev: true, exec: false };
        assert_eq!(asked("rw,remount,nofail,x-a=b,ro,suid,dev,noexec", &[]), Ok(all));
        assert_eq!(asked("remount", &[]), Ok(PLAIN));
        assert_eq!(asked("remount,config=/a,allow_other", &["config=/a", "allow_other"]), Ok(PLAIN));
        let refused = asked("remount,config=/b", &["config=/a"]).unwrap_err();
        assert_eq!(refused, "-o config=/b: cannot be changed while it is mounted: unmount, then mount again");
    }
}
