//! The reverse view: the plaintext of another tier as a gocryptfs volume, made while it is read.
//!
//! Nothing is kept. All numbers that a volume holds follow from encrypted paths ([`derive`]), so the
//! same tree and key give the same bytes in every run and on every machine, and a program that
//! mirrors the view copies only what changed. The bytes are those of `gocryptfs -reverse`, with one
//! exception: what has several names has numbers from its body and not from one of its paths
//! ([`seed`]).
//!
//! `dir.rs` says what a name of the view stands for, `file.rs` has contents, `fixed.rs` the files that
//! exist in the view alone, `long.rs` finds the plaintext of hashed names, `xattrs.rs` attributes.
//!
//! [`derive`]: crate::crypt::derive
//! [`seed`]: seed::of

use std::sync::Arc;
use std::time::Duration;

use super::read_only::unchangeable_tier;
use super::{Dir, Tier};
use crate::crypt::layout::Layout;
use crate::crypt::{Cipher, Names, Volume};
use crate::types::attr::{Body, Kind, Space, Stat, Time};
use crate::types::errno::{Errno, Result};
use crate::types::name::Name;
use crate::types::rules::Rules;
use crate::types::view::{OnChange, SETTLED};

mod dir;
mod file;
mod fixed;
mod long;
pub mod seed;
#[cfg(test)]
mod tests;
mod xattrs;

use dir::ReverseDir;

/// The configuration file that the view shows in its root.
#[derive(Debug)]
pub struct ConfFile {
    /// Where it is.
    pub dir: Arc<dyn Dir>,
    /// Its name there.
    pub name: Name,
    /// Whether this is the root of the source, where it is then not shown under its own name.
    pub inside: bool,
}

/// What the view is made with.
#[derive(Debug)]
pub struct Settings {
    /// The key and the features.
    pub volume: Arc<Volume>,
    /// Which paths of the source are shown.
    pub rules: Rules,
    /// What happens to a file that changes while it is read.
    pub on_change: OnChange,
    /// The file shown as `gocryptfs.conf`.
    pub conf: ConfFile,
}

/// The view.
#[derive(Debug)]
pub struct ReverseTier {
    inner: Arc<dyn Tier>,
    root: Arc<ReverseDir>,
}

impl ReverseTier {
    /// Over a tier of plaintext.
    ///
    /// # Errors
    /// EINVAL for a volume whose contents are not encrypted with AES-SIV: the nonces here repeat by design,
    /// which no other cipher bears.
    pub fn new(inner: Arc<dyn Tier>, settings: Settings) -> Result<ReverseTier> {
        if settings.volume.features().cipher != Cipher::Siv {
            return Err(Errno::EINVAL);
        }
        let root = Arc::new(ReverseDir::root(inner.root(), Arc::new(settings)));
        Ok(ReverseTier { inner, root })
    }
}

impl Tier for ReverseTier {
    fn root(&self) -> Arc<dyn Dir> {
        Arc::clone(&self.root) as Arc<dyn Dir>
    }

    fn space(&self) -> Result<Space> {
        self.inner.space()
    }

    unchangeable_tier!();
}

impl Settings {
    fn names(&self) -> &Names {
        self.volume.names()
    }

    fn layout(&self) -> Layout {
        self.volume.content().layout()
    }

    /// Attributes as the view shows them.
    fn shown(&self, stat: Stat) -> Stat {
        let size = match stat.kind() {
            Kind::File => self.layout().cipher_size(stat.size),
            Kind::Symlink => self.target_len(stat.size),
            _ => stat.size,
        };
        Stat { size, ..stat }
    }

    /// The length of the encrypted target of a link whose target has `plain` bytes.
    fn target_len(&self, plain: u64) -> u64 {
        if self.names().is_plain() || plain == 0 {
            return plain;
        }
        let sealed = usize::try_from(plain).unwrap_or(TARGET_MAX).min(TARGET_MAX) + self.layout().overhead;
        self.names().encode_target(&vec![0; sealed]).len() as u64
    }
}

/// No target is longer, in bytes (`PATH_MAX`, `linux/limits.h`).
const TARGET_MAX: usize = 4096;

/// How long after `now` what `stat` describes will be [`SETTLED`] if nothing more happens to it; nothing if
/// it is so already, also where times lie ahead and tell nothing.
fn settles_in(stat: &Stat, now: Time) -> Option<Duration> {
    let nanos = |time: Time| i128::from(time.sec) * 1_000_000_000 + i128::from(time.nsec);
    let age = nanos(now) - nanos(stat.mtime.max(stat.ctime));
    let rest = i128::try_from(SETTLED.as_nanos()).unwrap_or(0) - age;
    if age < 0 || rest <= 0 {
        return None;
    }
    u64::try_from(rest).ok().map(Duration::from_nanos)
}

/// The number of a thing that only the view has. It follows from the path, as its contents do, so one
/// number never stands for two contents.
fn number(path: &[u8], of: &str) -> Body {
    let derived = crate::crypt::derive::derive(path, of);
    let (first, _) = derived.split_first_chunk::<8>().unwrap_or((&[0; 8], &[]));
    Body(u64::from_be_bytes(*first))
}
