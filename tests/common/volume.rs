//! Volumes in the gocryptfs format, made, mounted and checked by the stock program, which is the
//! judge of all that tierfs writes.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::{fs, mount, need, wait};

/// The passphrase of every volume of the tests.
pub(crate) const PASSPHRASE: &str = "correct horse";

/// One combination of features.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flavour {
    pub(crate) name: &'static str,
    /// What `gocryptfs -init` is told.
    pub(crate) flags: &'static [&'static str],
}

impl Flavour {
    /// What `gocryptfs -init` makes when told nothing.
    pub(crate) const DEFAULT: Flavour = Flavour { name: "gcm", flags: &[] };

    pub(crate) fn has(self, flag: &str) -> bool {
        self.flags.contains(&flag)
    }

    /// Names are in clear.
    pub(crate) fn plain_names(self) -> bool {
        self.has("-plaintextnames")
    }

    /// Directories have a `gocryptfs.diriv`.
    pub(crate) fn has_dir_ivs(self) -> bool {
        !self.plain_names() && !self.has("-deterministic-names")
    }
}

macro_rules! flavours {
    ($($name:literal: [$($flag:literal),*]),* $(,)?) => {
        &[$(Flavour { name: $name, flags: &[$($flag),*] }),*]
    };
}

/// Every combination of ciphers and kinds of names that tierfs supports.
pub(crate) const FLAVOURS: &[Flavour] = flavours! {
    "gcm": [],
    "gcm-deterministic": ["-deterministic-names"],
    "gcm-plain-names": ["-plaintextnames"],
    "gcm-long-100": ["-longnamemax", "100"],
    "gcm-padded": ["-raw64=false"],
    "siv": ["-aessiv"],
    "siv-deterministic": ["-aessiv", "-deterministic-names"],
    "siv-plain-names": ["-aessiv", "-plaintextnames"],
    "siv-long-100": ["-aessiv", "-longnamemax", "100"],
    "xchacha": ["-xchacha"],
    "xchacha-deterministic": ["-xchacha", "-deterministic-names"],
    "xchacha-plain-names": ["-xchacha", "-plaintextnames"],
    "xchacha-long-100": ["-xchacha", "-longnamemax", "100"],
    "xchacha-padded": ["-xchacha", "-raw64=false"],
};

/// A directory of ciphertext and the file with its passphrase.
#[derive(Debug, Clone)]
pub(crate) struct Volume {
    pub(crate) cipher: PathBuf,
    pub(crate) passfile: PathBuf,
}

impl Volume {
    /// A new volume by the stock program. Reports a skip and returns `None` where that is missing.
    pub(crate) fn init(cipher: &Path, passfile: &Path, flavour: Flavour) -> Option<Volume> {
        let [gocryptfs] = need::programs(["gocryptfs"])?;
        std::fs::create_dir_all(cipher).expect("cipher directory");
        write_passphrase(passfile);
        let mut command = Command::new(gocryptfs);
        command.args(["-init", "-q", "-scryptn", "10"]).args(flavour.flags);
        command.arg("-passfile").arg(passfile).arg("--").arg(cipher);
        let output = wait::output(&mut command);
        assert!(output.status.success(), "gocryptfs -init: {}", told(&output));
        Some(Volume { cipher: cipher.to_owned(), passfile: passfile.to_owned() })
    }

    /// A volume that is there.
    pub(crate) fn at(cipher: &Path, passfile: &Path) -> Volume {
        Volume { cipher: cipher.to_owned(), passfile: passfile.to_owned() }
    }

    /// Mounts it with the stock program.
    pub(crate) fn mount(&self, point: &Path) -> Stock {
        self.try_mount(point).unwrap_or_else(|words| panic!("gocryptfs: {words}"))
    }

    /// The same, or what the stock program says.
    pub(crate) fn try_mount(&self, point: &Path) -> Result<Stock, String> {
        std::fs::create_dir_all(point).expect("mount point");
        let mut command = Command::new(need::find("gocryptfs").expect("checked when the volume was made"));
        // Nothing is remembered between calls: tierfs may be at work on the same volume.
        command.args(["-q", "-sharedstorage", "-acl", "-passfile"]).arg(&self.passfile);
        if rustix::process::geteuid().is_root() {
            command.args(["-allow_other", "-suid", "-dev"]);
        }
        // Only this process waits for the daemon, and its pipes must not be held by that.
        let log = point.with_extension("stock-log");
        let file = std::fs::File::create(&log).expect("log");
        command.arg("--").arg(&self.cipher).arg(point);
        command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null()).stderr(file);
        let status = command.status().expect("gocryptfs runs");
        let words = std::fs::read_to_string(&log).unwrap_or_default();
        let _gone = std::fs::remove_file(&log);
        if status.success() { Ok(Stock { point: point.to_owned() }) } else { Err(format!("{status}: {words}")) }
    }

    /// `gocryptfs -fsck`: exit code and words.
    pub(crate) fn fsck(&self) -> (Option<i32>, String) {
        let mut command = Command::new(need::find("gocryptfs").expect("checked when the volume was made"));
        command.args(["-fsck", "-q", "-nosyslog", "-passfile"]).arg(&self.passfile).arg("--").arg(&self.cipher);
        let output = wait::output(&mut command);
        // It looks for a system log, is told of its own unmount, and does not seek on small blocks.
        let noise = ["syslog", "opcode: RELEASE", "disabling SEEK_DATA"];
        let words = told(&output);
        let words = words.lines().filter(|line| !noise.iter().any(|word| line.contains(word))).collect::<Vec<_>>();
        let words = words.join("\n");
        (output.status.code(), words)
    }

    /// The stock program finds nothing wrong.
    #[track_caller]
    pub(crate) fn is_clean(&self, when: &str) {
        let (code, words) = self.fsck();
        assert!(code == Some(0) && words.trim().is_empty(), "{when}: gocryptfs -fsck {code:?}: {words}");
    }
}

/// Writes the tests' passphrase where only its owner reads it.
pub(crate) fn write_passphrase(passfile: &Path) {
    fs::put(passfile, format!("{PASSPHRASE}\n"));
    std::fs::set_permissions(passfile, std::fs::Permissions::from_mode(0o600)).expect("chmod");
}

fn told(output: &Output) -> String {
    format!("{} {}{}", output.status, String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
        .trim_start_matches("exit status: 0 ")
        .to_owned()
}

/// A volume mounted by the stock program, until this is dropped.
#[derive(Debug)]
pub(crate) struct Stock {
    point: PathBuf,
}

impl Stock {
    /// A path in it.
    pub(crate) fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.point.join(path)
    }

    /// The mount point.
    pub(crate) fn root(&self) -> &Path {
        &self.point
    }
}

impl Drop for Stock {
    fn drop(&mut self) {
        mount::unmount_for_sure(&self.point);
    }
}
