//! `tierfs generate`: what a package ships beside the program, made from the program itself. Hidden: it
//! serves those who build packages, and systemd.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, Command, CommandFactory, Subcommand};
use clap_complete::Shell;

use crate::cli::Cli;
use crate::cli::exit::{Exit, Failure, Outcome};
use crate::cli::fstab;

mod man;
mod pages;
mod roff;
mod units;

/// Writes files that are made from the program.
#[derive(Debug, Args)]
pub struct Generate {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Manual pages: tierfs(1), one for each command, tierfs.yaml(5), mount.tierfs(8)
    Man {
        /// A directory, which is made
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
    /// Completions for bash, zsh and fish
    Completions {
        /// A directory, which is made
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
    /// What systemd must know of each configured mount: which other mounts it needs (`systemd.generator(7)`)
    Units {
        /// Where the configuration files are
        #[arg(long, value_name = "DIR", default_value = "/etc/tierfs")]
        from: PathBuf,
        /// The directory to write drop-ins into
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
}

impl Generate {
    /// Writes.
    ///
    /// # Errors
    /// What cannot be written.
    pub fn run(self) -> Outcome {
        match self.what {
            What::Man { dir } => {
                for (name, text) in man::all(Cli::command()).into_iter().chain(pages::all()?) {
                    write(&dir, &name, text.as_bytes())?;
                }
            }
            What::Completions { dir } => {
                let shells = [(Shell::Bash, "tierfs"), (Shell::Zsh, "_tierfs"), (Shell::Fish, "tierfs.fish")];
                for (shell, name) in shells {
                    let mut text = Vec::new();
                    clap_complete::generate(shell, &mut visible(), "tierfs", &mut text);
                    write(&dir.join(shell.to_string()), name, &text)?;
                }
            }
            What::Units { from, dir } => {
                for (name, text) in units::of_directory(&from, &fstab::text()) {
                    let file = dir.join(name);
                    let (parent, name) = (file.parent().unwrap_or(&dir), file.file_name().unwrap_or_default());
                    write(parent, &name.to_string_lossy(), text.as_bytes())?;
                }
            }
        }
        Ok(Exit::Ok)
    }
}

/// The program without its hidden commands, which completions would offer.
fn visible() -> Command {
    let all = Cli::command();
    let shown = all.get_subcommands().filter(|command| !command.is_hide_set()).cloned();
    Command::new("tierfs").version(env!("CARGO_PKG_VERSION")).disable_help_subcommand(true).subcommands(shown)
}

fn write(dir: &Path, name: &str, text: &[u8]) -> Result<(), Failure> {
    let file = dir.join(name);
    let written = fs::create_dir_all(dir).and_then(|()| fs::write(&file, text));
    written.map_err(|error| Failure::error(format!("{}: {error}", file.display())))
}
