//! `tierfs mount`.

use std::cell::Cell;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use clap::{ArgAction, Args};

use crate::cli::exit::{Exit, Failure, Outcome};
use crate::cli::{absolute, fstab, remount};
use crate::config::options::Options;
use crate::config::{Draft, Error, MountConfig, TierConfig, check, load, spec};
use crate::daemon::unlock;
use crate::sys::manager;
use crate::sys::process::{self, Forked, Teller};
use crate::tier::place::Place;
use crate::{daemon, log};

/// Mounts tiers as one tree and goes to the background once it serves. If it cannot serve, it says
/// why and exits with a code other than 0; nothing is then mounted.
#[derive(Debug, Args)]
#[command(override_usage = "tierfs mount [OPTIONS] SPEC MOUNTPOINT\n       \
                            tierfs mount [OPTIONS] --config FILE [MOUNTPOINT]",
          after_help = AFTER)]
pub struct Mount {
    /// The tiers, fastest first: PRIMARY:SECONDARY[:...]; write \: for a colon in a path
    #[arg(value_name = "SPEC")]
    first: Option<OsString>,
    /// The directory to mount on
    #[arg(value_name = "MOUNTPOINT")]
    second: Option<OsString>,
    /// Options as in /etc/fstab, separated by commas; write \, for a comma in a value
    #[arg(short = 'o', value_name = "OPTION[=VALUE],...", action = ArgAction::Append)]
    options: Vec<OsString>,
    /// Stay in the foreground, and log to standard error
    #[arg(short = 'f', long)]
    foreground: bool,
    /// Log more: -v what happens, -vv why, -vvv everything
    #[arg(short = 'v', long, action = ArgAction::Count)]
    verbose: u8,
    /// Read tiers and options from a YAML file; -o overrides it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

const AFTER: &str = "\
Mount options (-o):
  allow_other              other users, and Samba, may use the mount
  ro                       nothing can be changed through the mount
  fsname=NAME              what df shows as the source
  min_free=10%|4GiB        new files go to the next tier when a tier has less free
  nospill                  never: a full primary is an error
  on_missing=fail|degraded
                           a tier that is not there: refuse to mount, or serve what there is
  tier_timeout=30s         a tier that does not answer for so long is given up until it does
                           (0s: never)
  out_of_band=watch|ttl|never, ttl=1s
                           how changes made beside the mount are noticed
  statfs=sum|primary|secondary
                           what df shows
  on_write=in_place|promote
                           a file of a slower tier that was written: stays, or moves up
  track_access             reading counts for the age also on tiers mounted noatime
  remember=N               for export by NFS: so many files stay known, such as 1000000
  smb_offline=never|demoted|last
                           files that Samba shows as offline: none, those that are not on the
                           primary, those of the last tier
  threads=N                threads that serve requests
  metrics_listen=127.0.0.1:PORT, metrics_textfile=FILE.prom, metrics_every=15s
                           numbers for Prometheus, on a port of this machine or in a file
  nopassthrough, suid, dev, noexec
  config=FILE              the same as --config
  remount                  change ro, rw, suid, dev and exec of what is mounted, and nothing else
A tier that holds ciphertext takes a configuration file, with a section `encryption:` (see
tierfs key).
Options meant for mount(8) and systemd (nofail, _netdev, x-..., noatime) are accepted.

Examples:
  tierfs mount /fast/docs:/slow/docs /srv/docs
  tierfs mount -o allow_other,min_free=10% /fast/docs:/slow/docs /srv/docs
  tierfs mount --config /etc/tierfs/docs.yaml
In /etc/fstab:
  /fast/docs:/slow/docs  /srv/docs  tierfs  allow_other,nofail  0 0

Messages go to standard error with -f, else to the journal or the system log. The environment variable TIERFS_LOG sets what is logged, such as TIERFS_LOG=tierfs=debug.";

impl Mount {
    /// Mounts.
    ///
    /// # Errors
    /// Why it does not serve.
    pub fn run(self) -> Outcome {
        let options = Options::new(self.options.iter().map(OsString::as_os_str));
        if options.words().any(|word| word == "remount") {
            let mountpoint = self.second.as_ref().or(self.first.as_ref());
            let mountpoint = mountpoint.ok_or_else(|| usage("the mount point is missing"))?;
            return remount::run(&absolute(Path::new(mountpoint))?, &options);
        }
        let config = self.configuration()?;
        log::start(self.verbose).map_err(|line| Failure::new(Exit::Usage, line))?;
        // Somebody may have to type a passphrase, which nobody can in the background.
        let places = unlock::places(&config).map_err(|error| Failure { line: error.line, code: error.code })?;
        if self.foreground {
            manager::connect();
            let outcome = serve(&config, &places, || {
                log::queue();
                manager::ready(&status(&config));
            });
            log::flush();
            return outcome;
        }
        match process::background() {
            Err(errno) => Err(Failure::error(format!("going to the background: {errno}"))),
            Ok(Forked::Parent(told)) if told.code == 0 => Ok(Exit::Ok),
            Ok(Forked::Parent(told)) => Err(Failure { line: told.line, code: told.code }),
            Ok(Forked::Child(teller)) => in_background(&config, &places, teller),
        }
    }

    /// The command that a line of `fstab(5)` stands for.
    pub(super) fn of_line(line: &fstab::Line) -> Mount {
        Mount {
            first: Some(line.source.clone()),
            second: Some(line.point.clone().into()),
            options: vec![line.options.clone()],
            foreground: false,
            verbose: 0,
            config: None,
        }
    }

    /// Joins file, SPEC and `-o`, the later ones over the earlier.
    ///
    /// # Errors
    /// What is wrong or missing.
    pub(super) fn configuration(&self) -> Result<MountConfig, Failure> {
        let options = Options::new(self.options.iter().map(OsString::as_os_str));
        let file = self.config.clone().or_else(|| options.config_file());
        let mut draft = match &file {
            Some(file) => load::load(file)?,
            None => Draft::default(),
        };
        if let (Some(first), Some(second), None) = (&self.first, &self.second, &file) {
            in_order(first, second)?;
        }
        let (tiers, mountpoint) = match (&self.first, &self.second, &file) {
            (Some(tiers), Some(mountpoint), _) => (Some(tiers), Some(mountpoint)),
            (mountpoint, None, Some(_)) => (None, mountpoint.as_ref()),
            (Some(_), None, None) => return Err(usage("the mount point is missing")),
            (None, ..) => return Err(usage("the tiers and the mount point are missing")),
        };
        if let Some(tiers) = tiers {
            name_tiers(&mut draft, tiers)?;
        }
        if let Some(mountpoint) = mountpoint {
            draft.mountpoint = Some(absolute(Path::new(mountpoint))?);
        }
        options.apply(&mut draft)?;
        Ok(check::finish(draft)?)
    }
}

fn usage(what: &str) -> Failure {
    let line =
        format!("{what}: write tierfs mount PRIMARY:SECONDARY MOUNTPOINT, or --config FILE (see tierfs mount --help)");
    Failure::new(Exit::Usage, line)
}

/// Refuses the slips that would mount something else than what was meant: a blank for the colon, which would make a
/// union of one tier and hide the other below it, and the mount point first.
fn in_order(first: &OsString, second: &OsString) -> Result<(), Failure> {
    let tiers = spec::parse(first)?;
    if second.is_empty() {
        return Err(usage("the mount point is empty"));
    }
    if tiers.len() != 1 {
        return Ok(());
    }
    let (shown, other) = (first.display(), second.display());
    if second.as_bytes().contains(&b':') && !Path::new(second).exists() {
        let line = format!("the tiers come first, then the mount point: write tierfs mount {other} {shown}");
        return Err(Failure::new(Exit::Usage, line));
    }
    if first.as_bytes().contains(&b',') && !Path::new(first).exists() {
        let line = format!("{shown}: tiers are separated by colons: write {}", shown.to_string().replace(',', ":"));
        return Err(Failure::new(Exit::Usage, line));
    }
    let line = format!(
        "{shown} is one tier only: write all of them with a colon between, then the mount point: tierfs mount \
         {shown}:SECONDARY MOUNTPOINT (a union of one tier takes a configuration file)"
    );
    Err(Failure::new(Exit::Usage, line))
}

/// Takes the tiers of SPEC. A file that names tiers, too, must name the same: of two answers to
/// where the files are, none can be taken for right. `none` leaves it to the file, for fstab.
fn name_tiers(draft: &mut Draft, given: &OsString) -> Result<(), Failure> {
    if given == "none" && draft.file.is_some() {
        return Ok(());
    }
    let mut paths = Vec::new();
    for path in spec::parse(given)? {
        paths.push(absolute(&path)?);
    }
    if draft.tiers.is_empty() {
        draft.tiers = paths.into_iter().map(TierConfig::at).collect();
        return Ok(());
    }
    if draft.tiers.iter().map(|tier| &tier.path).eq(&paths) {
        return Ok(());
    }
    let file = draft.file.as_deref().unwrap_or(Path::new("the configuration")).display();
    let line = format!("{} and {file} name different tiers: give one of them", given.display());
    Err(Error::Usage(line).into())
}

/// What `systemctl status` shows of a mount that serves.
fn status(config: &MountConfig) -> String {
    let tiers: Vec<_> = config.tiers.iter().map(|tier| tier.path.display().to_string()).collect();
    format!("serving {} from {}", config.mountpoint.display(), tiers.join(":"))
}

fn serve(config: &MountConfig, places: &[Place], ready: impl FnOnce()) -> Outcome {
    match daemon::serve(config, places, ready) {
        Ok(()) => Ok(Exit::Ok),
        Err(error) => Err(Failure { line: error.line, code: error.code }),
    }
}

/// What fails before it serves goes to the parent, what fails later to the log.
fn in_background(config: &MountConfig, places: &[Place], teller: Teller) -> Outcome {
    let teller = Cell::new(Some(teller));
    let outcome = serve(config, places, || {
        log::detach();
        if let Some(Err(errno)) = teller.take().map(Teller::serving) {
            tracing::warn!("going to the background: {errno}");
        }
    });
    let Err(failure) = outcome else {
        return Ok(Exit::Ok);
    };
    match teller.take() {
        Some(teller) => teller.failed(failure.code, &failure.line),
        None => tracing::error!("{}", failure.line),
    }
    Err(Failure { line: String::new(), ..failure })
}
