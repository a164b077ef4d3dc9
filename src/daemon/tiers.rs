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
use crate::tier::marker::{self, Id, Marker};
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
    let found: Vec<Found> = config
        .tiers
        .iter()
        .zip(&roots)
        .map(|(tier, root)| Found::look(&tier.path, root.as_ref().map_err(|errno| *errno)))
        .collect();
    let markers = markers(config, &found, &roots, purpose)?;
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

fn markers(
    config: &MountConfig,
    found: &[Found],
    roots: &[Result<Root, Errno>],
    purpose: Purpose,
) -> Result<Vec<Option<Marker>>, Error> {
    let expected: Vec<_> = config.tiers.iter().map(|tier| tier.id.as_deref().and_then(Id::parse)).collect();
    let known: Vec<Option<Marker>> = found.iter().map(Found::marker).collect();
    // Nothing was known of it when keys were asked for. Served like this it would be taken for missing, or adopted
    // with a marker in clear.
    if let Some(late) = found.iter().find(|tier| matches!(tier.what, What::Locked)) {
        let line = "came only after the keys were asked for: mount again now that it is there";
        return Err(Error::new(BUSY, format!("{} {line}", late.path.display())));
    }
    match verify(found, &expected) {
        Verdict::Good => Ok(known),
        Verdict::Foreign(reason) => Err(Error::new(CONFIG, reason)),
        Verdict::Missing(ranks) => missing(config, found, ranks, purpose).map(|()| {
            let at = |(rank, marker): (u8, Option<Marker>)| marker.filter(|_| !ranks.has(Rank(rank)));
            (0u8..).zip(known).map(at).collect()
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
            let roots: Vec<_> = roots.iter().flatten().collect();
            let written = marker::adopt(&roots, &known).map_err(|(rank, errno)| {
                let path = config.tiers.get(rank.index()).map(|tier| tier.path.display().to_string());
                let path = path.unwrap_or_default();
                Error::new(FAILED, format!("{path}/.tierfs/marker cannot be written: {errno}"))
            })?;
            Ok(written.into_iter().map(Some).collect())
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
    let expected: Vec<_> = config.tiers.iter().map(|tier| tier.id.as_deref().and_then(Id::parse)).collect();
    match verify(&found, &expected) {
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
    let made = root.serve(view.as_ref(), marker).map_err(broken)?;
    let lock = lock(tier, &root, patience)?;
    let spot = overlap::tier(&tier.path);
    Ok(Opened { tier: made, marker: *marker, root, view, spot, _lock: lock })
}

/// How long a mount that was just taken down may need to let go.
const PATIENCE: Duration = Duration::from_secs(5);

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
