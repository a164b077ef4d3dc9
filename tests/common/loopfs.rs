//! Filesystems of a chosen kind, made in an image file or in memory, gone when dropped.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::{mount, need};

/// A mounted filesystem of its own.
#[derive(Debug)]
pub(crate) struct LoopFs {
    kind: &'static str,
    point: PathBuf,
    home: TempDir,
}

impl LoopFs {
    /// A filesystem of `kind` (`tmpfs`, `ext4`, `xfs`, `btrfs`) with `size_mib` MiB.
    /// Reports a skip and returns `None` where that cannot be made here.
    pub(crate) fn new(kind: &'static str, size_mib: u64) -> Option<LoopFs> {
        if !need::root() {
            return None;
        }
        let home = mount::temp_dir();
        let point = home.path().join(kind);
        std::fs::create_dir(&point).expect("mount point");
        let made = LoopFs { kind, point, home };
        if kind == "tmpfs" {
            let size = format!("size={size_mib}m");
            run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&made.point));
        } else {
            made.mount_image(size_mib)?;
        }
        Some(made)
    }

    fn mount_image(&self, size_mib: u64) -> Option<()> {
        let mkfs = format!("mkfs.{}", self.kind);
        let [mkfs, _] = need::programs([mkfs.as_str(), "mount"])?;
        let image = self.home.path().join("image");
        let file = std::fs::File::create(&image).expect("image");
        file.set_len(size_mib << 20).expect("image size");
        drop(file);
        let mut command = Command::new(mkfs);
        command.arg("-q");
        if self.kind == "ext4" {
            command.args(["-E", "lazy_itable_init=0,nodiscard", "-F"]);
        }
        run(command.arg(&image));
        let mounted =
            Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&self.point).output().expect("mount runs");
        if !mounted.status.success() {
            let text = String::from_utf8_lossy(&mounted.stderr).into_owned();
            need::skip(&format!("cannot loop-mount {}: {}", self.kind, text.trim()));
            return None;
        }
        Some(())
    }

    /// Its root directory.
    pub(crate) fn path(&self) -> &Path {
        &self.point
    }

    /// Its kind, as `mount -t` names it.
    pub(crate) fn kind(&self) -> &'static str {
        self.kind
    }
}

impl Drop for LoopFs {
    fn drop(&mut self) {
        mount::unmount_for_sure(&self.point);
    }
}

/// Runs a command that must succeed and returns what it prints.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{text}{complaint}", output.status);
    text
}
