//! `tierfs doctor`.

use std::ffi::OsString;
use std::io::IsTerminal;

use clap::Args;

use crate::cli::exit::{Exit, Outcome};
use crate::cli::{print, print_json};
use crate::doctor::{self, words};

pub(crate) mod child;

mod boot;
mod machine;
mod probe;
pub(crate) mod unions;

/// Looks for what is wrong, or will be: configuration, policy, tiers and their filesystems, mounts, the
/// kernel, boot, Samba and NFS. Says what was found and what to do. Changes nothing. A tier or mount that
/// does not answer is told after a few seconds.
///
/// A trouble does harm or does not work now; a warning will do harm under circumstances that come; a hint
/// is what could be better.
#[derive(Debug, Args)]
#[command(after_help = "\
UNION is a mount point, a configuration file (*.yaml), the name of one in /etc/tierfs, or \
PRIMARY:SECONDARY. Without one: all configurations in /etc/tierfs and all mounts of tierfs. As root it \
sees most.

What tiers can do is tried with files that have no name and are gone at once, renaming with an empty one in \
.tierfs of the tier that is removed again. `tierfs check` looks at the files of a union.

Examples:
  tierfs doctor
  tierfs doctor docs                    what concerns /etc/tierfs/docs.yaml
  tierfs doctor --verbose /srv/docs     also what is as it should be
  tierfs doctor --json | jq -r '.[] | select(.level == \"trouble\") | .found'

Exit codes:
  0 nothing to mend, at most hints   1 could not look   2 wrong usage   3 warnings or troubles")]
pub struct Doctor {
    /// A mount point, a configuration file, the name of one, or PRIMARY:SECONDARY
    #[arg(value_name = "UNION")]
    unions: Vec<OsString>,
    /// One JSON array of all that was looked at
    #[arg(long)]
    json: bool,
    /// Also tell what is as it should be
    #[arg(short, long)]
    verbose: bool,
    /// Look for names that differ only in case everywhere, however long it takes
    #[arg(long)]
    deep: bool,
    /// One question, whose answer doctor itself waits for
    #[arg(long, hide = true, value_name = "WHAT")]
    probe: Option<String>,
}

impl Doctor {
    /// Looks, and tells.
    ///
    /// # Errors
    /// A name that means nothing; no `/proc`.
    pub fn run(self) -> Outcome {
        if let Some(question) = &self.probe {
            return probe::answer(question, &self.unions);
        }
        let found = doctor::examine(&unions::gather(&self.unions, self.deep)?);
        if self.json {
            print_json(&words::json(&found))?;
        } else {
            let color = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            print(&words::text(&found, self.verbose, color))?;
        }
        Ok(if words::has_trouble(&found) { Exit::Partial } else { Exit::Ok })
    }
}
