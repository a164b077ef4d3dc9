//! Extended attributes, and those that tierfs itself answers.

use std::ffi::{CStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use super::chain::Upwards;
use super::inodes::Place;
use super::{Union, dos};
use crate::tier::{Dir, SetXattr, acl, split_keys};
use crate::types::attr::Kind;
use crate::types::caller::Caller;
use crate::types::errno::{Errno, Result};
use crate::types::ids::{Ino, Rank};
use crate::types::name::Name;
use crate::types::pin;

/// The tier of the visible copy: `primary`, `secondary`, `tier2` ….
const TIER: &CStr = c"user.tierfs.tier";
/// The path of the visible copy on its tier.
const REALPATH: &CStr = c"user.tierfs.realpath";
/// All copies, fastest first: rank, tab, path, each ended by NUL.
const COPIES: &CStr = c"user.tierfs.copies";
/// The socket on which the daemon takes commands.
const CONTROL: &CStr = c"user.tierfs.control";

/// What comes before the name of an entry, to ask its directory for the copies of one that has no attributes.
const COPIES_OF: &[u8] = b"user.tierfs.copies:";
/// The configuration file by which the tiers of this mount are unlocked, where some are encrypted.
const CONFIG: &CStr = c"user.tierfs.config";

/// File capabilities (`capabilities(7)`).
const CAPABILITY: &CStr = c"security.capability";

/// The ACL that changes the mode (`acl(5)`).
pub(super) const ACCESS_ACL: &CStr = acl::ACCESS;

/// `S_ISGID` of `inode(7)`.
const SET_GID: u32 = 0o2000;

impl Union {
    /// One extended attribute.
    ///
    /// # Errors
    /// ENODATA if there is none of that name; what a tier says.
    pub fn getxattr(&self, ino: Ino, key: &CStr) -> Result<Vec<u8>> {
        if key == c"security.selinux" {
            return Err(Errno::EOPNOTSUPP);
        }
        if is_private(key) && key != pin::KEY {
            return self.answer(ino, key);
        }
        if self.inodes.kind(ino)? == Kind::Dir {
            if key == ACCESS_ACL {
                return self.access_acl(self.dir(ino)?.as_ref());
            }
            return self.fastest(ino)?.get_xattr(None, key);
        }
        // The kernel asks for this one before the first write to each file, to know whether it must
        // strip it. The backing filesystem strips it in any case, so the name need not be proved.
        if key == CAPABILITY
            && let Place::Named(spot) = self.inodes.place(ino)?
        {
            return self.dir(spot.parent)?.copy(spot.rank)?.get_xattr(Some(&spot.name), key);
        }
        let value = self.hold(ino)?.get_xattr(key);
        match self.settings.offline_from {
            Some(rank) if key == dos::KEY => self.with_offline(ino, rank, value),
            _ => value,
        }
    }

    /// The DOS attributes of a file that may lie on `rank` or below.
    fn with_offline(&self, ino: Ino, rank: Rank, value: Result<Vec<u8>>) -> Result<Vec<u8>> {
        let below = self.inodes.kind(ino)? == Kind::File && self.inodes.named(ino).is_ok_and(|spot| spot.rank >= rank);
        match value {
            Ok(value) => Ok(dos::with_offline(value, below)),
            Err(Errno::ENODATA) if below => Ok(dos::ONLY_OFFLINE.to_vec()),
            Err(errno) => Err(errno),
        }
    }

    /// Names of the extended attributes, without tierfs's own.
    ///
    /// # Errors
    /// What a tier says.
    pub fn listxattr(&self, ino: Ino) -> Result<Vec<u8>> {
        let list = match self.inodes.kind(ino)? {
            Kind::Dir => self.fastest(ino)?.list_xattr(None)?,
            Kind::File | Kind::Symlink | Kind::Fifo | Kind::Socket | Kind::Char | Kind::Block => {
                self.hold(ino)?.list_xattr()?
            }
        };
        Ok(split_keys(&list)
            .into_iter()
            .filter(|key| !is_private(key))
            .flat_map(std::ffi::CString::into_bytes_with_nul)
            .collect())
    }

    /// Sets an extended attribute; of a merged directory on every copy. `groups` tells the
    /// caller's supplementary groups, which an access ACL may ask for.
    ///
    /// # Errors
    /// EPERM for tierfs's own but the pin, which only the owner and root may set; EINVAL for a pin
    /// to what is no tier; EROFS; what a tier says.
    pub fn setxattr(
        &self,
        ino: Ino,
        key: &CStr,
        value: &[u8],
        flags: i32,
        by: &Caller,
        groups: &dyn Fn() -> Vec<u32>,
    ) -> Result<()> {
        self.check_settable(ino, key, by)?;
        if key == pin::KEY {
            self.check_pin(value)?;
        }
        let keep_set_gid = key == ACCESS_ACL && self.may_keep_set_gid(ino, by, groups)?;
        let how = SetXattr { flags, keep_set_gid };
        if self.inodes.kind(ino)? == Kind::Dir {
            self.may_change_names()?;
            let (node, _alone) = self.uncloned(ino)?;
            self.may_change_in(&node)?;
            let set = node.copies().rev().try_for_each(|(_, dir)| dir.set_xattr(None, key, value, how));
            if key == ACCESS_ACL {
                self.after_acl(&node);
            }
            return set;
        }
        self.may_change_data()?;
        let _passing = self.gates.file(ino);
        self.settling.may_change(ino)?;
        let file = self.hold(ino)?;
        self.drop_shown(ino, file.as_ref());
        if self.settings.offline_from.is_some() && key == dos::KEY {
            return file.set_xattr(key, &dos::with_offline(value.to_vec(), false), how);
        }
        file.set_xattr(key, value, how)
    }

    /// Removes an extended attribute; of a merged directory from every copy.
    ///
    /// # Errors
    /// As [`Union::setxattr`]; ENODATA if no copy has it.
    pub fn removexattr(&self, ino: Ino, key: &CStr, by: &Caller) -> Result<()> {
        self.check_settable(ino, key, by)?;
        if self.inodes.kind(ino)? != Kind::Dir {
            self.may_change_data()?;
            let _passing = self.gates.file(ino);
            self.settling.may_change(ino)?;
            let file = self.hold(ino)?;
            self.drop_shown(ino, file.as_ref());
            return file.remove_xattr(key);
        }
        self.may_change_names()?;
        let (node, _alone) = self.uncloned(ino)?;
        self.may_change_in(&node)?;
        let mut result = Ok(());
        for (_, dir) in node.copies().rev() {
            result = dir.remove_xattr(None, key);
            if !matches!(result, Ok(()) | Err(Errno::ENODATA)) {
                break;
            }
        }
        if key == ACCESS_ACL {
            self.after_acl(&node);
        }
        result
    }

    /// EPERM for tierfs's own attributes, but for the pin where owner or root changes it. Of `user.`
    /// attributes the kernel asks only for the right to write.
    fn check_settable(&self, ino: Ino, key: &CStr, by: &Caller) -> Result<()> {
        if !is_private(key) {
            return Ok(());
        }
        let allowed = key == pin::KEY && (by.uid == 0 || by.uid == self.getattr(ino)?.stat.uid);
        if allowed { Ok(()) } else { Err(Errno::EPERM) }
    }

    /// EINVAL unless `value` names a tier of this union.
    fn check_pin(&self, value: &[u8]) -> Result<()> {
        // Strict in what is written, so that every reader understands it.
        let rank = std::str::from_utf8(value).ok().and_then(Rank::parse);
        let known = rank.is_some_and(|rank| rank.index() < self.tiers());
        if known { Ok(()) } else { Err(Errno::EINVAL) }
    }

    /// As the kernel decides in `setattr_prepare` (`fs/attr.c`): members of the group may.
    fn may_keep_set_gid(&self, ino: Ino, by: &Caller, groups: &dyn Fn() -> Vec<u32>) -> Result<bool> {
        let stat = self.getattr(ino)?.stat;
        if stat.mode & SET_GID == 0 {
            return Ok(false);
        }
        Ok(by.uid == 0 || by.gid == stat.gid || groups().contains(&stat.gid))
    }

    fn fastest(&self, ino: Ino) -> Result<Arc<dyn Dir>> {
        Ok(Arc::clone(self.dir(ino)?.copies().next().ok_or(Errno::EIO)?.1))
    }

    fn answer(&self, ino: Ino, key: &CStr) -> Result<Vec<u8>> {
        if key == CONTROL {
            let socket = self.control.get().ok_or(Errno::ENODATA)?;
            return Ok(socket.as_os_str().as_bytes().to_vec());
        }
        if key == CONFIG {
            let file = self.config.get().ok_or(Errno::ENODATA)?;
            return Ok(file.as_os_str().as_bytes().to_vec());
        }
        if let Some(name) = key.to_bytes().strip_prefix(COPIES_OF) {
            return Ok(lines(&self.copies_of(ino, &Name::new(name)?)?));
        }
        if ![TIER, REALPATH, COPIES].contains(&key) {
            return Err(Errno::ENODATA);
        }
        let copies = self.where_is(ino)?;
        let (rank, path) = copies.first().ok_or(Errno::ENODATA)?;
        if key == TIER {
            return Ok(rank.to_string().into_bytes());
        }
        if key == REALPATH {
            return Ok(path.as_bytes().to_vec());
        }
        Ok(lines(&copies))
    }

    /// Every copy of an inode's name: its tier and the path there, fastest first.
    ///
    /// # Errors
    /// ESTALE for a file without a name; what a tier says.
    pub fn where_is(&self, ino: Ino) -> Result<Vec<(Rank, OsString)>> {
        if ino == Ino::ROOT {
            return self.dirs.root().copies().map(|(rank, _)| Ok((rank, self.real_path(rank, &[])?))).collect();
        }
        let spot = self.inodes.named(ino)?;
        self.copies_of(spot.parent, &spot.name)
    }

    /// Every copy of a name in a directory.
    fn copies_of(&self, parent: Ino, name: &Name) -> Result<Vec<(Rank, OsString)>> {
        if parent == Ino::ROOT && name.is_private() {
            return Err(Errno::ENODATA);
        }
        let node = self.dir(parent)?;
        let mut path = self.path_of(parent)?;
        path.push(name.clone());
        let mut found = Vec::new();
        for (rank, dir) in node.copies() {
            if dir.stat(Some(name))?.is_some() {
                found.push((rank, self.real_path(rank, &path)?));
            }
        }
        Ok(found)
    }

    /// The names from the root down to a directory.
    pub(super) fn path_of(&self, dir: Ino) -> Result<Vec<Name>> {
        let mut names = Vec::new();
        let (mut at, mut upwards) = (dir, Upwards::from(dir));
        while at != Ino::ROOT {
            let (spot, _) = self.inodes.dir(at)?;
            names.push(spot.name);
            upwards.to(spot.parent)?;
            at = spot.parent;
        }
        names.reverse();
        Ok(names)
    }

    fn real_path(&self, rank: Rank, names: &[Name]) -> Result<OsString> {
        self.tier(rank)?.real_path(names).map(OsString::from)
    }
}

/// Copies as `user.tierfs.copies` tells them.
fn lines(copies: &[(Rank, OsString)]) -> Vec<u8> {
    let line =
        |(rank, path): &(Rank, OsString)| [rank.0.to_string().as_bytes(), b"\t", path.as_bytes(), b"\0"].concat();
    copies.iter().flat_map(line).collect()
}

/// Attributes that are tierfs's own: stamps, pins and answers.
fn is_private(key: &CStr) -> bool {
    let key = key.to_bytes();
    key.starts_with(b"user.tierfs.") || key.starts_with(b"trusted.tierfs.")
}
