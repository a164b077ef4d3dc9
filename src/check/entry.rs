//! One directory: its copies, the names in them, and each file.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::ops::ControlFlow;

use super::compare::{self, Attributes, Compared, Contents};
use super::numbers::Numbers;
use super::own::Expected;
use super::read::{
    OPEN_RETRY, OPEN_TRIES_MAX, attributes, dir_on, list, of_dir, open_quietly, stamp_keys, without_stamps,
};
use super::walk::{Below, Merged, Part};
use super::{Checked, Copy, Finding, What};
use crate::migrate::scan::Progress;
use crate::migrate::{self};
use crate::tier::{Dir, File, Found};
use crate::types::attr::{Body, Kind, Stat};
use crate::types::errno::{Errno, Result};
use crate::types::ids::{Ino, Rank, Ranks};
use crate::types::name::{Name, PRIVATE_DIR};
use crate::types::path::UnionPath;
use crate::types::pin;
use crate::union::identity::{Stamp, of_body};

/// How the entries of the union are looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look<'a> {
    pub tiers: &'a [Checked],
    /// How many tiers the union has, missing ones counted.
    pub count: usize,
    /// Whether stamps, pins, and attributes of directories are looked at.
    pub attributes: bool,
    /// Whether hidden copies are compared byte by byte.
    pub compare: bool,
    /// Whether files may move meanwhile.
    pub in_use: bool,
    /// Every file is read, and compared with these.
    pub data: Option<&'a Expected>,
    pub numbers: &'a Numbers,
    pub progress: &'a Progress,
}

/// What comes of one directory.
pub(super) struct Seen<'o> {
    pub(super) findings: &'o mut Vec<Finding>,
    below: Below,
    numbers: Vec<(Ino, Body)>,
}

impl Look<'_> {
    /// Looks at a directory, or at one name in it.
    pub(super) fn visit(&self, merged: &Merged, part: Part<'_>, findings: &mut Vec<Finding>) -> Below {
        let mut seen = Seen { findings, below: Vec::new(), numbers: Vec::new() };
        match part {
            Part::Only(name) => self.only(merged, name, &mut seen),
            Part::All => {
                if self.attributes {
                    self.directory(merged, &mut seen);
                }
                match merged.copies.as_slice() {
                    [(rank, dir)] => self.alone(merged, *rank, dir.as_ref(), &mut seen),
                    _ => self.together(merged, &mut seen),
                }
            }
        }
        self.numbers.add(seen.numbers);
        seen.below
    }

    fn only(&self, merged: &Merged, name: &Name, seen: &mut Seen<'_>) {
        let mut copies = Vec::new();
        for (rank, dir) in &merged.copies {
            match dir.stat(Some(name)) {
                Ok(None) => {}
                Ok(Some(stat)) if stat.kind() == Kind::File => copies.push((*rank, Found::File(stat))),
                Ok(Some(stat)) => copies.push((*rank, Found::Other(stat.kind()))),
                Err(errno) => self.failed(merged.path.join(name.as_bytes()), *rank, errno, "reading attributes", seen),
            }
        }
        self.name(merged, name.as_bytes(), &copies, seen);
    }

    /// A directory that only one tier has: nothing in it can be in conflict.
    fn alone(&self, merged: &Merged, rank: Rank, dir: &dyn Dir, seen: &mut Seen<'_>) {
        let read = dir.survey(&mut |entry| {
            match entry.what {
                Ok(found) => self.name(merged, entry.name, &[(rank, found)], seen),
                Err(_) if self.is_nameless(rank, dir, entry.name) => {}
                Err(errno) => self.failed(merged.path.join(entry.name), rank, errno, "reading attributes", seen),
            }
            self.go_on()
        });
        if let Err(errno) = read {
            self.failed(merged.path.clone(), rank, errno, "reading the directory", seen);
        }
    }

    fn together(&self, merged: &Merged, seen: &mut Seen<'_>) {
        let mut names: BTreeMap<Vec<u8>, Vec<(Rank, Found)>> = BTreeMap::new();
        for (rank, dir) in &merged.copies {
            let read = dir.survey(&mut |entry| {
                match entry.what {
                    Ok(found) => names.entry(entry.name.to_vec()).or_default().push((*rank, found)),
                    Err(_) if self.is_nameless(*rank, dir.as_ref(), entry.name) => {}
                    Err(errno) => self.failed(merged.path.join(entry.name), *rank, errno, "reading attributes", seen),
                }
                self.go_on()
            });
            if let Err(errno) = read {
                self.failed(merged.path.clone(), *rank, errno, "reading the directory", seen);
            }
        }
        for (name, copies) in &names {
            self.name(merged, name, copies, seen);
        }
        let ranks = |copies: &[(Rank, Found)]| copies.iter().fold(Ranks::NONE, |all, (rank, _)| all.with(*rank));
        let names = names.iter().map(|(name, copies)| (name.as_slice(), ranks(copies)));
        for group in compare::case_folded(names) {
            seen.findings.push(Finding { path: merged.path.clone(), what: What::CaseFold(group) });
        }
    }

    fn go_on(&self) -> ControlFlow<()> {
        if self.progress.is_stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// What has gone meanwhile is no failure.
    pub(super) fn failed(&self, path: UnionPath, rank: Rank, errno: Errno, during: &'static str, seen: &mut Seen<'_>) {
        if !matches!(errno, Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::ESTALE | Errno::EINTR) {
            seen.findings.push(Finding { path, what: What::Unreadable { rank, errno, during } });
        }
    }

    /// What the tiers have under one name, fastest first.
    fn name(&self, merged: &Merged, name: &[u8], copies: &[(Rank, Found)], seen: &mut Seen<'_>) {
        if merged.path.is_root() && name == PRIVATE_DIR.as_bytes() {
            return;
        }
        let is_dir = |found: &Found| matches!(found, Found::Other(Kind::Dir));
        let dirs = copies.iter().take_while(|(_, found)| is_dir(found)).count();
        if dirs > 0 {
            let ranks = copies[..dirs].iter().fold(Ranks::NONE, |ranks, (rank, _)| ranks.with(*rank));
            seen.below.push((name.to_vec(), ranks));
        }
        let Some((visible, shown)) = copies.first() else { return };
        for (hidden, found) in copies.iter().skip(dirs.max(1)) {
            if is_dir(shown) != is_dir(found) {
                let what = What::Types { visible: *visible, visible_is_dir: dirs > 0, hidden: *hidden };
                seen.findings.push(Finding { path: merged.path.join(name), what });
            } else if dirs == 0 {
                self.shadowed(merged, name, (*visible, shown), (*hidden, found), seen);
            }
        }
        let mut files = 0;
        for (at, (rank, found)) in copies.iter().enumerate() {
            match found {
                Found::File(stat) => {
                    files += 1;
                    self.file(merged, name, (*rank, stat), at == 0, seen);
                }
                Found::Other(Kind::Symlink) if self.reads_ciphertext(*rank) => self.target(merged, name, *rank, seen),
                Found::Other(_) => {}
            }
        }
        self.progress.add(files, 0);
    }

    fn shadowed(
        &self,
        merged: &Merged,
        name: &[u8],
        visible: (Rank, &Found),
        hidden: (Rank, &Found),
        seen: &mut Seen<'_>,
    ) {
        let path = merged.path.join(name);
        let Ok(name) = Name::new(name) else { return };
        let mut stats = Vec::new();
        for (rank, found) in [visible, hidden] {
            let stat = match found {
                Found::File(stat) => Ok(Some(*stat)),
                Found::Other(_) => dir_on(merged, rank).and_then(|dir| dir.stat(Some(&name))),
            };
            match stat {
                Ok(Some(stat)) => stats.push(stat),
                Ok(None) => return,
                Err(errno) => return self.failed(path, rank, errno, "reading attributes", seen),
            }
        }
        let [shown, behind] = stats[..] else { return };
        let mut compared = Compared {
            contents: Contents::Unread,
            newer: compare::newer(&shown, &behind),
            differs: compare::file_differs(&shown, &behind),
        };
        if self.compare && shown.kind() == Kind::File && behind.kind() == Kind::File {
            let pair = [(visible.0, &shown), (hidden.0, &behind)];
            match self.compare_files(merged, &name, pair, &mut compared) {
                Ok(()) => {}
                // Changed meanwhile: then it is no matter for this check.
                Err((_, Errno::ENOENT | Errno::ESTALE | Errno::EINTR)) => return,
                Err((rank, errno)) => self.failed(path.clone(), rank, errno, "reading the contents", seen),
            }
        }
        let (visible, hidden) = ((visible.0, Copy::of(&shown)), (hidden.0, Copy::of(&behind)));
        seen.findings.push(Finding { path, what: What::Shadowed { visible, hidden, compared } });
    }

    fn compare_files(
        &self,
        merged: &Merged,
        name: &Name,
        [one, other]: [(Rank, &Stat); 2],
        compared: &mut Compared,
    ) -> std::result::Result<(), (Rank, Errno)> {
        let open = |(rank, stat): (Rank, &Stat)| -> std::result::Result<Box<dyn File>, (Rank, Errno)> {
            let opened = dir_on(merged, rank).and_then(|dir| open_quietly(dir, name));
            let file = opened.map_err(|errno| (rank, errno))?;
            match file.stat() {
                Ok(now) if now.is_version(stat) => Ok(file),
                Ok(_) => Err((rank, Errno::ESTALE)),
                Err(errno) => Err((rank, errno)),
            }
        };
        let (shown, behind) = (open(one)?, open(other)?);
        let at = |rank: Rank| move |errno: Errno| (rank, errno);
        let keys = compare::keys(
            &attributes(shown.as_ref()).map_err(at(one.0))?,
            &attributes(behind.as_ref()).map_err(at(other.0))?,
        );
        compared.differs.extend(keys);
        if one.1.size != other.1.size {
            compared.contents = Contents::Differ;
            return Ok(());
        }
        let mut pace = |_| if self.progress.is_stopped() { Err(Errno::EINTR) } else { Ok(()) };
        let same =
            compare::same_contents(shown.as_ref(), behind.as_ref(), one.1.size, &mut pace).map_err(at(other.0))?;
        compared.contents = if same { Contents::Same } else { Contents::Differ };
        Ok(())
    }

    /// Stamp, pin and contents of one copy of a file.
    fn file(&self, merged: &Merged, name: &[u8], on: (Rank, &Stat), is_visible: bool, seen: &mut Seen<'_>) {
        let (rank, stat) = on;
        if !self.attributes && self.data.is_none() {
            return;
        }
        let path = || merged.path.join(name);
        let Ok(name) = Name::new(name) else { return };
        let Ok(dir) = dir_on(merged, rank) else { return };
        if self.attributes {
            let get = |key: &CStr| dir.get_xattr(Some(&name), key);
            match list(dir.list_xattr(Some(&name))) {
                Ok(keys) => {
                    let ino = self.stamp(&path, rank, stat, &keys, &get, seen);
                    self.pin(&path, rank, &keys, &get, seen);
                    if is_visible && let Some(ino) = ino {
                        self.numbers.see(&mut seen.numbers, ino, stat.body, path);
                    }
                }
                Err(errno) => self.failed(path(), rank, errno, "reading extended attributes", seen),
            }
        }
        if let Some(expected) = self.data {
            match self.read(dir, &name, &path, rank, stat, expected) {
                Ok(found) => seen.findings.extend(found),
                Err(errno) => self.failed(path(), rank, errno, "reading the contents", seen),
            }
        }
    }

    /// Reads a file and compares it with what a run wrote of it.
    fn read(
        &self,
        dir: &dyn Dir,
        name: &Name,
        path: &dyn Fn() -> UnionPath,
        rank: Rank,
        stat: &Stat,
        expected: &Expected,
    ) -> Result<Option<Finding>> {
        let path = path();
        self.wait_for_move(&path);
        let file = open_quietly(dir, name)?;
        let before = file.stat()?;
        if before.kind() != Kind::File || before.body != stat.body {
            return Ok(None);
        }
        if self.reads_ciphertext(rank)
            && let Err(errno) = attributes(file.as_ref())
        {
            let what = What::Unreadable { rank, errno, during: "reading extended attributes" };
            return Ok(Some(Finding { path, what }));
        }
        let known = expected.of(&path, before.size, before.mtime);
        let mut pace = |bytes: usize| {
            self.progress.add(0, bytes as u64);
            if self.progress.is_stopped() { Err(Errno::EINTR) } else { Ok(()) }
        };
        // A second look, so that not a bad moment of the memory is taken for the disk's.
        let mut proved = false;
        for _ in 0..2 {
            file.drop_cache();
            proved = migrate::prove(file.as_ref(), &before, known.map(|known| known.0), &mut pace)?;
            if proved {
                break;
            }
        }
        // The memory is left to whom the mount serves.
        file.drop_cache();
        let run = known.map(|known| known.1.to_owned()).unwrap_or_default();
        let is_rotten = !proved && file.stat()?.is_version(&before);
        Ok(is_rotten.then_some(Finding { path, what: What::Rotten { rank, run } }))
    }

    /// Waits while a file is on record as moving. Opening it beside the mount then would have the
    /// migrator leave both copies where they are.
    fn wait_for_move(&self, path: &UnionPath) {
        let primary = self.tiers.iter().find(|tier| tier.rank == Rank::PRIMARY).filter(|_| self.in_use);
        let Some(primary) = primary else { return };
        for _ in 0..OPEN_TRIES_MAX {
            let moves = migrate::moving(primary.tier.root().as_ref()).is_ok_and(|moving| moving.contains(path));
            if !moves || self.progress.is_stopped() {
                return;
            }
            std::thread::sleep(OPEN_RETRY);
        }
    }

    /// The copies of a directory themselves.
    pub(super) fn directory_again(&self, merged: &Merged, findings: &mut Vec<Finding>) {
        self.directory(merged, &mut Seen { findings, below: Vec::new(), numbers: Vec::new() });
    }

    fn directory(&self, merged: &Merged, seen: &mut Seen<'_>) {
        let path = || merged.path.clone();
        let mut first: Option<(Rank, Stat, Attributes)> = None;
        let slowest = merged.copies.last().map(|(rank, _)| *rank);
        for (rank, dir) in &merged.copies {
            self.names(&path, *rank, dir.as_ref(), seen);
            let looked = dir.stat(None).and_then(|stat| Ok((stat.ok_or(Errno::ENOENT)?, of_dir(dir.as_ref())?)));
            let (stat, all) = match looked {
                Ok(looked) => looked,
                Err(errno) => {
                    self.failed(path(), *rank, errno, "reading extended attributes", seen);
                    continue;
                }
            };
            let keys: Vec<CString> = all.keys().cloned().collect();
            let get = |key: &CStr| all.get(key).cloned().ok_or(Errno::ENODATA);
            let ino = self.stamp(&path, *rank, &stat, &keys, &get, seen);
            if slowest == Some(*rank)
                && !merged.path.is_root()
                && let Some(ino) = ino
            {
                self.numbers.see(&mut seen.numbers, ino, stat.body, path);
            }
            let plain = without_stamps(all.clone());
            let Some((visible, shown, kept)) = &first else {
                self.pin(&path, *rank, &keys, &get, seen);
                first = Some((*rank, stat, plain));
                continue;
            };
            let mut differs = compare::rights(shown, &stat);
            differs.extend(compare::keys(kept, &plain));
            if !differs.is_empty() {
                let has = compare::told(&stat, &plain, &differs);
                let what = What::Attributes { visible: *visible, other: *rank, differs, has };
                seen.findings.push(Finding { path: path(), what });
            }
        }
    }

    /// Looks at the stamp of a body, and tells the number that the mount shows; `None` where that cannot
    /// be told.
    fn stamp(
        &self,
        path: &dyn Fn() -> UnionPath,
        rank: Rank,
        stat: &Stat,
        keys: &[CString],
        get: &dyn Fn(&CStr) -> Result<Vec<u8>>,
        seen: &mut Seen<'_>,
    ) -> Option<Ino> {
        let tier = self.tiers.iter().find(|tier| tier.rank == rank).filter(|tier| tier.is_known)?;
        let key = stamp_keys().into_iter().find(|key| keys.iter().any(|listed| listed.as_c_str() == *key));
        let stamp = match key.map(get) {
            None | Some(Err(Errno::ENODATA | Errno::ENOENT)) => return Some(of_body(stat.body)),
            Some(Ok(raw)) => Stamp::read(&raw).filter(|stamp| stamp.is_of(stat)),
            Some(Err(errno)) => {
                self.failed(path(), rank, errno, "reading extended attributes", seen);
                return None;
            }
        };
        let what = match stamp {
            Some(stamp) if tier.tier.has_stamps() => return Some(stamp.ino),
            Some(_) => What::UntoldStamp(rank),
            None => What::ForeignStamp(rank),
        };
        seen.findings.push(Finding { path: path(), what });
        Some(of_body(stat.body))
    }

    fn pin(
        &self,
        path: &dyn Fn() -> UnionPath,
        rank: Rank,
        keys: &[CString],
        get: &dyn Fn(&CStr) -> Result<Vec<u8>>,
        seen: &mut Seen<'_>,
    ) {
        if !keys.iter().any(|key| key.as_c_str() == pin::KEY) {
            return;
        }
        match get(pin::KEY) {
            Ok(word) => {
                let wrong = compare::wrong_pin(&word, self.count);
                seen.findings.extend(wrong.map(|to| Finding { path: path(), what: What::Pin(rank, to) }));
            }
            Err(Errno::ENODATA | Errno::ENOENT) => {}
            Err(errno) => self.failed(path(), rank, errno, "reading a pin", seen),
        }
    }
}
