//! What the commands that make views have in common.

use std::cell::Cell;
use std::ffi::OsString;
use std::path::Path;

use clap::{ArgAction, Args};

use crate::cli::exit::{Exit, Failure, Outcome};
use crate::cli::passphrase;
use crate::config::options::Options;
use crate::config::view::{self, ViewOptions};
use crate::config::{Draft, Error as ConfigError};
use crate::crypt::{Conf, MasterKey};
use crate::daemon::Error;
use crate::daemon::views::{self, View};
use crate::keys;
use crate::log;
use crate::sys::process::{self, Forked, Teller};
use crate::sys::secret;
use crate::types::passphrase::Source;

/// How a view is run and mounted.
#[derive(Debug, Args)]
pub struct Running {
    /// Options as in /etc/fstab: allow_other, fsname=NAME, threads=N
    #[arg(short = 'o', value_name = "OPTION[=VALUE],...", action = ArgAction::Append)]
    options: Vec<OsString>,
    /// Stay in the foreground, and log to standard error
    #[arg(short = 'f', long)]
    foreground: bool,
    /// Log more: -v what happens, -vv why, -vvv everything
    #[arg(short = 'v', long, action = ArgAction::Count)]
    verbose: u8,
}

impl Running {
    /// The words of `-o` over what a file says.
    ///
    /// # Errors
    /// A word that a view has not.
    pub fn options(&self, file: ViewOptions) -> Result<ViewOptions, ConfigError> {
        let words = Options::new(self.options.iter().map(OsString::as_os_str));
        let mut draft = Draft::default();
        words.apply(&mut draft)?;
        let given = view::options(draft)?;
        Ok(ViewOptions {
            allow_other: given.allow_other || file.allow_other,
            fsname: given.fsname.or(file.fsname),
            threads: given.threads.or(file.threads),
        })
    }

    /// Opens and serves, in the background unless it is to stay. Whoever must be asked for a passphrase is
    /// asked before that.
    ///
    /// # Errors
    /// Why it does not serve.
    pub fn run(&self, open: impl FnOnce() -> Result<View, Error>) -> Outcome {
        log::start(self.verbose).map_err(|line| Failure::new(Exit::Usage, line))?;
        let view = open().map_err(failure)?;
        if self.foreground {
            let outcome = serve(&view, log::queue);
            log::flush();
            return outcome;
        }
        match process::background() {
            Err(errno) => Err(Failure::error(format!("going to the background: {errno}"))),
            Ok(Forked::Parent(told)) if told.code == 0 => Ok(Exit::Ok),
            Ok(Forked::Parent(told)) => Err(Failure { line: told.line, code: told.code }),
            Ok(Forked::Child(teller)) => {
                secret::lock_again();
                in_background(&view, teller)
            }
        }
    }
}

fn failure(error: Error) -> Failure {
    Failure { line: error.line, code: error.code }
}

fn serve(view: &View, ready: impl FnOnce()) -> Outcome {
    views::serve(view, ready).map(|()| Exit::Ok).map_err(failure)
}

/// What fails before it serves goes to the parent, what fails later to the log.
fn in_background(view: &View, teller: Teller) -> Outcome {
    let teller = Cell::new(Some(teller));
    let outcome = serve(view, || {
        log::detach();
        if let Some(Err(errno)) = teller.take().map(Teller::serving) {
            tracing::warn!("going to the background: {errno}");
        }
    });
    let Err(failure) = outcome else { return Ok(Exit::Ok) };
    match teller.take() {
        Some(teller) => teller.failed(failure.code, &failure.line),
        None => tracing::error!("{}", failure.line),
    }
    Err(Failure { line: String::new(), ..failure })
}

/// The master key of the volume with this configuration.
///
/// # Errors
/// 77 for a wrong passphrase.
pub fn unlock(source: &Source, conf: &Conf, path: &Path) -> Result<MasterKey, Error> {
    passphrase::protect()
        .and_then(|()| keys::unlock(conf, source, path).map_err(Failure::from))
        .map_err(|failure| Error { line: failure.line, code: failure.code })
}
