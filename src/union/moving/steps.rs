//! The steps in which a file changes its tier, each whole or not done.

use super::{Link, NamesClosed, Refused, Staged, Subject};
use crate::tier::{Dir, File, Open, Rename};
use crate::types::attr::Stat;
use crate::types::errno::{Errno, Result};
use crate::types::ids::{Ino, Rank};
use crate::types::lease::Excludes;
use crate::types::name::Name;
use crate::union::Union;

/// Where contents go that must neither be shown nor lost, in `.tierfs` of their tier.
pub const LOST: &str = "lost";

impl Union {
    /// Gives a staged copy its names on a slower tier, where the source hides them.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn publish_hidden(
        &self,
        _closed: &NamesClosed<'_>,
        subject: &Subject<'_>,
        links: &[Link<'_>],
        staged: &Staged,
        to: (Rank, &dyn Dir),
    ) -> std::result::Result<(), Refused> {
        for link in links {
            check_same(link.dir.copy(subject.rank)?.as_ref(), link.name, &subject.stat)?;
        }
        publish(subject, links, staged, to)
    }

    /// Takes the source of a published copy away, into `trash`: from here on programs see the copy. What
    /// is returned claims the source: a program beside the mount that had found it under its name
    /// just before, and opens it only now, waits for the claim to go.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn take_aside(
        &self,
        _closed: &NamesClosed<'_>,
        subject: &Subject<'_>,
        links: &[Link<'_>],
        staged: &Staged,
        to: Rank,
        trash: &dyn Dir,
    ) -> std::result::Result<Box<dyn File>, Refused> {
        let ino = subject.identity.0;
        let _closed_file = self.gates.close_file(ino);
        self.check_elsewhere(links, (subject.rank, to))?;
        let source = self.claim(subject, links)?;
        self.settling.add(ino);
        // Whoever waits for the lease found the file under its name and means this body.
        let taken = aside(subject.rank, links, &subject.stat, (&staged.name, trash)).and_then(|()| {
            let back = || put_back(subject.rank, links, &staged.name, trash, links.len());
            let unchanged = |copy: &Stat| copy.is_copy_of(&subject.stat);
            check_claimed(source.as_ref(), &subject.stat)
                .and_then(|()| check_copies(links, staged, to, &unchanged))
                .and_then(|()| self.check_elsewhere(links, (subject.rank, to)))
                .or_else(|why| undone(why, back))
        });
        if let Err(why) = taken {
            self.settle_refused(ino, why);
            return Err(why);
        }
        self.inodes.moved(ino, to, staged.body, staged.generation, Some(staged.shown));
        Ok(source)
    }

    /// Gives a staged copy its names on a faster tier: from here on programs see it. The source is
    /// claimed until what is returned is dropped.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn publish_visible(
        &self,
        _closed: &NamesClosed<'_>,
        subject: &Subject<'_>,
        links: &[Link<'_>],
        staged: &Staged,
        to: (Rank, &dyn Dir),
    ) -> std::result::Result<Box<dyn File>, Refused> {
        let ino = subject.identity.0;
        let _closed_file = self.gates.close_file(ino);
        self.check_elsewhere(links, (subject.rank, to.0))?;
        let source = self.claim(subject, links)?;
        self.settling.add(ino);
        let published = publish(subject, links, staged, to).and_then(|()| {
            let back = || withdraw_names(subject, links, staged, to.0);
            check_claimed(source.as_ref(), &subject.stat)
                .and_then(|()| self.check_elsewhere(links, (subject.rank, to.0)))
                .or_else(|why| undone(why, back))
        });
        if let Err(why) = published {
            self.settle_refused(ino, why);
            return Err(why);
        }
        self.inodes.moved(ino, to.0, staged.body, staged.generation, Some(staged.shown));
        Ok(source)
    }

    /// Takes away the source that a published copy on a faster tier hides. `source` is the claim on
    /// it. What is not the source any more stays.
    ///
    /// # Errors
    /// [`Refused`]: both copies stay, and the faster one is seen: see [`Union::unpublish`].
    pub fn remove_hidden(
        &self,
        _closed: &NamesClosed<'_>,
        subject: &Subject<'_>,
        links: &[Link<'_>],
        (staged, source): (&Staged, &dyn File),
        (to, trash): (Rank, &dyn Dir),
    ) -> std::result::Result<(), Refused> {
        check_claimed(source, &subject.stat)?;
        // Nothing of ours has touched it since it was claimed, so its change time tells of attributes, too.
        if source.stat()?.ctime != subject.stat.ctime {
            return Err(Refused::Changed);
        }
        aside(subject.rank, links, &subject.stat, (&staged.name, trash))?;
        // Programs may have written to the copy since it is seen.
        check_claimed(source, &subject.stat)
            .and_then(|()| check_copies(links, staged, to, &|_| true))
            .or_else(|why| undone(why, || put_back(subject.rank, links, &staged.name, trash, links.len())))
    }

    /// Takes back a copy on a faster tier whose source a program beside the mount is about to open, or
    /// has replaced: what is written there must be seen. The copy goes back to `staging`, where the
    /// caller deletes what lies under [`trash_name`].
    ///
    /// # Errors
    /// [`Refused`]: a program uses or has changed the copy, which stays, and hides the source.
    pub fn unpublish(
        &self,
        _closed: &NamesClosed<'_>,
        subject: &Subject<'_>,
        links: &[Link<'_>],
        staged: &Staged,
        (to, staging): (Rank, &dyn Dir),
    ) -> std::result::Result<(), Refused> {
        let ino = subject.identity.0;
        let _closed_file = self.gates.close_file(ino);
        // The first change through the mount takes the shown time away.
        if !self.inodes.is_idle(ino) || self.inodes.shown(ino) != Some(staged.shown) {
            return Err(Refused::InUse);
        }
        for link in links {
            link.dir.copy(subject.rank)?.stat(Some(link.name))?.ok_or(Refused::Gone)?;
        }
        let first = links.first().ok_or(Refused::Gone)?;
        let copy = first.dir.copy(to)?.open(first.name, Open::ReadQuiet)?;
        let now = copy.stat()?;
        if now.body != staged.body || !now.is_copy_of(&subject.stat) {
            return Err(Refused::Changed);
        }
        if !copy.claim(Excludes::All)? {
            return Err(Refused::InUse);
        }
        let source = first.dir.copy(subject.rank)?;
        let stamp = self.stamp_of(subject.rank, source.as_ref(), Some(first.name), &subject.stat)?;
        aside(to, links, &now, (&staged.name, staging))?;
        if !copy.is_claimed(Excludes::All)? || copy.stat()?.nlink != now.nlink {
            // A program beside the mount was about to open the copy, or has put another file there.
            return undone(Refused::InUse, || put_back(to, links, &staged.name, staging, links.len()));
        }
        let (rank, stat) = (subject.rank, &subject.stat);
        self.inodes.moved(ino, rank, stat.body, stat.generation, stamp.and_then(|stamp| stamp.shown));
        Ok(())
    }

    /// Takes back the names of a copy that was published and is not seen. One that was changed beside the
    /// mount stays.
    ///
    /// # Errors
    /// What a tier says.
    pub fn withdraw(
        &self,
        _closed: &NamesClosed<'_>,
        subject: &Subject<'_>,
        links: &[Link<'_>],
        staged: &Staged,
        to: Rank,
    ) -> Result<()> {
        withdraw_names(subject, links, staged, to)
    }

    /// Lets those go on that wait for a file which stays where it is. One that is half moved is not let go before
    /// it is known to be cut short.
    fn settle_refused(&self, ino: Ino, why: Refused) {
        if !matches!(why, Refused::Stuck(_)) {
            self.settling.remove(std::iter::once(ino));
        }
    }

    /// Whether only the tiers of a move have the names of its file. What lies on one between would be hidden
    /// by the copy or come to light in its place, whoever has put it there. Asked before names change, and again
    /// once programs see the copy: what comes later was made beside a copy that was seen.
    fn check_elsewhere(&self, links: &[Link<'_>], (from, to): (Rank, Rank)) -> std::result::Result<(), Refused> {
        if self.tiers() <= 2 {
            return Ok(());
        }
        for link in links {
            let node = link.dir.node()?;
            self.may_change_in(&node)?;
            for (_, dir) in node.copies().filter(|(rank, _)| ![from, to].contains(rank)) {
                if dir.stat(Some(link.name))?.is_some() {
                    return Err(Refused::Occupied);
                }
            }
        }
        Ok(())
    }

    /// The source, opened, compared and claimed against everybody. The file's gate is closed.
    fn claim(&self, subject: &Subject<'_>, links: &[Link<'_>]) -> std::result::Result<Box<dyn File>, Refused> {
        // What a former move has left half done is on record, and stays as it is.
        if !self.inodes.is_idle(subject.identity.0) || self.settling.is_cut(subject.identity.0) {
            return Err(Refused::InUse);
        }
        let mut claimed = None;
        for link in links {
            let dir = link.dir.copy(subject.rank)?;
            if claimed.is_none() {
                let source = dir.open(link.name, Open::ReadQuiet)?;
                match source.claim(Excludes::All) {
                    Ok(true) => {}
                    Ok(false) => return Err(Refused::InUse),
                    Err(Errno::EINVAL | Errno::EACCES) => return Err(Refused::NoLease),
                    Err(other) => return Err(Refused::Failed(other)),
                }
                let now = source.stat()?;
                // Nor was it read since: it is not cold any more, and its copy has another access time.
                if !now.is_version(&subject.stat) || now.atime != subject.stat.atime {
                    return Err(Refused::Changed);
                }
                claimed = Some(source);
                continue;
            }
            check_same(dir.as_ref(), link.name, &subject.stat)?;
        }
        claimed.ok_or(Refused::Gone)
    }
}

/// Still claimed, and no byte changed since it was copied.
fn check_claimed(source: &dyn File, then: &Stat) -> std::result::Result<(), Refused> {
    let now = source.stat()?;
    if now.nlink == 0 {
        return Err(Refused::Gone);
    }
    if !source.is_claimed(Excludes::All)? {
        return Err(Refused::InUse);
    }
    if now.is_version_but_ctime(then) { Ok(()) } else { Err(Refused::Changed) }
}

/// The copy is still under every name on its tier: without it nothing may go.
fn check_copies(
    links: &[Link<'_>],
    staged: &Staged,
    to: Rank,
    is_unchanged: &dyn Fn(&Stat) -> bool,
) -> std::result::Result<(), Refused> {
    for link in links {
        let found = link.dir.copy(to)?.stat(Some(link.name))?;
        if !found.is_some_and(|stat| is_body_of(&stat, staged) && is_unchanged(&stat)) {
            return Err(Refused::Changed);
        }
    }
    Ok(())
}

fn is_body_of(stat: &Stat, staged: &Staged) -> bool {
    (stat.body, stat.generation) == (staged.body, staged.generation)
}

/// Takes a step back that is refused halfway.
pub(super) fn undone(why: Refused, back: impl FnOnce() -> Result<()>) -> std::result::Result<(), Refused> {
    Err(back().err().map_or(why, Refused::Stuck))
}

fn check_same(dir: &dyn Dir, name: &Name, then: &Stat) -> std::result::Result<(), Refused> {
    match dir.stat(Some(name))? {
        None => Err(Refused::Gone),
        Some(now) if now.is_version(then) => Ok(()),
        Some(_) => Err(Refused::Changed),
    }
}

/// Renames the staged copy into place, or links it to each of several names.
fn publish(
    subject: &Subject<'_>,
    links: &[Link<'_>],
    staged: &Staged,
    (rank, staging): (Rank, &dyn Dir),
) -> std::result::Result<(), Refused> {
    if let [only] = links {
        let dir = only.dir.copy(rank)?;
        let Err(errno) = staging.rename(&staged.name, dir.as_ref(), only.name, Rename::NoReplace) else {
            return Ok(());
        };
        // A server that answers late or twice may have done it all the same.
        return match dir.stat(Some(only.name)) {
            Ok(Some(found)) if is_body_of(&found, staged) => Ok(()),
            Ok(_) => Err(errno.into()),
            // Where the copy would be seen, it is not known which of the two programs have.
            Err(_) if rank < subject.rank => Err(Refused::Stuck(errno)),
            Err(_) => Err(errno.into()),
        };
    }
    for (at, link) in links.iter().enumerate() {
        let linked = link.dir.copy(rank).and_then(|dir| staging.link(&staged.name, dir.as_ref(), link.name));
        if let Err(errno) = linked {
            // Also what may have been done all the same.
            return undone(errno.into(), || withdraw_names(subject, &links[..=at], staged, rank));
        }
    }
    staging.unlink(&staged.name).or_else(|errno| undone(errno.into(), || withdraw_names(subject, links, staged, rank)))
}

fn withdraw_names(subject: &Subject<'_>, links: &[Link<'_>], staged: &Staged, rank: Rank) -> Result<()> {
    for link in links {
        let dir = link.dir.copy(rank)?;
        match dir.stat(Some(link.name))? {
            Some(stat) if is_body_of(&stat, staged) && stat.is_copy_of(&subject.stat) => {
                let gone = dir.unlink(link.name);
                link.dir.note_went(link.name, rank);
                gone?;
            }
            Some(stat) if is_body_of(&stat, staged) => {
                tracing::warn!(dir = %link.dir.path, name = %link.name, "is on two tiers: a program changed the slower copy beside the mount, and `tierfs check` lists it");
            }
            _ => {}
        }
    }
    Ok(())
}

/// The name under which the `at`th link of a file lies in the trash.
pub fn trash_name(base: &Name, at: usize) -> Result<Name> {
    Name::new(&[base.as_bytes(), b".", at.to_string().as_bytes()].concat())
}

/// Takes every name of the source aside, or none. What is found under a name must be the body that was
/// compared: another file may have been put there beside the mount meanwhile.
pub(super) fn aside(
    rank: Rank,
    links: &[Link<'_>],
    source: &Stat,
    (base, trash): (&Name, &dyn Dir),
) -> std::result::Result<(), Refused> {
    for (at, link) in links.iter().enumerate() {
        let name = trash_name(base, at)?;
        let back = |count| put_back(rank, links, base, trash, count);
        let moved = link.dir.copy(rank).and_then(|dir| dir.rename(link.name, trash, &name, Rename::NoReplace));
        link.dir.note_went(link.name, rank);
        if let Err(errno) = moved {
            // A server that answers late or twice may have done it all the same.
            let done = if matches!(trash.stat(Some(&name)), Ok(None)) { at } else { at + 1 };
            return undone(errno.into(), || back(done));
        }
        match trash.stat(Some(&name)) {
            Ok(Some(found)) if (found.body, found.generation) == (source.body, source.generation) => {}
            Ok(_) => return undone(Refused::Changed, || back(at + 1)),
            Err(errno) => return undone(errno.into(), || back(at + 1)),
        }
    }
    Ok(())
}

/// Gives the first `count` names back.
pub(super) fn put_back(rank: Rank, links: &[Link<'_>], base: &Name, trash: &dyn Dir, count: usize) -> Result<()> {
    for (at, link) in links.iter().enumerate().take(count).rev() {
        let (dir, aside) = (link.dir.copy(rank)?, trash_name(base, at)?);
        match trash.rename(&aside, dir.as_ref(), link.name, Rename::NoReplace) {
            // A program beside the mount has made a new file under the name.
            Err(Errno::EEXIST) => {
                let lost = link.dir.union.private(rank, LOST)?;
                trash.rename(&aside, lost.as_ref(), &aside, Rename::Replace)?;
                lost.fsync()?;
                tracing::warn!(dir = %link.dir.path, name = %link.name, "a file was replaced beside the mount while it moved; its former contents are in .tierfs/lost/{aside} of the tier. Delete them if they are not needed.");
            }
            other => other?,
        }
    }
    Ok(())
}
