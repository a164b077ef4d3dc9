//! Where a tier is and how what is there is read; and its root, opened before anything is known of it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::directory::{Announce, DirectoryTier, Known, News};
use super::encrypted::EncryptedTier;
use super::marker::verify::{Found, What};
use super::marker::{self, Broken, Marker};
use super::{Dir, Tier};
use crate::crypt::features::{Features, NameMode};
use crate::crypt::names::{CONF_NAME, DIRIV_NAME, NAME_SUFFIX};
use crate::crypt::volume::Volume;
use crate::sys::durable;
use crate::types::errno::{Errno, Result};
use crate::types::name::{Name, PRIVATE_DIR};
use crate::types::path::UnionPath;

/// Where a tier is.
#[derive(Debug, Clone)]
pub struct Place {
    /// Its root directory.
    pub path: PathBuf,
    /// How what is there is read.
    pub form: Form,
}

/// How what is in a tier's root is read.
#[derive(Debug, Clone)]
pub enum Form {
    /// The files are there as they are.
    Plain,
    /// It holds ciphertext of this volume.
    Encrypted(Arc<Volume>),
    /// It is to hold ciphertext, and nobody has unlocked it: nothing in it can be read.
    Locked,
}

/// Why the ciphertext of a volume is not taken for files.
const NO_SECTION: &str = "is an encrypted volume (it holds gocryptfs.conf or gocryptfs.diriv): give it a section `encryption:` in the \
                          configuration file, and name that file";

/// Why files in clear are not taken for ciphertext.
const IN_CLEAR: &str = "holds files in clear (it has a .tierfs of a plain tier), and has a section `encryption:`: move \
                        its files to an encrypted tier with `tierfs migrate`, or take the section away";

/// Why a volume is not taken whose configuration was changed.
const CHANGED: &str = "was changed since it was made: names would be written in clear, or so that nobody finds them. \
                       Put the right gocryptfs.conf back from a copy, or make it again with `tierfs key restore`";

/// Why a volume is not taken whose files do not open with its key.
const OF_ANOTHER: &str = "is that of another volume, or was changed since it was made. Put the right gocryptfs.conf back \
                          from a copy, or make it again with `tierfs key restore`";

/// Why a volume is not taken none of whose names can be read.
const NO_DIRIV: &str = "has lost its gocryptfs.diriv, without which no name in it can be read: put that file back from a \
                        backup";

impl Place {
    /// A directory that holds the files as they are.
    pub fn plain(path: PathBuf) -> Place {
        Place { path, form: Form::Plain }
    }

    /// Whether what is there is ciphertext.
    pub fn is_encrypted(&self) -> bool {
        !matches!(self.form, Form::Plain)
    }

    /// Where on the local machine a path of the union is, if it is on this tier. Of ciphertext that cannot be
    /// followed to its end, as far as it can be.
    pub fn real_path(&self, path: &UnionPath) -> PathBuf {
        let names: Vec<Name> = path.names().collect();
        if !self.is_encrypted() {
            return names.iter().fold(self.path.clone(), |path, name| path.join(name.as_os_str()));
        }
        let tier = Root::open(self).and_then(|root| root.read(Known::default()));
        let as_far = |tier: Arc<dyn Tier>| {
            (0..=names.len()).rev().find_map(|len| tier.real_path(names.get(..len).unwrap_or_default()).ok())
        };
        tier.ok().and_then(as_far).unwrap_or_else(|| self.path.clone())
    }

    /// Whether a path of the union is on this tier. What cannot be looked at may be.
    pub fn has(&self, path: &UnionPath) -> bool {
        let found = || -> Result<bool> {
            let mut dir = Root::open(self)?.read(Known::default())?.root();
            let Some((above, name)) = path.split() else { return Ok(true) };
            for name in above.names() {
                dir = dir.open_dir(&name)?;
            }
            Ok(dir.stat(Some(&name))?.is_some())
        };
        !matches!(found(), Ok(false) | Err(Errno::ENOENT | Errno::ENOTDIR))
    }

    /// What is there, without keeping it open.
    pub fn look(&self) -> Found {
        let root = Root::open(self);
        Found::look(&self.path, root.as_ref().map_err(|errno| *errno))
    }

    /// What is in `outside`, the directory as it is.
    fn within(&self, outside: DirectoryTier) -> Arc<dyn Tier> {
        match &self.form {
            Form::Plain | Form::Locked => Arc::new(outside),
            Form::Encrypted(volume) => {
                Arc::new(EncryptedTier::new(Arc::new(outside), Arc::clone(volume), self.path.clone()))
            }
        }
    }
}

/// The root of a tier, opened.
#[derive(Debug)]
pub struct Root {
    place: Place,
    fd: OwnedFd,
    /// What is in it, as it is there.
    outside: Arc<dyn Dir>,
    /// What is in it, as the union sees it. The numbers of bodies are not those of the mount.
    dir: Arc<dyn Dir>,
}

impl Root {
    /// Opens it. Symbolic links on the way to it are the administrator's and are followed.
    ///
    /// # Errors
    /// ENOTDIR for anything but a directory, and what `open(2)` says.
    pub fn open(place: &Place) -> Result<Root> {
        let fd = durable::open_root(&place.path)?;
        let nameless = DirectoryTier::new(&fd, place.path.clone(), Known::default(), refusing())?;
        let outside = nameless.root();
        Ok(Root { place: place.clone(), fd, outside, dir: place.within(nameless).root() })
    }

    /// The directory as the union sees it.
    pub fn dir(&self) -> &dyn Dir {
        self.dir.as_ref()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.place.path
    }

    /// What the volume is made with whose ciphertext is here.
    pub fn features(&self) -> Option<Features> {
        match &self.place.form {
            Form::Encrypted(volume) => Some(*volume.features()),
            Form::Plain | Form::Locked => None,
        }
    }

    /// What is there.
    pub fn look(&self) -> What {
        let looked = match &self.place.form {
            Form::Plain => self.look_plainly(),
            Form::Encrypted(volume) => self.look_into(volume.features()),
            Form::Locked => self.look_from_outside(),
        };
        looked.unwrap_or_else(|errno| What::Broken(Broken::Os(errno)))
    }

    fn marker(&self) -> What {
        match marker::read(self.dir()) {
            Ok(None) => What::NoMarker,
            Ok(Some(marker)) => What::Marker(marker),
            Err(broken) => What::Broken(broken),
        }
    }

    /// A marker in clear says that files are here as they are, and then one may be called gocryptfs.conf.
    fn look_plainly(&self) -> Result<What> {
        match self.marker() {
            What::NoMarker | What::Broken(_) if self.has(CONF_NAME)? || self.has(DIRIV_NAME)? => {
                Ok(What::Misfit(NO_SECTION.into()))
            }
            other => Ok(other),
        }
    }

    fn look_from_outside(&self) -> Result<What> {
        if self.has(CONF_NAME)? || self.has(DIRIV_NAME)? {
            return Ok(What::Locked);
        }
        Ok(if self.has(PRIVATE_DIR)? { What::Misfit(IN_CLEAR.into()) } else { What::NoVolume })
    }

    /// The configuration of a volume is not authenticated: who can write it could have names written in clear,
    /// or have tierfs take a tier for a new one whose marker it does not find by its name.
    fn look_into(&self, features: &Features) -> Result<What> {
        let has_iv = self.has(DIRIV_NAME)?;
        match features.names {
            NameMode::Encrypted { .. } if self.has(PRIVATE_DIR)? => return Ok(What::Misfit(IN_CLEAR.into())),
            NameMode::Encrypted { dir_iv: true } if !has_iv => {
                let is_there = self.has(CONF_NAME)?;
                return Ok(if is_there { What::Misfit(NO_DIRIV.into()) } else { What::NoVolume });
            }
            NameMode::Plain | NameMode::Encrypted { dir_iv: false } if has_iv => {
                return Ok(What::Misfit(format!(
                    "has gocryptfs.diriv, but by its gocryptfs.conf it must not: that {CHANGED}"
                )));
            }
            NameMode::Plain | NameMode::Encrypted { .. } => {}
        }
        match self.marker() {
            // Reading it says so where it is damaged, or sealed with another key.
            What::Broken(Broken::Os(Errno::EIO)) => {
                let line =
                    "has a .tierfs/marker that does not open with its gocryptfs.conf: if that is not damaged, it";
                Ok(What::Misfit(format!("{line} {OF_ANOTHER}")))
            }
            What::Marker(marker) if marker.volume != Some(*features) => {
                let then = marker.volume.map_or_else(|| "no volume".into(), |then| then.to_string());
                Ok(What::Misfit(format!("is a tier of {then}, but its gocryptfs.conf says {features}: that {CHANGED}")))
            }
            What::NoMarker if self.is_foreign()? => {
                Ok(What::Misfit(format!("holds no name that opens with its gocryptfs.conf: this {OF_ANOTHER}")))
            }
            other => Ok(other),
        }
    }

    /// Whether there are entries, and none has a valid name.
    fn is_foreign(&self) -> Result<bool> {
        // Not by a listing, which tells of each such name.
        let (mut damaged, mut all) = (0_usize, 0_usize);
        self.dir.list_damaged(&mut |_, _| damaged += 1)?;
        self.outside.list(&mut |found| {
            let own = found.name == CONF_NAME.as_bytes() || found.name == DIRIV_NAME.as_bytes();
            all += usize::from(!own && !found.name.ends_with(NAME_SUFFIX.as_bytes()));
        })?;
        Ok(damaged > 0 && damaged >= all)
    }

    fn has(&self, name: &str) -> Result<bool> {
        Ok(self.outside.stat(Some(&Name::new(name.as_bytes())?))?.is_some())
    }

    /// Whether tierfs's own directory is there, which its owner alone may read.
    ///
    /// # Errors
    /// EACCES for others; what the tier says.
    pub fn list_own(&self) -> Result<bool> {
        let dir = marker::own_dir(self.dir())?;
        dir.map(|dir| dir.descriptor()).transpose().map(|dir| dir.is_some())
    }

    /// Takes the lock that keeps other mounts and runs out, waiting for another's no longer than `patience`.
    /// `None` if it is still held then.
    ///
    /// # Errors
    /// ENOENT where the directory is no tier; what opening and `flock(2)` say.
    pub fn lock(&self, patience: Duration) -> Result<Option<durable::Lock>> {
        let dir = marker::own_dir(self.dir())?.ok_or(Errno::ENOENT)?;
        durable::lock(dir.descriptor()?, patience)
    }

    /// Keeps others from making the directory a tier meanwhile, waiting for another's lock no longer than
    /// `patience`. `None` if it is still held then. Whoever holds this may wait for [`Root::lock`], and nobody
    /// waits the other way round.
    ///
    /// # Errors
    /// What duplicating a descriptor and `flock(2)` say.
    pub fn lock_to_adopt(&self, patience: Duration) -> Result<Option<durable::Lock>> {
        durable::lock(durable::open_again(&self.fd)?, patience)
    }

    /// The tier, to be served: what it announces is written to its marker. It is reached through `view`,
    /// where there is another view of its mount.
    ///
    /// # Errors
    /// What `statx(2)` says of the root.
    pub fn serve(&self, view: Option<&OwnedFd>, marker: &Marker) -> Result<Arc<dyn Tier>> {
        let root = Arc::clone(&self.dir);
        let announce = Box::new(move |news: News| {
            marker::announce(root.as_ref(), |marker| match news {
                News::Stamps => Marker { stamps: true, ..marker },
                News::Given(since) => Marker { given: Some(since), ..marker },
            })
        });
        self.tier(view, marker.known(), announce)
    }

    /// The tier, only to be read. Without what its marker says the numbers of its bodies are not those of
    /// the mount.
    ///
    /// # Errors
    /// What `statx(2)` says of the root.
    pub fn read(&self, known: Known) -> Result<Arc<dyn Tier>> {
        self.tier(None, known, refusing())
    }

    fn tier(&self, view: Option<&OwnedFd>, known: Known, announce: Box<Announce>) -> Result<Arc<dyn Tier>> {
        let outside = DirectoryTier::new(view.unwrap_or(&self.fd), self.place.path.clone(), known, announce)?;
        Ok(self.place.within(outside))
    }
}

impl AsFd for Root {
    /// The directory itself, whatever is in it.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn refusing() -> Box<Announce> {
    Box::new(|_| Err(Errno::EROFS))
}
