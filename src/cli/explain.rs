//! `tierfs explain`.

use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::Args;

use crate::cli::exit::{Exit, Failure, Outcome};
use crate::cli::target::{self, Reach, Spot};
use crate::cli::where_is::{self, FileCopy};
use crate::cli::{complain, output, pin, print_line, run};
use crate::control::convert;
use crate::control::wire::{AgeBy, Criteria, What};
use crate::daemon::runs;
use crate::policy::{self, Decision, Policy, Stay, Verdict};
use crate::sys::{by_path, creds, stat, users_of};
use crate::types::attr::{Body, Kind, Stat, Time};
use crate::types::facts::Facts;
use crate::types::ids::Rank;
use crate::types::path::UnionPath;
use crate::types::units;

/// Tells where a file is, which rule of the policy matches it, what age counts, what is in the way,
/// and what the next run does with it.
#[derive(Debug, Args)]
#[command(after_help = "\
Without --older-than and --policy the policy of the mount's configuration is used.

Examples:
  tierfs explain /srv/docs/report.pdf
  tierfs explain --older-than 1y /srv/docs/report.pdf

Exit codes:
  0 all explained   1 none   2 wrong usage   3 some   78 wrong policy")]
pub struct Explain {
    /// Files in a mounted tierfs
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    /// As if migrate were called with it
    #[arg(long, value_name = "AGE", value_parser = units::parse_duration, conflicts_with = "policy")]
    older_than: Option<Duration>,
    /// Decide by this policy
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
}

/// A policy, and what to call it.
struct By {
    policy: Policy,
    origin: String,
    /// Whether `origin` is a file, and not the command line.
    from_file: bool,
    tiers: u8,
}

/// All that is looked at of one file.
struct Seen {
    copies: Vec<FileCopy>,
    facts: Facts,
    /// The path that carries the pin.
    pinned_at: Option<PathBuf>,
    users: Vec<users_of::User>,
    /// Processes that could not be looked into.
    closed: usize,
}

impl Explain {
    /// Explains each.
    ///
    /// # Errors
    /// Where none could be, and where the policy is wrong.
    pub fn run(self) -> Outcome {
        let mut failures = 0;
        for path in &self.paths {
            match self.explain(path) {
                Ok(lines) => lines.iter().try_for_each(|line| print_line(line))?,
                Err(failure) if failure.code == Exit::Error as u8 => {
                    failures += 1;
                    complain(failure.line.as_bytes());
                }
                Err(failure) => return Err(failure),
            }
        }
        match failures {
            0 => Ok(Exit::Ok),
            all if all == self.paths.len() => Err(Failure::error("")),
            _ => Ok(Exit::Partial),
        }
    }

    fn explain(&self, path: &Path) -> Result<Vec<Vec<u8>>, Failure> {
        let (spot, inside) = target::spot_of(path)?;
        let by = self.policy(&spot)?;
        let seen = look(path, &spot, inside)?;
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let now = Time { sec: i64::try_from(now.as_secs()).unwrap_or(i64::MAX), nsec: now.subsec_nanos() };
        let decision = by.policy.decide(&seen.facts, now, by.tiers);
        let head = path.as_os_str().as_bytes().to_vec();
        let lines = describe(&seen, &by, &decision, now);
        let lines = lines.iter().map(|(what, text)| format!("  {what:<9} {text}").into_bytes());
        Ok([head].into_iter().chain(lines).collect())
    }

    fn policy(&self, spot: &Spot) -> Result<By, Failure> {
        let Reach::Mounted { socket, .. } = target::find(Some(spot.point.as_os_str()))?.reach else {
            return Err(Failure::error(format!("{}: is not mounted", spot.point.display())));
        };
        let info = run::info(&socket)?;
        let configured = info.policy.as_ref().and_then(convert::bytes);
        let configured = configured.map(|bytes| PathBuf::from(std::ffi::OsString::from_vec(bytes)));
        let (what, origin) = match (&self.older_than, &self.policy, &configured) {
            (Some(age), ..) => {
                let exclude = Vec::new();
                let criteria =
                    Criteria { older_than: Some(*age), age_by: AgeBy::Newest, min_size: 0, exclude, to: None };
                (What::Criteria(criteria), format!("--older-than {}", output::age(*age)))
            }
            (None, Some(file), _) => (run::policy_file(file)?, file.display().to_string()),
            (None, None, Some(file)) => (What::Configured, file.display().to_string()),
            (None, None, None) => {
                let line = "by which policy? The configuration of the mount names none: give --older-than 1y or \
                            --policy FILE";
                return Err(Failure::new(Exit::Usage, line));
            }
        };
        let policy = runs::policy(&what, configured.as_deref());
        let policy = policy.map_err(|problem| match &info.refused {
            Some(_) if what == What::Configured => {
                let line = format!("{} (the mount works on by the policy that it read before)", problem.line);
                Failure { line, code: problem.code }
            }
            _ => Failure { line: problem.line, code: problem.code },
        })?;
        policy.check_tiers(info.tiers).map_err(|line| {
            let problem = runs::misfit(&what, configured.as_deref(), &line);
            Failure { line: problem.line, code: problem.code }
        })?;
        Ok(By { policy, origin, from_file: self.older_than.is_none(), tiers: info.tiers })
    }
}

fn look(path: &Path, spot: &Spot, inside: UnionPath) -> Result<Seen, Failure> {
    let fail = |why: &dyn std::fmt::Display| Failure::error(format!("{}: {why}", path.display()));
    let failed = |errno| fail(&target::why(errno));
    let held = by_path::hold(path).map_err(failed)?;
    let found = stat::statx(held.as_fd(), None).map_err(failed)?;
    let kind = Kind::of_mode(found.mode);
    if kind == Kind::Dir {
        return Err(fail(&"is a directory, and only files move: name a file below it"));
    }
    if kind != Kind::File {
        return Err(fail(&"is no regular file: it never moves"));
    }
    let copies = where_is::copies(path)?;
    let rank = copies.first().and_then(|copy| Rank::parse(&copy.tier));
    let rank = rank.ok_or_else(|| fail(&"the mount does not tell its tier"))?;
    let real = path.canonicalize().map_err(|error| fail(&error))?;
    let mut pin = None;
    for above in real.ancestors().take_while(|above| above.starts_with(&spot.point)) {
        if let Some(rank) = pin::get(above).map_err(failed)? {
            pin = Some((rank, above.to_path_buf()));
            break;
        }
    }
    let stat = Stat {
        body: Body(found.ino),
        generation: 0,
        mode: found.mode,
        nlink: found.nlink,
        uid: found.uid,
        gid: found.gid,
        rdev: found.rdev,
        size: found.size,
        blocks: found.blocks,
        blksize: found.blksize,
        atime: found.atime,
        mtime: found.mtime,
        ctime: found.ctime,
    };
    let mut paths = vec![real];
    paths.extend(copies.iter().map(|copy| copy.path.canonicalize().unwrap_or_else(|_| copy.path.clone())));
    let (users, closed) = users_of::users_of(&paths);
    let facts = Facts { path: inside, rank, stat, pin: pin.as_ref().map(|(rank, _)| *rank) };
    Ok(Seen { copies, facts, pinned_at: pin.map(|(_, at)| at), users, closed })
}

/// What is told, line by line.
fn describe(seen: &Seen, by: &By, decision: &Decision, now: Time) -> Vec<(&'static str, String)> {
    let facts = &seen.facts;
    let mut lines = Vec::new();
    for (at, copy) in seen.copies.iter().enumerate() {
        let what = if at == 0 { "on" } else { "hides" };
        lines.push((what, format!("{} ({})", copy.tier, copy.path.display())));
    }
    lines.push(("size", units::show_size(facts.stat.size)));
    let age = |time| output::age(policy::since(time, now));
    let (read, changed) = (age(facts.stat.atime), age(facts.stat.mtime));
    lines.push(("age", format!("{} counts; read {read} ago, changed {changed} ago", output::age(decision.age))));
    if let (Some(rank), Some(at)) = (facts.pin, &seen.pinned_at) {
        lines.push(("pin", format!("to {rank}, set on {}", at.display())));
    }
    let rule = decision.rule.and_then(|index| Some((index, by.policy.rules.get(index)?)));
    let rule = match rule {
        Some((index, rule)) if by.from_file => format!("`{}`, number {} of {}", rule.name, index + 1, by.origin),
        Some(_) => format!("{} matches", by.origin),
        None if by.from_file => format!("none of {} matches", by.origin),
        None => format!("{} does not match", by.origin),
    };
    lines.push(("rule", rule));
    lines.extend(blocks(seen).into_iter().map(|text| ("in use", text)));
    if facts.stat.nlink > 1 {
        let text = format!("has {} hard links: moves only together with all of them", facts.stat.nlink);
        lines.push(("links", text));
    }
    lines.push(("next", next(decision.verdict, facts.pin, !seen.users.is_empty())));
    lines
}

fn blocks(seen: &Seen) -> Vec<String> {
    let users = seen.users.iter().map(|user| format!("by {} (process {})", user.name, user.pid));
    let hidden = (seen.closed > 0).then(|| {
        let hint = if creds::is_root() { "" } else { ": run this with sudo" };
        format!("not known of {} processes that could not be looked into{hint}", seen.closed)
    });
    users.chain(hidden).collect()
}

/// What the next run does.
fn next(verdict: Verdict, pin: Option<Rank>, in_use: bool) -> String {
    match verdict {
        Verdict::Move(to) if in_use => format!("would move to {to}, but stays as long as it is in use"),
        // A run scans only the tiers that its rules take files from, so it may not come by.
        Verdict::Move(to) if pin == Some(to) => {
            format!("is pinned to {to}, but not there: `tierfs recall --to {to}` brings it at once")
        }
        Verdict::Move(to) => format!("moves to {to} with the next run"),
        Verdict::Stay(Stay::Pinned) => match pin {
            Some(rank) => format!("stays: it is pinned to {rank}; `tierfs unpin` ends that"),
            None => "stays: the rule pins it to where it is".into(),
        },
        Verdict::Stay(Stay::Excluded) => "stays: the policy excludes its path".into(),
        Verdict::Stay(Stay::Kept) => "stays: the rule says keep".into(),
        Verdict::Stay(Stay::Placed) => "stays: it is where the rule wants it".into(),
        Verdict::Stay(Stay::NoRule(Some(wait))) => {
            format!("stays: too young; moves in {} if nobody uses it meanwhile", output::age(wait))
        }
        Verdict::Stay(Stay::NoRule(None)) => "stays: no rule matches, whatever its age".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_step_names_what_is_in_the_way() {
        let day = Duration::from_secs(86400);
        for (verdict, pin, in_use, says) in [
            (Verdict::Move(Rank(1)), None, false, "moves to secondary with"),
            (Verdict::Move(Rank(1)), None, true, "in use"),
            (Verdict::Move(Rank(0)), Some(Rank(0)), false, "recall --to primary"),
            (Verdict::Stay(Stay::Pinned), Some(Rank(0)), false, "pinned to primary"),
            (Verdict::Stay(Stay::NoRule(Some(3 * day))), None, false, "moves in 3d"),
            (Verdict::Stay(Stay::NoRule(None)), None, false, "no rule"),
        ] {
            let text = next(verdict, pin, in_use);
            assert!(text.contains(says), "{text}");
        }
    }
}
