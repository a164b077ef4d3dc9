//! The record of a rename that takes several steps, so that a crash cannot leave half of it.
//!
//! A record is one file in `.tierfs/renames/` of the fastest tier that is there, text, one field a
//! line, names in hexadecimal:
//!
//! ```text
//! tierfs-rename 1
//! old 646f6373/61          directories and name, from the root of the union
//! new 646f6373/62
//! step 1 forth 00000000000000ab      rank, act, body that must be found for it to be still to do
//! end
//! ```
//!
//! It is written under a temporary name, made durable and renamed, so that it is whole or not
//! there; one without `end` is none. It goes when all its steps are durable. At the start every
//! record found is rolled forward: a step is done if what it would move or remove is still where
//! it was before, and skipped otherwise. So the roll-forward can itself be cut short and repeated.
//! A record that is known to be a copy ([`small::is_copied`]) is set aside: it is about names of another day.

use std::sync::Arc;

use super::Union;
use super::rename::{Act, Side, Step};
use super::unfinished::Unfinished;
use crate::tier::{Dir, Rename, durable, small};
use crate::types::attr::Body;
use crate::types::errno::{Errno, Result};
use crate::types::hex;
use crate::types::ids::{Ino, Rank, Ranks};
use crate::types::name::Name;

const DIRECTORY: &str = "renames";
const TITLE: &str = "tierfs-rename 1";
/// With what the names of records begin that this version cannot read.
const UNREADABLE: &[u8] = b"unreadable-";

/// A larger file is no record: two paths of names and one line a tier and step.
const RECORD_LEN_MAX: usize = 1 << 26;

/// What a rename is about to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub old_dir: Vec<Name>,
    pub old_name: Name,
    pub new_dir: Vec<Name>,
    pub new_name: Name,
    pub steps: Vec<Step>,
}

/// A record on its tier.
#[derive(Debug)]
pub(super) struct Written {
    dir: Arc<dyn Dir>,
    name: Name,
}

fn unhex(text: &str) -> Option<Name> {
    Name::new(&hex::read(text)?).ok()
}

fn path_text(dir: &[Name], name: &Name) -> String {
    dir.iter().chain([name]).map(|name| hex::write(name.as_bytes())).collect::<Vec<_>>().join("/")
}

fn path_parse(text: &str) -> Option<(Vec<Name>, Name)> {
    let mut names = text.split('/').map(unhex).collect::<Option<Vec<_>>>()?;
    let name = names.pop()?;
    Some((names, name))
}

const ACTS: [(&str, Act); 7] = [
    ("unlink-old", Act::Unlink(Side::Old)),
    ("unlink-new", Act::Unlink(Side::New)),
    ("rmdir-old", Act::Rmdir(Side::Old)),
    ("rmdir-new", Act::Rmdir(Side::New)),
    ("forth", Act::Forth),
    ("back", Act::Back),
    ("exchange", Act::Exchange),
];

impl Record {
    fn to_text(&self) -> String {
        let mut text = format!("{TITLE}\n");
        text += &format!("old {}\n", path_text(&self.old_dir, &self.old_name));
        text += &format!("new {}\n", path_text(&self.new_dir, &self.new_name));
        for step in &self.steps {
            let act = ACTS.iter().find(|(_, act)| *act == step.act).map_or("", |(word, _)| word);
            text += &format!("step {} {act} {:016x}\n", step.rank.0, step.body.0);
        }
        text + "end\n"
    }

    fn parse(text: &str) -> Option<Record> {
        let mut lines = text.lines();
        if lines.next()? != TITLE {
            return None;
        }
        let (old_dir, old_name) = path_parse(lines.next()?.strip_prefix("old ")?)?;
        let (new_dir, new_name) = path_parse(lines.next()?.strip_prefix("new ")?)?;
        let mut steps = Vec::new();
        loop {
            let line = lines.next()?;
            if line == "end" {
                return Some(Record { old_dir, old_name, new_dir, new_name, steps });
            }
            let mut fields = line.strip_prefix("step ")?.split(' ');
            let rank = Rank(fields.next()?.parse().ok()?);
            let word = fields.next()?;
            let act = ACTS.iter().find(|(known, _)| *known == word)?.1;
            steps.push(Step { rank, act, body: Body(u64::from_str_radix(fields.next()?, 16).ok()?) });
        }
    }
}

impl Union {
    fn journal_dir(&self) -> Result<Arc<dyn Dir>> {
        let (rank, _) = self.dirs.root().copies().next().ok_or(Errno::EIO)?;
        self.private(rank, DIRECTORY)
    }

    /// Writes a record on the primary, durably, with a mark by which a copy of it is known. Only where the filesystem
    /// is one of those that are known to do what they say: there a file tells the same birth time after every
    /// mount, and an original is never taken for a copy. `name` becomes what the record is called.
    ///
    /// # Errors
    /// As [`small::write`].
    pub fn put_record(&self, dir: &dyn Dir, name: &mut Name, text: &str) -> Result<()> {
        let marks = self.tier(Rank::PRIMARY).and_then(|tier| tier.syncing()).is_ok_and(|whole| whole.is_some());
        if marks { small::write_marked(dir, name, text.as_bytes()) } else { small::write(dir, name, text.as_bytes()) }
    }

    pub(super) fn write_journal(&self, record: Record, dirs: (Ino, Ino)) -> Result<Unfinished> {
        let (dir, mut name) = (self.journal_dir()?, small::unique_name()?);
        let written = self.put_record(dir.as_ref(), &mut name, &record.to_text());
        let there = written.is_err() && dir.stat(Some(&name)) != Ok(None);
        let rename = Unfinished { written: Written { dir, name }, record, dirs, undo: 0 };
        if there {
            // It is whole, perhaps: the next start must not do what was refused.
            self.note_unfinished(rename);
            return Err(written.err().unwrap_or(Errno::EIO));
        }
        written.map(|()| rename)
    }

    pub(super) fn remove_journal(&self, written: &Written) -> Result<()> {
        match written.dir.unlink(&written.name) {
            // Done before, though it was not said.
            Ok(()) | Err(Errno::ENOENT) => written.dir.fsync(),
            other => other,
        }
    }

    /// Whether a rename was cut short that is still to be finished.
    ///
    /// # Errors
    /// What the primary says.
    pub fn has_cut_renames(&self) -> Result<bool> {
        let Some(dir) = self.private_if_any(Rank::PRIMARY, DIRECTORY)? else { return Ok(false) };
        Ok(small::names(dir.as_ref())?.iter().any(|name| {
            ![small::DRAFT, small::COPIED, UNREADABLE].iter().any(|other| name.as_bytes().starts_with(other))
        }))
    }

    /// Removes records that were never finished, of renames that were never begun: their tier went while they
    /// were written. Called while names cannot be changed and no rename is under way.
    ///
    /// # Errors
    /// What the primary says.
    pub fn drop_unfinished_records(&self) -> Result<()> {
        let Some(dir) = self.private_if_any(Rank::PRIMARY, DIRECTORY)? else { return Ok(()) };
        let names = small::names(dir.as_ref())?;
        let mut drafts = names.iter().filter(|name| name.as_bytes().starts_with(small::DRAFT));
        drafts.try_for_each(|name| dir.unlink(name))
    }

    /// Finishes what a crash cut short. Before anything is served.
    ///
    /// # Errors
    /// What a tier says: the mount must then not start, since names may be half changed.
    pub(super) fn recover(&self) -> Result<()> {
        let Some(dir) = self.private_if_any(Rank::PRIMARY, DIRECTORY)? else { return Ok(()) };
        for name in small::names(dir.as_ref())? {
            if [small::COPIED, UNREADABLE].iter().any(|kept| name.as_bytes().starts_with(kept)) {
                continue;
            }
            if small::is_copied(dir.as_ref(), &name)? {
                let name = small::set_aside(dir.as_ref(), &name);
                tracing::error!(%name, "a record in .tierfs/renames of the primary has come with a copy or a backup of the tier: no name is changed because of it. See `tierfs check`, then remove it.");
                continue;
            }
            if !name.as_bytes().starts_with(small::DRAFT) {
                match read_record(dir.as_ref(), &name)? {
                    Some(record) => self.roll_forward(&record)?,
                    None => {
                        // Names may be half changed: all that tells of it must not go.
                        let kept = Name::new(&[UNREADABLE, name.as_bytes()].concat())?;
                        dir.rename(&name, dir.as_ref(), &kept, Rename::Replace)?;
                        tracing::error!(name = %kept, "a record in .tierfs/renames of the primary cannot be read, perhaps of a newer tierfs: an old version of a file may be seen, see `tierfs check`; it stays there");
                        continue;
                    }
                }
            }
            dir.unlink(&name)?;
        }
        dir.fsync()
    }

    fn roll_forward(&self, record: &Record) -> Result<()> {
        tracing::info!(old = %record.old_name, new = %record.new_name, "finishing a rename that was cut short");
        // A step that is found done was done by a process that has died: no disk need have it yet, and
        // the record must not go before all have.
        for rank in record.steps.iter().fold(Ranks::NONE, |ranks, step| ranks.with(step.rank)).iter() {
            self.sync_seen(rank, record)?;
        }
        for (at, step) in record.steps.iter().enumerate() {
            if step.act == Act::Unlink(Side::New) && !self.has_arrived(record, &record.steps[..at])? {
                tracing::warn!(tier = %step.rank, new = %record.new_name, "a file stays that was to be replaced: what was to replace it is not there");
                continue;
            }
            self.roll_step(record, step)?;
        }
        Ok(())
    }

    /// Makes what a tier shows under the two names durable, with the directories they are in.
    fn sync_seen(&self, rank: Rank, record: &Record) -> Result<()> {
        let tier = self.tier(rank)?;
        if let Some(whole) = tier.syncing()? {
            return self.sync_whole(rank, whole.as_ref());
        }
        let names = [(&record.old_dir, &record.old_name), (&record.new_dir, &record.new_name)];
        for (dir, name) in names {
            if let Some(dir) = walk(&tier.root(), dir)? {
                durable::sync_entry(dir.as_ref(), name)?;
                dir.fsync()?;
            }
        }
        Ok(())
    }

    /// Whether what the steps `before` were to bring to the new name is there. Somebody may have
    /// taken it away beside the mount since the crash; then its target is all there is.
    fn has_arrived(&self, record: &Record, before: &[Step]) -> Result<bool> {
        for step in before.iter().filter(|step| step.act == Act::Forth) {
            let dir = walk(&self.tier(step.rank)?.root(), &record.new_dir)?;
            let found = dir.map(|dir| dir.stat(Some(&record.new_name))).transpose()?.flatten();
            if found.is_none_or(|stat| stat.body != step.body) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn roll_step(&self, record: &Record, step: &Step) -> Result<()> {
        let root = self.tier(step.rank)?.root();
        let (old, new) = (walk(&root, &record.old_dir)?, walk(&root, &record.new_dir)?);
        let (from, from_name) = match step.act {
            Act::Unlink(Side::New) | Act::Rmdir(Side::New) | Act::Back => (&new, &record.new_name),
            Act::Unlink(Side::Old) | Act::Rmdir(Side::Old) | Act::Forth | Act::Exchange => (&old, &record.old_name),
        };
        // What is not where it was has been moved already, or its directory was never made: then
        // nothing of this step had been begun and the parent's clone is missing, too.
        let Some(from) = from else { return Ok(()) };
        if from.stat(Some(from_name))?.is_none_or(|stat| stat.body != step.body) {
            return Ok(());
        }
        match step.act {
            Act::Unlink(_) => from.unlink(from_name)?,
            Act::Rmdir(_) => from.rmdir(from_name)?,
            Act::Forth | Act::Back | Act::Exchange => {
                let (to, to_name) =
                    if step.act == Act::Back { (&old, &record.old_name) } else { (&new, &record.new_name) };
                let how = if step.act == Act::Exchange { Rename::Exchange } else { Rename::Replace };
                // The clones of the target's ancestors are made before the first step.
                let to = to.as_ref().ok_or(Errno::EIO)?;
                from.rename(from_name, to.as_ref(), to_name, how)?;
                to.fsync()?;
            }
        }
        from.fsync()
    }
}

fn read_record(dir: &dyn Dir, name: &Name) -> Result<Option<Record>> {
    let raw = small::read(dir, name, RECORD_LEN_MAX)?;
    Ok(raw.and_then(|raw| Record::parse(std::str::from_utf8(&raw).ok()?)))
}

/// The directory below `root`, `None` if the tier does not have it.
pub(super) fn walk(root: &Arc<dyn Dir>, names: &[Name]) -> Result<Option<Arc<dyn Dir>>> {
    let mut dir = Arc::clone(root);
    for name in names {
        dir = match dir.open_dir(name) {
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(None),
            other => other?,
        };
    }
    Ok(Some(dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let name = |raw: &[u8]| Name::new(raw).unwrap();
        let step = |rank, act| Step { rank: Rank(rank), act, body: Body(0xab) };
        Record {
            old_dir: vec![name(b"a b"), name(b"\xff\n")],
            old_name: name(b"old"),
            new_dir: Vec::new(),
            new_name: name(&[b'x'; 255]),
            steps: ACTS.iter().map(|(_, act)| step(1, *act)).collect(),
        }
    }

    #[test]
    fn a_record_reads_back() {
        assert_eq!(Record::parse(&record().to_text()), Some(record()));
    }

    #[test]
    fn a_cut_or_foreign_record_is_none() {
        let text = record().to_text();
        for cut in 0..text.len() - 1 {
            assert_eq!(Record::parse(&text[..cut]), None, "cut at {cut}");
        }
        assert_eq!(Record::parse(&text.replace("tierfs-rename 1", "tierfs-rename 2")), None);
        assert_eq!(Record::parse(&text.replace("forth", "forwards")), None);
        assert_eq!(Record::parse(&text.replace("6120", "2f20")), None);
    }
}
