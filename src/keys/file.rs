//! Configuration files on disk.

use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::crypt::conf::Conf;
use crate::crypt::names::{CONF_NAME, DIRIV_NAME, REVERSE_CONF};
use crate::keys::{Error, Kind};
use crate::sys::{at, durable, io, stat};
use crate::types::errno::Errno;

/// More than any configuration file has.
const SIZE_MAX: u64 = 65 << 10;

/// Only its owner may read it, and nobody writes it in place.
pub(super) const MODE: u32 = 0o400;

/// What a new file is called until it is whole.
pub(super) const SCRATCH_SUFFIX: &str = ".tmp";

/// The configuration file of the volume in `dir`: of ciphertext, or of plaintext with a reverse view.
pub fn conf_in(dir: &Path) -> Result<PathBuf, Error> {
    let names = [CONF_NAME, REVERSE_CONF].map(|name| dir.join(name));
    for path in &names {
        match path.symlink_metadata() {
            Ok(_) => return Ok(path.clone()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::at(path, Errno::of(&error))),
        }
    }
    let line = match dir.metadata() {
        Ok(metadata) if metadata.is_dir() => {
            let dir_name = dir.display();
            let line = if dir.join(DIRIV_NAME).symlink_metadata().is_ok() {
                format!(
                    "{dir_name} holds no {CONF_NAME}: name it with --conf if it is elsewhere; if it is lost, put a copy \
                     back, or make it again by the master key with `tierfs key restore {dir_name}`"
                )
            } else {
                format!("{dir_name} holds no {CONF_NAME}: it is no encrypted volume, or its --conf is elsewhere")
            };
            return Err(Error::new(Kind::Conf, line));
        }
        Ok(_) => format!("{} is no directory: name that of the volume, or a file with --conf", dir.display()),
        Err(error) => format!("{}: {}", dir.display(), Errno::of(&error)),
    };
    Err(Error::new(Kind::Failed, line))
}

/// Reads a configuration file.
pub fn read_conf(path: &Path) -> Result<Conf, Error> {
    let metadata = path.metadata().map_err(|error| Error::at(path, Errno::of(&error)))?;
    if !metadata.is_file() {
        // Opening a pipe would wait for whoever writes to it.
        return Err(Error::new(Kind::Conf, format!("{} is no file", path.display())));
    }
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(SIZE_MAX).read_to_end(&mut bytes));
    read.map_err(|error| Error::at(path, Errno::of(&error)))?;
    Conf::parse(&bytes).map_err(|problem| Error::new(Kind::Conf, format!("{}: {problem}", path.display())))
}

/// What becomes of a file that is there already.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum There {
    /// It is replaced, and the new one belongs to the same owner.
    Replace,
    /// It stays, and that is an error.
    Refuse,
}

/// Writes a small file that is at every moment absent, the old one or the new one, whole.
pub(super) fn write(path: &Path, bytes: &[u8], mode: u32, there: There) -> Result<(), Error> {
    // What a link leads to is replaced, not the link.
    let path = &match there {
        There::Replace => std::fs::canonicalize(path).map_err(|error| Error::at(path, Errno::of(&error)))?,
        There::Refuse => path.to_path_buf(),
    };
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().ok_or_else(|| Error::at(path, Errno::EISDIR))?;
    let dir = durable::open_root(parent).map_err(|errno| Error::at(parent, errno))?;
    let text = |bytes: Vec<u8>| CString::new(bytes).map_err(|_| Error::at(path, Errno::EINVAL));
    let scratch = text([name.as_bytes(), SCRATCH_SUFFIX.as_bytes()].concat())?;
    let name = text(name.as_bytes().to_vec())?;
    let fail = |errno| Error::at(path, errno);
    // What a crash has left.
    match at::unlink(dir.as_fd(), &scratch) {
        Ok(()) | Err(Errno::ENOENT) => {}
        Err(errno) => return Err(fail(errno)),
    }
    let written = (|| {
        let mut file = File::from(at::open(dir.as_fd(), &scratch, at::Flags::WRITE.create_new(), mode)?);
        stat::chmod(file.as_fd(), None, mode)?;
        if there == There::Replace {
            let old = path.metadata().map_err(|error| Errno::of(&error))?;
            let new = file.metadata().map_err(|error| Errno::of(&error))?;
            if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
                stat::chown(file.as_fd(), None, Some(old.uid()), Some(old.gid()))?;
            }
        }
        file.write_all(bytes).map_err(|error| Errno::of(&error))?;
        io::fsync(file.as_fd(), false)?;
        let flag = if there == There::Refuse { at::RenameFlag::NoReplace } else { at::RenameFlag::Replace };
        match at::rename(dir.as_fd(), &scratch, dir.as_fd(), &name, flag) {
            // Not every filesystem can refuse by itself.
            Err(Errno::EINVAL) if there == There::Refuse && path.symlink_metadata().is_err() => {
                at::rename(dir.as_fd(), &scratch, dir.as_fd(), &name, at::RenameFlag::Replace)?;
            }
            other => other?,
        }
        io::fsync(dir.as_fd(), false)
    })();
    written.map_err(|errno| {
        // The scratch file must not be taken for the conf. Gone already where the rename was done.
        let _ = at::unlink(dir.as_fd(), &scratch);
        match errno {
            Errno::EEXIST => Error::new(Kind::Failed, format!("{} is there already", path.display())),
            errno => fail(errno),
        }
    })
}

/// Replaces the configuration file of a volume, such as after its passphrase was changed.
pub fn replace_conf(path: &Path, conf: &Conf) -> Result<(), Error> {
    write(path, &conf.render(), MODE, There::Replace)
}
