//! The lines of `fstab(5)` that are of tierfs.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::cli::exit::Failure;
use crate::cli::mount;
use crate::config::MountConfig;
use crate::config::options::Options;
use crate::sys::mountinfo;

/// Where `mount(8)` and systemd read what is mounted at boot.
const FSTAB: &str = "/etc/fstab";

/// Overrides the file; meant for tests.
const ENVIRONMENT: &str = "TIERFS_FSTAB";

/// A file longer than this is no table of filesystems.
const LEN_MAX: u64 = 1 << 20;

/// What `mount -t` and the third field may say.
const KINDS: [&str; 2] = ["tierfs", "fuse.tierfs"];

/// One line that is no comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// The tiers, or `none` where a configuration file has them.
    pub source: OsString,
    /// The mount point.
    pub point: PathBuf,
    /// The type.
    pub kind: OsString,
    /// The options, separated by commas.
    pub options: OsString,
}

impl Line {
    /// Whether `tierfs` is to mount it.
    pub(super) fn is_tierfs(&self) -> bool {
        KINDS.iter().any(|kind| self.kind == *kind)
    }

    /// Whether an option is there, as it is written.
    pub(super) fn has(&self, word: &str) -> bool {
        self.split().words().any(|other| other == word)
    }

    /// Whether it is mounted at boot, rather than when somebody asks or goes there.
    pub(super) fn is_at_boot(&self) -> bool {
        !self.has("noauto") && !self.has("x-systemd.automount")
    }

    /// The configuration file that it names.
    pub(super) fn config_file(&self) -> Option<PathBuf> {
        self.split().config_file()
    }

    /// What `mount` would mount by it.
    ///
    /// # Errors
    /// What it would refuse to mount.
    pub(super) fn configuration(&self) -> Result<MountConfig, Failure> {
        mount::Mount::of_line(self).configuration()
    }

    fn split(&self) -> Options {
        Options::new([self.options.as_os_str()])
    }
}

/// The text of the file; none where there is none to read.
pub(super) fn text() -> Vec<u8> {
    let path = std::env::var_os(ENVIRONMENT).filter(|given| !given.is_empty());
    let path = path.map_or_else(|| PathBuf::from(FSTAB), PathBuf::from);
    let small = fs::metadata(&path).is_ok_and(|found| found.is_file() && found.len() <= LEN_MAX);
    small.then(|| fs::read(&path).ok()).flatten().unwrap_or_default()
}

/// The lines of any type.
pub(super) fn lines(text: &[u8]) -> impl Iterator<Item = Line> {
    text.split(|byte| *byte == b'\n').filter_map(|line| {
        let fields = line.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty());
        let mut fields = fields.map(mountinfo::unescape);
        let source = fields.next().filter(|source| !source.as_bytes().starts_with(b"#"))?;
        let (point, kind, options) = (fields.next()?.into(), fields.next()?, fields.next().unwrap_or_default());
        Some(Line { source, point, kind, options })
    })
}

/// The line for a mount point.
pub(super) fn line_at(text: &[u8], mountpoint: &Path) -> Option<Line> {
    lines(text).find(|line| line.point == mountpoint)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"# none /srv/a tierfs ro 0 0\nUUID=1 / ext4 defaults\n\n\
        /f:/s\t/srv/a\\040b  tierfs allow_other,nofail 0 0\n\
        none /srv/c fuse.tierfs config=/etc/c.yaml,noauto\nshort /srv/d\n";

    #[test]
    fn the_line_of_a_mount_point_is_found() {
        let line = line_at(TEXT, Path::new("/srv/a b")).unwrap();
        assert_eq!((line.source.to_str(), line.options.to_str()), (Some("/f:/s"), Some("allow_other,nofail")));
        assert!(line.has("nofail") && !line.has("fail") && line.is_at_boot() && line.config_file().is_none());
        assert_eq!(line_at(TEXT, Path::new("/srv/a")), None);
        assert_eq!(line_at(TEXT, Path::new("/srv/d")), None);
    }

    #[test]
    fn lines_of_tierfs_are_told_from_others() {
        let points: Vec<PathBuf> = lines(TEXT).filter(Line::is_tierfs).map(|line| line.point).collect();
        assert_eq!(points, [Path::new("/srv/a b"), Path::new("/srv/c")]);
        let line = line_at(TEXT, Path::new("/srv/c")).unwrap();
        assert_eq!((line.config_file(), line.is_at_boot()), (Some("/etc/c.yaml".into()), false));
    }

    #[test]
    fn a_line_is_read_as_mount_reads_it() {
        let config = line_at(TEXT, Path::new("/srv/a b")).unwrap().configuration().unwrap();
        assert_eq!((config.tiers.len(), config.options.allow_other), (2, true));
        let wrong = lines(b"/f:/s /srv tierfs allow_others 0 0").next().unwrap();
        let line = wrong.configuration().unwrap_err().line;
        assert!(line.contains("allow_others: unknown option"), "{line}");
    }
}
