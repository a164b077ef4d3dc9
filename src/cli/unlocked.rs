//! The tiers that a command works on without their mount, unlocked where they are encrypted, and which union they
//! are of.

use std::ffi::{CStr, OsStr};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::cli::exit::{Exit, Failure};
use crate::cli::target;
use crate::config::{MountConfig, check, load};
use crate::daemon::unlock;
use crate::sys::{by_path, local, mountinfo, xattr};
use crate::tier::marker::verify::{Found, Verdict, What, verify};
use crate::tier::marker::{self, Broken};
use crate::tier::place::Place;
use crate::types::errno::Errno;
use crate::types::ids::Rank;

/// The configuration of a mount with an encrypted tier.
const CONFIG: &CStr = c"user.tierfs.config";

/// The tiers of a configuration with their keys.
///
/// # Errors
/// Why they cannot be unlocked.
pub fn unlocked(config: &MountConfig) -> Result<Vec<Place>, Failure> {
    unlock::places(config).map_err(|error| Failure { line: error.line, code: error.code })
}

/// The tiers of a mount, some of which are encrypted, by the configuration that it was made with; `None` where none
/// is.
///
/// # Errors
/// Why they cannot be unlocked.
pub fn unlocked_of_mount(point: &Path) -> Result<Option<Vec<(Rank, Place)>>, Failure> {
    let fail = |why: &dyn std::fmt::Display| Failure::error(format!("{}: {why}", point.display()));
    let mounts = mountinfo::read().map_err(|errno| fail(&errno))?;
    let server = mountinfo::at(&mounts, point).and_then(|mount| mount.user);
    let file = match by_path::hold(point).and_then(|held| xattr::get(held.as_fd(), None, CONFIG)) {
        Ok(bytes) => PathBuf::from(OsStr::from_bytes(&bytes)),
        Err(Errno::ENODATA | Errno::EOPNOTSUPP) => return Ok(None),
        Err(errno) => return Err(fail(&target::why(errno))),
    };
    if !is_trusted(server, local::own_uid()) {
        return Err(fail(
            &"another user serves it, and a configuration can name a program to run: name the configuration file itself instead of the mount",
        ));
    }
    let draft = load::load(&file).map_err(|error| {
        fail(&format!("a tier of it is encrypted, and the configuration is needed to unlock it: {error}"))
    })?;
    unlocked(&check::finish_unmounted(draft)?).map(|places| Some(ranked(places)))
}

/// Whether what a mount tells that `server` serves is taken for true by the user `me`.
fn is_trusted(server: Option<u32>, me: u32) -> bool {
    server.is_some_and(|server| server == me || server == 0)
}

/// With their ranks, fastest first.
pub fn ranked(places: Vec<Place>) -> Vec<(Rank, Place)> {
    (0u8..).map(Rank).zip(places).collect()
}

/// Refuses tiers that are not those of one union, all of them and in its order. One of them is enough
/// to find a running mount, which would then work on tiers that nobody has named.
///
/// # Errors
/// One line that says what is wrong.
pub fn whole(config: &MountConfig, places: &[Place]) -> Result<(), Failure> {
    let found: Vec<Found> = places.iter().map(Place::look).collect();
    let expected = config.tiers.iter().map(|tier| tier.id.as_deref().and_then(marker::Id::parse));
    match verify(&found, &expected.collect::<Vec<_>>()) {
        Verdict::Good | Verdict::Fresh => Ok(()),
        Verdict::Foreign(reason) => Err(Failure::new(Exit::Config, reason)),
        Verdict::Missing(ranks) => {
            let absent = ranks.iter().filter_map(|rank| found.get(rank.index())).map(Found::absence);
            Err(Failure::new(Exit::Config, absent.collect::<Vec<_>>().join("; ")))
        }
    }
}

/// The union that the first tier with a marker says it is of; `None` where no marker can be read without a key.
///
/// # Errors
/// Where there is no tier, or one that cannot be read.
pub fn union_id(places: &[Place]) -> Result<Option<marker::Id>, Failure> {
    let wrong = |line: String| Failure::new(Exit::Config, line);
    let mut is_locked = false;
    for place in places {
        let found = place.look();
        let path = place.path.display();
        match found.what {
            What::Marker(marker) => return Ok(Some(marker.union)),
            What::NoMarker | What::NoVolume => {}
            What::Locked => is_locked = true,
            What::NoRoot(errno) => {
                return Err(wrong(format!("{path} cannot be opened: {errno}: is its disk mounted?")));
            }
            What::Broken(Broken::Os(Errno::EACCES)) => {
                return Err(Failure::error(format!("{path}/.tierfs: {}", target::NOT_ROOT)));
            }
            What::Broken(broken) => return Err(wrong(format!("{path}/.tierfs/marker {broken}"))),
            What::Misfit(why) => return Err(wrong(format!("{path} {why}"))),
        }
    }
    if is_locked { Ok(None) } else { Err(no_tiers(places)) }
}

/// That none of them is a tier.
pub fn no_tiers(places: &[Place]) -> Failure {
    let all: Vec<_> = places.iter().map(|place| place.path.display().to_string()).collect();
    let line = format!("{} are no tiers yet: run `tierfs init` on them, or mount them once", all.join(", "));
    Failure::new(Exit::Config, line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_runs_no_program_that_the_mount_of_another_user_names() {
        for (server, me, trusted) in [
            (Some(0), 0, true),
            (Some(1000), 0, false),
            (None, 0, false),
            (Some(0), 1000, true),
            (Some(1000), 1000, true),
            (Some(1001), 1000, false),
        ] {
            assert_eq!(is_trusted(server, me), trusted, "{server:?} {me}");
        }
    }
}
