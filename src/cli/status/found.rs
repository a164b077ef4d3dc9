//! All mounts and configured mounts of the machine, and how each is.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::probe::{self, Look};
use super::sockets::{self, Answer};
use super::timer::{self, Timer};
use crate::cli::cron::{self, Job};
use crate::cli::exit::Failure;
use crate::cli::fstab::{self, Line};
use crate::config::{check, load};
use crate::control::client::NoAnswer;
use crate::control::convert;
use crate::control::status::Status;
use crate::control::wire::Text;
use crate::sys::local;
use crate::sys::mountinfo::{self, Mount};
use crate::{policy, yaml};

/// Overrides the directory of configurations; meant for tests.
const ENVIRONMENT: &str = "TIERFS_CONFIG_DIR";

/// Where the configurations of the services are.
const DIRECTORY: &str = "/etc/tierfs";

/// One mount, or one configuration that is not mounted.
#[derive(Debug)]
pub(super) struct Found {
    /// Where it is or would be mounted; the file where that is not known.
    pub point: PathBuf,
    /// Its configuration file, where one is known.
    pub config: Option<PathBuf>,
    /// How it is.
    pub state: State,
    /// Its line in /etc/fstab, if there is one.
    pub fstab: Option<Line>,
    /// What systemd says of its runs; `None` where it does not say.
    pub timer: Option<Timer>,
    /// The runs that cron is told to make.
    pub cron: Vec<Job>,
    /// Where its program listens, if that has answered.
    pub socket: Option<PathBuf>,
}

impl Found {
    fn new(point: PathBuf, state: State, socket: Option<PathBuf>) -> Found {
        Found { point, config: None, state, fstab: None, timer: None, cron: Vec::new(), socket }
    }
}

/// How a mount is.
#[derive(Debug)]
pub(super) enum State {
    /// None of the sockets has answered for it, and nobody has looked at it yet.
    Unknown(Option<u32>),
    /// It has answered.
    Serving(Box<Status>),
    /// It serves, but is not to be seen from here: it is mounted in a container, or was just unmounted.
    Elsewhere(Box<Status>),
    /// Its program has ended.
    Dead,
    /// Its program says nothing.
    Silent,
    /// Only this user, and root, may ask it.
    Denied(u32),
    /// It takes no commands.
    Mute,
    /// Its answer is none, for this reason.
    Unreadable(String),
    /// It is not mounted.
    Absent,
    /// Its configuration is wrong, or may not be read.
    Wrong(String),
}

/// Of a file in the directory of configurations, the name by which its services are called.
pub(super) fn service_name(config: &Path) -> Option<&str> {
    config.file_stem().and_then(OsStr::to_str).filter(|_| config.parent() == Some(&directory()))
}

fn directory() -> PathBuf {
    std::env::var_os(ENVIRONMENT).filter(|given| !given.is_empty()).map_or_else(|| DIRECTORY.into(), PathBuf::from)
}

/// The configuration that is called so, if there is one.
pub(super) fn config_named(name: &str) -> Option<PathBuf> {
    let path = directory().join(name).with_extension("yaml");
    (!name.is_empty() && !name.contains('/') && path.is_file()).then_some(path)
}

/// All that was found, and the answers that belong to none of it so far.
#[derive(Debug)]
pub(super) struct Machine {
    /// In the order of the mount table, then what is configured and not mounted.
    pub all: Vec<Found>,
    left: Vec<Answer>,
}

/// Everything. Of mounts that have not answered nothing is known yet: see [`Machine::look`].
///
/// # Errors
/// Where the mount table cannot be read.
pub(super) fn all() -> Result<Machine, Failure> {
    let mounts = mountinfo::read().map_err(|errno| Failure::error(format!("/proc/self/mountinfo: {errno}")))?;
    let (mut found, left) = mounted(&mounts, sockets::ask_all());
    let mut files: Vec<PathBuf> =
        fs::read_dir(directory()).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    files.sort();
    for file in files.into_iter().filter(|file| file.extension() == Some(OsStr::new("yaml"))) {
        if !found.iter().any(|other| other.config.as_ref() == Some(&file)) {
            add_configured(&mut found, file);
        }
    }
    add_lines(&mut found, &fstab::text());
    let names = found.iter().filter_map(|found| service_name(found.config.as_deref()?)).map(String::from);
    let mut timers = timer::of(&names.collect::<Vec<_>>());
    for found in &mut found {
        let name = found.config.as_deref().and_then(service_name);
        found.timer = name.and_then(|name| timers.as_mut()?.remove(name));
    }
    Ok(Machine { all: found, left })
}

impl Machine {
    /// Looks at those of these (indices into `all`) of which nothing is known yet, and at what cron does with each.
    pub(super) fn look(&mut self, chosen: &[usize]) {
        self.look_at_unknown(chosen);
        for at in chosen {
            let Some(found) = self.all.get_mut(*at) else { continue };
            found.cron = cron::migrations(&found.point, found.config.as_deref());
        }
    }

    fn look_at_unknown(&mut self, chosen: &[usize]) {
        let unknown: Vec<usize> =
            chosen.iter().copied().filter(|at| matches!(self.all[*at].state, State::Unknown(_))).collect();
        let points: Vec<PathBuf> = unknown.iter().map(|at| self.all[*at].point.clone()).collect();
        for (at, look) in unknown.into_iter().zip(probe::look_at(&points)) {
            let State::Unknown(user) = self.all[at].state else { continue };
            if let Look::Socket(socket) = &look {
                self.all[at].socket = Some(socket.clone());
            }
            self.all[at].state = unanswered(user, look, &mut self.left);
            if let State::Serving(status) = &self.all[at].state {
                let own = status.config.as_ref().map(path);
                self.all[at].config = own.or_else(|| self.all[at].config.take());
            }
        }
    }
}

fn entry(point: PathBuf, state: State, socket: Option<PathBuf>) -> Found {
    let config = match &state {
        State::Serving(status) | State::Elsewhere(status) => status.config.as_ref().map(path),
        _ => None,
    };
    Found { config, ..Found::new(point, state, socket) }
}

pub(super) fn path(text: &Text) -> PathBuf {
    PathBuf::from(OsString::from_vec(convert::bytes(text).unwrap_or_default()))
}

/// Each filesystem once: bind mounts show the same one elsewhere.
fn mounted(mounts: &[Mount], answers: Vec<Answer>) -> (Vec<Found>, Vec<Answer>) {
    let mut by_device: BTreeMap<(u32, u32), &Mount> = BTreeMap::new();
    let mut order = Vec::new();
    for mount in mounts.iter().filter(|mount| mount.is_tierfs()) {
        let is_whole = mount.root == Path::new("/");
        match by_device.get(&mount.device) {
            Some(known) if known.root == Path::new("/") || !is_whole => {}
            Some(_) => drop(by_device.insert(mount.device, mount)),
            None => {
                by_device.insert(mount.device, mount);
                order.push(mount.device);
            }
        }
    }
    let mut left = answers;
    let mut all: Vec<Found> = Vec::new();
    for mount in order.iter().filter_map(|device| by_device.get(device).copied()) {
        let at = left.iter().position(|answer| is_of(answer, mount));
        let (socket, state) = match at.map(|at| left.swap_remove(at)) {
            Some(Answer { socket, told: Ok(status), .. }) => (Some(socket), State::Serving(status)),
            _ => (None, State::Unknown(mount.user)),
        };
        all.push(entry(mount.point.clone(), state, socket));
    }
    let own = local::own_uid();
    let (lost, left) = left.into_iter().partition(|answer| answer.told.is_ok() && (own == 0 || answer.uid == own));
    for answer in Vec::into_iter(lost) {
        let Answer { socket, told: Ok(status), .. } = answer else { continue };
        all.push(entry(path(&status.mountpoint), State::Elsewhere(status), Some(socket)));
    }
    (all, left)
}

/// Whether the answer is about this mount, and from the user whose program the kernel asks for it.
fn is_of(answer: &Answer, mount: &Mount) -> bool {
    let same = answer.told.as_ref().is_ok_and(|status| status.device == Some(mount.device));
    same && mount.user.is_none_or(|user| user == answer.uid)
}

/// What is to be said of a mount none of the sockets has answered for.
fn unanswered(user: Option<u32>, look: Look, answers: &mut Vec<Answer>) -> State {
    let socket = match look {
        Look::Socket(socket) => socket,
        Look::Mute => return State::Mute,
        Look::Dead => return State::Dead,
        Look::Denied => return State::Denied(user.unwrap_or(0)),
        Look::Silent => return State::Silent,
    };
    let known = answers.iter().position(|answer| answer.socket == socket);
    let answer = known.map_or_else(|| sockets::ask(socket), |at| answers.swap_remove(at));
    match answer.told {
        Ok(status) if user.is_none_or(|user| user == answer.uid) => State::Serving(status),
        Ok(_) => State::Unreadable("another user answers for it".into()),
        Err(NoAnswer::Silent) => State::Silent,
        Err(NoAnswer::Denied) => State::Denied(user.unwrap_or(0)),
        Err(NoAnswer::Absent) => State::Mute,
        Err(NoAnswer::Unreadable(line)) => State::Unreadable(line),
    }
}

/// Adds a configuration that is somewhere else, if that is what `path` is.
pub(super) fn add(found: &mut Vec<Found>, path: &Path) {
    let is_config = path.extension().is_some_and(|word| word == "yaml" || word == "yml");
    let is_known = found.iter().any(|other| other.config.as_deref() == Some(path) || path.starts_with(&other.point));
    if is_config && !is_known && path.is_file() {
        add_configured(found, path.to_path_buf());
    }
}

/// Adds what a configuration describes, unless it is there already or is none.
fn add_configured(found: &mut Vec<Found>, file: PathBuf) {
    let entry = |point, state| Found { config: Some(file.clone()), ..Found::new(point, state, None) };
    let text = match load::read(&file) {
        Ok(text) => text,
        Err(line) => return found.push(entry(file.clone(), State::Wrong(line))),
    };
    let keys = yaml::keys(&text);
    // A policy, or the configuration of a view.
    if policy::load::is_policy(&keys) || keys.iter().any(|key| key == "sources") {
        return;
    }
    let draft = match load::load(&file) {
        Ok(draft) if draft.mountpoint.is_none() => return,
        other => other,
    };
    match draft.and_then(check::finish) {
        Ok(config) => match at(found, &config.mountpoint) {
            Some(other) => drop(other.config.get_or_insert(file.clone())),
            None => found.push(entry(config.mountpoint, State::Absent)),
        },
        Err(error) => {
            let line = error.to_string();
            // The file is told anyway.
            let rest = line.strip_prefix(&file.display().to_string()).map(|rest| rest.trim_start_matches([':', ' ']));
            found.push(entry(file.clone(), State::Wrong(rest.unwrap_or(&line).to_owned())));
        }
    }
}

/// The one at this mount point.
fn at<'a>(found: &'a mut [Found], point: &Path) -> Option<&'a mut Found> {
    // Not the mount point itself is asked, which may hang.
    let real = point.parent().and_then(|above| above.canonicalize().ok());
    let real = real.zip(point.file_name()).map(|(above, name)| above.join(name));
    found.iter_mut().find(|other| other.point == point || Some(&other.point) == real.as_ref())
}

/// Adds what the lines of fstab describe, and to what is there already its line.
fn add_lines(found: &mut Vec<Found>, text: &[u8]) {
    for line in fstab::lines(text).filter(Line::is_tierfs) {
        if let Some(known) = at(found, &line.point) {
            known.config = known.config.take().or_else(|| line.config_file());
            known.fstab.get_or_insert(line);
            continue;
        }
        let config = line.config_file();
        let state = match line.configuration() {
            Ok(_) => State::Absent,
            Err(failure) => State::Wrong(failure.line),
        };
        // It is told of what is wrong where it is to be mounted, and not once more by its name.
        found.retain(|other| config.is_none() || other.config != config || !matches!(other.state, State::Wrong(_)));
        let point = line.point.clone();
        found.push(Found { config, fstab: Some(line), ..Found::new(point, state, None) });
    }
}
