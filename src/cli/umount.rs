//! `tierfs umount`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use crate::cli::exit::{Exit, Failure, Outcome};
use crate::cli::target;
use crate::control::client;
use crate::sys::mount;
use crate::sys::process::Process;

/// How long the daemon may take to let go of the tiers once the mount has gone. A run that is at work
/// ends first.
const DAEMON_PATIENCE: Duration = Duration::from_secs(60);

/// Unmounts a tierfs, and returns when its tiers can be unmounted, too. Also clears a dead mount ("Transport endpoint is not connected"). Never
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
            let daemon = if self.lazy { None } else { daemon_of(mountpoint) };
            mount::unmount(mountpoint, self.lazy).map_err(Failure::from)?;
            if let Some(daemon) = daemon
                && daemon.has_ended_within(DAEMON_PATIENCE) == Ok(false)
            {
                let point = mountpoint.display();
                eprintln!("tierfs: {point} is unmounted, but its process still works on the tiers: see the system log");
            }
        }
        Ok(Exit::Ok)
    }
}

/// The process that serves a mount; `None` if nobody can tell, as of a mount that takes no commands.
fn daemon_of(mountpoint: &Path) -> Option<Process> {
    let socket = target::socket_of(mountpoint).ok()?;
    client::connect(&socket).ok()?.daemon()
}
