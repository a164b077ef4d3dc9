//! Where a tier is and how what is there is read; and its root, opened before anything is known of it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::directory::{Announce, DirectoryTier, Known, News};
use super::marker::verify::Found;
use super::marker::{self, Marker};
use super::{Dir, Tier};
use crate::sys::durable;
use crate::types::errno::{Errno, Result};
use crate::types::path::UnionPath;

/// Where a tier is.
#[derive(Debug, Clone)]
pub struct Place {
    /// Its root directory.
    pub path: PathBuf,
}

impl Place {
    /// A directory that holds the files as they are.
    pub fn plain(path: PathBuf) -> Place {
        Place { path }
    }

    /// Whether what is there is ciphertext.
    pub fn is_encrypted(&self) -> bool {
        false
    }

    /// Where on the local machine a path of the union is, if it is on this tier.
    pub fn real_path(&self, path: &UnionPath) -> PathBuf {
        if path.is_root() { self.path.clone() } else { self.path.join(path.as_os_str()) }
    }

    /// What is there, without keeping it open.
    pub fn look(&self) -> Found {
        let root = Root::open(self);
        Found::look(&self.path, root.as_ref().map_err(|errno| *errno))
    }
}

/// The root of a tier, opened.
#[derive(Debug)]
pub struct Root {
    path: PathBuf,
    fd: OwnedFd,
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
        Ok(Root { path: place.path.clone(), fd, dir: nameless.root() })
    }

    /// The directory as the union sees it.
    pub fn dir(&self) -> &dyn Dir {
        self.dir.as_ref()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
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
        let tier = DirectoryTier::new(view.unwrap_or(&self.fd), self.path.clone(), known, announce)?;
        Ok(Arc::new(tier))
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
