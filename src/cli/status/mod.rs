//! `tierfs status`.
//!
//! It asks the programs that serve, each for a bounded time, and touches neither a mount nor a tier: `found.rs` says
//! how a mount is found and what is done with one that does not answer, `trouble.rs` what somebody has to look after.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use clap::Args;

use crate::cli::exit::{Exit, Failure, Outcome};
use crate::cli::{absolute, print_json, print_line, target};
use found::{Found, State};

mod found;
mod object;
mod probe;
mod sockets;
mod timer;
mod trouble;
pub(in crate::cli) mod words;

/// Tells how mounts and their tiers are: space, what is missing, the last and the next run, what a crash has
/// left. Without a name, all mounts of this machine, and what is configured in /etc/tierfs or /etc/fstab and not
/// mounted.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tierfs status                        of all mounts
  tierfs status /srv/docs              of one, by any path in it
  tierfs status docs                   of /etc/tierfs/docs.yaml
  tierfs status --check || mail root   one line for each trouble, for cron and monitoring
  tierfs status --json | jq .

Root is told of all mounts, other users of their own. It answers within seconds, also where a tier
or a mount hangs.

Exit codes:
  0 told; with --check: all is well   1 error, or a mount named may not be asked
  2 wrong usage   3 with --check: there is trouble")]
pub struct Status {
    /// Mount points or paths below them, configuration files, or their names in /etc/tierfs
    #[arg(value_name = "MOUNT|NAME|CONFIG")]
    words: Vec<OsString>,
    /// One JSON object a line for each mount
    #[arg(long)]
    json: bool,
    /// Only troubles, one a line, and exit with 3 if there are any
    #[arg(long)]
    check: bool,
    /// Looks at one mount point for another call of this command
    #[arg(long, hide = true, value_name = "MOUNTPOINT")]
    look_at: Option<PathBuf>,
}

impl Status {
    /// Prints.
    ///
    /// # Errors
    /// What cannot be found or may not be asked.
    pub fn run(self) -> Outcome {
        if let Some(point) = &self.look_at {
            return probe::look(point);
        }
        let mut machine = found::all()?;
        for word in &self.words {
            found::add(&mut machine.all, &absolute(Path::new(word))?);
        }
        let now = UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
        let named = self.words.iter().map(|word| named(&machine.all, word)).collect::<Result<Vec<_>, _>>()?;
        let chosen = if self.words.is_empty() { (0..machine.all.len()).collect() } else { named };
        machine.look(&chosen);
        let chosen: Vec<&Found> = chosen.iter().filter_map(|at| machine.all.get(*at)).collect();
        if let Some(denied) = chosen.iter().find(|found| matches!(found.state, State::Denied(_)))
            && !self.words.is_empty()
        {
            return Err(Failure::error(words::lines(denied, now).swap_remove(0)));
        }
        if chosen.is_empty() && !self.json {
            print_line(b"no tierfs is mounted, and none is configured in /etc/tierfs or /etc/fstab")?;
        }
        for (at, found) in chosen.iter().enumerate() {
            if self.json {
                print_json(&object::of(found, now))?;
                continue;
            }
            if self.check {
                continue;
            }
            if at > 0 {
                print_line(b"")?;
            }
            words::lines(found, now).iter().try_for_each(|line| print_line(line.as_bytes()))?;
        }
        if self.check { self.judge(&chosen, now) } else { Ok(Exit::Ok) }
    }

    fn judge(&self, chosen: &[&Found], now: u64) -> Outcome {
        let mut exit = Exit::Ok;
        let mut unknown = 0;
        for found in chosen {
            unknown += usize::from(matches!(found.state, State::Denied(_)));
            for line in trouble::of(found, now) {
                exit = Exit::Partial;
                if !self.json {
                    print_line(&[found.point.as_os_str().as_bytes(), b": ", line.as_bytes()].concat())?;
                }
            }
        }
        if exit == Exit::Ok && !self.json && !chosen.is_empty() {
            let hidden = if unknown == 0 { String::new() } else { format!("; {unknown} more only root may ask") };
            print_line(format!("all is well: {}{hidden}", counted(chosen.len() - unknown)).as_bytes())?;
        }
        Ok(exit)
    }
}

/// Whether a word is a configuration file, or the name of one in /etc/tierfs, rather than a path in a mount.
pub(in crate::cli) fn names_a_configuration(word: &OsStr) -> bool {
    let path = Path::new(word);
    let is_file = path.extension().is_some_and(|ending| ending == "yaml") && path.is_file();
    word.to_str().and_then(found::config_named).is_some() || (is_file && target::spot_of(path).is_err())
}

/// Mount point and socket of the mount that `word` means; without one, of the only mount there is.
///
/// # Errors
/// One line where there is none, more than one, or where it does not serve.
pub(in crate::cli) fn serving(word: Option<&OsStr>) -> Result<(PathBuf, PathBuf), Failure> {
    let mut machine = found::all()?;
    let at = match word {
        Some(word) => {
            found::add(&mut machine.all, &absolute(Path::new(word))?);
            named(&machine.all, word)?
        }
        None => {
            let is_mount = |found: &Found| !matches!(found.state, State::Absent | State::Wrong(_));
            let mounts: Vec<usize> =
                (0..).zip(&machine.all).filter(|(_, found)| is_mount(found)).map(|(at, _)| at).collect();
            match mounts[..] {
                [one] => one,
                [] => return Err(Failure::new(Exit::Usage, "no tierfs is mounted: mount it first")),
                _ => {
                    let points = mounts.iter().map(|at| machine.all[*at].point.display().to_string());
                    let points = points.collect::<Vec<_>>().join(", ");
                    return Err(Failure::new(Exit::Usage, format!("which mount? Name one of {points}")));
                }
            }
        }
    };
    machine.look(&[at]);
    let found = &machine.all[at];
    match (&found.state, &found.socket) {
        (State::Serving(_) | State::Elsewhere(_), Some(socket)) => Ok((found.point.clone(), socket.clone())),
        _ => {
            let now = UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
            let trouble = trouble::of(found, now).into_iter().next();
            let line = trouble.map(|line| format!("{}: {line}", found.point.display()));
            Err(Failure::error(line.unwrap_or_else(|| words::lines(found, now).swap_remove(0))))
        }
    }
}

fn counted(mounts: usize) -> String {
    if mounts == 1 { "1 mount".into() } else { format!("{mounts} mounts") }
}

/// The mount that a word means, as an index: by a path in it, by its configuration, by the name of that.
fn named(all: &[Found], word: &OsStr) -> Result<usize, Failure> {
    let path = absolute(Path::new(word))?;
    let by_config = |config: &Path| all.iter().position(|found| found.config.as_deref() == Some(config));
    let found = word.to_str().and_then(found::config_named).and_then(|config| by_config(&config));
    let found = found.or_else(|| by_config(&path)).or_else(|| above(all, &path));
    if let Some(found) = found {
        return Ok(found);
    }
    // Only now is the path itself looked at: it is in no mount that could hang.
    let real = path.canonicalize().ok();
    let found = real.as_deref().and_then(|real| by_config(real).or_else(|| above(all, real)));
    found.ok_or_else(|| {
        let line = "is neither in a mounted tierfs nor a configuration of one: `tierfs status` lists all there are";
        Failure::new(Exit::Usage, format!("{}: {line}", Path::new(word).display()))
    })
}

/// The mount that a path is in.
fn above(all: &[Found], path: &Path) -> Option<usize> {
    let over = all.iter().enumerate().filter(|(_, found)| path.starts_with(&found.point));
    over.max_by_key(|(_, found)| found.point.as_os_str().len()).map(|(at, _)| at)
}
