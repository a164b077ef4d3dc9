//! A run that nobody has asked for.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::signal::Signal;
use crate::control::wire::{Problem, Response};
use crate::daemon::runs::{self, Engine};
use crate::daemon::turns::Turns;
use crate::daemon::work::Trigger;
use crate::daemon::{FAILED, hours};
use crate::migrate::{Error, Event, Go, Request, Summary, What};
use crate::policy::{Limits, Order, Policy};
use crate::types::path::UnionPath;
use crate::union::Union;

/// What every run of the thread needs.
pub(super) struct Background {
    pub union: Arc<Union>,
    pub turns: Arc<Turns>,
    pub signal: Arc<Signal>,
    pub engine: Engine,
}

/// How it went.
pub(super) enum Ran {
    /// Another run is at work or waits, or the window of the policy is closed.
    NotNow,
    /// To its end, or to where it gave way or met a limit.
    Done(Summary),
    /// It could not be made.
    Not(Error),
    /// It panicked, which is a bug and has been told.
    Broken,
}

impl Background {
    /// Under what limits a run may begin now; `None` outside of the policy's window.
    pub(super) fn allowance(&self, policy: &Policy) -> Option<Limits> {
        if policy.window.is_none() {
            return Some(policy.limits);
        }
        policy.allowance(hours::now()?)
    }

    /// Makes a run by the limits of this moment, which gives way to commands.
    pub(super) fn run(
        &self,
        what: What,
        paths: Vec<UnionPath>,
        policy: &Policy,
        tell: &mut (dyn FnMut(&Event) + Send),
    ) -> Ran {
        // Asked now, since the run before this one may have taken hours.
        let Some(limits) = self.allowance(policy) else { return Ran::NotNow };
        let Some(_turn) = self.turns.background() else { return Ran::NotNow };
        let request = Request {
            what,
            paths,
            limits,
            until_free_percent: None,
            order: Order::Tree,
            verify: policy.verify,
            errors_max: policy.suspend_on_errors,
            dry_run: false,
        };
        let work = &self.turns.work;
        let trigger = if matches!(request.what, What::Promote(_)) { Trigger::Use } else { Trigger::Watermark };
        work.begin(request.what.to_string(), trigger, false);
        let mut on = |event| {
            tell(&event);
            work.note(&runs::told(event.clone()));
            if let Event::Failed { path, errno, during } = &event {
                tracing::warn!(%path, during, "a file cannot be moved: {errno}");
            }
            if self.turns.must_give_way() || self.signal.is_stopped() { Go::Stop } else { Go::On }
        };
        // It costs this run, and not the thread without which no other would be made.
        let engine = AssertUnwindSafe(|| (self.engine)(&self.union, &request, &mut on));
        let Ok(ran) = catch_unwind(engine) else {
            tracing::error!("{}: failed inside tierfs: please report this", request.what);
            let line = "it failed inside tierfs: please report this".into();
            work.end(&Response::Error(Problem { code: FAILED, line }));
            return Ran::Broken;
        };
        match ran {
            Ok(summary) => {
                work.end(&Response::Done(runs::summed(summary.clone())));
                Ran::Done(summary)
            }
            Err(error) => {
                work.end(&Response::Error(runs::failed(error.clone())));
                Ran::Not(error)
            }
        }
    }
}
