//! From a passphrase to a key.

use crate::crypt::conf::{ConfProblem, Unlock};
use crate::sys::secret::Secret;

/// The work that scrypt does for each try of a passphrase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScryptCost {
    /// Base-2 logarithm of N.
    pub log_n: u8,
    /// Width of a block.
    pub r: u32,
    /// Passes, one after the other.
    pub p: u32,
}

/// What gocryptfs asks for at least.
const LOG_N_MIN: u8 = 10;
const R_MIN: u32 = 8;

/// Whoever may edit the file could otherwise keep the machine busy or out of memory for good.
const LOG_N_MAX: u8 = 28;
const MEMORY_MAX: u64 = 64 << 30;
const WORK_MAX: u64 = 256 << 30;

impl ScryptCost {
    /// What gocryptfs uses: 64 MiB, about a seventh of a second.
    pub const DEFAULT: ScryptCost = ScryptCost { log_n: 16, r: 8, p: 1 };

    /// The default with another N.
    pub fn with_log_n(log_n: u8) -> Result<ScryptCost, ConfProblem> {
        let cost = ScryptCost { log_n, ..ScryptCost::DEFAULT };
        cost.check()?;
        Ok(cost)
    }

    /// Refuses what is below what gocryptfs takes and what no one waits for.
    pub fn check(&self) -> Result<(), ConfProblem> {
        let refuse = |what: String| Err(ConfProblem::Value(what));
        if !(LOG_N_MIN..=LOG_N_MAX).contains(&self.log_n) {
            return refuse(format!("scrypt's N is 2^{}; allowed are 2^{LOG_N_MIN} to 2^{LOG_N_MAX}", self.log_n));
        }
        if self.r < R_MIN || self.p < 1 {
            return refuse(format!(
                "scrypt's R and P are {} and {}; at least {R_MIN} and 1 are needed",
                self.r, self.p
            ));
        }
        let work = self.memory().checked_mul(u64::from(self.p)).filter(|work| *work <= WORK_MAX);
        if self.memory() > MEMORY_MAX || work.is_none() {
            return refuse(format!(
                "scrypt's cost (N 2^{}, R {}, P {}) is too large to be meant",
                self.log_n, self.r, self.p
            ));
        }
        Ok(())
    }

    /// Bytes of memory that one try takes.
    pub fn memory(&self) -> u64 {
        (128u64 << self.log_n.min(40)).saturating_mul(u64::from(self.r))
    }
}

/// The key that follows from a passphrase. Asks first whether there is memory for it.
pub(super) fn derive(passphrase: &Secret, salt: &[u8], cost: ScryptCost) -> Result<Secret, Unlock> {
    let wrong = |_| Unlock::System(crate::types::errno::Errno::EINVAL);
    let params = scrypt::Params::new(cost.log_n, cost.r, cost.p).map_err(|_| wrong(()))?;
    if let Some(available) = crate::sys::limits::memory_available()
        && cost.memory() > available
    {
        return Err(Unlock::Memory { needed: cost.memory(), available });
    }
    let mut key = Secret::zeroed(32);
    scrypt::scrypt(passphrase.as_slice(), salt, &params, key.as_mut_slice()).map_err(|_| wrong(()))?;
    Ok(key)
}
