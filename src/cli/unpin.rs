//! `tierfs unpin`.

use std::path::PathBuf;

use clap::Args;

use crate::cli::exit::Outcome;
use crate::cli::pin;

/// Takes pins away. Nothing moves at once: the next run decides by the policy, or by a pin above.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tierfs unpin /srv/docs/templates
  tierfs pins /srv/docs                 what is pinned

Exit codes:
  0 all unpinned   1 none   2 wrong usage   3 some")]
pub struct Unpin {
    /// Files or directories in a mounted tierfs
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
}

impl Unpin {
    /// Unpins each.
    ///
    /// # Errors
    /// Where none could be.
    pub fn run(self) -> Outcome {
        pin::for_each(&self.paths, |path| pin::set(path, None))
    }
}
