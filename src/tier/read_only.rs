//! What a tier answers that nobody can change.
//!
//! The traits have a method for each change; a tier that only shows something refuses them all in
//! the same way. The macros stand inside an `impl` and write these methods.

/// The methods of [`super::Dir`] that change something, and those that need a directory of the local
/// machine.
macro_rules! unchangeable_dir {
    () => {
        fn create(
            &self,
            _name: &Name,
            _mode: u32,
            _how: $crate::tier::Open,
            _by: &$crate::types::caller::Caller,
        ) -> Result<Box<dyn $crate::tier::File>> {
            Err(Errno::EROFS)
        }

        fn mkdir(&self, _name: &Name, _mode: u32, _by: &$crate::types::caller::Caller) -> Result<()> {
            Err(Errno::EROFS)
        }

        fn mknod(&self, _name: &Name, _mode: u32, _rdev: u64, _by: &$crate::types::caller::Caller) -> Result<()> {
            Err(Errno::EROFS)
        }

        fn symlink(&self, _name: &Name, _target: &std::ffi::OsStr, _by: &$crate::types::caller::Caller) -> Result<()> {
            Err(Errno::EROFS)
        }

        fn link(&self, _name: &Name, _to: &dyn $crate::tier::Dir, _new: &Name) -> Result<()> {
            Err(Errno::EROFS)
        }

        fn unlink(&self, _name: &Name) -> Result<()> {
            Err(Errno::EROFS)
        }

        fn rmdir(&self, _name: &Name) -> Result<()> {
            Err(Errno::EROFS)
        }

        fn rename(
            &self,
            _name: &Name,
            _to: &dyn $crate::tier::Dir,
            _new: &Name,
            _how: $crate::tier::Rename,
        ) -> Result<()> {
            Err(Errno::EROFS)
        }

        /// Nothing is moved to or from here, so nobody surveys it.
        fn survey(&self, _each: &mut dyn FnMut($crate::tier::Surveyed<'_>) -> std::ops::ControlFlow<()>) -> Result<()> {
            Err(Errno::EOPNOTSUPP)
        }

        fn set_attr(&self, _name: Option<&Name>, _change: &$crate::types::attr::SetAttr) -> Result<()> {
            Err(Errno::EROFS)
        }

        fn set_xattr(
            &self,
            _name: Option<&Name>,
            _key: &CStr,
            _value: &[u8],
            _how: $crate::tier::SetXattr,
        ) -> Result<()> {
            Err(Errno::EROFS)
        }

        fn remove_xattr(&self, _name: Option<&Name>, _key: &CStr) -> Result<()> {
            Err(Errno::EROFS)
        }

        fn fsync(&self) -> Result<()> {
            Ok(())
        }

        fn descriptor(&self) -> Result<std::os::fd::OwnedFd> {
            Err(Errno::EOPNOTSUPP)
        }

        fn held(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
            None
        }

        fn as_file(&self) -> Result<Box<dyn $crate::tier::File>> {
            Err(Errno::ENOTTY)
        }

        fn as_any(&self) -> &dyn std::any::Any {
            self
        }
    };
}

/// The methods of [`super::File`] that change something, claim it or reach past tierfs.
macro_rules! unchangeable_file {
    () => {
        fn set_attr(&self, _change: &$crate::types::attr::SetAttr) -> Result<()> {
            Err(Errno::EROFS)
        }

        fn write_at(&self, _data: &[u8], _offset: u64) -> Result<usize> {
            Err(Errno::EROFS)
        }

        fn append(&self, _data: &[u8]) -> Result<usize> {
            Err(Errno::EROFS)
        }

        fn fsync(&self, _data_only: bool) -> Result<()> {
            Ok(())
        }

        fn allocate(&self, _mode: i32, _offset: u64, _length: u64) -> Result<()> {
            Err(Errno::EROFS)
        }

        fn set_xattr(&self, _key: &CStr, _value: &[u8], _how: $crate::tier::SetXattr) -> Result<()> {
            Err(Errno::EROFS)
        }

        fn remove_xattr(&self, _key: &CStr) -> Result<()> {
            Err(Errno::EROFS)
        }

        fn backing(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
            None
        }

        fn link_to(&self, _to: &dyn $crate::tier::Dir, _new: &Name) -> Result<()> {
            Err(Errno::EROFS)
        }

        fn copy_to(&self, _offset: u64, _to: &dyn $crate::tier::File, _to_offset: u64, _length: u64) -> Result<usize> {
            Err(Errno::EXDEV)
        }

        fn is_written(&self) -> Result<bool> {
            Ok(true)
        }

        fn claim(&self, _excludes: $crate::types::lease::Excludes) -> Result<bool> {
            Err(Errno::EINVAL)
        }

        fn is_claimed(&self, _excludes: $crate::types::lease::Excludes) -> Result<bool> {
            Ok(false)
        }

        fn unclaim(&self) -> Result<()> {
            Ok(())
        }

        fn drop_cache(&self) {}

        fn read_ahead(&self, _length: u64) {}

        fn start_writing(&self, _offset: u64, _length: u64) {}

        fn flags(&self) -> Result<u32> {
            Err(Errno::ENOTTY)
        }

        fn set_flags(&self, _flags: u32) -> Result<()> {
            Err(Errno::EROFS)
        }

        fn fsxattr(&self) -> Result<[u8; 28]> {
            Err(Errno::ENOTTY)
        }
    };
}

/// The methods of [`super::Tier`] that concern moves of files.
macro_rules! unchangeable_tier {
    () => {
        fn has_stamps(&self) -> bool {
            false
        }

        fn announce_stamps(&self) -> Result<()> {
            Err(Errno::EROFS)
        }

        fn has_given(&self) -> bool {
            false
        }

        fn announce_given(&self) -> Result<()> {
            Err(Errno::EROFS)
        }

        fn syncing(&self) -> Result<Box<dyn $crate::tier::Syncing>> {
            Err(Errno::EROFS)
        }

        fn keeps_access_times(&self) -> bool {
            false
        }

        fn path(&self) -> Option<&std::path::Path> {
            None
        }

        fn body_of(&self, _dir: std::os::fd::BorrowedFd<'_>) -> Result<Option<Body>> {
            Ok(None)
        }
    };
}

pub(crate) use unchangeable_file;
pub(super) use {unchangeable_dir, unchangeable_tier};
