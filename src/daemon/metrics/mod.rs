//! Numbers for Prometheus: answers on a port of this machine, and a file for node_exporter.
//!
//! `page.rs` is what is told, `http.rs` the port. One thread asks the tiers how they are, when somebody
//! wants to know; whoever asks is told what was known last if that takes long.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::Standing;
use super::gauges::Numbers;
use super::status::{self, Asked, Facts};
use super::turns::Turns;
use crate::config::Metrics;
use crate::control::status::Status;

mod http;
mod page;

/// What the tiers said so recently is told again.
const FRESH: Duration = Duration::from_secs(1);

/// How long whoever asks waits for the tiers; longer where nothing was ever known.
const PATIENCE: Duration = Duration::from_millis(300);
const FIRST_PATIENCE: Duration = Duration::from_secs(3);

/// Whoever serves the numbers of a mount, until dropped.
#[derive(Debug)]
pub(super) struct Exporter {
    source: Arc<Source>,
    thread: Option<JoinHandle<()>>,
    port: Option<http::Port>,
    file: Option<PathBuf>,
}

/// Where the numbers come from.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) numbers: Arc<Numbers>,
    pub(super) standing: Arc<Standing>,
    pub(super) turns: Arc<Turns>,
    pub(super) facts: Arc<Facts>,
    pub(super) asked: Arc<Asked>,
    pub(super) known: Known,
}

/// What is known of the tiers.
#[derive(Debug, Default)]
pub(super) struct Known {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    wanted: bool,
    ended: bool,
    status: Option<(Arc<Status>, Instant)>,
}

impl Exporter {
    /// Begins to serve what the configuration asks for; nothing where it asks for nothing. What is in the
    /// way is only logged: the files matter more than their numbers.
    pub(super) fn start(config: &Metrics, source: Source) -> Option<Exporter> {
        if config.listen.is_none() && config.textfile.is_none() {
            return None;
        }
        let source = Arc::new(source);
        let (asking, file, every) = (Arc::clone(&source), config.textfile.clone(), config.every);
        let thread = Builder::new().name("metrics".into()).spawn(move || asking.look(file.as_deref(), every));
        if let Err(error) = &thread {
            tracing::warn!("no metrics are served: {error}");
        }
        let thread = Some(thread.ok()?);
        let of = Arc::clone(&source);
        let port = config.listen.and_then(|listen| http::Port::start(listen, move || of.page()));
        Some(Exporter { source, thread, port, file: config.textfile.clone() })
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        drop(self.port.take());
        self.source.known.end();
        if let Some(thread) = self.thread.take() {
            // A panic there has been told, and the mount ends anyway.
            let _ended = thread.join();
        }
        if let Some(file) = &self.file {
            // What is no longer counted must not look as if nothing happened.
            let _absent = std::fs::remove_file(file);
        }
    }
}

impl Known {
    fn end(&self) {
        self.state.lock().ended = true;
        self.changed.notify_all();
    }

    /// Waits until somebody wants to know or `until`; `None` at the end, else whether it is wanted.
    fn wait(&self, until: Option<Instant>) -> Option<bool> {
        let mut state = self.state.lock();
        while !state.ended && !state.wanted {
            match until {
                Some(until) if self.changed.wait_until(&mut state, until).timed_out() => break,
                Some(_) => {}
                None => self.changed.wait(&mut state),
            }
        }
        (!state.ended).then_some(state.wanted)
    }

    fn put(&self, mut status: Status) {
        let mut state = self.state.lock();
        if let Some((before, _)) = &state.status {
            // How full a tier was that does not tell now.
            for (tier, before) in status.tiers.iter_mut().zip(&before.tiers) {
                tier.space = tier.space.or(before.space);
                tier.own = tier.own.or(before.own);
            }
        }
        state.status = Some((Arc::new(status), Instant::now()));
        state.wanted = false;
        drop(state);
        self.changed.notify_all();
    }

    /// What is known, as new as can be had without a long wait.
    fn get(&self) -> Option<Arc<Status>> {
        let mut state = self.state.lock();
        if state.status.as_ref().is_none_or(|(_, at)| at.elapsed() >= FRESH) {
            state.wanted = true;
            self.changed.notify_all();
            let patience = if state.status.is_some() { PATIENCE } else { FIRST_PATIENCE };
            let until = Instant::now() + patience;
            while state.wanted && !state.ended && !self.changed.wait_until(&mut state, until).timed_out() {}
        }
        state.status.as_ref().map(|(status, _)| Arc::clone(status))
    }
}

impl Source {
    /// The thread: asks the tiers, and writes the file when its time has come.
    fn look(&self, file: Option<&Path>, every: Duration) {
        let mut due = file.map(|_| Instant::now());
        let mut failed = false;
        while self.known.wait(due).is_some() {
            self.known.put(status::told(&self.facts, &self.asked, &self.numbers.union, &self.standing, &self.turns));
            let (Some(file), true) = (file, due.is_some_and(|due| due <= Instant::now())) else { continue };
            due = Some(Instant::now() + every);
            match write(file, &self.page()) {
                Ok(()) => failed = false,
                // Once, and again after it has worked.
                Err(error) if !std::mem::replace(&mut failed, true) => {
                    tracing::warn!("metrics cannot be written to {}: {error}", file.display());
                }
                Err(_) => {}
            }
        }
    }

    /// Everything, as Prometheus reads it.
    fn page(&self) -> String {
        page::render(self.facts.mountpoint(), &self.numbers.snapshot(), self.known.get().as_deref())
    }
}

/// Replaces the file as a whole, for everybody to read.
fn write(file: &Path, text: &str) -> std::io::Result<()> {
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Not `*.prom`, which node_exporter would read half written.
    let mut new = tempfile::Builder::new().prefix(".tierfs-").suffix(".new").tempfile_in(dir)?;
    new.write_all(text.as_bytes())?;
    new.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
    new.persist(file)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_replaced_as_a_whole_and_can_be_read_by_everybody() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tierfs.prom");
        for text in ["a 1\n", "a 2\n"] {
            write(&file, text).unwrap();
            assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
        }
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left over");
        assert!(write(&dir.path().join("absent/x.prom"), "").is_err());
    }

    #[test]
    fn whoever_asks_is_let_go_when_the_mount_ends() {
        let known = Known::default();
        assert_eq!(known.wait(Some(Instant::now())), Some(false));
        std::thread::scope(|scope| {
            let asks = scope.spawn(|| known.get());
            assert_eq!(known.wait(None), Some(true));
            known.end();
            assert!(asks.join().unwrap().is_none(), "nothing was ever known");
        });
        assert_eq!(known.wait(None), None);
    }
}
