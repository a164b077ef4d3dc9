//! The configuration file, field for field. Nothing but what is written in it.

use std::fmt;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::{Deserialize as DeriveDeserialize, Serialize, Serializer};

use crate::config::words::Word;
use crate::config::{MinFree, OnMissing, OnWrite, OutOfBand, SmbOffline, StatfsOf};

/// The one version of the format so far.
pub const VERSION: u32 = 1;

/// The whole file.
#[derive(Debug, Default, DeriveDeserialize, Serialize)]
#[serde(deny_unknown_fields, expecting = "keys such as version, tiers and mount")]
pub struct File {
    /// [`VERSION`].
    pub version: u32,
    /// A short name for the mount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Plain<String>>,
    /// Where it appears.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mountpoint: Option<Plain<PathBuf>>,
    /// Shorthand for the first of `tiers`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<Tier>,
    /// Shorthand for the second of `tiers`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secondary: Option<Tier>,
    /// Fastest first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tiers: Option<Vec<Tier>>,
    /// The policy of the migrator; relative to the directory of this file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Plain<PathBuf>>,
    /// Options.
    #[serde(default)]
    pub mount: Mount,
    /// Numbers for Prometheus.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Metrics>,
}

/// The section `metrics:`.
#[derive(Debug, Default, DeriveDeserialize, Serialize)]
#[serde(deny_unknown_fields, expecting = "where metrics go, such as {listen: 127.0.0.1:9567}")]
pub struct Metrics {
    /// Where Prometheus may ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen: Option<Plain<SocketAddr>>,
    /// A file for node_exporter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub textfile: Option<Plain<PathBuf>>,
    /// How often the file is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<Plain<Duration>>,
}

/// One tier.
#[derive(Debug, DeriveDeserialize, Serialize)]
#[serde(deny_unknown_fields, expecting = "a tier, such as {path: /fast/docs}")]
pub struct Tier {
    /// Its root.
    pub path: Plain<PathBuf>,
    /// The id its marker must carry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Plain<String>>,
    /// Free space it keeps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_free: Option<Plain<MinFree>>,
    /// That the tier holds ciphertext, and how it is unlocked.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "encryption")]
    pub encryption: Option<Encryption>,
}

/// The section `encryption:` of a tier. Of the keys after `conf` at most one is there.
#[derive(Debug, Default, DeriveDeserialize, Serialize)]
#[serde(deny_unknown_fields, expecting = "how the tier is unlocked, such as {passfile: /etc/tierfs/docs.pass}")]
pub struct Encryption {
    /// The volume's configuration, where it is not in the tier's root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conf: Option<Plain<PathBuf>>,
    /// A file whose first line is the passphrase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passfile: Option<Plain<PathBuf>>,
    /// A file all of which is the passphrase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keyfile: Option<Plain<PathBuf>>,
    /// A program that writes the passphrase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extpass: Option<Plain<String>>,
    /// A credential of the systemd service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<Plain<String>>,
    /// A key in the kernel's keyrings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keyring: Option<Plain<String>>,
}

/// A key `encryption:` with nothing after it is there as well: taken for absent, the tier's files would be
/// written in clear.
fn encryption<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Encryption>, D::Error> {
    Option::<Encryption>::deserialize(deserializer).map(|section| Some(section.unwrap_or_default()))
}

macro_rules! mount {
    ($($(#[$doc:meta])* $field:ident: $type:ty),* $(,)?) => {
        /// The section `mount:`; every field as in `MountOptions`.
        #[derive(Debug, Default, DeriveDeserialize, Serialize)]
        #[serde(deny_unknown_fields, expecting = "mount options, such as allow_other: true")]
        pub struct Mount {
            $($(#[$doc])*
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub $field: Option<Plain<$type>>,)*
        }
    };
}

mount! {
    /// Every user may use the mount.
    allow_other: bool,
    /// The kernel checks permissions.
    default_permissions: bool,
    /// Nothing can be changed.
    ro: bool,
    /// The source that `df` shows.
    fsname: String,
    /// Set-user-id bits work.
    suid: bool,
    /// Device nodes work.
    dev: bool,
    /// Programs can be run.
    exec: bool,
    /// How out-of-band changes are seen.
    out_of_band: OutOfBand,
    /// How long the kernel keeps what it knows.
    ttl: Duration,
    /// After which a tier that does not answer is given up.
    tier_timeout: Duration,
    /// What `statfs` tells.
    statfs: StatfsOf,
    /// New files may go to the next tier.
    spill: bool,
    /// Writing to a file of a slower tier.
    on_write: OnWrite,
    /// A tier that is absent at the start.
    on_missing: OnMissing,
    /// Data goes past tierfs.
    passthrough: bool,
    /// Reading sets access times on every tier.
    track_access: bool,
    /// Files that stay known after the kernel has forgotten them.
    remember: usize,
    /// Files that Samba shows as offline.
    smb_offline: SmbOffline,
    /// Threads that serve requests.
    threads: usize,
}

/// A value in its written form, whatever YAML would take it for. Read inside the visitor, so that a
/// wrong one is reported at its own line and column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plain<T>(pub T);

impl<T: Word> Serialize for Plain<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.show().as_str() {
            "true" => serializer.serialize_bool(true),
            "false" => serializer.serialize_bool(false),
            text => match text.parse::<u64>() {
                Ok(number) if number.to_string() == text => serializer.serialize_u64(number),
                _ => serializer.serialize_str(text),
            },
        }
    }
}

impl<'de, T: Word> Deserialize<'de> for Plain<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(PlainVisitor(PhantomData)).map(Plain)
    }
}

struct PlainVisitor<T>(PhantomData<T>);

impl<T: Word> Visitor<'_> for PlainVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one value")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        T::read(text).map_err(E::custom)
    }
}
