//! The hours in which runs may work, by the clock of this machine.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::control::convert;
use crate::control::wire::{self, What};
use crate::policy::window::{Closed, LocalTime, Weekday};
use crate::sys::clock;

/// The moment of the week; `None` where it cannot be told.
pub fn now() -> Option<LocalTime> {
    let (day, second) = clock::local(clock::now())?;
    let day = *Weekday::ALL.get(usize::try_from(day).ok()?)?;
    Some(LocalTime { day, second })
}

/// A closed window for whoever asked for a run by `what`.
pub(super) fn told(closed: Closed, what: &What, configured: Option<&Path>) -> wire::Closed {
    let origin = match (what, configured) {
        (What::Policy { origin, .. }, _) => origin.clone(),
        (_, Some(path)) => convert::text(path.as_os_str().as_bytes()),
        (_, None) => convert::text(b"the policy"),
    };
    wire::Closed { window: closed.window, origin, opens: closed.opens.to_string(), wait: closed.wait }
}
