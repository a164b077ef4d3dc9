//! The policy that stands: the last good version of its file.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;

use super::uses::Used;
use crate::config::{MountConfig, OnWrite, load};
use crate::control::wire::What;
use crate::daemon::{CONFIG, Error, runs};
use crate::policy::{Policy, Promotion};

/// A file is taken for whole when it reads the same again after this.
const SETTLED_AFTER: Duration = Duration::from_millis(100);
/// One that keeps changing is looked at later.
const READS_MAX: usize = 20;

/// What the mount decides by.
#[derive(Debug)]
pub(in crate::daemon) struct Standing {
    path: Option<PathBuf>,
    tiers: u8,
    /// The option `on_write: promote`.
    on_write: bool,
    /// Held by the one that looks at the file; before `state`.
    looking: Mutex<()>,
    /// What must know a policy before it is in force.
    used: OnceLock<Arc<Used>>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    policy: Arc<Policy>,
    /// What the file held when it was last looked at, or why it could not be read.
    seen: Result<String, String>,
    /// Why the file as it is now is not in force.
    refused: Option<String>,
}

impl Standing {
    /// Reads the policy of the configuration, if there is one.
    ///
    /// # Errors
    /// What is wrong with it, and code 78: a mount does not begin with a policy nobody has checked.
    pub(in crate::daemon) fn load(config: &MountConfig) -> Result<Standing, Error> {
        let tiers = u8::try_from(config.tiers.len()).unwrap_or(u8::MAX);
        let on_write = config.options.on_write == OnWrite::Promote;
        let state = State { policy: Arc::default(), seen: Ok(String::new()), refused: None };
        let looking = Mutex::default();
        let (path, used, state) = (config.policy.clone(), OnceLock::new(), Mutex::new(state));
        let standing = Standing { path, tiers, on_write, looking, used, state };
        let seen = standing.read();
        let policy = standing.parse(&seen).map_err(|line| Error::new(CONFIG, line))?;
        *standing.state.lock() = State { policy, seen, refused: None };
        Ok(standing)
    }

    /// The policy in force.
    pub(in crate::daemon) fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.state.lock().policy)
    }

    /// From here on `used` knows each new policy before it is in force: no use after that is missed.
    pub(super) fn followed_by(&self, used: &Arc<Used>) {
        // There is one for each mount, and it starts once.
        let _already_set = self.used.set(Arc::clone(used));
    }

    /// Its file.
    pub(in crate::daemon) fn path(&self) -> Option<&PathBuf> {
        self.path.as_ref()
    }

    /// Why the file as it is now is not in force, if so.
    pub(in crate::daemon) fn refused(&self) -> Option<String> {
        self.state.lock().refused.clone()
    }

    /// Whether a file that is written moves up, whatever else `policy` promotes.
    pub(super) fn promotes_writes(&self, policy: &Policy) -> bool {
        self.on_write || policy.promote == Promotion::Write
    }

    /// What the file holds, not while somebody writes it, or why it cannot be read. It is in force from
    /// here on, if it is good.
    pub(in crate::daemon) fn settled(&self) -> Result<String, String> {
        self.refresh();
        self.state.lock().seen.clone()
    }

    /// Looks at the file. A good one is in force from here on, a bad one is refused with one line in the
    /// log.
    pub(super) fn refresh(&self) {
        if self.path.is_none() {
            return;
        }
        let _alone = self.looking.lock();
        let mut seen = self.read();
        if seen == self.state.lock().seen {
            return;
        }
        for _ in 0..READS_MAX {
            std::thread::sleep(SETTLED_AFTER);
            let again = self.read();
            if again == seen {
                return self.take(seen);
            }
            seen = again;
        }
    }

    fn take(&self, seen: Result<String, String>) {
        let parsed = self.parse(&seen);
        let mut state = self.state.lock();
        state.seen = seen;
        match parsed {
            Ok(policy) => {
                state.refused = None;
                // Whoever follows the old one goes on with it unless this is another.
                if state.policy != policy {
                    if let Some(used) = self.used.get() {
                        used.follow(&policy, self.promotes_writes(&policy));
                    }
                    state.policy = policy;
                }
                tracing::info!("the policy was read again and is in force");
            }
            Err(line) => {
                tracing::error!("{line} (the policy that was read before stays in force)");
                state.refused = Some(line);
            }
        }
    }

    fn read(&self) -> Result<String, String> {
        let Some(path) = &self.path else { return Ok(String::new()) };
        load::read(path).map_err(|line| format!("{}: {line}", path.display()))
    }

    fn parse(&self, text: &Result<String, String>) -> Result<Arc<Policy>, String> {
        let mut policy = match (&self.path, text) {
            (None, _) => Policy::default(),
            (Some(_), Err(line)) => return Err(line.clone()),
            (Some(path), Ok(text)) => {
                let policy = runs::parse(&path.display().to_string(), text).map_err(|problem| problem.line)?;
                policy.check_tiers(self.tiers).map_err(|line| format!("{}: {line}", path.display()))?;
                policy
            }
        };
        if self.on_write && policy.promote == Promotion::Never {
            policy.promote = Promotion::Write;
        }
        Ok(Arc::new(policy))
    }
}

/// Checks the policy that a configuration names, without mounting.
///
/// # Errors
/// One line with the place of the mistake.
pub fn check_policy(config: &MountConfig) -> Result<(), String> {
    let Some(path) = &config.policy else { return Ok(()) };
    let policy = runs::policy(&What::Configured, Some(path)).map_err(|problem| problem.line)?;
    let tiers = u8::try_from(config.tiers.len()).unwrap_or(u8::MAX);
    policy.check_tiers(tiers).map_err(|line| format!("{}: {line}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::sync::Weak;

    use super::*;
    use crate::daemon::auto::signal::Signal;
    use crate::union::uses::Observer;

    /// A file written between the word that a policy is in force and the next look of the thread was not promoted.
    #[test]
    fn regression_uses_count_as_soon_as_a_policy_is_in_force() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let state = State { policy: Arc::default(), seen: Ok(String::new()), refused: None };
        let (path, used, state) = (Some(file.path().to_owned()), OnceLock::new(), Mutex::new(state));
        let standing = Standing { path, tiers: 2, on_write: false, looking: Mutex::default(), used, state };
        let used = Arc::new(Used::new(Weak::new(), Arc::<Signal>::default()));
        standing.followed_by(&used);
        assert!(!used.is_wanted());
        std::fs::write(file.path(), "version: 1\npromote: {when: write}\n").unwrap();
        standing.settled().unwrap();
        assert!(used.is_wanted(), "{:?}", standing.refused());
    }
}
