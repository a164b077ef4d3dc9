//! Operations of a run: what they are, how they are drawn, and what they do below a directory.
//!
//! [`World`] does the same below any directory, so the mount and the plain reference directory
//! are driven by one piece of code and their answers can be compared word for word.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "operations are dealt out over three functions; the last refuses what none does"
)]

use std::io::Write;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::{AtFlags, CWD, Mode, RenameFlags, Timespec, Timestamps, XattrFlags};

use crate::rng::Rng;

/// A path of at most three components out of four names.
pub(crate) type Name = &'static str;

/// One operation. `Debug` prints it as it can be pasted into `regressions.rs`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Op {
    Create(Name, u32),
    Mkdir(Name, u32),
    Fifo(Name),
    Symlink(Name, Name),
    Link(Name, Name),
    Unlink(Name),
    Rmdir(Name),
    Rename(Name, Name),
    RenameNew(Name, Name),
    Exchange(Name, Name),
    /// Path, offset, length, byte; makes the file if it is not there.
    Write(Name, u16, u16, u8),
    Append(Name, u16, u8),
    Truncate(Name, u16),
    Read(Name),
    Chmod(Name, u32),
    Chown(Name, u32),
    /// Seconds of atime and mtime.
    Times(Name, u32),
    SetXattr(Name, u8),
    RemoveXattr(Name, u8),
    Stat(Name),
    List(Name),
    /// Opens for reading and writing and keeps the descriptor in a slot.
    Open(u8, Name),
    WriteSlot(u8, u16, u16, u8),
    TruncateSlot(u8, u16),
    StatSlot(u8),
    ReadSlot(u8),
    Close(u8),
    /// Unmounts and mounts again.
    Remount,
}

/// How many descriptors can be kept.
pub(crate) const SLOTS: u8 = 3;

/// All paths, shallow ones first.
pub(crate) fn paths() -> &'static [Name] {
    static PATHS: OnceLock<Vec<Name>> = OnceLock::new();
    PATHS.get_or_init(|| {
        let letters = ["a", "b", "c", "d"];
        let mut all: Vec<String> = letters.map(str::to_owned).to_vec();
        for depth in 1..3 {
            let parents = all.clone().into_iter().filter(|path| path.split('/').count() == depth);
            let below = parents.flat_map(|parent| letters.map(|name| format!("{parent}/{name}")));
            all.extend(below.collect::<Vec<_>>());
        }
        all.into_iter().map(|path| -> Name { path.leak() }).collect()
    })
}

/// A path, shallow ones more often than their number would make them.
pub(crate) fn draw_path(rng: &mut Rng) -> Name {
    let all = paths();
    match rng.below(4) {
        0 => all[rng.below(4)],
        1 | 2 => all[4 + rng.below(16)],
        _ => all[20 + rng.below(64)],
    }
}

impl Op {
    /// Draws an operation.
    pub(crate) fn draw(rng: &mut Rng) -> Op {
        let path = draw_path(rng);
        let other = draw_path(rng);
        let (small, large) = (rng.below(3000) as u16, rng.below(9000) as u16);
        let (byte, slot) = (rng.below(250) as u8 + 1, rng.below(usize::from(SLOTS)) as u8);
        // No set-id bits on files: the mount clears them when root writes, too; `rights.rs` tests that.
        let mode = [0o644, 0o600, 0o755, 0o1777, 0o770, 0][rng.below(6)];
        match rng.below(100) {
            0..8 => Op::Create(path, mode),
            8..18 => Op::Mkdir(path, [0o755, 0o700, 0o1777, 0o2775][rng.below(4)]),
            18..20 => Op::Fifo(path),
            20..23 => Op::Symlink(["a", "b", "c/d", "nowhere"][rng.below(4)], path),
            23..28 => Op::Link(path, other),
            28..34 => Op::Unlink(path),
            34..38 => Op::Rmdir(path),
            38..48 => Op::Rename(path, other),
            48..51 => Op::RenameNew(path, other),
            51..55 => Op::Exchange(path, other),
            55..63 => Op::Write(path, large, small, byte),
            63..65 => Op::Append(path, small, byte),
            65..68 => Op::Truncate(path, large),
            68..71 => Op::Read(path),
            71..73 => Op::Chmod(path, mode),
            73..75 => Op::Chown(path, rng.below(3) as u32 * 100),
            75..78 => Op::Times(path, 1_000_000 + rng.below(1_000_000) as u32),
            78..80 => Op::SetXattr(path, byte % 4),
            80..81 => Op::RemoveXattr(path, byte % 4),
            81..84 => Op::Stat(path),
            84..87 => Op::List(path),
            87..90 => Op::Open(slot, path),
            90..92 => Op::WriteSlot(slot, large, small, byte),
            92..93 => Op::TruncateSlot(slot, large),
            93..95 => Op::StatSlot(slot),
            95..97 => Op::ReadSlot(slot),
            97..99 => Op::Close(slot),
            _ if rng.below(3) == 0 => Op::Remount,
            _ => Op::List(path),
        }
    }
}

/// What an operation answers: comparable text, or the error number.
pub(crate) type Answer = Result<String, i32>;

/// A tree below a directory, and descriptors that a run keeps open in it.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) root: PathBuf,
    slots: Vec<Option<std::fs::File>>,
}

impl World {
    pub(crate) fn new(root: PathBuf) -> World {
        World { root, slots: (0..SLOTS).map(|_| None).collect() }
    }

    /// Closes all descriptors.
    pub(crate) fn close(&mut self) {
        self.slots.iter_mut().for_each(|slot| *slot = None);
    }

    fn at(&self, name: Name) -> PathBuf {
        self.root.join(name)
    }

    /// Does it. Descriptor operations on an empty slot answer EBADF.
    pub(crate) fn apply(&mut self, op: Op) -> Answer {
        let outcome = match op {
            Op::Open(slot, name) => self.open(slot, name),
            Op::WriteSlot(slot, offset, length, byte) => {
                self.slot(slot).and_then(|file| file.write_all_at(&vec![byte; length.into()], offset.into()).map(none))
            }
            Op::TruncateSlot(slot, size) => self.slot(slot).and_then(|file| file.set_len(size.into()).map(none)),
            Op::StatSlot(slot) => self.slot(slot).and_then(|file| file.metadata().map(|shown| describe(&shown))),
            Op::ReadSlot(slot) => self.slot(slot).and_then(|file| {
                let mut bytes = vec![0; 70_000];
                let length = file.read_at(&mut bytes, 0)?;
                Ok(digest(&bytes[..length]))
            }),
            Op::Close(slot) => {
                self.slots[usize::from(slot)] = None;
                Ok(String::new())
            }
            Op::Remount => {
                self.close();
                Ok(String::new())
            }
            other => self.apply_to_names(other),
        };
        outcome.map_err(|error| error.raw_os_error().unwrap_or(-1))
    }

    fn apply_to_names(&self, op: Op) -> std::io::Result<String> {
        let none = |()| String::new();
        let rename = |from, to, flags| Ok(rustix::fs::renameat_with(CWD, self.at(from), CWD, self.at(to), flags)?);
        match op {
            Op::Create(name, mode) => {
                let mut how = std::fs::OpenOptions::new();
                how.write(true).create_new(true).mode(mode).open(self.at(name)).map(|_| none(()))
            }
            Op::Mkdir(name, mode) => Ok(rustix::fs::mkdir(self.at(name), Mode::from_raw_mode(mode)).map(none)?),
            Op::Fifo(name) => {
                let mode = Mode::from_raw_mode(0o640);
                Ok(rustix::fs::mkfifoat(CWD, self.at(name), mode).map(none)?)
            }
            Op::Symlink(target, name) => std::os::unix::fs::symlink(target, self.at(name)).map(none),
            Op::Link(from, to) => std::fs::hard_link(self.at(from), self.at(to)).map(none),
            Op::Unlink(name) => std::fs::remove_file(self.at(name)).map(none),
            Op::Rmdir(name) => std::fs::remove_dir(self.at(name)).map(none),
            Op::Rename(from, to) => rename(from, to, RenameFlags::empty()).map(none),
            Op::RenameNew(from, to) => rename(from, to, RenameFlags::NOREPLACE).map(none),
            Op::Exchange(from, to) => rename(from, to, RenameFlags::EXCHANGE).map(none),
            Op::Read(name) => self.read(name),
            Op::Stat(name) => self.at(name).symlink_metadata().map(|shown| describe(&shown)),
            Op::List(name) => self.list(name),
            other => self.change(other).map(none),
        }
    }

    fn change(&self, op: Op) -> std::io::Result<()> {
        match op {
            Op::Write(name, offset, length, byte) => {
                let file = self.edit(std::fs::OpenOptions::new().write(true).create(true), name)?;
                file.write_all_at(&vec![byte; length.into()], offset.into())
            }
            Op::Append(name, length, byte) => {
                let mut file = self.edit(std::fs::OpenOptions::new().append(true), name)?;
                file.write_all(&vec![byte; length.into()])
            }
            Op::Truncate(name, size) => self.edit(std::fs::OpenOptions::new().write(true), name)?.set_len(size.into()),
            Op::Chmod(name, mode) => std::fs::set_permissions(self.at(name), PermissionsExt::from_mode(mode)),
            Op::Chown(name, id) => std::os::unix::fs::lchown(self.at(name), Some(id), Some(id + 1)),
            Op::Times(name, seconds) => {
                let moment = Timespec { tv_sec: seconds.into(), tv_nsec: seconds.into() };
                let times = Timestamps { last_access: moment, last_modification: moment };
                let flags = AtFlags::SYMLINK_NOFOLLOW;
                Ok(rustix::fs::utimensat(CWD, self.at(name), &times, flags)?)
            }
            Op::SetXattr(name, key) => {
                let value = format!("value of {name}");
                let (key, flags) = (format!("user.key{key}"), XattrFlags::empty());
                Ok(rustix::fs::setxattr(self.at(name), key, value.as_bytes(), flags)?)
            }
            Op::RemoveXattr(name, key) => Ok(rustix::fs::removexattr(self.at(name), format!("user.key{key}"))?),
            other => unreachable!("{other:?} is done elsewhere"),
        }
    }

    /// Never blocks on a fifo.
    fn edit(&self, how: &mut std::fs::OpenOptions, name: Name) -> std::io::Result<std::fs::File> {
        let nonblock = rustix::fs::OFlags::NONBLOCK.bits() as i32;
        how.mode(0o640).custom_flags(nonblock).open(self.at(name))
    }

    fn open(&mut self, slot: u8, name: Name) -> std::io::Result<String> {
        self.slots[usize::from(slot)] = None;
        let file = self.edit(std::fs::OpenOptions::new().read(true).write(true), name)?;
        let fifo = file.metadata()?.file_type().is_fifo();
        self.slots[usize::from(slot)] = (!fifo).then_some(file);
        Ok(String::new())
    }

    fn slot(&self, slot: u8) -> std::io::Result<&std::fs::File> {
        let bad = || std::io::Error::from_raw_os_error(9);
        self.slots[usize::from(slot)].as_ref().ok_or_else(bad)
    }

    fn read(&self, name: Name) -> std::io::Result<String> {
        if std::fs::metadata(self.at(name))?.file_type().is_fifo() {
            return Ok("fifo".to_owned());
        }
        std::fs::read(self.at(name)).map(|bytes| digest(&bytes))
    }

    fn list(&self, name: Name) -> std::io::Result<String> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(self.at(name))? {
            let entry = entry?;
            names.push(format!("{:?} {:?}", entry.file_name(), entry.file_type()?));
        }
        names.sort();
        Ok(names.join(", "))
    }
}

fn none((): ()) -> String {
    String::new()
}

/// Attributes as far as a mount and a plain directory must agree on them.
pub(crate) fn describe(shown: &std::fs::Metadata) -> String {
    let kind = shown.file_type();
    let rights = format!("{:o} {} {}", shown.mode(), shown.uid(), shown.gid());
    if kind.is_dir() {
        return rights;
    }
    // A time that a run has set is compared exactly; "just now" differs between the two trees.
    let just_now = shown.mtime() > 1_500_000_000;
    let mtime = if just_now { (0, 0) } else { (shown.mtime(), shown.mtime_nsec()) };
    format!("{rights} size {} links {} mtime {mtime:?}", shown.len(), shown.nlink())
}

/// Length and contents, short.
pub(crate) fn digest(bytes: &[u8]) -> String {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in bytes {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    format!("{} bytes {hash:016x}", bytes.len())
}

/// Contents of a regular file at `path`.
pub(crate) fn digest_file(path: &Path) -> std::io::Result<String> {
    std::fs::read(path).map(|bytes| digest(&bytes))
}
