//! Opening the tiers: each root once, its marker verified, overlaps refused.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use super::{BUSY, CONFIG, Error, FAILED};
use crate::config::{MountConfig, OnMissing, TierConfig};
use crate::sys::durable;
use crate::sys::mount;
use crate::sys::overlap::{self, Spot};
use crate::sys::tree;
use crate::tier::Tier;
use crate::tier::marker::verify::{Found, Verdict, What, verify};
use crate::tier::marker::{self, Id, Marker, State};
use crate::tier::place::{Place, Root};
use crate::types::errno::Errno;
use crate::types::ids::{Rank, Ranks};

/// A tier that is there.
#[derive(Debug)]
pub(super) struct Opened {
    pub tier: Arc<dyn Tier>,
    /// What its marker says.
    pub marker: Marker,
    /// The root as the administrator sees it, for the watch: tierfs itself goes through another
    /// view of the mount where it can, so that its own doings are told from others'.
    root: Root,
    /// That other view, if there is one.
    view: Option<OwnedFd>,
    /// Where it was when it was opened.
    spot: Option<Spot>,
    /// Keeps other mounts of the tier out while it is open.
    _lock: durable::Lock,
}

impl Opened {
    pub(super) fn watched(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Where it was when it was opened.
    pub(super) fn spot(&self) -> Option<&Spot> {
        self.spot.as_ref()
    }

    /// What the watch must leave out.
    pub(super) fn own(&self) -> Option<BorrowedFd<'_>> {
        self.view.as_ref().map(AsFd::as_fd)
    }
}

/// What tiers are opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A mount, which can serve without one of them.
    Serve,
    /// A command without a mount, which cannot.
    Work,
}

/// Opens all tiers; `None` for those missing in degraded operation.
pub(super) fn open(config: &MountConfig, places: &[Place], purpose: Purpose) -> Result<Vec<Option<Opened>>, Error> {
    let roots: Vec<Result<Root, Errno>> = places.iter().map(Root::open).collect();
    let paths: Vec<_> = config.tiers.iter().map(|tier| tier.path.as_path()).collect();
    overlap::check(&paths, &config.mountpoint).map_err(|error| Error::new(CONFIG, error.to_string()))?;
    let found = look(config, &roots);
    let (markers, _adopting) = if is_whole(config, &found) {
        (found.iter().map(Found::marker).collect(), Vec::new())
    } else {
        adopt(config, &roots, purpose)?
    };
    roots
        .into_iter()
        .zip(&config.tiers)
        .zip(markers)
        .map(|((root, tier), marker)| match (root, marker) {
            (Ok(root), Some(marker)) => {
                let opened = open_one(tier, root, &marker, (config.options.track_access, PATIENCE));
                opened.map(Some).map_err(|error| in_use(error, config, purpose))
            }
            (Ok(_) | Err(_), _) => Ok(None),
        })
        .collect()
}

/// Says where to look, if what has the tiers is a mount at this very place.
fn in_use(error: Error, config: &MountConfig, purpose: Purpose) -> Error {
    let point = &config.mountpoint;
    if error.code == BUSY && purpose == Purpose::Serve && mount::is_mounted(point) {
        let point = point.display();
        return Error::new(BUSY, format!("{point}: is mounted already: `tierfs status {point}` tells how it is"));
    }
    error
}

fn look(config: &MountConfig, roots: &[Result<Root, Errno>]) -> Vec<Found> {
    let each = config.tiers.iter().zip(roots);
    each.map(|(tier, root)| Found::look(&tier.path, root.as_ref().map_err(|errno| *errno))).collect()
}

/// What [`open`] goes by: the markers of the tiers that are there, and what keeps others from adopting them.
type Adopted = (Vec<Option<Marker>>, Vec<durable::Lock>);

/// Whether every tier is there and a member. Of any other another start may be about to write the marker: what was
/// looked at is of different moments then, and a mount that did not wait would have what it announces written over.
fn is_whole(config: &MountConfig, found: &[Found]) -> bool {
    let is_member = |tier: &Found| tier.marker().is_some_and(|marker| marker.state == State::Member);
    verify(found, &expected(config)) == Verdict::Good && found.iter().all(is_member)
}

/// The tiers that the configuration names.
fn expected(config: &MountConfig) -> Vec<Option<Id>> {
    config.tiers.iter().map(|tier| tier.id.as_deref().and_then(Id::parse)).collect()
}

/// Makes the tiers a union, unless somebody else has done it meanwhile or does it now.
fn adopt(config: &MountConfig, roots: &[Result<Root, Errno>], purpose: Purpose) -> Result<Adopted, Error> {
    let mut locks = Vec::new();
    for (tier, root) in config.tiers.iter().zip(roots) {
        let path = tier.path.display();
        let Ok(root) = root else { continue };
        let lock = root.lock_to_adopt(PATIENCE);
        let lock = lock.map_err(|errno| Error::new(FAILED, format!("{path} cannot be locked: {errno}")))?;
        let line = || format!("{path}: another program has locked it, perhaps another tierfs that starts: wait");
        locks.push(lock.ok_or_else(|| Error::new(BUSY, line()))?);
    }
    let found = look(config, roots);
    if let Some(markers) = markers(config, &found, purpose)? {
        return Ok((markers, locks));
    }
    let known: Vec<Option<Marker>> = found.iter().map(Found::marker).collect();
    let roots: Vec<_> = roots.iter().flatten().collect();
    let written = marker::adopt(&roots, &known).map_err(|(rank, errno)| {
        let path = config.tiers.get(rank.index()).map(|tier| tier.path.display().to_string());
        let path = path.unwrap_or_default();
        Error::new(FAILED, format!("{path}/.tierfs/marker cannot be written: {errno}"))
    })?;
    Ok((written.into_iter().map(Some).collect(), locks))
}

/// `None` if the tiers are no union yet.
fn markers(config: &MountConfig, found: &[Found], purpose: Purpose) -> Result<Option<Vec<Option<Marker>>>, Error> {
    let known: Vec<Option<Marker>> = found.iter().map(Found::marker).collect();
    // Nothing was known of it when keys were asked for. Served like this it would be taken for missing, or adopted
    // with a marker in clear.
    if let Some(late) = found.iter().find(|tier| matches!(tier.what, What::Locked)) {
        let line = "came only after the keys were asked for: mount again now that it is there";
        return Err(Error::new(BUSY, format!("{} {line}", late.path.display())));
    }
    match verify(found, &expected(config)) {
        Verdict::Good => Ok(Some(known)),
        Verdict::Foreign(reason) => Err(Error::new(CONFIG, reason)),
        Verdict::Missing(ranks) => missing(config, found, ranks, purpose).map(|()| {
            let at = |(rank, marker): (u8, Option<Marker>)| marker.filter(|_| !ranks.has(Rank(rank)));
            Some((0u8..).zip(known).map(at).collect())
        }),
        Verdict::Fresh if config.options.read_only => Err(Error::new(
            CONFIG,
            "the tiers have no markers yet, and a read-only mount makes none: run `tierfs init` first",
        )),
        Verdict::Fresh => {
            let paths: Vec<_> = config.tiers.iter().map(|tier| tier.path.as_path()).collect();
            if let Some(nested) = overlap::nested(&paths) {
                return Err(Error::new(CONFIG, nested.to_string()));
            }
            Ok(None)
        }
    }
}

fn missing(config: &MountConfig, found: &[Found], ranks: Ranks, purpose: Purpose) -> Result<(), Error> {
    let reasons: Vec<_> = ranks.iter().filter_map(|rank| found.get(rank.index())).map(Found::absence).collect();
    let reasons = reasons.join("; ");
    match config.options.on_missing {
        OnMissing::Degraded => {
            tracing::warn!("degraded: names cannot be changed and what is not here is an error: {reasons}");
            Ok(())
        }
        OnMissing::Fail => {
            let hint = match purpose {
                Purpose::Serve => " (to serve what is there: -o on_missing=degraded)",
                Purpose::Work => "",
            };
            Err(Error::new(CONFIG, format!("{reasons}{hint}")))
        }
    }
}

/// Opens a tier that was missing, if it is the one that belongs there. `markers` are those of all tiers as
/// far as they are known, `spots` the places of the tiers that are there and of the mount point.
///
/// # Errors
/// Why it is still missing, in one line.
pub(super) fn reopen(
    config: &MountConfig,
    (rank, place): (Rank, &Place),
    markers: &[Option<Marker>],
    spots: &[Spot],
) -> Result<Opened, String> {
    let tier = config.tiers.get(rank.index()).ok_or("no such tier")?;
    let root = Root::open(place).map_err(|errno| format!("{} cannot be opened: {errno}", tier.path.display()))?;
    let looked = Found::look(&tier.path, Ok(&root));
    let found: Vec<Found> = (0u8..)
        .map(Rank)
        .zip(config.tiers.iter().zip(markers))
        .map(|(at, (tier, known))| match known {
            _ if at == rank => looked.clone(),
            Some(marker) => Found { path: tier.path.clone(), what: What::Marker(*marker) },
            None => Found { path: tier.path.clone(), what: What::NoRoot(Errno::ENOENT) },
        })
        .collect();
    match verify(&found, &expected(config)) {
        Verdict::Foreign(reason) => return Err(reason),
        Verdict::Good | Verdict::Missing(_) | Verdict::Fresh => {}
    }
    let marker = looked.marker().ok_or_else(|| looked.absence())?;
    if markers.get(rank.index()).copied().flatten().is_some_and(|known| known.tier != marker.tier) {
        return Err(format!(
            "{} is tier {} of this union, and not the one that was there",
            tier.path.display(),
            marker.tier
        ));
    }
    let opened = open_one(tier, root, &marker, (config.options.track_access, Duration::ZERO)).map_err(|it| it.line)?;
    // A link or a mount at its path may lead elsewhere now.
    match &opened.spot {
        Some(spot) => overlap::check_one(spot, spots.iter()).map_err(|overlap| overlap.to_string())?,
        None => return Err(format!("{} cannot be looked at", tier.path.display())),
    }
    Ok(opened)
}

fn open_one(
    tier: &TierConfig,
    root: Root,
    marker: &Marker,
    (track_access, patience): (bool, Duration),
) -> Result<Opened, Error> {
    let broken = |errno: Errno| Error::new(FAILED, format!("{}: {errno}", tier.path.display()));
    // Where the kernel gives no private view the plain one serves as well, only slower.
    let view = tree::private_clone(root.as_fd())
        .inspect_err(|errno| tracing::debug!(tier = %tier.path.display(), "no private view of the mount: {errno}"))
        .ok();
    if track_access {
        let tracked = view.as_ref().ok_or(Errno::EPERM).and_then(|view| tree::keep_access_times(view.as_fd()));
        if let Err(errno) = tracked {
            let path = tier.path.display();
            tracing::warn!(tier = %path, "track_access has no effect: {errno}: mount the tier with relatime instead");
        }
    }
    let lock = lock(tier, &root, patience)?;
    // Whoever had the lock may have written it anew since it was read.
    let marker = match root.look() {
        What::Marker(now) if now.is_at_the_place_of(marker) => now,
        _ => {
            let line = "has changed its .tierfs/marker just now: try again";
            return Err(Error::new(BUSY, format!("{} {line}", tier.path.display())));
        }
    };
    let made = root.serve(view.as_ref(), &marker).map_err(broken)?;
    let spot = overlap::tier(&tier.path);
    Ok(Opened { tier: made, marker, root, view, spot, _lock: lock })
}

/// How long a mount that was just taken down may need to let go.
const PATIENCE: Duration = Duration::from_secs(if cfg!(test) { 60 } else { 5 });

/// Two mounts of one tier would not know of each other's open files and renames.
fn lock(tier: &TierConfig, root: &Root, patience: Duration) -> Result<durable::Lock, Error> {
    let path = tier.path.display();
    let taken =
        root.lock(patience).map_err(|errno| Error::new(FAILED, format!("{path}/.tierfs cannot be locked: {errno}")))?;
    taken.ok_or_else(|| {
        let line =
            "another tierfs is at work on it, a mount or a run without one: see tierfs status, then unmount or wait";
        Error::new(BUSY, format!("{path}: {line}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Draft, check};
    use crate::daemon::unlock;

    fn union(home: &std::path::Path) -> (MountConfig, Vec<Place>) {
        let paths = ["m", "0", "1"].map(|name| home.join(name));
        paths.iter().for_each(|path| std::fs::create_dir(path).unwrap());
        let [mountpoint, tiers @ ..] = paths;
        let tiers = tiers.map(TierConfig::at).to_vec();
        let config = check::finish(Draft { mountpoint: Some(mountpoint), tiers, ..Draft::default() }).unwrap();
        let places = unlock::places(&config).unwrap();
        (config, places)
    }

    fn open_all(config: &MountConfig, places: &[Place]) -> Vec<Marker> {
        let opened = open(config, places, Purpose::Serve).unwrap();
        opened.into_iter().map(|opened| opened.unwrap().marker).collect()
    }

    /// A unit and a line of fstab: each made a union of its own, of which no later start made sense.
    #[test]
    fn two_first_starts_at_once_make_one_union() {
        for _ in 0..20 {
            let home = tempfile::tempdir().unwrap();
            let (config, places) = union(home.path());
            let both = std::thread::scope(|scope| {
                let starts = [(); 2].map(|()| scope.spawn(|| open_all(&config, &places)));
                starts.map(|start| start.join().unwrap())
            });
            assert_eq!(both[0], both[1]);
            assert_eq!(both[0], open_all(&config, &places));
        }
    }

    /// A start between another's last two writes served with a marker that was written anew after that: what it had
    /// announced there could be lost. One that had looked at the primary before the first of these took it for missing.
    #[test]
    fn regression_a_union_in_the_making_is_waited_for() {
        let new = |primary: &std::path::Path| {
            let root = Root::open(&Place::plain(primary.to_owned())).unwrap();
            marker::announce(root.dir(), |marker| Marker { state: State::New, ..marker }).unwrap();
        };
        let none = |primary: &std::path::Path| std::fs::remove_file(primary.join(".tierfs/marker")).unwrap();
        is_waited_for(&new);
        is_waited_for(&none);
    }

    fn is_waited_for(undo: &dyn Fn(&std::path::Path)) {
        let home = tempfile::tempdir().unwrap();
        let (config, places) = union(home.path());
        let made = open_all(&config, &places);
        let marker = home.path().join("0/.tierfs/marker");
        let whole = std::fs::read(&marker).unwrap();
        undo(&home.path().join("0"));
        let lock = Root::open(&places[1]).unwrap().lock_to_adopt(Duration::ZERO).unwrap().unwrap();
        let second = std::thread::scope(|scope| {
            let start = scope.spawn(|| open_all(&config, &places));
            // It cannot get on: a slow one is seen waiting in vain, never the reverse.
            let end = std::time::Instant::now() + Duration::from_millis(300);
            while std::time::Instant::now() < end && !start.is_finished() {
                std::thread::yield_now();
            }
            assert!(!start.is_finished(), "it serves");
            std::fs::write(&marker, &whole).unwrap();
            drop(lock);
            start.join().unwrap()
        });
        assert_eq!(second, made);
    }

    /// A mount that waited for an `init` served the tiers it had looked at, one too few.
    #[test]
    fn a_tier_whose_union_has_become_another_meanwhile_is_not_served() {
        let home = tempfile::tempdir().unwrap();
        let (config, places) = union(home.path());
        let marker = open_all(&config, &places)[1];
        let open_as = |before: &Marker| {
            let root = Root::open(&places[1]).unwrap();
            open_one(&config.tiers[1], root, before, (config.options.track_access, Duration::ZERO))
        };
        assert!(open_as(&Marker { stamps: !marker.stamps, ..marker }).is_ok());
        assert_eq!(open_as(&Marker { tiers: 3, ..marker }).unwrap_err().code, BUSY);
        assert_eq!(open_as(&Marker { rank: Rank(0), ..marker }).unwrap_err().code, BUSY);
    }

    /// What a run announced while a mount waited for it was not known to the mount: moved files had other numbers.
    #[test]
    fn what_is_announced_before_the_lock_is_known_after_it() {
        let home = tempfile::tempdir().unwrap();
        let (config, places) = union(home.path());
        assert!(!open_all(&config, &places)[1].stamps);
        let root = Root::open(&places[1]).unwrap();
        let lock = root.lock(Duration::ZERO).unwrap().unwrap();
        let known = std::thread::scope(|scope| {
            let (looked, has_looked) = std::sync::mpsc::channel();
            let tier = &config.tiers[1];
            let found = root.look();
            let (config, places) = (&config, &places);
            let start = scope.spawn(move || {
                let marker = Found { path: tier.path.clone(), what: found }.marker().unwrap();
                looked.send(()).unwrap();
                let root = Root::open(&places[1]).unwrap();
                open_one(tier, root, &marker, (config.options.track_access, PATIENCE)).unwrap().marker
            });
            has_looked.recv().unwrap();
            marker::announce(root.dir(), |marker| Marker { stamps: true, ..marker }).unwrap();
            drop(lock);
            start.join().unwrap()
        });
        assert!(known.stamps);
    }
}
