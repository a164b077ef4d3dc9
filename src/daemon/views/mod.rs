//! Views: mounts for reading only that keep nothing on what they show, so they need no marker, no lock
//! and no watch.
//!
//! A view is a union of one tier. `encrypt.rs` and `decrypt.rs` open what is shown; [`serve`] is the
//! same for both.

use std::ffi::{CStr, OsStr, OsString};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{BUSY, CONFIG, DESCRIPTORS_PART, Error, FAILED, take_down};
use crate::config::view::ViewOptions;
use crate::crypt::{Conf, MasterKey};
use crate::fuse::{Behaviour, Session};
use crate::keys;
use crate::stats::Stats;
use crate::sys::mount::{self, FuseMount};
use crate::sys::overlap;
use crate::sys::{by_path, creds, durable, limits, signal, xattr};
use crate::tier::Tier;
use crate::tier::directory::{DirectoryTier, Known};
use crate::types::errno::Errno;
use crate::types::view::FILE_TTL;
use crate::union::{MinFree, Settings, Slot, SpaceOf, Union};

pub mod decrypt;
pub mod encrypt;

/// How long the kernel keeps names and attributes: nobody tells a view of changes.
const TTL: Duration = Duration::from_secs(1);

/// Gives the master key of a volume, whose configuration file is at the path.
pub type Unlock<'a> = &'a dyn Fn(&Conf, &Path) -> Result<MasterKey, Error>;

/// What is ready to be served.
#[derive(Debug)]
pub struct View {
    tier: Arc<dyn Tier>,
    mountpoint: PathBuf,
    options: ViewOptions,
    /// What `df` shows as the source.
    source: OsString,
    /// Whether each read must come here.
    uncached: bool,
}

/// Mounts and serves until the mount is gone. `ready` is called once programs can use it.
///
/// # Errors
/// One line and an exit code.
pub fn serve(view: &View, ready: impl FnOnce()) -> Result<(), Error> {
    creds::prepare();
    signal::prepare();
    let union = Arc::new(union(view)?);
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = view.options.threads.unwrap_or_else(|| cpus.max(4));
    let behaviour = Behaviour { passthrough: false, keep_cache: false, uncached: view.uncached, threads };
    let device = mount::mount_fuse(&view.mountpoint, &how_to_mount(view))
        .map_err(|error| Error::new(if error.is_busy() { BUSY } else { FAILED }, error.to_string()))?;
    let shown = view.mountpoint.display();
    let broken = |error: std::io::Error| {
        take_down(&view.mountpoint);
        Error::new(FAILED, format!("{shown}: cannot serve: {error}"))
    };
    // Nobody asks for what a view has counted.
    let stats = Arc::new(Stats::new(union.tiers(), behaviour.threads));
    let session = Session::new(Arc::clone(&union), stats, device, behaviour).map_err(broken)?;
    let kernel = session.invalidator().map_err(broken)?;
    union.on_outdated(move |ino| kernel.object(ino));
    let mountpoint = view.mountpoint.clone();
    signal::on_termination(move || take_down(&mountpoint))
        .map_err(|errno| Error::new(FAILED, format!("cannot wait for signals: {errno}")))?;
    tracing::info!(mountpoint = %shown, "serving a view");
    ready();
    match session.run() {
        // As in the daemon of a union: the end of the connection may look like an error.
        Err(error) if mount::is_mounted(&view.mountpoint) => return Err(broken(error)),
        Ok(()) | Err(_) => {}
    }
    tracing::info!(mountpoint = %shown, "unmounted");
    Ok(())
}

fn union(view: &View) -> Result<Union, Error> {
    let slot = Slot { tier: Some(Arc::clone(&view.tier)), min_free: MinFree::Bytes(0) };
    let settings = Settings {
        ttl: TTL,
        file_ttl: FILE_TTL,
        space_of: SpaceOf::Sum,
        spill: false,
        read_only: true,
        remember: 0,
        offline_from: None,
        dirs_max: usize::try_from(limits::raise_descriptors() / DESCRIPTORS_PART).unwrap_or(usize::MAX),
        root: creds::is_root(),
    };
    Union::new(vec![slot], settings).map_err(|errno| Error::new(FAILED, format!("the view cannot be made: {errno}")))
}

fn how_to_mount(view: &View) -> FuseMount {
    let fsname = view.options.fsname.as_ref().map(OsString::from);
    FuseMount {
        source: fsname.unwrap_or_else(|| view.source.clone()),
        allow_other: view.options.allow_other,
        read_only: true,
        ..FuseMount::default()
    }
}

/// The directory at `path` as a tier that is only read.
fn directory(path: &Path, seed: u64) -> Result<DirectoryTier, Error> {
    let broken = |errno: Errno| Error::new(FAILED, format!("{}: {errno}", path.display()));
    let root = durable::open_root(path).map_err(broken)?;
    let known = Known { seed, ..Known::default() };
    DirectoryTier::new(&root, path.to_path_buf(), known, Box::new(|_| Err(Errno::EROFS))).map_err(broken)
}

/// Refuses a mount point that what is shown contains, or the other way round.
fn check_apart(shown: &[PathBuf], mountpoint: &Path) -> Result<(), Error> {
    let within: Vec<PathBuf> = shown.iter().flat_map(|path| tiers_of(path)).collect();
    let named = shown.iter().map(|path| ("the directory", path.as_path()));
    let named: Vec<_> = named.chain(within.iter().map(|path| ("the tier", path.as_path()))).collect();
    overlap::check_view(&named, mountpoint).map_err(|error| Error::new(CONFIG, error.to_string()))
}

/// Where the copies are of a directory of a mounted union: none for any other.
fn tiers_of(path: &Path) -> Vec<PathBuf> {
    const COPIES: &CStr = c"user.tierfs.copies";
    // A link must be followed, as it will be.
    let told = std::fs::canonicalize(path)
        .ok()
        .and_then(|path| by_path::hold(&path).ok())
        .and_then(|fd| xattr::get(fd.as_fd(), None, COPIES).ok());
    let told = told.unwrap_or_default();
    let copies = told.split(|byte| *byte == 0).filter_map(|line| {
        let at = line.iter().position(|byte| *byte == b'\t')?;
        Some(PathBuf::from(OsStr::from_bytes(&line[at + 1..])))
    });
    copies.collect()
}

/// Reads the configuration file of a volume.
fn read_conf(path: &Path, hint: &str) -> Result<Conf, Error> {
    if !path.exists() {
        return Err(Error::new(CONFIG, format!("{} is not there: {hint}", path.display())));
    }
    keys::read_conf(path)
        .map_err(|error| Error::new(if error.kind == keys::Kind::Conf { CONFIG } else { FAILED }, error.line))
}
