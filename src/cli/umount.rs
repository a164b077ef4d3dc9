//! `tierfs umount`.

use std::path::PathBuf;

use clap::Args;

use crate::cli::exit::{Exit, Failure, Outcome};
use crate::sys::mount;

/// Unmounts a tierfs. Also clears a dead mount ("Transport endpoint is not connected"). Never
/// touches another filesystem.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tierfs umount /srv/docs
  tierfs umount --lazy /srv/docs    hide it at once; it ends when the last program lets go

Exit codes:
  0 unmounted   1 not mounted, or not allowed   2 wrong usage   75 in use")]
pub struct Umount {
    /// Where it is mounted
    #[arg(value_name = "MOUNTPOINT", required = true)]
    mountpoints: Vec<PathBuf>,
    /// Also unmount what is in use: it vanishes at once and ends when nobody uses it any more
    #[arg(short = 'l', long)]
    lazy: bool,
}

impl Umount {
    /// Unmounts each, in the order given.
    ///
    /// # Errors
    /// The first that cannot be unmounted; the rest are left.
    pub fn run(self) -> Outcome {
        for mountpoint in &self.mountpoints {
            mount::unmount(mountpoint, self.lazy).map_err(Failure::from)?;
        }
        Ok(Exit::Ok)
    }
}
