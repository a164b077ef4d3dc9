//! `tierfs explain`.

use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use clap::Args;

use crate::cli::criteria::CriteriaArgs;
use crate::cli::exit::{Exit, Failure, Outcome};
use crate::cli::explained::{By, Explained, Seen, describe};
use crate::cli::pin::Pinned;
use crate::cli::target::{self, Reach, Spot};
use crate::cli::{complain, output, pin, print_line, run, where_is};
use crate::control::convert;
use crate::control::wire::What;
use crate::daemon::{hours, runs};
use crate::sys::{by_path, clock, creds, stat, users_of};
use crate::types::attr::{Body, Kind, Stat};
use crate::types::facts::Facts;
use crate::types::ids::Rank;
use crate::types::path::UnionPath;

/// Tells where a file is, which rule of the policy matches it and why those before it do not, what age
/// counts, what is in the way, and what the next run does with it.
#[derive(Debug, Args)]
#[command(after_help = "\
The options are those of `tierfs migrate`, and the answer is for a run with them. Without
--older-than and --policy the policy of the mount's configuration is used.

Examples:
  tierfs explain /srv/docs/report.pdf
  tierfs explain --older-than 1y /srv/docs/report.pdf

Exit codes:
  0 all explained   1 none   2 wrong usage   3 some   78 wrong policy")]
pub struct Explain {
    /// Files in a mounted tierfs
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    criteria: CriteriaArgs,
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
        let Reach::Mounted { socket, .. } = target::find(Some(spot.point.as_os_str()))?.reach else {
            return Err(Failure::error(format!("{}: is not mounted", spot.point.display())));
        };
        let by = self.by(&socket)?;
        let seen = look(path, &spot, inside)?;
        let now = clock::now();
        let judged = by.judge(&seen.facts, now);
        let probed = run::probe(&socket, &seen.facts.path, judged.to())?;
        let closed = by.policy.window.as_ref().zip(hours::now()).and_then(|(window, now)| window.closed(now));
        let head = path.as_os_str().as_bytes().to_vec();
        let lines = describe(&Explained { seen, by, judged, probed, closed, now });
        let lines = lines.iter().map(|(what, text)| format!("  {what:<9} {text}").into_bytes());
        Ok([head].into_iter().chain(lines).collect())
    }

    fn by(&self, socket: &Path) -> Result<By, Failure> {
        let info = run::info(socket)?;
        let configured = info.policy.as_ref().and_then(convert::bytes);
        let configured = configured.map(|bytes| PathBuf::from(std::ffi::OsString::from_vec(bytes)));
        let what = self.criteria.what()?;
        let origin = match (self.criteria.older_than, &self.criteria.policy, &configured) {
            (Some(age), ..) => format!("--older-than {}", output::age(age)),
            (None, Some(file), _) | (None, None, Some(file)) => file.display().to_string(),
            (None, None, None) => {
                let line = "by which policy? The configuration of the mount names none: give --older-than 1y or \
                            --policy FILE";
                return Err(Failure::new(Exit::Usage, line));
            }
        };
        let from_file = !matches!(what, What::Criteria(_));
        let policy = runs::policy(&what, configured.as_deref()).and_then(|policy| {
            let misfit = |line: String| runs::misfit(&what, configured.as_deref(), &line);
            policy.check_tiers(info.tiers).map_err(misfit).map(|()| policy)
        });
        let policy = policy.map_err(|problem| match &info.refused {
            Some(_) if what == What::Configured => {
                let line = format!("{} (the mount works on by the policy that it read before)", problem.line);
                Failure { line, code: problem.code }
            }
            _ => Failure { line: problem.line, code: problem.code },
        })?;
        Ok(By { policy, origin, from_file, tiers: info.tiers })
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
        if let Some(pinned) = pin::get(above).map_err(failed)? {
            // One that names no tier keeps the file where it is.
            let to = if let Pinned::To(to) = pinned { to } else { rank };
            pin = Some((to, above.to_path_buf()));
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
    // What is closed to root is no program of this machine's users, such as a process of the kernel.
    let closed = if creds::is_root() { 0 } else { closed };
    let facts = Facts { path: inside, rank, stat, pin: pin.as_ref().map(|(rank, _)| *rank) };
    Ok(Seen { copies, facts, pinned_at: pin.map(|(_, at)| at), users, closed })
}
