//! Which tiers a command means by MOUNT, CONFIG or PRIMARY:SECONDARY.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::cli::exit::{Exit, Failure};
use crate::cli::where_is::{self, FileCopy};
use crate::cli::{absolute, unlocked};
use crate::config::{check, load, spec};
use crate::sys::mountinfo::{self, Mount};
use crate::tier::marker::State;
use crate::tier::marker::verify::{Found, What};
use crate::tier::place::Place;
use crate::types::errno::Errno;
use crate::types::ids::Rank;
use crate::types::path::UnionPath;

/// Tiers that were named, not opened.
#[derive(Debug, Clone)]
pub struct Named {
    /// What to call them: the mount point, the file or the tiers as they were given.
    pub subject: String,
    /// Rank and root of each, fastest first.
    pub roots: Vec<(Rank, Place)>,
    /// What is meant of the union: the root, unless a path inside a mount was given.
    pub path: UnionPath,
    /// Whether the configuration knows the tiers by their ids, so that they were there once.
    pub known: bool,
    /// Where they are mounted, if they were named by a mount.
    pub mountpoint: Option<PathBuf>,
}

/// The tiers that `argument` names. Without one, those of the only tierfs that is mounted.
///
/// # Errors
/// One line that says what to write instead.
pub fn named(argument: Option<&OsStr>) -> Result<Named, Failure> {
    let mounts = mountinfo::read().map_err(|errno| Failure::error(format!("/proc/self/mountinfo: {errno}")))?;
    let Some(argument) = argument else { return only_mount(&mounts) };
    let path = Path::new(argument);
    let real = std::fs::canonicalize(path);
    if let Ok(real) = &real {
        if let Some(point) = mount_over(&mounts, real) {
            return of_mount(point, real);
        }
        if real.is_file() {
            let draft = load::load(path)?;
            let known = draft.tiers.iter().any(|tier| tier.id.is_some());
            let places = unlocked::unlocked(&check::finish_unmounted(draft)?)?;
            return Ok(Named { known, ..of_places(path.display().to_string(), places.into_iter()) });
        }
    }
    if argument.as_bytes().contains(&b':') {
        let roots = spec::parse(argument)?.iter().map(|root| absolute(root)).collect::<Result<Vec<_>, _>>()?;
        return Ok(of_places(argument.display().to_string(), roots.into_iter().map(Place::plain)));
    }
    let shown = path.display();
    match real {
        Ok(_) => Err(Failure::error(format!(
            "{shown} is not in a mounted tierfs: name a mount, a configuration file or PRIMARY:SECONDARY"
        ))),
        // A dead mount answers nothing, not even what it is.
        Err(error) if error.raw_os_error() == Some(Errno::ENOTCONN.0) => {
            Err(Failure::error(format!("{shown}: the mount is dead: name its tiers as PRIMARY:SECONDARY instead")))
        }
        Err(error) => {
            let errno = Errno::of(&error);
            Err(Failure::error(format!("{shown}: {errno}")))
        }
    }
}

impl Named {
    /// Refuses a tier that was there once and is not now: its empty directory would be taken for it.
    ///
    /// # Errors
    /// One line that names each, with the code for a disk that is not mounted.
    pub fn all_there(&self) -> Result<(), Failure> {
        if self.mountpoint.is_some() {
            // A mount has looked itself, and tells only of those that are there.
            return Ok(());
        }
        let found: Vec<Found> = self.roots.iter().map(|(_, root)| root.look()).collect();
        if let Some((path, why)) = found.iter().find_map(Found::misfit) {
            return Err(Failure::new(Exit::Config, format!("{} {why}", path.display())));
        }
        match absent(&found, self.known) {
            lines if lines.is_empty() => Ok(()),
            lines => Err(Failure::new(Exit::Config, lines.join("; "))),
        }
    }
}

/// Why tiers count as missing: what anything says was made one, and has no marker. A marker that this
/// user may not read says so as well.
fn absent(found: &[Found], known: bool) -> Vec<String> {
    let is_tier = |tier: &Found| match &tier.what {
        What::Marker(marker) => marker.state == State::Member,
        What::Broken(_) => true,
        What::NoMarker | What::NoVolume | What::Locked | What::Misfit(_) | What::NoRoot(_) => false,
    };
    if !known && !found.iter().any(is_tier) {
        return Vec::new();
    }
    let missing =
        found.iter().filter(|tier| matches!(tier.what, What::NoMarker | What::NoVolume | What::NoRoot(Errno::ENOENT)));
    missing.map(Found::absence).collect()
}

fn of_places(subject: String, places: impl Iterator<Item = Place>) -> Named {
    let roots = (0..).map(Rank).zip(places).collect();
    Named { subject, roots, path: UnionPath::root(), known: false, mountpoint: None }
}

fn only_mount(mounts: &[Mount]) -> Result<Named, Failure> {
    let points: Vec<&Path> = mounts.iter().filter(|mount| mount.is_tierfs()).map(|mount| &*mount.point).collect();
    match points[..] {
        [point] => of_mount(point, point),
        [] => Err(Failure::new(Exit::Usage, "no tierfs is mounted: name a configuration file or PRIMARY:SECONDARY")),
        _ => {
            let points: Vec<String> = points.iter().map(|point| point.display().to_string()).collect();
            Err(Failure::new(Exit::Usage, format!("several are mounted: name one of {}", points.join(", "))))
        }
    }
}

/// The mount point of the tierfs that `path`, which has no links, is in.
fn mount_over<'a>(mounts: &'a [Mount], path: &Path) -> Option<&'a Path> {
    let topmost = path.ancestors().find_map(|above| mountinfo::at(mounts, above))?;
    Some(&*topmost.point).filter(|_| topmost.is_tierfs())
}

fn of_mount(point: &Path, path: &Path) -> Result<Named, Failure> {
    let below = path.strip_prefix(point).unwrap_or(Path::new(""));
    let below = UnionPath::new(below.as_os_str().as_bytes())
        .map_err(|errno| Failure::error(format!("{}: {errno}", path.display())))?;
    let unlocked = unlocked::unlocked_of_mount(point)?;
    let copies = where_is::copies(point)?;
    let there = |copy: FileCopy| Some((Rank::parse(&copy.tier)?, Place::plain(copy.path)));
    let ranks: Vec<(Rank, Place)> = copies.into_iter().filter_map(there).collect();
    // A mount without one of its tiers tells only of the others.
    let is_there = |rank: Rank| ranks.iter().any(|(other, _)| *other == rank);
    let roots = match unlocked {
        Some(all) => all.into_iter().filter(|(rank, _)| is_there(*rank)).collect(),
        None => ranks,
    };
    let subject = path.display().to_string();
    let mountpoint = Some(point.to_path_buf());
    Ok(Named { subject, roots, path: below, known: false, mountpoint })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topmost_mount_decides() {
        let table = b"1 0 0:1 / / rw - ext4 d rw\n\
            2 1 0:2 / /srv/docs rw - fuse.tierfs t rw\n\
            3 2 0:3 / /srv/docs/usb rw - vfat u rw\n";
        let mounts = mountinfo::parse(table);
        let over = |path: &str| mount_over(&mounts, Path::new(path));
        assert_eq!(over("/srv/docs/a/b"), Some(Path::new("/srv/docs")));
        assert_eq!(over("/srv/docs"), Some(Path::new("/srv/docs")));
        assert_eq!((over("/srv/docs/usb/a"), over("/srv/docs2"), over("/")), (None, None, None));
    }

    #[test]
    fn tiers_are_named_by_their_roots() {
        let named = named(Some(OsStr::new("/nowhere/fast:/nowhere/slow"))).unwrap();
        let roots: Vec<_> = named.roots.iter().map(|(rank, place)| (*rank, place.path.to_str().unwrap())).collect();
        assert_eq!(roots, [(Rank(0), "/nowhere/fast"), (Rank(1), "/nowhere/slow")]);
        assert!(named.path.is_root() && named.mountpoint.is_none());
    }

    #[test]
    fn what_names_no_tiers_is_told_so() {
        let dir = tempfile::tempdir().unwrap();
        let told = named(Some(dir.path().as_os_str())).unwrap_err().line;
        assert!(told.contains("is not in a mounted tierfs: name a mount"), "{told}");
        let told = named(Some(dir.path().join("absent").as_os_str())).unwrap_err().line;
        assert!(told.ends_with("No such file or directory"), "{told}");
    }
}
