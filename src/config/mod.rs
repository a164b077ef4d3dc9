//! What a mount is told to do: values that the command line, `-o` and a YAML file all become.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::types::passphrase::Source;

pub mod check;
pub mod load;
pub mod options;
pub mod schema;
pub mod spec;
pub mod suggest;
pub mod template;
pub mod view;
pub mod words;

/// Why a configuration cannot be used: one line for the administrator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// On the command line, `-o` included.
    Usage(String),
    /// In a configuration file.
    File(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Usage(line) | Error::File(line) => f.write_str(line),
        }
    }
}

impl std::error::Error for Error {}

/// A mount while its parts come together: first the file, then SPEC, then `-o`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Draft {
    /// The file that was read, if any.
    pub file: Option<PathBuf>,
    /// A short name for the mount, shown as its source where no `fsname` is given.
    pub name: Option<String>,
    /// Where it is to appear.
    pub mountpoint: Option<PathBuf>,
    /// Fastest first.
    pub tiers: Vec<TierConfig>,
    /// The file with the policy of the migrator.
    pub policy: Option<PathBuf>,
    /// Options so far.
    pub options: MountOptions,
    /// Where metrics go.
    pub metrics: Metrics,
}

/// One mount, complete and checked.
#[derive(Debug, Clone, PartialEq)]
pub struct MountConfig {
    /// Fastest first; one to eight.
    pub tiers: Vec<TierConfig>,
    /// Where it appears; empty for a union that is opened without being mounted.
    pub mountpoint: PathBuf,
    /// The file with the policy of the migrator, as an absolute path.
    pub policy: Option<PathBuf>,
    /// The file that was read, if any, as an absolute path.
    pub file: Option<PathBuf>,
    /// How it behaves.
    pub options: MountOptions,
    /// Where metrics go.
    pub metrics: Metrics,
}

/// Where numbers for Prometheus go: nowhere unless asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metrics {
    /// A port of this machine that answers to scrapes.
    pub listen: Option<SocketAddr>,
    /// A file that node_exporter reads.
    pub textfile: Option<PathBuf>,
    /// How often the file is written.
    pub every: Duration,
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics { listen: None, textfile: None, every: Duration::from_secs(15) }
    }
}

/// One tier as the administrator names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TierConfig {
    /// The tier's root directory.
    pub path: PathBuf,
    /// The id its marker must carry; `None` takes what the markers say.
    pub id: Option<String>,
    /// New files go to the next tier when less than this is free.
    pub min_free: MinFree,
    /// How a tier is unlocked that holds ciphertext; `None` for one that holds the files as they are.
    pub encryption: Option<Encryption>,
}

impl TierConfig {
    /// A directory of which nothing more is said.
    pub fn at(path: PathBuf) -> TierConfig {
        TierConfig { path, id: None, min_free: MinFree::Bytes(0), encryption: None }
    }
}

/// How a tier is unlocked. Never what unlocks it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Encryption {
    /// The volume's configuration with the wrapped key; `None`: `gocryptfs.conf` in the tier's root.
    pub conf: Option<PathBuf>,
    /// Where the passphrase comes from.
    pub source: Source,
}

/// Free space a tier keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MinFree {
    /// So many bytes.
    Bytes(u64),
    /// So many hundredths of the filesystem, 0 to 100.
    Percent(u8),
}

/// How changes made beside the mount come to be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutOfBand {
    /// Kernel notification (fanotify as root, inotify otherwise).
    Watch,
    /// Nothing is cached longer than `ttl`.
    Ttl,
    /// There are none: the mount owns its tiers.
    Never,
}

/// What `statfs(2)` on the mount tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatfsOf {
    /// The sum over distinct filesystems.
    Sum,
    /// The primary's alone.
    Primary,
    /// The secondary's alone.
    Secondary,
}

/// Which files Samba shows as offline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmbOffline {
    /// None.
    Never,
    /// Those that are not on the primary.
    Demoted,
    /// Those of the slowest tier.
    Last,
}

/// What becomes of a file on a slower tier that is opened for writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnWrite {
    /// It is written where it is.
    InPlace,
    /// It is brought to the primary first.
    Promote,
}

/// What happens at the start when a tier's marker is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnMissing {
    /// The mount refuses to start.
    Fail,
    /// It serves what it has, answers EIO for what it cannot know, and refuses changes.
    Degraded,
}

/// Behaviour common to command line, `-o` and configuration file.
#[derive(Debug, Clone, PartialEq)]
pub struct MountOptions {
    /// Every user may use the mount, not only the one who mounted it.
    pub allow_other: bool,
    /// The kernel checks permissions. Turned off only on request.
    pub default_permissions: bool,
    /// Nothing can be changed.
    pub read_only: bool,
    /// What `df` and `/proc/mounts` show as the source.
    pub fsname: Option<String>,
    /// Set-user-id bits work (root only).
    pub suid: bool,
    /// Device nodes work (root only).
    pub dev: bool,
    /// Programs can be run.
    pub exec: bool,
    /// How out-of-band changes are seen.
    pub out_of_band: OutOfBand,
    /// How long the kernel keeps names, attributes and absences with `OutOfBand::Ttl`.
    pub ttl: Duration,
    /// A tier that has not answered for so long is given up until it does; zero: never.
    pub tier_timeout: Duration,
    /// What `statfs` tells.
    pub statfs: StatfsOf,
    /// New files go to the next tier when one is below `min_free` or full.
    pub spill: bool,
    /// Writing to a file of a slower tier.
    pub on_write: OnWrite,
    /// A tier that is absent at the start.
    pub on_missing: OnMissing,
    /// Data goes past tierfs through FUSE passthrough where the kernel can.
    pub passthrough: bool,
    /// Reading sets access times also on tiers that are mounted `noatime` (root only).
    pub track_access: bool,
    /// Files and directories of which tierfs knows the place after the kernel has forgotten them, for
    /// servers that open by file handles.
    pub remember: usize,
    /// Files that carry the attribute `OFFLINE` for clients of Samba.
    pub smb_offline: SmbOffline,
    /// Threads that serve requests; `None`: four or the number of CPUs, whichever is more.
    pub threads: Option<usize>,
}

impl Default for MountOptions {
    fn default() -> Self {
        MountOptions {
            allow_other: false,
            default_permissions: true,
            read_only: false,
            fsname: None,
            suid: false,
            dev: false,
            exec: true,
            out_of_band: OutOfBand::Watch,
            ttl: Duration::from_secs(1),
            tier_timeout: Duration::from_secs(30),
            statfs: StatfsOf::Sum,
            spill: true,
            on_write: OnWrite::InPlace,
            on_missing: OnMissing::Fail,
            passthrough: true,
            track_access: false,
            remember: 0,
            smb_offline: SmbOffline::Never,
            threads: None,
        }
    }
}
