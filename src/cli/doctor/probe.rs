//! The questions that a process of its own answers: see `child.rs`. One line of JSON each.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::cli::exit::{Exit, Failure, Outcome};
use crate::cli::{print, target, where_is};
use crate::control::status::{Status, TierState, TierStatus, Watching};
use crate::control::wire::{Command, Response, Text};
use crate::control::{client, convert};
use crate::doctor::facts::{Asked, Ground, Markers, Names, Own, Served, Tier, Tried};
use crate::doctor::names;
use crate::sys::{ability, by_path, creds, local, mountinfo, overlap, stat, xattr};
use crate::tier::marker::verify::{Found, Verdict, verify};
use crate::tier::place::{Form, Place};
use crate::types::errno::Errno;
use crate::types::name::PRIVATE_DIR;

/// Before the path of a tier whose files are in clear, and of one that holds ciphertext.
pub(crate) const PLAIN: u8 = b'+';
/// See [`PLAIN`].
pub(crate) const LOCKED: u8 = b'-';

/// Groups of names that are told one by one.
const GROUPS_MAX: usize = 100;

/// Sizes of attributes that are tried, largest first.
const SIZES: [usize; 6] = [65536, 32768, 16384, 8192, 3800, 256];

/// Answers one question, about these words.
///
/// # Errors
/// Where there is no such question.
pub(super) fn answer(question: &str, words: &[OsString]) -> Outcome {
    let first = words.first().map(Path::new).unwrap_or(Path::new(""));
    match question {
        "tier" => tell(&tier(first)),
        "try" => tell(&Ok::<_, String>(tried(first))),
        "rename" => tell(&renames(first)),
        "union" => tell(&union(first, words.get(1..).unwrap_or_default())),
        "mount" => tell(&mount(first)),
        "names" => tell(&look(words)),
        _ => Err(Failure::new(Exit::Usage, "doctor --probe is for doctor itself")),
    }
}

fn tell<T: Serialize>(answer: &Result<T, String>) -> Outcome {
    print(&serde_json::to_string(answer).map_err(Failure::error)?)?;
    Ok(Exit::Ok)
}

fn text(error: &std::io::Error) -> String {
    Errno::of(error).to_string()
}

fn tier(path: &Path) -> Result<Tier, String> {
    let found = fs::metadata(path).map_err(|error| text(&error))?;
    if !found.is_dir() {
        return Err("it is not a directory".into());
    }
    let root = File::open(path).map_err(|error| text(&error))?;
    let space = stat::statfs(root.as_fd()).map_err(|errno| errno.to_string())?;
    let mounts = mountinfo::read().map_err(|errno| errno.to_string())?;
    let id = fs::canonicalize(path).ok().and_then(|real| overlap::mount_id(&real));
    let mount = mounts.iter().find(|mount| Some(mount.id) == id);
    let words = |text: &OsStr| text.to_string_lossy().split(',').map(str::to_owned).collect::<Vec<_>>();
    let options = mount.map(|mount| [words(&mount.flags), words(&mount.options)].concat()).unwrap_or_default();
    let unit = u64::from(space.frsize);
    Ok(Tier {
        kind: mount.map(|mount| mount.kind.to_string_lossy().into_owned()).unwrap_or_default(),
        point: mount.map(|mount| mount.point.clone()).unwrap_or_default(),
        options,
        filesystem: (found.dev(), space.filesystem),
        casefold: ability::is_casefold(&root),
        uid: found.uid(),
        mode: found.mode() & 0o7777,
        bytes: (space.blocks.saturating_mul(unit), space.bavail.saturating_mul(unit)),
        inodes: (space.files, space.ffree),
        tried: Asked::Silent,
        renames: None,
        own: own(path),
    })
}

fn own(tier: &Path) -> Option<Own> {
    let dir = tier.join(".tierfs");
    let count = |name: &str| match fs::read_dir(dir.join(name)) {
        Ok(entries) => Ok(entries.count() as u64),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    };
    fs::read_dir(&dir).ok()?;
    let marker = fs::metadata(dir.join("marker")).map(|found| found.mtime()).ok();
    Some(Own { records: count("moves").ok()? + count("renames").ok()?, lost: count("lost").ok()?, marker })
}

fn tried(path: &Path) -> Asked<Tried> {
    let (file, other) = match ability::nameless(path).and_then(|file| Ok((file, ability::nameless(path)?))) {
        Ok(files) => files,
        Err(Errno::EOPNOTSUPP | Errno::EISDIR) => {
            return Asked::Refused("this filesystem has no files without a name".into());
        }
        Err(errno) => return Asked::Refused(errno.to_string()),
    };
    let why = |outcome: Result<(), Errno>| outcome.err().map(ability::in_words);
    let root = creds::is_root();
    let small = |key| why(ability::attribute(&file, key, b"tierfs doctor"));
    let user = small(c"user.tierfs-doctor");
    let fits = |size: &&usize| ability::attribute(&other, c"user.tierfs-doctor", &vec![7; **size]).is_ok();
    Asked::Told(Tried {
        trusted: small(c"trusted.tierfs-doctor").filter(|_| root),
        security: small(c"security.tierfs-doctor").filter(|_| root),
        acl: why(ability::acl(&file)),
        largest: SIZES.iter().find(fits).map_or(0, |size| *size as u64),
        reflink: shares_blocks(&file, path),
        reserve: ability::reserve(&file, 1 << 16).is_ok(),
        punch: ability::punch(&file, 1 << 12).is_ok(),
        user,
    })
}

fn renames(tier: &Path) -> Result<bool, String> {
    match ability::rename_unless_there(&tier.join(PRIVATE_DIR)) {
        Ok(()) => Ok(true),
        Err(Errno::EINVAL | Errno::EOPNOTSUPP | Errno::ENOSYS) => Ok(false),
        Err(errno) => Err(errno.to_string()),
    }
}

fn shares_blocks(file: &File, path: &Path) -> bool {
    let written = std::io::Write::write_all(&mut &*file, &[7; 4096]).is_ok();
    written && ability::nameless(path).is_ok_and(|to| ability::share_blocks(file, &to).is_ok())
}

/// What speaks against the tiers as one union: an overlap, what the markers say, and what is at the mount point.
fn union(mountpoint: &Path, tiers: &[OsString]) -> Result<(Option<String>, Markers, Ground), String> {
    let places: Vec<Place> = tiers.iter().filter_map(|word| place(word)).collect();
    let paths: Vec<&Path> = places.iter().map(|place| place.path.as_path()).collect();
    let is_known = !mountpoint.as_os_str().is_empty();
    let apart = if is_known { overlap::check(&paths, mountpoint) } else { overlap::check_tiers(&paths) };
    let found: Vec<Found> = places.iter().map(Place::look).collect();
    let markers = match verify(&found, &vec![None; found.len()]) {
        Verdict::Good => Markers::Good,
        Verdict::Fresh => Markers::Fresh,
        Verdict::Foreign(why) => Markers::Foreign(why),
        Verdict::Missing(ranks) => {
            let absent = ranks.iter().filter_map(|rank| found.get(rank.index())).map(Found::absence);
            Markers::Missing(absent.collect::<Vec<_>>().join("; "))
        }
    };
    let apart = apart.err().map(|overlap| overlap.to_string());
    let apart = apart.or_else(|| overlap::nested(&paths).map(|nested| nested.to_string()));
    Ok((apart, markers, ground(mountpoint)))
}

/// What is at a mount point while nothing is mounted there.
fn ground(mountpoint: &Path) -> Ground {
    let mounts = mountinfo::read().unwrap_or_default();
    if mountpoint.as_os_str().is_empty() || mountinfo::at(&mounts, mountpoint).is_some() {
        return Ground::Unknown;
    }
    match fs::read_dir(mountpoint).map(|mut entries| entries.next().is_some()) {
        Ok(true) => Ground::Holds,
        Ok(false) => Ground::Empty,
        Err(error) => match Errno::of(&error) {
            Errno::ENOENT => Ground::Absent,
            Errno::ENOTDIR => Ground::NoDirectory,
            _ => Ground::Unknown,
        },
    }
}

fn place(word: &OsStr) -> Option<Place> {
    let (kind, path) = word.as_bytes().split_first()?;
    let form = if *kind == LOCKED { Form::Locked } else { Form::Plain };
    Some(Place { path: PathBuf::from(OsStr::from_bytes(path)), form })
}

fn mount(point: &Path) -> Result<Served, String> {
    let asked = fs::metadata(point).map_err(|error| Errno::of(&error)).and_then(|_| by_path::hold(point));
    // What the kernel remembers of a dead mount it answers; attributes it never remembers.
    let socket = match asked.and_then(|held| xattr::get(held.as_fd(), None, target::CONTROL)) {
        Ok(bytes) => PathBuf::from(OsStr::from_bytes(&bytes)),
        Err(Errno::ENOTCONN) => return Ok(Served { dead: true, ..Served::default() }),
        Err(Errno::ENODATA | Errno::EOPNOTSUPP) => {
            let mute = Some("it takes no commands: it is a view, or its log says at the start why not".into());
            return Ok(Served { mute, ..Served::default() });
        }
        Err(errno) => return Err(errno.to_string()),
    };
    let copies = where_is::copies(point).unwrap_or_default();
    let mut served = Served { tiers: copies.into_iter().map(|copy| copy.path).collect(), ..Served::default() };
    served.pid =
        UnixStream::connect(&socket).ok().and_then(|stream| local::peer_pid(&stream).ok()).map(i32::cast_unsigned);
    if let Some(pid) = served.pid {
        let program = fs::read_link(format!("/proc/{pid}/exe")).ok();
        served.program = program.map(|path| path.to_string_lossy().into_owned());
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default();
        served.descriptors = limit(&limits, "Max open files");
        served.locked = limit(&limits, "Max locked memory");
    }
    match status(&socket) {
        Ok(status) => {
            served.tiers = status.tiers.iter().filter_map(|tier| path(&tier.path)).collect();
            let gone = status.tiers.iter().filter(|tier| tier.state != TierState::Serving);
            let told = |tier: &TierStatus| format!("{}: {}", path(&tier.path).unwrap_or_default().display(), tier.why);
            served.gone = Some(gone.map(told).collect());
            let late = status.tiers.iter().filter(|tier| !matches!(tier.watch, Watching::Whole | Watching::Never));
            served.late = late.filter_map(|tier| path(&tier.path)).collect();
            served.held = status.held.map(|held| (held.files, held.why));
            served.policy = status.policy.as_ref().and_then(path);
            served.refused = status.refused;
        }
        Err(why) => served.mute = Some(why),
    }
    Ok(served)
}

fn path(text: &Text) -> Option<PathBuf> {
    convert::bytes(text).map(|bytes| PathBuf::from(OsStr::from_bytes(&bytes)))
}

fn status(socket: &Path) -> Result<Status, String> {
    let client = client::connect(socket).map_err(|refused| target::not_connected(socket, refused).line)?;
    match client.ask(Command::Status, &|| false, &mut |_| {})? {
        Response::Status(status) => Ok(*status),
        Response::Error(problem) => Err(problem.line),
        _ => Err("the mount answers something else".into()),
    }
}

/// The soft limit of a line of `/proc/PID/limits`.
fn limit(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

/// Names that differ only in case below directories that are one: at most so many, for so many seconds.
fn look(words: &[OsString]) -> Result<Names, String> {
    let number = |at: usize| words.get(at).and_then(|word| word.to_str()).and_then(|word| word.parse::<u64>().ok());
    let (most, seconds) = (number(0).unwrap_or(0), number(1).unwrap_or(0));
    let roots: Vec<&Path> = words.get(2..).unwrap_or_default().iter().map(Path::new).collect();
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut found = Names { all: true, ..Names::default() };
    let mut dirs = VecDeque::from([PathBuf::new()]);
    while let Some(dir) = dirs.pop_front() {
        if found.seen >= most || Instant::now() >= until {
            found.all = false;
            break;
        }
        let mut seen: Vec<Vec<u8>> = Vec::new();
        let mut below = BTreeSet::new();
        for root in &roots {
            // What cannot be read, or is a directory on another tier only, has no names here.
            let Ok(entries) = fs::read_dir(root.join(&dir)) else { continue };
            for entry in entries.flatten() {
                let name = entry.file_name();
                if dir.as_os_str().is_empty() && name == ".tierfs" {
                    continue;
                }
                if seen.len() as u64 >= most || Instant::now() >= until {
                    found.all = false;
                    break;
                }
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    below.insert(dir.join(&name));
                }
                seen.push(name.as_bytes().to_vec());
            }
        }
        dirs.extend(below);
        found.seen += seen.len() as u64;
        for group in names::groups(&seen) {
            found.count += 1;
            if found.groups.len() < GROUPS_MAX {
                let path = |name: &&[u8]| format!("/{}", dir.join(OsStr::from_bytes(name)).display());
                found.groups.push(group.iter().map(path).collect());
            }
        }
    }
    Ok(found)
}
