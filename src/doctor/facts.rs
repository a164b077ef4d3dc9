//! What can be known about a machine and its unions. Values only: gathered elsewhere, judged by the checks.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::MountConfig;
use crate::policy::Policy;

/// What somebody answered who may not answer at all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Asked<T> {
    /// He did.
    Told(T),
    /// With why not.
    Refused(String),
    /// Not within the time that he was given.
    Silent,
}

impl<T> Asked<T> {
    /// The answer, if there is one.
    pub fn told(&self) -> Option<&T> {
        match self {
            Asked::Told(answer) => Some(answer),
            Asked::Refused(_) | Asked::Silent => None,
        }
    }
}

/// Everything.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// What all unions share.
    pub machine: Machine,
    /// Each union that was named, or is configured or mounted.
    pub unions: Vec<Union>,
    /// Every mount of tierfs here.
    pub mounts: Vec<Mount>,
    /// Sockets of mounts that nobody listens on.
    pub stale_sockets: Vec<PathBuf>,
    /// What Samba shares.
    pub shares: Vec<Share>,
    /// What the kernel's NFS server exports.
    pub exports: Vec<Export>,
}

/// What all unions share.
#[derive(Debug, Clone, Default)]
pub struct Machine {
    /// The user who asks.
    pub uid: u32,
    /// The kernel's release, as `uname -r` tells it.
    pub release: String,
    /// Whether the kernel was built with FUSE passthrough, where that can be told.
    pub passthrough: Option<bool>,
    /// Whether the kernel lets FUSE use io_uring; none where it cannot.
    pub uring: Option<bool>,
    /// Most pages of one FUSE request.
    pub max_pages: Option<u64>,
    /// `fs.fuse.default_request_timeout` in seconds; none where the kernel has no such thing.
    pub default_timeout: Option<u64>,
    /// `fs.fuse.max_request_timeout` in seconds.
    pub max_timeout: Option<u64>,
    /// `/dev/fuse`.
    pub device: Device,
    /// Whether `/etc/fuse.conf` says `user_allow_other`.
    pub user_allow_other: bool,
    /// Where fusermount3 is, and its mode.
    pub fusermount: Option<(PathBuf, u32)>,
    /// inotify watches a user may have.
    pub watches: Option<u64>,
    /// Whether the processor has instructions for AES.
    pub aes: bool,
    /// The text of `/etc/updatedb.conf`, if it is there.
    pub updatedb: Option<String>,
    /// Whether systemd runs this machine.
    pub systemd: bool,
    /// Seconds since 1970 by the machine's clock.
    pub now: i64,
}

/// `/dev/fuse`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Device {
    /// It can be opened.
    #[default]
    Usable,
    /// It is not there.
    Absent,
    /// It cannot be opened: its mode, and why.
    Refused(u32, String),
}

/// A file, as far as its rights matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rights {
    /// Where it is.
    pub path: PathBuf,
    /// Owner.
    pub uid: u32,
    /// Permissions.
    pub mode: u32,
}

/// One union.
#[derive(Debug, Clone, Default)]
pub struct Union {
    /// What messages call it: its configuration file, mount point, or tiers.
    pub name: String,
    /// The configuration file.
    pub file: Option<Rights>,
    /// The directory of that file.
    pub above: Option<Rights>,
    /// What it says, or what is known of a mount without one.
    pub config: Option<MountConfig>,
    /// Whether that was only seen from outside: then it says nothing about options.
    pub guessed: bool,
    /// Why there is none.
    pub problem: Option<String>,
    /// Files with passphrases, and why one cannot be read.
    pub secrets: Vec<Result<Rights, String>>,
    /// The policy file, and what it says or why it cannot be used.
    pub policy: Option<(PathBuf, Result<Policy, String>)>,
    /// Which of tiers and mount point overlap.
    pub overlap: Option<String>,
    /// What is at the mount point.
    pub ground: Ground,
    /// What the tiers' markers say against the union.
    pub markers: Markers,
    /// In the order of the configuration.
    pub tiers: Vec<Asked<Tier>>,
    /// Whether it is mounted now.
    pub mounted: bool,
    /// Whether Samba shares any of it.
    pub shared: bool,
    /// Names that differ only in case.
    pub names: Option<Asked<Names>>,
    /// How it comes at boot.
    pub boot: Boot,
    /// A file of cron, and the tier that it names rather than the mount.
    pub beside: Option<(PathBuf, PathBuf)>,
}

/// What is at a mount point where nothing is mounted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ground {
    /// It was not looked at, or something is mounted there.
    #[default]
    Unknown,
    /// Nothing.
    Absent,
    /// Something that is no directory.
    NoDirectory,
    /// An empty directory.
    Empty,
    /// A directory with something in it.
    Holds,
}

/// What the markers of all tiers come to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Markers {
    /// One whole union, as far as it was looked at.
    #[default]
    Good,
    /// No tier has one yet.
    Fresh,
    /// Tiers are not there, in words.
    Missing(String),
    /// They are of different unions, or in another order, or broken, in words.
    Foreign(String),
}

/// One tier.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tier {
    /// The type of its filesystem.
    pub kind: String,
    /// Where that is mounted.
    pub point: PathBuf,
    /// Options of the mount and of the filesystem.
    pub options: Vec<String>,
    /// Which filesystem it is: equal for two tiers that share one.
    pub filesystem: (u64, u64),
    /// Whether its root has the flag for names without case.
    pub casefold: bool,
    /// Owner of its root.
    pub uid: u32,
    /// Mode of its root.
    pub mode: u32,
    /// Bytes in all, and those that ordinary users can still have.
    pub bytes: (u64, u64),
    /// Inodes in all, and free ones; both 0 where the filesystem has no fixed number.
    pub inodes: (u64, u64),
    /// What was tried on it.
    pub tried: Asked<Tried>,
    /// Whether a file can be renamed so that none of the new name would be replaced; tried in its `.tierfs`.
    pub renames: Option<Asked<bool>>,
    /// What is in `.tierfs`, where that can be read.
    pub own: Option<Own>,
}

/// What was tried on a tier, with a file that has no name and is gone afterwards.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried {
    /// Why attributes `user.*` cannot be kept.
    pub user: Option<String>,
    /// Why attributes `trusted.*` cannot be kept; not tried unless by root.
    pub trusted: Option<String>,
    /// Why attributes `security.*` cannot be kept; not tried unless by root.
    pub security: Option<String>,
    /// Why ACLs cannot be kept.
    pub acl: Option<String>,
    /// The largest attribute that was kept, in bytes.
    pub largest: u64,
    /// Whether a copy can share its blocks with the source.
    pub reflink: bool,
    /// Whether space can be reserved.
    pub reserve: bool,
    /// Whether holes can be punched.
    pub punch: bool,
}

/// What is in a tier's `.tierfs`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Own {
    /// Records of renames and moves under way.
    pub records: u64,
    /// Contents that recovery could give no name.
    pub lost: u64,
    /// When the marker was last changed, in seconds since 1970.
    pub marker: Option<i64>,
}

/// Names that differ only in case.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    /// Entries looked at.
    pub seen: u64,
    /// Whether that was all of them.
    pub all: bool,
    /// The first groups, as paths.
    pub groups: Vec<Vec<String>>,
    /// How many there are.
    pub count: u64,
}

/// One mount of tierfs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mount {
    /// Where it is.
    pub point: PathBuf,
    /// Its source, as `df` shows it.
    pub source: String,
    /// Who mounted it.
    pub user: Option<u32>,
    /// Its options in the mount table.
    pub options: Vec<String>,
    /// What it answers.
    pub state: Option<Asked<Served>>,
}

/// What a mount answers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    /// Its daemon is gone.
    pub dead: bool,
    /// Where its tiers are, as far as they are there.
    pub tiers: Vec<PathBuf>,
    /// The process that serves it.
    pub pid: Option<u32>,
    /// The program of that process, as the kernel names it.
    pub program: Option<String>,
    /// Descriptors it may open.
    pub descriptors: Option<u64>,
    /// Bytes it may keep out of swap.
    pub locked: Option<u64>,
    /// Those that do not serve, with why, where it says so.
    pub gone: Option<Vec<String>>,
    /// Files that cannot be changed since an error has stopped their move halfway, and that error.
    pub held: Option<(u64, String)>,
    /// Tiers of which it is told late, or in part, what changes beside the mount.
    pub late: Vec<PathBuf>,
    /// Its policy file.
    pub policy: Option<PathBuf>,
    /// Why that is not in force as it is now.
    pub refused: Option<String>,
    /// Why it takes no commands.
    pub mute: Option<String>,
}

/// How a union comes at boot, and what moves its files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Boot {
    /// The name in `tierfs@NAME`; none for a configuration elsewhere.
    pub instance: Option<String>,
    /// Properties of the service, of the timer and of the run it starts, as `systemctl show` tells them.
    pub service: BTreeMap<String, String>,
    /// The same of `tierfs-migrate@NAME.timer`.
    pub timer: BTreeMap<String, String>,
    /// The same of `tierfs-migrate@NAME.service`.
    pub run: BTreeMap<String, String>,
    /// Whether systemd did not answer.
    pub silent: bool,
    /// The options in fstab, if there is a line for the mount point.
    pub fstab: Option<String>,
    /// Whether the generator has written the order of the service.
    pub ordered: bool,
    /// A file of cron that names `tierfs migrate`.
    pub cron: Option<PathBuf>,
}

/// A share of Samba, with what holds for all where it says nothing itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Share {
    /// Its name.
    pub name: String,
    /// What it shares.
    pub path: PathBuf,
    /// Its settings, by name in small letters without spaces.
    pub settings: BTreeMap<String, String>,
}

/// One export of the NFS server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Export {
    /// The file that says so.
    pub file: PathBuf,
    /// What it exports.
    pub path: PathBuf,
    /// Hosts and options.
    pub options: String,
}

impl Default for Asked<Tried> {
    fn default() -> Asked<Tried> {
        Asked::Told(Tried::default())
    }
}
