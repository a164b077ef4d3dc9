//! The plaintext of names that the view shows as a hash.
//!
//! A hash cannot be turned back: whoever asks for one has the whole directory looked through. What was found
//! is kept as long as the directory is open.

use std::collections::HashMap;

use parking_lot::Mutex;

use super::{Settings, settles_in};
use crate::crypt::{DirIv, Stored};
use crate::sys::clock;
use crate::tier::Dir;
use crate::types::attr::Time;
use crate::types::errno::Result;
use crate::types::name::Name;

/// The long names of one directory.
#[derive(Debug, Default)]
pub(super) struct LongNames(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// Entry in the view to plaintext.
    names: HashMap<Box<[u8]>, Box<[u8]>>,
    /// The times of the directory when these were all there are; nothing where that is not certain.
    as_of: Option<(Time, Time)>,
}

impl LongNames {
    /// The plaintext of `entry`, if a name in `dir` is shown so.
    ///
    /// # Errors
    /// What listing the directory says.
    pub(super) fn find(&self, settings: &Settings, dir: &dyn Dir, iv: &DirIv, entry: &[u8]) -> Result<Option<Name>> {
        {
            let known = self.0.lock();
            // What a name is called never changes; whether it is there, the caller sees.
            if let Some(plain) = known.names.get(entry) {
                return Name::new(plain).map(Some);
            }
            if known.as_of.is_some() && known.as_of == dir.stat(None)?.map(|stat| (stat.mtime, stat.ctime)) {
                return Ok(None);
            }
        }
        let mut found = Gathering::start(dir)?;
        let mut plain: Vec<Box<[u8]>> = Vec::new();
        dir.list(&mut |listed| {
            if listed.name.len() > settings.names().short_max() {
                plain.push(listed.name.into());
            }
        })?;
        for name in plain {
            if let Ok(Stored::Long { entry, .. }) = settings.names().encode(iv, &name) {
                found.add(&entry, &name);
            }
        }
        let name = found.names.get(entry).map(|plain| Name::new(plain)).transpose()?;
        self.keep(found);
        Ok(name)
    }

    /// Keeps what a whole listing found.
    pub(super) fn keep(&self, found: Gathering) {
        *self.0.lock() = Known { names: found.names, as_of: found.as_of };
    }
}

/// Long names while a directory is listed.
#[derive(Debug)]
pub(super) struct Gathering {
    names: HashMap<Box<[u8]>, Box<[u8]>>,
    as_of: Option<(Time, Time)>,
}

impl Gathering {
    /// Before the listing begins.
    pub(super) fn start(dir: &dyn Dir) -> Result<Gathering> {
        // A change in the same tick of the clock as the last would not show.
        let settled = dir.stat(None)?.filter(|stat| settles_in(stat, clock::now()).is_none());
        Ok(Gathering { names: HashMap::new(), as_of: settled.map(|stat| (stat.mtime, stat.ctime)) })
    }

    pub(super) fn add(&mut self, entry: &[u8], plain: &[u8]) {
        self.names.insert(entry.into(), plain.into());
    }
}
