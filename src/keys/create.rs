//! Makes volumes.
//!
//! The configuration file comes last: whatever a crash leaves before it is no volume, and making
//! it once more cleans that up.

use std::ffi::{CString, OsString};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::crypt::conf::{Conf, ScryptCost};
use crate::crypt::features::LONG_MAX;
use crate::crypt::names::{CONF_NAME, DIRIV_NAME, REVERSE_CONF};
use crate::crypt::{DirIv, Features, MasterKey, NameMode};
use crate::keys::file::{self, MODE, SCRATCH_SUFFIX, There};
use crate::keys::{Error, Kind, Place, refused};
use crate::sys::secret::Secret;
use crate::sys::{at, durable, random, stat};
use crate::types::errno::{Errno, Result as OsResult};
use crate::types::{hex, shown};

/// Everybody may read the number of a directory, and nobody changes it.
const DIRIV_MODE: u32 = 0o444;

/// What the names of files begin with that only try what a filesystem can do.
const PROBE: &str = "tierfs-probe-";

/// Entries that are named where a directory is not empty.
const NAMED: usize = 5;

/// A volume that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The directory that will hold the ciphertext, or that of the plaintext with a reverse view.
    pub dir: PathBuf,
    /// Where the configuration goes where not into `dir`.
    pub conf: Option<PathBuf>,
    /// What it is made with.
    pub features: Features,
    /// Whether it is a reverse view.
    pub reverse: bool,
    /// The cost of a try of a passphrase.
    pub cost: ScryptCost,
}

impl Plan {
    /// The volume once it is made.
    pub fn place(&self) -> Place {
        let name = if self.reverse { REVERSE_CONF } else { CONF_NAME };
        let conf = self.conf.clone().unwrap_or_else(|| self.dir.join(name));
        Place { dir: Some(self.dir.clone()), conf }
    }

    /// Whether it can be made there; before anybody is asked for a passphrase.
    pub fn check(&self) -> Result<(), Error> {
        self.check_kind()?;
        let place = self.place();
        if place.conf.symlink_metadata().is_ok() {
            let line = format!("{} is there already: this is a volume, which stays as it is", place.conf.display());
            return Err(Error::new(Kind::Failed, line));
        }
        if self.reverse {
            return Ok(());
        }
        self.check_conf()?;
        let (left, others) = entries(&self.dir)?;
        if !others.is_empty() && left.iter().any(|name| name == DIRIV_NAME) {
            let dir = self.dir.display();
            let line = format!(
                "{dir} is a volume, whose {CONF_NAME} is elsewhere or lost: `tierfs key restore {dir}` makes it again by \
                 the master key"
            );
            return Err(Error::new(Kind::Failed, line));
        }
        if !others.is_empty() {
            return Err(Error::new(Kind::Failed, not_empty(&self.dir, &others)));
        }
        for name in left {
            let path = self.dir.join(name);
            std::fs::remove_file(&path).map_err(|error| Error::at(&path, Errno::of(&error)))?;
        }
        if self.features.names == NameMode::Plain { Ok(()) } else { self.probe() }
    }

    /// Whether a lost configuration may be made once more there.
    pub fn check_restore(&self) -> Result<(), Error> {
        self.check_kind()?;
        let place = self.place();
        self.check_conf()?;
        if place.conf.symlink_metadata().is_ok() {
            let line = format!(
                "{} is there: `tierfs key passwd --master-key` gives it a new passphrase",
                place.conf.display()
            );
            return Err(Error::new(Kind::Failed, line));
        }
        Ok(())
    }

    /// What else lies in the directory of a volume is taken for damage, by gocryptfs too.
    fn check_conf(&self) -> Result<(), Error> {
        let conf = self.place().conf;
        let real = |path: &Path| path.canonicalize().ok();
        let (Some(parent), Some(dir)) = (conf.parent().and_then(real), real(&self.dir)) else { return Ok(()) };
        let usual = parent == dir && conf.file_name().is_some_and(|name| name == CONF_NAME);
        if self.reverse || usual || !parent.starts_with(&dir) {
            return Ok(());
        }
        let (conf, dir) = (conf.display(), self.dir.display());
        let line = format!(
            "{conf} would lie among the encrypted files of {dir}, as damage: choose a place outside for --conf, or \
             leave it out for {CONF_NAME}"
        );
        Err(Error::new(Kind::Failed, line))
    }

    fn check_kind(&self) -> Result<(), Error> {
        self.cost.check().map_err(|why| Error::new(Kind::Usage, why))?;
        match self.dir.metadata() {
            Ok(metadata) if metadata.is_dir() => Ok(()),
            Ok(_) => Err(Error::at(&self.dir, Errno::ENOTDIR)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let dir = self.dir.display();
                Err(Error::new(Kind::Failed, format!("{dir} does not exist: make it with mkdir -p {dir}")))
            }
            Err(error) => Err(Error::at(&self.dir, Errno::of(&error))),
        }
    }

    /// Makes it. The caller has had it checked.
    pub fn make(&self, master: &MasterKey, passphrase: &Secret) -> Result<Conf, Error> {
        let place = self.place();
        let conf = Conf::wrap(master, self.features, passphrase, self.cost).map_err(|why| refused(&why, &self.dir))?;
        if !self.reverse && self.features.names == (NameMode::Encrypted { dir_iv: true }) {
            self.make_dir_iv()?;
        }
        file::write(&place.conf, &conf.render(), MODE, There::Refuse)?;
        Ok(conf)
    }

    /// Makes a configuration for a volume that has lost it.
    pub fn restore(&self, master: &MasterKey, passphrase: &Secret) -> Result<Conf, Error> {
        let conf = Conf::wrap(master, self.features, passphrase, self.cost).map_err(|why| refused(&why, &self.dir))?;
        file::write(&self.place().conf, &conf.render(), MODE, There::Refuse)?;
        Ok(conf)
    }

    fn make_dir_iv(&self) -> Result<(), Error> {
        let path = self.dir.join(DIRIV_NAME);
        let iv = DirIv::random().map_err(|errno| Error::at(&path, errno))?;
        file::write(&path, &iv.0, DIRIV_MODE, There::Refuse)
    }

    /// Tries whether the filesystem tells small letters from capitals, and takes names of the length
    /// that the volume may use.
    fn probe(&self) -> Result<(), Error> {
        let dir = durable::open_root(&self.dir).map_err(|errno| Error::at(&self.dir, errno))?;
        let fail = |errno| Error::at(&self.dir, errno);
        let mut salt = [0; 8];
        random::fill(&mut salt).map_err(fail)?;
        let base = format!("{PROBE}{}-", hex::write(&salt));
        let (small, capital) = (format!("{base}a"), format!("{base}A"));
        let told = with_file(dir.as_fd(), &small, || {
            let name = CString::new(capital.as_str()).map_err(|_| Errno::EINVAL)?;
            match stat::statx(dir.as_fd(), Some(&name)) {
                Ok(_) => Ok(false),
                Err(Errno::ENOENT) => Ok(true),
                Err(errno) => Err(errno),
            }
        });
        if !told.map_err(fail)? {
            let line = format!(
                "the filesystem of {} takes capitals and small letters for the same, which encrypted names do not \
                 survive: choose a directory on another one, or --plaintext-names",
                self.dir.display()
            );
            return Err(Error::new(Kind::Failed, line));
        }
        let takes = |len: u16| with_file(dir.as_fd(), &format!("{base:x<width$}", width = usize::from(len)), || Ok(()));
        match takes(self.features.long_max) {
            Ok(()) => return Ok(()),
            Err(Errno::ENAMETOOLONG | Errno::EINVAL) => {}
            Err(errno) => return Err(fail(errno)),
        }
        let longest = (*LONG_MAX.start()..self.features.long_max).rev().find(|len| takes(*len).is_ok());
        let advice = match longest {
            // Entries of long names have 67 bytes whatever the option says.
            Some(longest) if longest > 66 => format!("--long-name-max {longest} keeps them within that"),
            _ => "choose a directory on another one, or --plaintext-names".to_owned(),
        };
        let line = format!(
            "the filesystem of {} does not take names of {} bytes, which encrypted names may have: {advice}",
            self.dir.display(),
            self.features.long_max
        );
        Err(Error::new(Kind::Failed, line))
    }
}

/// Calls `act` while a file `name` is there.
fn with_file<T>(dir: BorrowedFd<'_>, name: &str, act: impl FnOnce() -> OsResult<T>) -> OsResult<T> {
    let name = CString::new(name).map_err(|_| Errno::EINVAL)?;
    drop(at::open(dir, &name, at::Flags::WRITE.create_new(), 0o600)?);
    let answer = act();
    at::unlink(dir, &name)?;
    answer
}

/// What is in a directory: first what a crash of an earlier try has left, then all else.
fn entries(dir: &Path) -> Result<(Vec<OsString>, Vec<OsString>), Error> {
    let fail = |error: std::io::Error| Error::at(dir, Errno::of(&error));
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(fail)? {
        names.push(entry.map_err(fail)?.file_name());
    }
    names.sort();
    Ok(names.into_iter().partition(|name| {
        let bytes = name.as_bytes();
        let bare = bytes.strip_suffix(SCRATCH_SUFFIX.as_bytes());
        let scratch = bare.is_some_and(|bare| [CONF_NAME, DIRIV_NAME].iter().any(|name| bare == name.as_bytes()));
        // Nothing but the configuration comes after the number of the root.
        scratch || bytes == DIRIV_NAME.as_bytes() || bytes.starts_with(PROBE.as_bytes())
    }))
}

fn not_empty(dir: &Path, names: &[OsString]) -> String {
    let named: Vec<String> = names.iter().take(NAMED).map(|name| shown::escape(&name.clone().into_vec())).collect();
    let more = names.len().saturating_sub(NAMED);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    let advice = if names.iter().any(|name| name == "lost+found") {
        "use a directory below it, as gocryptfs takes lost+found for damage"
    } else {
        "a volume begins in an empty directory, and files are copied in through tierfs"
    };
    format!("{} is not empty ({}{more}): {advice}", dir.display(), named.join(", "))
}
