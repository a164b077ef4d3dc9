//! The command line: one file per command. Parses, calls, prints; decides nothing else.

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::cli::exit::{Exit, Failure, Outcome};
use crate::control::convert;
use crate::control::wire::Text;
use crate::types::shown;

pub mod check;
pub mod collect;
pub mod config;
pub mod conflicts;
pub mod criteria;
mod cron;
pub mod decrypt_view;
pub mod demo;
mod described;
pub mod doctor;
pub mod encrypt_view;
pub mod exit;
pub mod explain;
pub mod explained;
mod fstab;
pub mod generate;
pub mod helper;
pub mod history;
pub mod init;
pub mod key;
pub mod migrate;
pub mod mount;
pub mod next;
pub mod output;
pub mod passphrase;
pub mod pin;
pub mod pins;
pub mod recall;
pub mod remount;
pub mod report;
pub mod run;
pub mod stats;
pub mod status;
pub mod target;
pub mod tiers;
pub mod top;
pub mod umount;
pub mod unlocked;
pub mod unpin;
pub mod view;
pub mod where_is;
pub mod whole;

/// One directory over an ordered list of tiers: the primary (small and fast) first, then the
/// secondary (large and slow), then any more. Programs see one ordinary tree; new files go to the
/// primary; every file stays an ordinary file on its tier.
#[derive(Debug, Parser)]
#[command(name = "tierfs", version, after_help = EXAMPLES, disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  tierfs demo                                     see it work, in a temporary directory
  tierfs mount /fast/docs:/slow/docs /srv/docs    mount two tiers as one tree
  tierfs where /srv/docs/report.pdf               which tier holds a file
  tierfs migrate --older-than 1y /srv/docs        move cold files to the secondary
  tierfs umount /srv/docs

Exit codes:
  0 done   1 error   2 wrong usage   3 done in part   4 nothing moved   8 stopped at a limit
  75 in use   77 wrong passphrase   78 wrong configuration   130 interrupted";

#[derive(Debug, Subcommand)]
enum Command {
    /// Mount tiers as one tree
    Mount(mount::Mount),
    /// Unmount, also a dead mount
    Umount(umount::Umount),
    /// Make directories the tiers of a union, after a report of what they both hold
    Init(init::Init),
    /// Tell which tier holds a file, and its real path
    Where(where_is::Where),
    /// Show how old the files are, and what moving old ones would free
    Report(report::Report),
    /// Move cold files to a slower tier
    Migrate(migrate::Migrate),
    /// Bring files back to the primary, or undo a run
    Recall(recall::Recall),
    /// Keep files on a tier, whatever the policy says
    Pin(pin::Pin),
    /// Take pins away
    Unpin(unpin::Unpin),
    /// List what is pinned
    Pins(pins::Pins),
    /// Tell why a file moves or stays
    Explain(explain::Explain),
    /// Show how mounts and their tiers are
    Status(status::Status),
    /// Show live what a mount does
    Top(top::Top),
    /// List runs and what they moved
    History(history::History),
    /// Show what a mount does: requests, latency, moves, who is busy
    Stats(stats::Stats),
    /// Find what hides, differs, is left over or damaged, and mend what can be
    Check(check::Check),
    /// Find what is wrong with a configuration, its tiers and the machine, and say what to do
    Doctor(doctor::Doctor),
    /// Write what a bug report needs into a file, with secrets left out
    CollectInfo(collect::CollectInfo),
    /// Make encrypted volumes, and change their passphrases
    Key(key::Key),
    /// Show directories as an encrypted volume, for a backup
    EncryptView(encrypt_view::EncryptViewCommand),
    /// Show the plaintext of an encrypted volume, to restore from it
    DecryptView(decrypt_view::DecryptViewCommand),
    /// Check a configuration file
    Config(config::Config),
    /// Show tierfs at work on two small tiers in a temporary directory
    Demo(demo::Demo),
    /// Write manual pages, completions and systemd's drop-ins
    #[command(hide = true)]
    Generate(generate::Generate),
}

/// Runs the command of this process's arguments.
pub fn run() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let outcome = helper::translate(arguments).and_then(|arguments| match arguments {
        Some(arguments) => execute(arguments),
        None => Ok(Exit::Ok),
    });
    match outcome {
        Ok(exit) => exit.into(),
        Err(failure) => {
            if !failure.line.is_empty() {
                complain(failure.line.as_bytes());
            }
            ExitCode::from(failure.code)
        }
    }
}

fn execute(mut arguments: Vec<OsString>) -> Outcome {
    // `tierfs help COMMAND` as other programs have it.
    if arguments.get(1).is_some_and(|word| word == "help") {
        arguments.remove(1);
        arguments.push("--help".into());
    }
    let name = arguments.get(1).and_then(|word| word.to_str());
    let mut program = described::within(Cli::command(), name);
    let matches = program.try_get_matches_from_mut(&arguments);
    let cli = match matches.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => return not_a_command(&error, &arguments),
    };
    match cli.command {
        Command::Mount(command) => command.run(),
        Command::Umount(command) => command.run(),
        Command::Init(command) => command.run(),
        Command::Where(command) => command.run(),
        Command::Report(command) => command.run(),
        Command::Migrate(command) => command.run(),
        Command::Recall(command) => command.run(),
        Command::Pin(command) => command.run(),
        Command::Unpin(command) => command.run(),
        Command::Pins(command) => command.run(),
        Command::Explain(command) => command.run(),
        Command::Status(command) => command.run(),
        Command::Top(command) => command.run(),
        Command::History(command) => command.run(),
        Command::Stats(command) => command.run(),
        Command::Check(command) => command.run(),
        Command::Doctor(command) => command.run(),
        Command::CollectInfo(command) => command.run(),
        Command::Key(command) => command.run(),
        Command::EncryptView(command) => command.run(),
        Command::DecryptView(command) => command.run(),
        Command::Config(command) => command.run(),
        Command::Demo(command) => command.run(),
        Command::Generate(command) => command.run(),
    }
}

/// Prints what `--help` and `--version` ask for; turns anything else into one line.
fn not_a_command(error: &clap::Error, arguments: &[OsString]) -> Outcome {
    use clap::error::ErrorKind;
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            print(&error.render().to_string())?;
            return Ok(Exit::Ok);
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            eprint!("{}", error.render());
            return Err(Failure::new(Exit::Usage, ""));
        }
        _ => {}
    }
    let text = error.render().to_string();
    let told = text.lines().take_while(|line| !line.starts_with("Usage:")).map(str::trim);
    // A word that begins with a dash is never meant as a value here.
    let is_help = |line: &&str| line.is_empty() || line.starts_with("For more") || line.starts_with("tip: to pass");
    let told: Vec<&str> = told.filter(|line| !is_help(line)).collect();
    let told = told.join(" ").replace("  ", " ").replace(" tip: ", "; ");
    let told = told.strip_prefix("error: ").unwrap_or(&told);
    let mut known = Cli::command();
    let mut names = vec!["tierfs"];
    for word in arguments.iter().skip(1).filter_map(|word| word.to_str()) {
        let Some(inner) = known.find_subcommand(word) else { break };
        names.push(word);
        known = inner.clone();
    }
    let colon = match (error.kind(), &names[1..]) {
        (ErrorKind::UnknownArgument, ["mount" | "init"]) if !told.contains("'-") => {
            ": tiers are one word, with colons between them: PRIMARY:SECONDARY"
        }
        _ => "",
    };
    Err(Failure::new(Exit::Usage, format!("{told}{colon} (see {} --help)", names.join(" "))))
}

/// Prints to standard output. A reader that has gone away, as `head` does, is no failure.
fn print(text: &str) -> Result<(), Failure> {
    print_bytes(text.as_bytes())
}

/// Prints one line, given without its end. A terminal gets the names in it escaped, and whatever else
/// reads gets their bytes.
fn print_line(line: &[u8]) -> Result<(), Failure> {
    let shown = if std::io::stdout().is_terminal() { shown::escape(line).into_bytes() } else { line.to_vec() };
    print_bytes(&[shown.as_slice(), b"\n"].concat())
}

/// Prints an object as one line. JSON lets control characters above 0x7e stand; written as escapes
/// they are the same text, and no terminal obeys them.
fn print_json(object: &serde_json::Value) -> Result<(), Failure> {
    let mut text = String::new();
    for letter in object.to_string().chars() {
        if letter.is_control() {
            text.push_str(&format!("\\u{:04x}", u32::from(letter)));
        } else {
            text.push(letter);
        }
    }
    text.push('\n');
    print(&text)
}

/// An object with a name under `key`, and in hexadecimal under `key_hex` where it is no text.
fn named(key: &str, name: &[u8]) -> serde_json::Value {
    let mut object = serde_json::json!({ key: String::from_utf8_lossy(name) });
    if let Text::Coded(coded) = convert::text(name) {
        object[format!("{key}_hex")] = coded.hex.into();
    }
    object
}

/// Tells on standard error what is wrong: always one line, whatever names are in it.
fn complain(line: &[u8]) {
    // Nobody can be told that nobody can be told.
    let _ = writeln!(std::io::stderr(), "tierfs: {}", shown::escape(line));
}

fn print_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::error(format!("standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// A path a user gave, made absolute but with its links kept, for messages and the mount table.
fn absolute(path: &Path) -> Result<std::path::PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| Failure::error(format!("{}: {error}", path.display())))
}
