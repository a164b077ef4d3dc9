//! The sockets of mounts, asked without touching a mount or a tier: both may hang.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::control::client::{self, NoAnswer};
use crate::control::place;
use crate::control::status::Status;
use crate::control::wire::{Command, Response};
use crate::sys::local;

/// How long a mount may take to answer: it waits two seconds for a tier that
/// hangs, perhaps once more for another who asks.
pub(super) const PATIENCE: Duration = Duration::from_secs(4);

/// What one mount has answered.
#[derive(Debug)]
pub(super) struct Answer {
    /// Where it listens.
    pub socket: PathBuf,
    /// Whose program has answered; 0 where none has.
    pub uid: u32,
    /// What it tells.
    pub told: Result<Box<Status>, NoAnswer>,
}

/// Asks all mounts whose sockets this user may see, at the same time.
pub(super) fn ask_all() -> Vec<Answer> {
    let sockets: Vec<PathBuf> = directories().iter().flat_map(|directory| sockets(directory)).collect();
    std::thread::scope(|scope| {
        let asked: Vec<_> = sockets.into_iter().map(|socket| scope.spawn(|| ask(socket))).collect();
        asked.into_iter().filter_map(|thread| thread.join().ok()).collect()
    })
}

/// Asks one.
pub(super) fn ask(socket: PathBuf) -> Answer {
    let (uid, told) = match client::ask_once(&socket, Command::Status, PATIENCE) {
        Ok((uid, Response::Status(status))) => (uid, Ok(status)),
        Ok((uid, Response::Error(problem))) => (uid, Err(NoAnswer::Unreadable(problem.line))),
        Ok((uid, _)) => (uid, Err(NoAnswer::Unreadable("it answers something else".into()))),
        Err(why) => (0, Err(why)),
    };
    Answer { socket, uid, told }
}

/// This user's directory of sockets, and those of all others for root.
fn directories() -> Vec<PathBuf> {
    let own = place::directory();
    if local::own_uid() != 0 || std::env::var_os(place::ENVIRONMENT).is_some() {
        return vec![own];
    }
    let sessions = entries(Path::new("/run/user")).into_iter().map(|user| user.join("tierfs"));
    let others = entries(Path::new("/tmp")).into_iter().filter(|path| {
        let name = path.file_name().and_then(|name| name.to_str());
        let uid = name.and_then(|name| name.strip_prefix("tierfs-")?.parse::<u32>().ok());
        fs::symlink_metadata(path).is_ok_and(|found| found.is_dir() && uid == Some(found.uid()))
    });
    [own].into_iter().chain(sessions).chain(others).collect()
}

fn sockets(directory: &Path) -> Vec<PathBuf> {
    let mut found = entries(directory);
    found.retain(|path| path.extension().is_some_and(|ending| ending == "sock"));
    found.sort();
    found
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}
