//! Which tiers are there.
//!
//! The ranks that are not are kept in one word, which every request reads. Why and since when is for
//! whoever tells an administrator.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::SystemTime;

use parking_lot::Mutex;

use super::Union;
use crate::types::health::{Condition, Health};
use crate::types::ids::{Rank, Ranks};

/// The state of all tiers.
#[derive(Debug)]
pub(super) struct States {
    missing: AtomicU8,
    told: Mutex<Vec<Health>>,
}

impl States {
    /// At the beginning `missing` are not there.
    pub(super) fn new(tiers: usize, missing: Ranks) -> States {
        let since = SystemTime::now();
        let state = |rank: u8| {
            let gone = missing.has(Rank(rank));
            Health {
                condition: if gone { Condition::Missing } else { Condition::Serving },
                since,
                reason: if gone { "was not there when the mount began".into() } else { String::new() },
                times_gone: u64::from(gone),
            }
        };
        let told = (0u8..).take(tiers).map(state).collect();
        States { missing: AtomicU8::new(missing.0), told: Mutex::new(told) }
    }

    pub(super) fn missing(&self) -> Ranks {
        Ranks(self.missing.load(Ordering::SeqCst))
    }
}

impl Union {
    /// How each tier is, fastest first.
    pub fn health(&self) -> Vec<Health> {
        self.states.told.lock().clone()
    }

    /// The tiers that are not there: what they hold is EIO.
    pub fn missing(&self) -> Ranks {
        self.states.missing()
    }

    /// Whether a tier is missing.
    pub fn is_degraded(&self) -> bool {
        !self.missing().is_empty()
    }
}
