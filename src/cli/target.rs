//! The union a command means: by a path in a mount, a configuration file, or PRIMARY:SECONDARY.

use std::cell::OnceCell;
use std::ffi::{CStr, OsStr};
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use crate::cli::absolute;
use crate::cli::exit::{Exit, Failure};
use crate::cli::unlocked::{no_tiers, ranked, union_id, unlocked, unlocked_of_mount, whole};
use crate::cli::where_is::FileCopy;
use crate::config::{Draft, MountConfig, TierConfig, check, load, spec};
use crate::control::client::{self, Refused};
use crate::control::place;
use crate::crypt::names::CONF_NAME;
use crate::daemon::unlock;
use crate::sys::mountinfo::{self, Mount};
use crate::sys::{by_path, xattr};
use crate::tier::marker;
use crate::tier::place::Place;
use crate::types::errno::Errno;
use crate::types::ids::Rank;
use crate::types::path::UnionPath;

/// The socket of a mount, as it answers on any path in it.
pub const CONTROL: &CStr = c"user.tierfs.control";

/// A union and how it is reached.
#[derive(Debug)]
pub struct Target {
    /// Through its mount, or without one.
    pub reach: Reach,
    /// The path in the union that was named with it, if it was not the root.
    pub within: Option<UnionPath>,
    /// The tiers that are there, once they are asked for: it may take a passphrase.
    roots: OnceCell<Vec<(Rank, Place)>>,
}

/// How a union is reached.
#[derive(Debug)]
pub enum Reach {
    /// It is mounted.
    Mounted {
        /// The socket of its daemon.
        socket: PathBuf,
        /// Where it is mounted, where that is known.
        at: Option<Spot>,
        /// What it is made of, where it was named so.
        config: Option<Box<MountConfig>>,
    },
    /// It is not.
    Alone(Box<MountConfig>),
}

/// A mount point, and which directory of the union is there: the root but for bind mounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spot {
    /// The mount point, without links.
    pub point: PathBuf,
    /// What is mounted there.
    pub root: UnionPath,
}

/// Finds the union that `named` means; without a name the only one that is mounted.
///
/// # Errors
/// One line that says how to name it.
pub fn find(named: Option<&OsStr>) -> Result<Target, Failure> {
    let Some(named) = named else {
        return mounted(&only_mount("name a configuration file, or the tiers as PRIMARY:SECONDARY")?);
    };
    let path = Path::new(named);
    let is_config = path.extension().is_some_and(|word| word == "yaml" || word == "yml");
    match path.metadata() {
        Ok(found) if found.is_file() && is_config && spot_of(path).is_err() => by_config(load::load(path)?),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            if is_config {
                return by_config(load::load(path)?);
            }
            if named.as_bytes().contains(&b':') {
                return by_config(draft_of(named)?);
            }
            Err(Failure::error(format!("{}: there is no such file or directory", path.display())))
        }
        _ => mounted(path),
    }
}

fn draft_of(named: &OsStr) -> Result<Draft, Failure> {
    let tier = |path: PathBuf| absolute(&path).map(TierConfig::at);
    let tiers = spec::parse(named)?.into_iter().map(tier).collect::<Result<Vec<_>, Failure>>()?;
    Ok(Draft { tiers, ..Draft::default() })
}

/// For whoever may not look at what tierfs keeps on a tier.
pub const NOT_ROOT: &str = "only root and the owner of the tier may read it: run this as root";

/// The only mount there is; `otherwise` says what to do where there is none.
///
/// # Errors
/// Where there is none, or more than one.
pub fn only_mount(otherwise: &str) -> Result<PathBuf, Failure> {
    let mounts = mountinfo::read().map_err(|errno| Failure::error(format!("/proc/self/mountinfo: {errno}")))?;
    let points = mounts.into_iter().filter(Mount::is_tierfs).map(|mount| mount.point);
    only(&points.collect::<Vec<_>>(), otherwise)
}

fn only(points: &[PathBuf], otherwise: &str) -> Result<PathBuf, Failure> {
    let usage = |line: String| Failure::new(Exit::Usage, line);
    match points {
        [one] => Ok(one.clone()),
        [] => Err(usage(format!("no tierfs is mounted: {otherwise}"))),
        many => {
            let many: Vec<_> = many.iter().map(|point| point.display().to_string()).collect();
            Err(usage(format!("which mount? Name one of {}", many.join(", "))))
        }
    }
}

/// Through the mount that `path` is in.
fn mounted(path: &Path) -> Result<Target, Failure> {
    let (spot, union_path) = spot_of(path)?;
    let reach = Reach::Mounted { socket: socket_of(&spot.point)?, at: Some(spot), config: None };
    Ok(Target { reach, within: Some(union_path).filter(|path| !path.is_root()), roots: OnceCell::new() })
}

/// The socket of the mount at `point`.
///
/// # Errors
/// One line where it takes no commands or does not answer.
pub fn socket_of(point: &Path) -> Result<PathBuf, Failure> {
    let fail = |why: &dyn std::fmt::Display| Failure::error(format!("{}: {why}", point.display()));
    match by_path::hold(point).and_then(|held| xattr::get(held.as_fd(), None, CONTROL)) {
        Ok(bytes) => Ok(PathBuf::from(OsStr::from_bytes(&bytes))),
        Err(Errno::ENODATA) => {
            Err(fail(&"this mount takes no commands: it is a view, or its log says at the start why not"))
        }
        Err(errno) => Err(fail(&why(errno))),
    }
}

/// An error about something in a mount, with the cure where the mount is dead: a dead mount answers
/// some questions from the kernel's memory, so it may be noticed at any.
pub fn why(errno: Errno) -> String {
    match errno {
        Errno::ENOTCONN => "the mount is dead: run `tierfs umount` on it, then mount again".into(),
        other => other.to_string(),
    }
}

/// The mount that `path` is in, and where it is in the union.
///
/// # Errors
/// One line where it is in none.
pub fn spot_of(path: &Path) -> Result<(Spot, UnionPath), Failure> {
    let fail = |why: &dyn std::fmt::Display| Failure::error(format!("{}: {why}", path.display()));
    let real = real_path(path).map_err(|errno| fail(&why(errno)))?;
    let mounts = mountinfo::read().map_err(|errno| fail(&errno))?;
    // Of two at one point the later hides the earlier, and `max_by_key` takes the later.
    let above = mounts.iter().filter(|mount| real.starts_with(&mount.point));
    let mount = above.max_by_key(|mount| mount.point.as_os_str().len());
    let Some(mount) = mount.filter(|mount| mount.is_tierfs()) else {
        return Err(fail(&elsewhere(&real)));
    };
    let root = UnionPath::new(mount.root.as_os_str().as_bytes()).map_err(|errno| fail(&errno))?;
    let rest = real.strip_prefix(&mount.point).unwrap_or(Path::new(""));
    let mut inside = root.clone();
    for name in rest {
        inside = inside.join(name.as_bytes());
    }
    Ok((Spot { point: mount.point.clone(), root }, inside))
}

/// What to do with a path that is in no mount.
fn elsewhere(real: &Path) -> &'static str {
    let is_tier = |path: &Path| [".tierfs/marker", CONF_NAME].iter().any(|own| path.join(own).exists());
    if is_tier(real) {
        "is a tier, not a mount: name the mount point, the configuration, or all tiers as PRIMARY:SECONDARY"
    } else if real.ancestors().any(is_tier) {
        "is on a tier, and is not in a mounted tierfs: name it by its path in the mount"
    } else {
        "is not in a mounted tierfs: mount it first, and name the path in the mount"
    }
}

/// Without links in what is above it, and the last name as it is: a link itself can be meant.
fn real_path(path: &Path) -> Result<PathBuf, Errno> {
    let found = path.symlink_metadata().map_err(|error| Errno::of(&error))?;
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) if found.is_symlink() => {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            parent.canonicalize().map(|parent| parent.join(name)).map_err(|error| Errno::of(&error))
        }
        _ => path.canonicalize().map_err(|error| Errno::of(&error)),
    }
}

/// By its tiers: through the mount that serves them, if one does. Without a key that is known by what is in
/// clear, or by the mount point.
fn by_config(draft: Draft) -> Result<Target, Failure> {
    let config = Box::new(check::finish_unmounted(draft)?);
    let locked = unlock::locked(&config);
    let mut roots = OnceCell::new();
    let socket = match union_id(&locked)? {
        Some(id) => Some(socket_by_id(id)),
        None => {
            let there = mounted_at(&config.mountpoint).filter(|spot| serves(spot, &config));
            there.map(|spot| socket_of(&spot.point)).transpose()?
        }
    };
    let socket = match socket {
        Some(socket) => socket,
        None => {
            let places = unlocked(&config)?;
            let id = union_id(&places)?.ok_or_else(|| no_tiers(&places))?;
            roots = OnceCell::from(ranked(places));
            socket_by_id(id)
        }
    };
    let reach = match client::connect(&socket) {
        Ok(_) => {
            whole(&config, &locked)?;
            Reach::Mounted { socket, at: mounted_at(&config.mountpoint), config: Some(config) }
        }
        Err(Refused::Absent) => Reach::Alone(config),
        Err(refused) => return Err(not_connected(&socket, refused)),
    };
    Ok(Target { reach, within: None, roots })
}

fn socket_by_id(id: marker::Id) -> PathBuf {
    place::socket(&place::directory(), &id.to_string())
}

/// Whether what is mounted there is a union of tiers of this configuration: another may have taken its place.
fn serves(spot: &Spot, config: &MountConfig) -> bool {
    let real = |path: &Path| path.canonicalize().ok();
    let is_named = |copy: &FileCopy| config.tiers.iter().any(|tier| real(&tier.path) == real(&copy.path));
    spot.root.is_root() && crate::cli::where_is::copies(&spot.point).is_ok_and(|copies| copies.iter().all(is_named))
}

/// The mount at a mount point, if there is one.
fn mounted_at(point: &Path) -> Option<Spot> {
    spot_of(point).ok().map(|(spot, _)| spot)
}

/// Why a mount cannot be spoken to, with what to do.
pub fn not_connected(socket: &Path, refused: Refused) -> Failure {
    let socket = socket.display();
    Failure::error(match refused {
        Refused::Absent => format!("nobody listens on {socket}: the mount has just ended, or is of another container"),
        Refused::Denied => "only root and the user who mounted may do this: run it with sudo".into(),
        Refused::Other(line) => line,
    })
}

fn usage(path: &Path, why: &dyn std::fmt::Display) -> Failure {
    Failure::new(Exit::Usage, format!("{}: {why}", path.display()))
}

impl Target {
    /// Paths from the root of the union: `given`, or without any what was named with the union.
    ///
    /// # Errors
    /// One line that names the first that leads nowhere.
    pub fn paths(&self, given: &[PathBuf]) -> Result<Vec<UnionPath>, Failure> {
        if given.is_empty() {
            return Ok(self.within.iter().cloned().collect());
        }
        given.iter().map(|path| self.inside(path)).collect()
    }

    /// An absolute path is one in the mount point. A relative one is what a shell completes where it
    /// leads into the mount; else it begins at the directory that was named with the union, or at the
    /// top.
    fn inside(&self, path: &Path) -> Result<UnionPath, Failure> {
        if path.is_absolute() {
            return self.below_mountpoint(path);
        }
        if let Some(inside) = self.beside_user(path) {
            return Ok(inside);
        }
        let names: PathBuf = path.components().filter(|part| *part != Component::CurDir).collect();
        let names = UnionPath::new(names.as_os_str().as_bytes())
            .map_err(|_| usage(path, &"must be a path below the mount point, without .."))?;
        let named = self.within.clone().filter(|within| self.real(within).is_some_and(|real| real.is_dir()));
        let joined = |base: UnionPath| names.names().fold(base, |path, name| path.join(name.as_bytes()));
        let tried = named.into_iter().chain([self.top()]).map(joined);
        match tried.into_iter().find(|path| self.has(path)) {
            Some(found) => Ok(found),
            None => {
                if let Reach::Alone(config) = &self.reach {
                    // It may be on a tier that is missing.
                    whole(config, &unlock::locked(config))?;
                }
                Err(Failure::error(format!("{}: there is no such file or directory in the union", path.display())))
            }
        }
    }

    fn below_mountpoint(&self, path: &Path) -> Result<UnionPath, Failure> {
        let point = match &self.reach {
            Reach::Mounted { at: Some(spot), .. } => {
                let (found, inside) = spot_of(path)?;
                return if found == *spot { Ok(inside) } else { Err(usage(path, &"is not in that mount")) };
            }
            Reach::Alone(config) | Reach::Mounted { config: Some(config), .. } => &config.mountpoint,
            Reach::Mounted { .. } => return Err(usage(path, &"name it relative to the mount point")),
        };
        match path.strip_prefix(point) {
            Ok(below) if !point.as_os_str().is_empty() => UnionPath::new(below.as_os_str().as_bytes())
                .map_err(|_| usage(path, &"must be a path below the mount point, without . and ..")),
            _ => Err(usage(path, &"is not in the mount: name it relative to the mount point")),
        }
    }

    /// Where a path relative to the current directory leads, if that is in this mount.
    fn beside_user(&self, path: &Path) -> Option<UnionPath> {
        let Reach::Mounted { at: Some(spot), .. } = &self.reach else { return None };
        spot_of(path).ok().filter(|(found, _)| found == spot).map(|(_, inside)| inside)
    }

    /// What is at the mount point.
    fn top(&self) -> UnionPath {
        match &self.reach {
            Reach::Mounted { at: Some(spot), .. } => spot.root.clone(),
            Reach::Mounted { .. } | Reach::Alone(_) => UnionPath::root(),
        }
    }

    /// Where a path is in the mount, if it is known where that is.
    fn real(&self, path: &UnionPath) -> Option<PathBuf> {
        let Reach::Mounted { at: Some(spot), .. } = &self.reach else { return None };
        let mut real = spot.point.clone();
        for name in path.names().skip(spot.root.names().count()) {
            real.push(OsStr::from_bytes(name.as_bytes()));
        }
        Some(real)
    }

    /// Whether the path is there. What cannot be looked at may be.
    fn has(&self, path: &UnionPath) -> bool {
        let there = |real: &Path| match real.symlink_metadata() {
            Ok(_) => true,
            Err(error) => !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
        };
        match self.real(path) {
            Some(real) => there(&real),
            None => self.roots().unwrap_or_default().iter().any(|(_, root)| root.has(path)),
        }
    }

    /// Rank and root of every tier that is there, fastest first.
    ///
    /// # Errors
    /// One line where the mount does not tell, or why they cannot be unlocked.
    pub fn roots(&self) -> Result<Vec<(Rank, Place)>, Failure> {
        if let Some(roots) = self.roots.get() {
            return Ok(roots.clone());
        }
        let roots = self.find_roots()?;
        Ok(self.roots.get_or_init(|| roots).clone())
    }

    fn find_roots(&self) -> Result<Vec<(Rank, Place)>, Failure> {
        match &self.reach {
            Reach::Alone(config) | Reach::Mounted { config: Some(config), .. } => unlocked(config).map(ranked),
            Reach::Mounted { at, .. } => {
                let point = at.as_ref().map(|spot| spot.point.clone()).unwrap_or_default();
                if let Some(roots) = unlocked_of_mount(&point)? {
                    return Ok(roots);
                }
                let copies = crate::cli::where_is::copies(&point)?;
                let depth = at.as_ref().map_or(0, |spot| spot.root.names().count());
                let root = |copy: FileCopy| {
                    let path = copy.path.ancestors().nth(depth)?.to_path_buf();
                    Some((Rank::parse(&copy.tier)?, Place::plain(path)))
                };
                Ok(copies.into_iter().filter_map(root).collect())
            }
        }
    }

    /// The tiers for whoever opens the union himself.
    ///
    /// # Errors
    /// Why they cannot be unlocked.
    pub fn places(&self) -> Result<Vec<Place>, Failure> {
        Ok(self.roots()?.into_iter().map(|(_, place)| place).collect())
    }

    /// The root of the primary.
    ///
    /// # Errors
    /// As [`Target::roots`].
    pub fn primary(&self) -> Result<Place, Failure> {
        let first = self.roots()?.into_iter().next();
        first.map(|(_, root)| root).ok_or_else(|| Failure::error("the mount has no tiers"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_mount_a_command_says_what_it_takes() {
        let told = |points: &[&str]| {
            let points: Vec<PathBuf> = points.iter().map(PathBuf::from).collect();
            only(&points, "mount it first").map_err(|failure| (failure.code, failure.line))
        };
        assert_eq!(told(&[]), Err((2, "no tierfs is mounted: mount it first".into())));
        assert_eq!(told(&["/a"]), Ok("/a".into()));
        assert_eq!(told(&["/a", "/b"]), Err((2, "which mount? Name one of /a, /b".into())));
    }

    #[test]
    fn a_path_on_a_tier_is_told_from_one_elsewhere() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(home.path().join("fast/.tierfs")).unwrap();
        std::fs::write(home.path().join("fast/.tierfs/marker"), "").unwrap();
        assert!(elsewhere(&home.path().join("fast")).starts_with("is a tier, not a mount"));
        assert!(elsewhere(&home.path().join("fast/a/b")).starts_with("is on a tier"));
        assert!(elsewhere(&home.path().join("slow")).contains("mount it first"));
    }
}
