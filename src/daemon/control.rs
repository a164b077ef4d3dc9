//! The running mount's answers to commands.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use super::gauges::Numbers;
use super::runs::{self, Engine};
use super::status::{self, Asked, Facts};
use super::turns::Turns;
use super::work::Trigger;
use super::{BUSY, CONFIG, Standing, probes, repairs};
use crate::control::server::{Peer, Server, Service};
use crate::control::wire::{Command, Info, Problem, Response, What};
use crate::control::{convert, place};
use crate::migrate;
use crate::tier::marker::Id;
use crate::union::Union;

/// Takes commands for this mount from here on. Without a socket the mount works as well, so what
/// is in the way is only logged.
pub(super) fn start(
    id: Id,
    (facts, asked): (&Arc<Facts>, &Arc<Asked>),
    union: &Arc<Union>,
    standing: &Arc<Standing>,
    turns: &Arc<Turns>,
    numbers: &Arc<Numbers>,
) -> Option<Server> {
    let service = Commands {
        union: Arc::clone(union),
        standing: Arc::clone(standing),
        turns: Arc::clone(turns),
        numbers: Arc::clone(numbers),
        engine: migrate::run,
        asked: Arc::clone(asked),
        facts: Arc::clone(facts),
    };
    match Server::start(&place::socket(&place::directory(), &id.to_string()), Arc::new(service)) {
        Ok(server) => {
            union.set_control(server.path().to_path_buf());
            Some(server)
        }
        Err(line) => {
            tracing::warn!("this mount takes no commands such as `tierfs migrate`: {line}");
            None
        }
    }
}

/// What the service needs.
#[derive(Debug)]
struct Commands {
    union: Arc<Union>,
    standing: Arc<Standing>,
    turns: Arc<Turns>,
    numbers: Arc<Numbers>,
    engine: Engine,
    asked: Arc<Asked>,
    facts: Arc<Facts>,
}

impl Commands {
    /// Puts the policy of the configuration in the place of its mention, as it was written and not while
    /// it is being written.
    fn configured(&self, what: &mut What) -> Result<(), String> {
        if let (What::Configured, Some(path)) = (&*what, self.standing.path()) {
            let text = self.standing.settled()?;
            *what = What::Policy { origin: convert::text(path.as_os_str().as_bytes()), text };
        }
        Ok(())
    }
}

impl Service for Commands {
    fn answer(&self, command: Command, peer: &mut Peer) -> Response {
        match command {
            Command::Info => Response::Info(Info {
                tiers: u8::try_from(self.union.tiers()).unwrap_or(u8::MAX),
                policy: self.standing.path().map(|path| convert::text(path.as_os_str().as_bytes())),
                refused: self.standing.refused(),
                running: self.turns.is_taken(),
            }),
            Command::Stats => Response::Stats(Box::new(self.numbers.snapshot())),
            Command::Status => {
                let (union, standing) = (&self.union, &self.standing);
                Response::Status(Box::new(status::told(&self.facts, &self.asked, union, standing, &self.turns)))
            }
            Command::Run(mut run) => {
                let Some(_turn) = self.turns.command(&mut || peer.is_wanted()) else { return at_work() };
                if let Err(line) = self.configured(&mut run.what) {
                    return Response::Error(Problem { code: CONFIG, line });
                }
                tracing::debug!(dry_run = run.dry_run, "a run begins");
                let trigger = if run.scheduled { Trigger::Schedule } else { Trigger::Command };
                self.turns.work.begin(runs::words(&run.what), trigger, run.dry_run);
                let last = runs::perform(
                    &self.union,
                    self.standing.path().map(PathBuf::as_path),
                    &run,
                    self.engine,
                    &mut |event| {
                        self.turns.work.note(&event);
                        peer.tell(event)
                    },
                );
                self.turns.work.end(&last);
                last
            }
            Command::Probe(probe) => {
                // A run has claims of its own, and an open of the file that it swaps would end its move.
                match self.turns.background() {
                    Some(_turn) => probes::perform(&self.union, &probe),
                    None => probes::busy(&self.union),
                }
            }
            Command::Repair(repair) => {
                // A move puts equal copies on two tiers on purpose.
                let Some(_turn) = self.turns.command(&mut || peer.is_wanted()) else { return at_work() };
                tracing::info!(items = repair.items.len(), "a repair begins");
                repairs::perform(&self.union, &repair, peer)
            }
        }
    }
}

fn at_work() -> Response {
    let line = "another run is at work on this mount: wait for it, or end it with Ctrl-C where it was started";
    Response::Error(Problem { code: BUSY, line: line.into() })
}

#[cfg(test)]
#[path = "control_tests.rs"]
pub(super) mod tests;
