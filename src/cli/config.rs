//! `tierfs config`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::cli::exit::{Exit, Failure, Outcome};
use crate::cli::print;
use crate::config::{check, load};
use crate::daemon;

/// Works on configuration files.
#[derive(Debug, Args)]
pub struct Config {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check a file and the policy it names, and print the configuration that results
    #[command(after_help = "\
A mistake is told with its line and column, as FILE:LINE:COLUMN: what is wrong.

Examples:
  tierfs config check /etc/tierfs/docs.yaml
  tierfs config check --quiet /etc/tierfs/docs.yaml && systemctl restart tierfs@docs

Exit codes:
  0 the file is right   2 wrong usage   78 the file is wrong")]
    Check {
        /// The configuration file
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
        let config = check::finish(load::load(&file)?)?;
        daemon::check_policy(&config).map_err(|line| Failure::new(Exit::Config, line))?;
        if !quiet {
            print(&load::show(&config).map_err(|line| Failure::new(Exit::Config, line))?)?;
        }
        Ok(Exit::Ok)
    }
}
