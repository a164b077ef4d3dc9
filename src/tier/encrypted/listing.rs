//! Listings: names in plaintext, sizes of plaintext, and none of the files that make the volume.

use std::ops::ControlFlow;

use super::dir::EncryptedDir;
use crate::tier::{Found, Listed, Surveyed};
use crate::types::errno::Result;

impl EncryptedDir {
    /// An entry without a valid name is left out, and told of: it must not hide the others.
    pub(super) fn list_entries(&self, each: &mut dyn FnMut(Listed<'_>)) -> Result<()> {
        let Some(iv) = self.iv()? else { return Ok(()) };
        self.inner.list(&mut |found| match self.plain_name(&iv, found.name) {
            Ok(Some(name)) => each(Listed { name: name.as_bytes(), ..found }),
            Ok(None) => {}
            Err(why) => self.shared.teller.entry(self.inner.as_ref(), found.name, &why.to_string()),
        })
    }

    /// An entry without a valid name is passed with its error, under the name that it has in the storage.
    pub(super) fn survey_entries(&self, each: &mut dyn FnMut(Surveyed<'_>) -> ControlFlow<()>) -> Result<()> {
        let Some(iv) = self.iv()? else { return Ok(()) };
        self.inner.survey(&mut |found| match self.plain_name(&iv, found.name) {
            Ok(Some(name)) => {
                let what = found.what.map(|what| match what {
                    Found::File(stat) => Found::File(self.shared.plain_stat(stat, None)),
                    Found::Other(kind) => Found::Other(kind),
                });
                each(Surveyed { name: name.as_bytes(), what })
            }
            Ok(None) => ControlFlow::Continue(()),
            Err(why) => {
                self.shared.teller.entry(self.inner.as_ref(), found.name, &why.to_string());
                each(Surveyed { name: found.name, what: Err(why.errno()) })
            }
        })
    }

    /// Only what has no valid name. That of a directory without an IV is told by whoever lists it.
    pub(super) fn damaged_entries(&self, each: &mut dyn FnMut(&[u8], String)) -> Result<()> {
        let Ok(Some(iv)) = self.iv() else { return Ok(()) };
        self.inner.list(&mut |found| {
            if let Err(why) = self.plain_name(&iv, found.name) {
                each(found.name, why.to_string());
            }
        })
    }
}
