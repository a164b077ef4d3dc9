//! `tierfs config`.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use crate::cli::exit::{Exit, Failure, Outcome};
use crate::cli::{complain, print, print_line, run};
use crate::config::{check, load, view};
use crate::daemon::{self, runs, unlock};
use crate::{policy, yaml};

/// Works on configuration files.
#[derive(Debug, Args)]
pub struct Config {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check a configuration with the policy it names, and print what results; or a policy or a view alone
    #[command(after_help = "\
A mistake is told with its line and column, as FILE:LINE:COLUMN: what is wrong.

Examples:
  tierfs config check /etc/tierfs/docs.yaml
  tierfs config check policy.yaml                 a policy alone
  tierfs config check --quiet /etc/tierfs/docs.yaml && systemctl restart tierfs@docs

Exit codes:
  0 the file is right   2 wrong usage   78 the file is wrong")]
    Check {
        /// The configuration file, or that of a view (encrypt-view --config), or a policy file
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Print nothing if the file is right
        #[arg(short = 'q', long)]
        quiet: bool,
    },
}

impl Config {
    /// Runs the one command there is.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn run(self) -> Outcome {
        let Command::Check { file, quiet } = self.command;
        let text = load::read(&file);
        let keys = text.map(|text| yaml::keys(&text)).unwrap_or_default();
        // A view has rules, too, which alone would make it a policy.
        if keys.iter().any(|key| key == "sources") {
            return check_view(&file, quiet);
        }
        if policy::load::is_policy(&keys) {
            return check_policy(&file, quiet);
        }
        let config = check::finish(load::load(&file)?)?;
        daemon::check_policy(&config).map_err(|line| Failure::new(Exit::Config, line))?;
        let careless = unlock::check(&config).map_err(|error| Failure { line: error.line, code: error.code })?;
        careless.iter().for_each(|line| complain(line.as_bytes()));
        if !quiet {
            print(&load::show(&config).map_err(|line| Failure::new(Exit::Config, line))?)?;
        }
        Ok(Exit::Ok)
    }
}

fn check_view(file: &Path, quiet: bool) -> Outcome {
    let mut draft = view::load(file)?;
    // It may be named on the command line alone.
    draft.mountpoint.get_or_insert_default();
    let view = view::finish(draft)?;
    if !quiet {
        let (path, count) = (file.display(), view.sources.len());
        let directories = if count == 1 { "directory" } else { "directories" };
        print_line(format!("{path}: a view of {count} {directories}").as_bytes())?;
    }
    Ok(Exit::Ok)
}

fn check_policy(file: &Path, quiet: bool) -> Outcome {
    let policy = runs::policy(&run::policy_file(file)?, None);
    let policy = policy.map_err(|problem| Failure { line: problem.line, code: problem.code })?;
    if !quiet {
        let (rules, marks) = (policy.rules.len(), policy.watermarks.len());
        let many = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
        let line = format!("{}: a policy of {} and {}", file.display(), many(rules, "rule"), many(marks, "watermark"));
        print_line(line.as_bytes())?;
    }
    Ok(Exit::Ok)
}
