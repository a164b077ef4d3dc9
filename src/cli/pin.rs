//! `tierfs pin`.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::cli::criteria::rank;
use crate::cli::exit::{Exit, Failure, Outcome};
use crate::cli::{complain, target};
use crate::sys::{by_path, xattr};
use crate::types::errno::{Errno, Result as OsResult};
use crate::types::ids::Rank;
use crate::types::pin;

/// Keeps files on a tier, whatever the policy says: a file for itself, a directory for everything
/// below it that has no pin of its own. Nothing moves at once; `tierfs recall` brings up what is on a
/// slower tier already.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tierfs pin /srv/docs/templates                    stays on the primary
  tierfs pin --tier secondary /srv/docs/archive
  setfattr -n user.tierfs.pin -v primary /srv/docs/templates     the same without tierfs

Exit codes:
  0 all pinned   1 none   2 wrong usage   3 some")]
pub struct Pin {
    /// The tier they stay on: primary, secondary, tier2 ...
    #[arg(long, value_name = "TIER", value_parser = rank, default_value = "primary")]
    tier: Rank,
    /// Files or directories in a mounted tierfs
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
}

impl Pin {
    /// Pins each.
    ///
    /// # Errors
    /// Where none could be.
    pub fn run(self) -> Outcome {
        let word = self.tier.to_string();
        for_each(&self.paths, |path| set(path, Some(&word)))
    }
}

/// Does something to each path and tells what went wrong.
pub(super) fn for_each(paths: &[PathBuf], act: impl Fn(&Path) -> Result<(), Failure>) -> Outcome {
    let failures = paths.iter().filter_map(|path| act(path).err()).inspect(|failure| {
        complain(failure.line.as_bytes());
    });
    match failures.count() {
        0 => Ok(Exit::Ok),
        all if all == paths.len() => Err(Failure::error("")),
        _ => Ok(Exit::Partial),
    }
}

/// What the pin of a path says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pinned {
    /// It is kept on this tier.
    To(Rank),
    /// It names no tier: it is kept where it is.
    Unclear,
}

/// The pin of the path itself, not one above it.
pub(super) fn get(path: &Path) -> OsResult<Option<Pinned>> {
    let held = by_path::hold(path)?;
    match xattr::get(held.as_fd(), None, pin::KEY) {
        Ok(word) => Ok(Some(pin::parse(&word).map_or(Pinned::Unclear, Pinned::To))),
        // The kernel answers so for links and devices, which have no such attributes.
        Err(Errno::ENODATA | Errno::EPERM | Errno::EOPNOTSUPP) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Sets the pin of a path, or takes it away.
pub(super) fn set(path: &Path, word: Option<&str>) -> Result<(), Failure> {
    // Outside of a mount this would only write an attribute that nobody reads.
    target::spot_of(path)?;
    let fail = |why: String| Failure::error(format!("{}: {why}", path.display()));
    let kind = path.symlink_metadata().map_err(|error| fail(target::why(Errno::of(&error))))?;
    if !kind.is_file() && !kind.is_dir() {
        return Err(fail("only files and directories can be pinned: pin the directory it is in".into()));
    }
    let done = by_path::hold(path).and_then(|held| match word {
        Some(word) => xattr::set(held.as_fd(), None, pin::KEY, word.as_bytes(), 0),
        None => xattr::remove(held.as_fd(), None, pin::KEY),
    });
    done.map_err(|errno| match (errno, word) {
        (Errno::EPERM | Errno::EACCES, _) => fail("only its owner and root may pin it: run this with sudo".into()),
        (Errno::EINVAL, Some(word)) => fail(format!("the mount has no tier `{word}`")),
        (Errno::ENODATA, None) => fail("has no pin of its own; `tierfs explain` tells of one above it".into()),
        (Errno::EOPNOTSUPP, _) => fail("its tier cannot hold extended attributes, which pins are".into()),
        (other, _) => fail(target::why(other)),
    })
}
