//! Wires the parts together and serves one mount, from opening the tiers to the last request.

use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;

use crate::config::{MinFree, MountConfig, OutOfBand, SmbOffline, StatfsOf};
use crate::control::status::Watching;
use crate::fuse::{Behaviour, Session, Spare};
use crate::migrate;
use crate::stats::Stats;
use crate::sys::mount::{self, FuseMount};
use crate::sys::{creds, limits, manager, secret, signal};
use crate::tier::Tier;
use crate::tier::place::Place;
use crate::types::ids::Rank;
use crate::union::{self, Settings, SpaceOf, Union};
use crate::watch;

mod auto;
mod control;
mod ending;
mod gauges;
pub mod hours;
mod metrics;
mod out_of_band;
mod probes;
pub mod repairs;
pub mod runs;
mod status;
mod tending;
mod tiers;
mod turns;
pub mod unlock;
pub mod views;
mod work;

pub use auto::check_policy;
use auto::{Auto, Standing};
use ending::{Ending, Wait};
use gauges::Numbers;
use metrics::{Exporter, Known, Source};
use out_of_band::Forgetter;
use tending::{Seats, Shared, Tending};
use turns::Turns;

/// Why a mount does not start, or has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// One line for the administrator that says what to do.
    pub line: String,
    /// The exit code, from `docs/EXIT_CODES.md`.
    pub code: u8,
}

impl Error {
    pub(crate) fn new(code: u8, line: impl Into<String>) -> Error {
        Error { line: line.into(), code }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.line)
    }
}

impl std::error::Error for Error {}

/// Something went wrong.
const FAILED: u8 = 1;
/// Something is in the way that can go away.
const BUSY: u8 = 75;
/// A passphrase is wrong.
const DENIED: u8 = 77;
/// The configuration does not fit what is there.
const CONFIG: u8 = 78;
/// Whoever was asked has interrupted it.
const INTERRUPTED: u8 = 130;

/// How long names and attributes are kept while every change is told.
const TTL_TOLD: Duration = Duration::from_secs(3600);

/// Directories kept open on each tier take at most this part of the descriptors.
const DESCRIPTORS_PART: u64 = 4;

/// Tells of what nobody will see while it is mounted: programs write there when nothing is.
fn warn_of_hidden(mountpoint: &Path) {
    if std::fs::read_dir(mountpoint).is_ok_and(|mut entries| entries.next().is_some()) {
        let shown = mountpoint.display();
        tracing::warn!("{shown} is not empty: what is in it is hidden while it is mounted (tierfs doctor)");
    }
}

/// Mounts and serves until the mount is gone. `places` are the tiers as [`unlock::places`] gives them, also where
/// this process is a child of the one that asked. `ready` is called once programs can use the mount.
///
/// # Errors
/// One line and an exit code.
pub fn serve(config: &MountConfig, places: &[Place], ready: impl FnOnce()) -> Result<(), Error> {
    secret::lock_again();
    creds::prepare();
    signal::prepare();
    let root = creds::is_root();
    let options = &config.options;
    let standing = Arc::new(Standing::load(config)?);
    let opened = tiers::open(config, places, tiers::Purpose::Serve)?;
    let seats = Arc::new(Seats::new(config, opened));
    let union = Arc::new(build(config, seats.tiers().map(Some), limits::raise_descriptors(), root)?);
    let forgetter = Arc::new(Forgetter::new(Arc::clone(&union)));
    let teller = Arc::downgrade(&forgetter);
    if let Some(file) = config.file.as_ref().filter(|_| places.iter().any(Place::is_encrypted)) {
        union.set_config(file.clone());
    }
    let dropper = teller.clone();
    union.on_outdated(move |ino| dropper.upgrade().iter().for_each(|forgetter| forgetter.contents(ino)));
    union.on_moved(move |ino| teller.upgrade().iter().for_each(|forgetter| forgetter.attributes(ino)));
    let watch = match options.out_of_band {
        OutOfBand::Watch => start_watch(&seats.opened(), &union, &forgetter, Again::No),
        OutOfBand::Ttl => None,
        OutOfBand::Never => {
            union.trust(TTL_TOLD);
            None
        }
    };
    let told = union.trusted() > options.ttl;
    let behaviour = Behaviour {
        passthrough: options.passthrough && root,
        keep_cache: told,
        uncached: false,
        threads: threads(config),
    };
    warn_of_hidden(&config.mountpoint);
    let device = mount::mount_fuse(&config.mountpoint, &how_to_mount(config))
        .map_err(|error| Error::new(if error.is_busy() { BUSY } else { FAILED }, error.to_string()))?;
    let watching = watching(config, &seats.opened(), watch.as_deref());
    let served = Shared {
        config: config.clone(),
        places: places.to_vec(),
        seats,
        union,
        forgetter,
        turns: Arc::new(Turns::default()),
        watch: Mutex::new(watch),
        spare: OnceLock::new(),
        ending: Ending::default(),
    };
    run(Arc::new(served), (&standing, &watching), device, behaviour, ready)
}

/// A union that a command has opened for itself, and that no mount serves meanwhile.
#[derive(Debug)]
pub struct Alone {
    /// The union.
    pub union: Union,
    /// The tiers' locks; after the union, which works on the tiers.
    _opened: Vec<Option<tiers::Opened>>,
}

/// Opens the union without mounting it. `places` are its tiers as [`unlock::places`] gives them.
///
/// # Errors
/// One line and an exit code: 75 if a mount or another command has it.
pub fn open_union(config: &MountConfig, places: &[Place]) -> Result<Alone, Error> {
    creds::prepare();
    signal::ignore_stray();
    let opened = tiers::open(config, places, tiers::Purpose::Work)?;
    let tiers = opened.iter().map(|opened| opened.as_ref().map(|opened| Arc::clone(&opened.tier)));
    let union = build(config, tiers, limits::raise_descriptors(), creds::is_root())?;
    Ok(Alone { union, _opened: opened })
}

fn run(
    served: Arc<Shared>,
    (standing, watching): (&Arc<Standing>, &[Watching]),
    device: std::os::fd::OwnedFd,
    behaviour: Behaviour,
    ready: impl FnOnce(),
) -> Result<(), Error> {
    let (config, union, forgetter, turns) = (&served.config, &served.union, &served.forgetter, &served.turns);
    let broken = |error: std::io::Error| {
        take_down(&config.mountpoint);
        Error::new(FAILED, format!("{}: cannot serve: {error}", config.mountpoint.display()))
    };
    let stats = Arc::new(Stats::new(union.tiers(), behaviour.threads));
    let session = Session::new(Arc::clone(union), Arc::clone(&stats), device, behaviour).map_err(broken)?;
    forgetter.connect(session.invalidator().map_err(broken)?);
    let spare = session.spare().map_err(broken)?;
    served.spare.get_or_init(|| spare);
    let mountpoint = config.mountpoint.clone();
    signal::on_termination(move || end(&mountpoint))
        .map_err(|errno| Error::new(FAILED, format!("cannot wait for signals: {errno}")))?;
    tracing::info!(mountpoint = %config.mountpoint.display(), tiers = config.tiers.len(), "serving");
    migrate::keep_room(union);
    turns.work.count_in(&stats);
    let numbers = Arc::new(Numbers { stats: Arc::clone(&stats), union: Arc::clone(union) });
    let facts = Arc::new(status::Facts::new(config, watching));
    let asked = Arc::new(status::Asked::new(union.tiers()));
    let id = served.seats.union_id();
    let commands = id.and_then(|id| control::start(id, (&facts, &asked), union, standing, turns, &numbers));
    let (standing_too, turns_too) = (Arc::clone(standing), Arc::clone(turns));
    let source = Source { numbers, standing: standing_too, turns: turns_too, facts, asked, known: Known::default() };
    let exporter = Exporter::start(&config.metrics, source);
    let auto = Auto::start(standing, union, turns, migrate::run);
    let tending = Tending::start(Arc::clone(&served)).map_err(broken)?;
    ready();
    let ended = serve_all(session, &served).map_err(broken)?;
    let ending = &served.ending;
    ending.begin(&served);
    // First those that would go on asking the tiers: that would look as if what is waited for went on.
    ending.waits_for(Wait::Metrics);
    auto.iter().for_each(Auto::stop);
    drop(exporter);
    // Each stops a run that is at work, and waits for it.
    ending.waits_for(Wait::Command);
    drop(commands);
    ending.waits_for(Wait::OwnRun);
    drop(auto);
    ending.waits_for(Wait::Tending);
    drop(tending);
    ending.waits_for(Wait::Watch);
    // The listener may be inside the kernel until the connection has ended.
    drop(served.watch.lock().take());
    ending.waits_for(Wait::Tiers);
    match ended {
        // The kernel ends the connection of an unmounted filesystem, and now and then a request that
        // is being read meanwhile says so as an error.
        Err(error) if mount::is_mounted(&config.mountpoint) => return Err(broken(error)),
        Ok(()) | Err(_) => {}
    }
    tracing::info!(mountpoint = %config.mountpoint.display(), "unmounted");
    Ok(())
}

/// Serves until the mount is gone. A thread that waits inside a tier which does not answer may never come
/// back: then the process ends without it ([`ending`]).
fn serve_all(session: Session, served: &Arc<Shared>) -> std::io::Result<std::io::Result<()>> {
    let (done, ended) = channel();
    std::thread::Builder::new().name("tierfs-serve".into()).spawn(move || done.send(session.run()))?;
    loop {
        match ended.recv_timeout(Duration::from_secs(1)) {
            Ok(result) => return Ok(result),
            Err(RecvTimeoutError::Disconnected) => return Err(std::io::Error::other("the session panicked")),
            Err(RecvTimeoutError::Timeout) => {}
        }
        if served.spare.get().is_some_and(Spare::is_over) {
            served.ending.begin(served);
        }
    }
}

/// What a signal asks for: the mount goes, and the process with it once the last program has let go.
fn end(mountpoint: &Path) {
    manager::stopping("unmounted; waiting for programs that have files open and for a run that is at work");
    take_down(mountpoint);
}

/// Unmounts, at once for new requests even if files are open.
fn take_down(mountpoint: &Path) {
    if mount::unmount(mountpoint, false).is_err()
        && let Err(error) = mount::unmount(mountpoint, true)
    {
        tracing::warn!("{error}");
    }
}

fn threads(config: &MountConfig) -> usize {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    config.options.threads.unwrap_or_else(|| cpus.max(4))
}

fn build(
    config: &MountConfig,
    tiers: impl Iterator<Item = Option<Arc<dyn Tier>>>,
    descriptors: u64,
    root: bool,
) -> Result<Union, Error> {
    let options = &config.options;
    let slots = config.tiers.iter().zip(tiers).map(|(tier, opened)| union::Slot {
        tier: opened,
        min_free: match tier.min_free {
            MinFree::Bytes(bytes) => union::MinFree::Bytes(bytes),
            MinFree::Percent(percent) => union::MinFree::Percent(percent),
        },
    });
    let dirs = descriptors / DESCRIPTORS_PART / config.tiers.len().max(1) as u64;
    let settings = Settings {
        ttl: options.ttl,
        file_ttl: Duration::MAX,
        space_of: match options.statfs {
            StatfsOf::Sum => SpaceOf::Sum,
            StatfsOf::Primary => SpaceOf::Tier(Rank::PRIMARY),
            StatfsOf::Secondary => SpaceOf::Tier(Rank(1)),
        },
        spill: options.spill,
        read_only: options.read_only,
        remember: config.options.remember,
        offline_from: match options.smb_offline {
            SmbOffline::Never => None,
            SmbOffline::Demoted => Some(Rank(1)),
            SmbOffline::Last => u8::try_from(config.tiers.len().saturating_sub(1)).ok().map(|last| Rank(last.max(1))),
        },
        dirs_max: usize::try_from(dirs).unwrap_or(usize::MAX),
        root,
    };
    let union = Union::new(slots.collect(), settings)
        .map_err(|errno| Error::new(FAILED, format!("the tiers cannot be united: {errno}")))?;
    migrate::recover(&union).map_err(|(rank, errno)| {
        let line = format!("moves that were cut short cannot be finished, because the {rank} fails: {errno}");
        Error::new(FAILED, line)
    })?;
    Ok(union)
}

/// Whether a watch is one after another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Again {
    No,
    Yes,
}

/// Starts the watch and says what it covers. Without it everything is kept only for `ttl`.
fn start_watch(
    opened: &[Option<Arc<tiers::Opened>>],
    union: &Arc<Union>,
    forgetter: &Arc<Forgetter>,
    again: Again,
) -> Option<Arc<watch::Watch>> {
    let roots: Vec<_> = opened.iter().flatten().map(|opened| opened.watched()).collect();
    let present = (0u8..).map(Rank).zip(opened).filter(|(_, opened)| opened.is_some());
    let ranks: Vec<_> = present.map(|(rank, _)| rank).collect();
    let own: Vec<_> = opened.iter().flatten().filter_map(|opened| opened.own()).collect();
    let listener = Arc::clone(forgetter) as Arc<dyn watch::Listener>;
    let watch = match watch::start(&roots, &own, listener) {
        Ok(watch) => Arc::new(watch),
        Err(errno) => {
            tracing::warn!("changes beside the mount are seen only after a while: no watch: {errno}");
            return None;
        }
    };
    let mut whole = true;
    for (rank, coverage) in ranks.iter().zip(watch.coverage()) {
        match coverage {
            watch::Coverage::Watched => {}
            watch::Coverage::ByDirectory => whole = false,
            watch::Coverage::Unwatched(reason) => {
                tracing::info!(tier = %rank, ?reason, "changes beside the mount are seen only after a while");
                return Some(watch);
            }
        }
    }
    if !whole && again == Again::Yes {
        // Directories are open that this watch has not learned of.
        tracing::info!("from here on changes beside the mount are seen only after a while");
        return None;
    }
    union.trust(TTL_TOLD);
    if !whole {
        union.set_learner(Box::new(out_of_band::Learning { watch: Arc::downgrade(&watch), ranks }));
    }
    Some(watch)
}

/// How changes beside the mount are seen, by rank.
fn watching(
    config: &MountConfig,
    opened: &[Option<Arc<tiers::Opened>>],
    watch: Option<&watch::Watch>,
) -> Vec<Watching> {
    let options = &config.options;
    let untold = Watching::After(options.ttl);
    let mut told = watch.map(watch::Watch::coverage).unwrap_or_default().iter();
    let each = opened.iter().map(|tier| match (options.out_of_band, tier.as_ref().and_then(|_| told.next())) {
        (OutOfBand::Never, _) => Watching::Never,
        (_, Some(watch::Coverage::Watched)) => Watching::Whole,
        (_, Some(watch::Coverage::ByDirectory)) => Watching::ByDirectory,
        (_, Some(watch::Coverage::Unwatched(_)) | None) => untold,
    });
    each.collect()
}

fn how_to_mount(config: &MountConfig) -> FuseMount {
    let options = &config.options;
    let source = options.fsname.clone().unwrap_or_else(|| {
        let paths = config.tiers.iter().map(|tier| tier.path.display().to_string());
        paths.collect::<Vec<_>>().join(":")
    });
    FuseMount {
        source: source.into(),
        // Without this check by the kernel nothing would keep users from each other's files.
        default_permissions: true,
        max_read_bytes: None,
        allow_other: options.allow_other,
        read_only: options.read_only,
        suid: options.suid,
        dev: options.dev,
        exec: options.exec,
    }
}
