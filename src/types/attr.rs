//! What a file is: kind, owner, size, times.

/// Seconds and nanoseconds since 1970-01-01 UTC; nanoseconds count forward also before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time {
    /// Seconds, negative before 1970.
    pub sec: i64,
    /// Nanoseconds, 0 to 999,999,999.
    pub nsec: u32,
}

/// The file types of `inode(7)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Regular file.
    File,
    /// Directory.
    Dir,
    /// Symbolic link.
    Symlink,
    /// Named pipe.
    Fifo,
    /// Socket.
    Socket,
    /// Character device.
    Char,
    /// Block device.
    Block,
}

/// `S_IFMT` of `inode(7)`.
pub const FORMAT_MASK: u32 = 0o170_000;

impl Kind {
    /// From the format bits of a mode; anything unknown counts as a file.
    pub fn of_mode(mode: u32) -> Kind {
        match mode & FORMAT_MASK {
            0o040_000 => Kind::Dir,
            0o120_000 => Kind::Symlink,
            0o010_000 => Kind::Fifo,
            0o140_000 => Kind::Socket,
            0o020_000 => Kind::Char,
            0o060_000 => Kind::Block,
            _ => Kind::File,
        }
    }

    /// The format bits of a mode.
    pub fn mode(self) -> u32 {
        match self {
            Kind::File => 0o100_000,
            Kind::Dir => 0o040_000,
            Kind::Symlink => 0o120_000,
            Kind::Fifo => 0o010_000,
            Kind::Socket => 0o140_000,
            Kind::Char => 0o020_000,
            Kind::Block => 0o060_000,
        }
    }
}

/// The attributes of one copy as `statx(2)` tells them, with the number of its body on its tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Which body this is: the same for all hard links of a file.
    pub body: Body,
    /// Tells two bodies apart that had the same number one after the other: from the birth time.
    pub generation: u32,
    /// Type and permissions.
    pub mode: u32,
    /// Hard links.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number of a device node, as `makedev(3)` packs it.
    pub rdev: u64,
    /// Size in bytes.
    pub size: u64,
    /// Space in units of 512 bytes.
    pub blocks: u64,
    /// Preferred block size for I/O in bytes.
    pub blksize: u32,
    /// Last access.
    pub atime: Time,
    /// Last change of the contents.
    pub mtime: Time,
    /// Last change of contents or attributes.
    pub ctime: Time,
}

/// A body is one inode of a backing filesystem: a 64-bit mix of tier, filesystem and inode number,
/// so that a listing tells it without a look at the inode. It keeps over remounts and machines
/// because it holds no device number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Body(pub u64);

impl Stat {
    /// The type.
    pub fn kind(&self) -> Kind {
        Kind::of_mode(self.mode)
    }

    /// Whether `other`, of the same body, shows that nothing but the access time has changed. The
    /// space it takes may differ: it is settled when the data is written out.
    pub fn is_version(&self, other: &Stat) -> bool {
        self.ctime == other.ctime && self.is_version_but_ctime(other)
    }

    /// The same, but for the change time, which a rename moves.
    pub fn is_version_but_ctime(&self, other: &Stat) -> bool {
        let of = |s: &Stat| (s.body, s.generation, s.size, s.mtime, s.mode, s.uid, s.gid, s.nlink);
        of(self) == of(other)
    }

    /// Whether two bodies have the same owner, mode, size and modification time.
    pub fn is_copy_of(&self, other: &Stat) -> bool {
        let of = |s: &Stat| (s.size, s.mtime, s.mode, s.uid, s.gid);
        of(self) == of(other)
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.kind() == Kind::Dir
    }
}

/// Changes `setattr` makes; `None` leaves a field as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SetAttr {
    /// New permission bits (07777).
    pub mode: Option<u32>,
    /// New owner.
    pub uid: Option<u32>,
    /// New group.
    pub gid: Option<u32>,
    /// New size in bytes.
    pub size: Option<u64>,
    /// New access time.
    pub atime: Option<SetTime>,
    /// New modification time.
    pub mtime: Option<SetTime>,
}

/// A time to set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetTime {
    /// The backing filesystem's clock.
    Now,
    /// Exactly this.
    At(Time),
}

/// Space and inodes of a filesystem, as `statvfs(3)`; blocks in units of `frsize` bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Space {
    /// Preferred block size in bytes.
    pub bsize: u32,
    /// Fragment size in bytes: the unit of the block counts.
    pub frsize: u32,
    /// Blocks in all.
    pub blocks: u64,
    /// Free blocks.
    pub bfree: u64,
    /// Free blocks for ordinary users.
    pub bavail: u64,
    /// Inodes in all.
    pub files: u64,
    /// Free inodes.
    pub ffree: u64,
    /// Longest name in bytes.
    pub namelen: u32,
    /// Which filesystem it is: equal for two tiers that share one.
    pub filesystem: u64,
}
