//! Promotes files that were used, some at a time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::background::{Background, Ran};
use super::uses::{Due, Used};
use crate::daemon::runs;
use crate::migrate::{Event, Skip, Stop, What};
use crate::policy::Policy;
use crate::types::attr::Time;
use crate::types::path::UnionPath;
use crate::union::Union;

/// Between two runs: files that are used together move together, and each run is written down.
const SPACING: Duration = Duration::from_secs(2);

/// Files of one run.
const FILES_MAX: usize = 1024;

/// While a tier is away it is looked this often whether it is back.
const AWAY_NAP: Duration = Duration::from_secs(3);

/// Nothing to wait for.
const NEVER: Duration = Duration::from_secs(3600);

pub(super) struct Promoter {
    used: Arc<Used>,
    /// When the next run may begin.
    after: Instant,
}

impl Promoter {
    pub(super) fn new(used: Arc<Used>) -> Promoter {
        Promoter { used, after: Instant::now() }
    }

    /// Promotes what is due. How long until there may be more to do.
    pub(super) fn go(&mut self, background: &Background, policy: &Policy) -> Duration {
        let wait = self.after.saturating_duration_since(Instant::now());
        if !wait.is_zero() {
            return if self.used.next().is_some() { wait } else { NEVER };
        }
        // With a tier away nothing moves, and what was used is still due when it is back.
        if background.union.may_move().is_err() {
            return self.used.next().map_or(NEVER, |_| AWAY_NAP);
        }
        let mut files: HashMap<UnionPath, Due> = HashMap::new();
        for (path, due) in self.used.take(FILES_MAX) {
            if due.changed_since.is_none_or(|since| has_changed(&background.union, &path, since)) {
                files.insert(path, due);
            }
        }
        if files.is_empty() {
            return self.used.next().map_or(NEVER, |at| self.used.until(at));
        }
        self.after = Instant::now() + SPACING;
        self.promote(background, policy, files);
        SPACING
    }

    fn promote(&self, background: &Background, policy: &Policy, mut files: HashMap<UnionPath, Due>) {
        let paths = files.keys().cloned().collect();
        let mut in_use = Vec::new();
        let ran = background.run(What::Promote(Box::new(policy.clone())), paths, policy, &mut |event| match event {
            Event::Moved { path, bytes, .. } => {
                let program = files.remove(path).and_then(|due| due.program);
                background.turns.work.recalled(program.as_deref(), *bytes);
            }
            Event::Failed { path, .. } => drop(files.remove(path)),
            Event::Skipped { path, why } => {
                let due = files.remove(path);
                in_use.extend(due.filter(|_| *why == Skip::InUse).map(|due| (path.clone(), due)));
                tracing::debug!(%path, "not promoted: {}", runs::skip(*why));
            }
            Event::Scanned { .. } | Event::Planned { .. } | Event::Copied { .. } => {}
        });
        in_use.into_iter().for_each(|(path, due)| self.used.put_back(path, due, true));
        let unfinished = match ran {
            Ran::NotNow => true,
            Ran::Done(summary) => matches!(summary.stopped, Some(Stop::Interrupted | Stop::Limit)),
            Ran::Broken => false,
            Ran::Not(error) => {
                tracing::warn!("used files are not promoted: {}", runs::failed(error).line);
                false
            }
        };
        if unfinished {
            files.into_iter().for_each(|(path, due)| self.used.put_back(path, due, false));
        }
    }
}

/// Whether a file has changed in any way since then, by the storage's own account.
fn has_changed(union: &Union, path: &UnionPath, since: Time) -> bool {
    let Some((dir, name)) = path.split() else { return false };
    let subject = union.walk(&dir).and_then(|dir| Ok(union.subject(&dir, &name)?.map(|subject| subject.stat.ctime)));
    matches!(subject, Ok(Some(ctime)) if ctime >= since)
}
