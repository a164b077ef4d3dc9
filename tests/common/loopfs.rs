//! Filesystems of a chosen kind, made in an image file or in memory, gone when dropped.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::{mount, need};

/// A mounted filesystem of its own.
#[derive(Debug)]
pub(crate) struct LoopFs {
    kind: &'static str,
    options: &'static str,
    point: PathBuf,
    home: TempDir,
    /// How often another disk took its place.
    plugged: usize,
}

impl LoopFs {
    /// A filesystem of `kind` (`tmpfs`, `ext4`, `xfs`, `btrfs`) with `size_mib` MiB.
    /// Reports a skip and returns `None` where that cannot be made here.
    pub(crate) fn new(kind: &'static str, size_mib: u64) -> Option<LoopFs> {
        LoopFs::with(kind, size_mib, "relatime")
    }

    /// The same, mounted with these options.
    pub(crate) fn with(kind: &'static str, size_mib: u64, options: &'static str) -> Option<LoopFs> {
        if !need::root() {
            return None;
        }
        let home = mount::temp_dir();
        let point = home.path().join(kind);
        std::fs::create_dir(&point).expect("mount point");
        let made = LoopFs { kind, options, point, home, plugged: 0 };
        if kind == "tmpfs" {
            let size = format!("size={size_mib}m,{options}");
            run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&made.point));
        } else {
            made.mount_image(size_mib)?;
        }
        Some(made)
    }

    fn mount_image(&self, size_mib: u64) -> Option<()> {
        let mkfs = format!("mkfs.{}", self.kind);
        let [mkfs, _] = need::programs([mkfs.as_str(), "mount"])?;
        let image = self.image();
        let file = std::fs::File::create(&image).expect("image");
        file.set_len(size_mib << 20).expect("image size");
        drop(file);
        let mut command = Command::new(mkfs);
        command.arg("-q");
        if self.kind == "ext4" {
            command.args(["-E", "lazy_itable_init=0,nodiscard", "-F"]);
        }
        run(command.arg(&image));
        let mounted = self.mount();
        if !mounted.status.success() {
            let text = String::from_utf8_lossy(&mounted.stderr).into_owned();
            need::skip(&format!("cannot loop-mount {}: {}", self.kind, text.trim()));
            return None;
        }
        Some(())
    }

    fn image(&self) -> PathBuf {
        self.home.path().join(format!("image{}", self.plugged))
    }

    fn mount(&self) -> std::process::Output {
        let mut command = Command::new("mount");
        command
            .args(["-o", &format!("loop,{}", self.options)])
            .arg(self.image())
            .arg(&self.point)
            .output()
            .expect("mount runs")
    }

    /// Mounts what was unmounted. `mount` takes a loop device that has the image already, and where the last user of
    /// that ends in this moment, the device goes before it is mounted.
    fn mount_again(&self) {
        super::wait::until("the image can be mounted", || {
            let mounted = self.mount();
            let words = String::from_utf8_lossy(&mounted.stderr);
            mounted.status.success().then_some(()).or_else(|| {
                eprintln!("not yet: {words}");
                None
            })
        });
    }

    /// Drops everything that is not durable yet; from here on every call fails. `false` where the
    /// filesystem cannot.
    pub(crate) fn cut_power(&self) -> bool {
        // XFS_IOC_GOINGDOWN with XFS_FSOP_GOING_FLAGS_NOLOGFLUSH: the log is not flushed. Not by xfs_io, which first
        // asks every filesystem that is mounted anywhere, also one that hangs.
        let words =
            "import fcntl,os,sys; fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587D, b'\\x02\\0\\0\\0')";
        let mut python = Command::new(need::PYTHON);
        python.args(["-I", "-S", "-c", words]).arg(&self.point).stderr(Stdio::null());
        python.status().expect("python3 runs").success()
    }

    /// Makes all that is in it durable.
    pub(crate) fn sync(&self) {
        run(Command::new("sync").arg("-f").arg(&self.point));
    }

    /// After a cut: mounts again what the image has, which replays the log.
    pub(crate) fn restart(&self) {
        super::wait::until("the filesystem lives again", || self.lives_again().then_some(()));
    }

    /// The same, once. `false` while somebody has it open: it is busy, or the kernel gives the same dead
    /// filesystem again. That of a process that has just died goes soon.
    pub(crate) fn lives_again(&self) -> bool {
        let there = mount::is_mounted(&self.point);
        if there && rustix::mount::unmount(&self.point, rustix::mount::UnmountFlags::empty()).is_err() {
            return false;
        }
        let mounted = self.mount();
        if !mounted.status.success() {
            eprintln!("not yet: {}", String::from_utf8_lossy(&mounted.stderr));
            return false;
        }
        let probe = self.point.join("probe");
        std::fs::File::create(&probe).and_then(|_| std::fs::remove_file(&probe)).is_ok()
    }

    /// After a cut: another device with the same contents takes its place, while the dead one stays for who has
    /// it open. Two filesystems of one number: xfs wants the option `nouuid`.
    pub(crate) fn replug(&mut self) {
        let dead = self.image();
        self.plugged += 1;
        run(Command::new("cp").arg("--sparse=always").arg(&dead).arg(self.image()));
        rustix::mount::unmount(&self.point, rustix::mount::UnmountFlags::DETACH).expect("umount -l");
        std::fs::remove_file(dead).expect("rm");
        self.mount_again();
    }

    fn unmount(&self) {
        super::wait::until("the filesystem is not busy", || {
            rustix::mount::unmount(&self.point, rustix::mount::UnmountFlags::empty()).is_ok().then_some(())
        });
    }

    /// Checks the filesystem, which must be in order, and mounts it again.
    pub(crate) fn check(&self) {
        self.unmount();
        let (program, arguments): (&str, &[&str]) = match self.kind {
            "ext4" => ("e2fsck", &["-f", "-n"]),
            "xfs" => ("xfs_repair", &["-n"]),
            _ => ("btrfs", &["check", "--readonly"]),
        };
        run(Command::new(program).args(arguments).arg(self.image()));
        self.mount_again();
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
