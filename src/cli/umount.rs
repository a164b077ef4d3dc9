//! `tierfs umount`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use crate::cli::exit::{Exit, Failure, Outcome};
use crate::cli::target;
use crate::config::load;
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
  tierfs umount --dead --config /etc/tierfs/docs.yaml    what the systemd unit does before a start

Exit codes:
  0 unmounted   1 not mounted, or not allowed   2 wrong usage   75 in use   78 wrong configuration")]
pub struct Umount {
    /// Where it is mounted
    #[arg(value_name = "MOUNTPOINT", required_unless_present = "config")]
    mountpoints: Vec<PathBuf>,
    /// Take the mount point from a configuration file
    #[arg(long, value_name = "FILE", conflicts_with = "mountpoints")]
    config: Option<PathBuf>,
    /// Also unmount what is in use: it vanishes at once and ends when nobody uses it any more
    #[arg(short = 'l', long)]
    lazy: bool,
    /// Only clear a mount whose program has ended; where there is none, nothing is done and that is
    /// success. Says nothing about a configuration that is wrong
    #[arg(long, conflicts_with = "lazy")]
    dead: bool,
}

impl Umount {
    /// Unmounts each, in the order given.
    ///
    /// # Errors
    /// The first that cannot be unmounted; the rest are left.
    pub fn run(self) -> Outcome {
        let configured = match self.config.as_deref().map(configured).transpose() {
            // Its service says so when it mounts; before and after that it need not be said again.
            Err(failure) if self.dead => return Err(Failure { line: String::new(), ..failure }),
            other => other?,
        };
        for mountpoint in self.mountpoints.iter().chain(&configured) {
            if self.dead {
                clear(mountpoint)?;
                continue;
            }
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

/// The mount point of a configuration file.
fn configured(file: &Path) -> Result<PathBuf, Failure> {
    let missing =
        || Failure::new(Exit::Config, format!("{}: there is no mount point: add mountpoint:", file.display()));
    load::load(file)?.mountpoint.ok_or_else(missing)
}

/// Takes dead mounts away, and nothing else. Lazily: a program may still have its directory there.
fn clear(mountpoint: &Path) -> Result<(), Failure> {
    while mount::is_dead(mountpoint) {
        mount::unmount(mountpoint, true)?;
        eprintln!("tierfs: {}: cleared a mount whose program had ended", mountpoint.display());
    }
    Ok(())
}

/// The process that serves a mount; `None` if nobody can tell, as of a mount that takes no commands.
fn daemon_of(mountpoint: &Path) -> Option<Process> {
    let socket = target::socket_of(mountpoint).ok()?;
    client::connect(&socket).ok()?.daemon()
}
