//! Times of directories while names in them change: a move is no change of a directory, also where
//! the process dies between the change of a name and the moment in which the time is set back.
//!
//! A note is a file beside the records. While gates are closed it tells which times the directories
//! behind them had; it is emptied before they open again. It is not made durable: after the death
//! of a process the kernel still has what was written, and after a power cut it is from another
//! boot and is not believed, since its emptying might be what was lost.

use std::fmt::Write as _;
use std::sync::Arc;

use super::record::{path_parse, path_text};
use crate::sys::process;
use crate::tier::{Dir, File, Open, small};
use crate::types::attr::{SetAttr, Time};
use crate::types::caller::Caller;
use crate::types::errno::{Errno, Result};
use crate::types::ids::Rank;
use crate::types::name::Name;
use crate::types::path::UnionPath;

/// What the names of notes begin with.
pub(super) const PREFIX: &[u8] = b"times-";

const TITLE: &str = "tierfs-times 1";

/// Times of one directory on one tier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Had {
    pub(super) rank: Rank,
    pub(super) path: UnionPath,
    pub(super) atime: Time,
    pub(super) mtime: Time,
}

/// A note that is being kept.
#[derive(Debug)]
pub(super) struct Note {
    dir: Arc<dyn Dir>,
    name: Name,
    file: Box<dyn File>,
}

impl Note {
    /// Begins an empty one among the records.
    pub(super) fn begin(records: Arc<dyn Dir>) -> Result<Note> {
        let name = Name::new(&[PREFIX, small::unique_name()?.as_bytes()].concat())?;
        let file = records.create(&name, 0o600, Open::ReadWrite, &Caller::DAEMON)?;
        Ok(Note { dir: records, name, file })
    }

    /// These directories have these times; none: all have them back.
    pub(super) fn tell(&self, had: &[Had]) -> Result<()> {
        if had.is_empty() {
            return self.file.set_attr(&SetAttr { size: Some(0), ..SetAttr::default() });
        }
        let text = to_text(had, &process::boot_id()?);
        if self.file.write_at(text.as_bytes(), 0)? < text.len() { Err(Errno::ENOSPC) } else { Ok(()) }
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        if let Err(errno) = self.dir.unlink(&self.name) {
            tracing::debug!(name = %self.name, "a note stays behind until the next start: {errno}");
        }
    }
}

fn to_text(had: &[Had], boot: &str) -> String {
    let mut text = format!("{TITLE} {boot}\n");
    for Had { rank, path, atime, mtime } in had {
        // Writing to a string cannot fail.
        let _never = writeln!(
            text,
            "dir {} {} {} {} {} {}",
            rank.0,
            atime.sec,
            atime.nsec,
            mtime.sec,
            mtime.nsec,
            path_text(path)
        );
    }
    text + "end\n"
}

/// What a note of this boot says; nothing if it is empty, cut or of another.
pub(super) fn parse(text: &str, boot: &str) -> Vec<Had> {
    let whole = text.strip_suffix("end\n").and_then(|text| text.strip_prefix(&format!("{TITLE} {boot}\n")));
    whole.and_then(|lines| lines.lines().map(parse_line).collect()).unwrap_or_default()
}

fn parse_line(line: &str) -> Option<Had> {
    let mut fields = line.strip_prefix("dir ")?.split(' ');
    let rank = Rank(fields.next()?.parse().ok()?);
    let mut time = || Some(Time { sec: fields.next()?.parse().ok()?, nsec: fields.next()?.parse().ok()? });
    let (atime, mtime) = (time()?, time()?);
    let path = match fields.next()? {
        "" => UnionPath::root(),
        path => path_parse(path)?,
    };
    fields.next().is_none().then_some(Had { rank, path, atime, mtime })
}

/// Gives a directory the times back that it had.
pub(super) fn set_back(dir: &dyn Dir, had: &Had) -> Result<()> {
    if dir.stat(None)?.is_none_or(|now| now.mtime == had.mtime) {
        return Ok(());
    }
    small::set_times_back(dir, had.atime, had.mtime)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_believed_whole_and_in_its_boot_only() {
        let had = |path: &[u8]| Had {
            rank: Rank(1),
            path: UnionPath::new(path).unwrap(),
            atime: Time { sec: -1, nsec: 2 },
            mtime: Time { sec: 3, nsec: 999_999_999 },
        };
        let had = vec![had(b""), had(b"a b/\xff")];
        let text = to_text(&had, "boot");
        assert_eq!(parse(&text, "boot"), had);
        assert_eq!(parse(&text, "other"), []);
        for cut in 0..text.len() {
            assert_eq!(parse(&text[..cut], "boot"), [], "cut at {cut}");
        }
    }
}
