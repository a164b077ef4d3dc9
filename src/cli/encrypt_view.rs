//! `tierfs encrypt-view`.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use crate::cli::absolute;
use crate::cli::exit::{Exit, Failure, Outcome};
use crate::cli::passphrase::Passphrase;
use crate::cli::view::{Running, unlock};
use crate::config::view::{self, EncryptDraft, EncryptView};
use crate::config::words::Word;
use crate::daemon::views::encrypt;
use crate::types::glob::Pattern;
use crate::types::rules::Verdict;
use crate::types::view::OnChange;

/// Shows directories as an encrypted volume, for a backup: nothing is stored, and the same files give
/// the same bytes in every run, so a program that mirrors the view copies only what changed. gocryptfs
/// and `tierfs decrypt-view` open the copy.
#[derive(Debug, Args)]
#[command(override_usage = "tierfs encrypt-view [OPTIONS] [LABEL=]SOURCE... MOUNTPOINT\n       \
                            tierfs encrypt-view [OPTIONS] --config FILE [MOUNTPOINT]",
          after_help = AFTER)]
pub struct EncryptViewCommand {
    /// The directories to show, then the directory to mount on. One directory without a label is the
    /// root of the view; several are in it under their names, or under the labels given
    #[arg(value_name = "[LABEL=]SOURCE... MOUNTPOINT")]
    words: Vec<OsString>,
    /// Read sources, rules and options from a YAML file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The configuration of the volume, if it is not .gocryptfs.reverse.conf in the only SOURCE
    #[arg(long, value_name = "FILE")]
    conf: Option<PathBuf>,
    #[command(flatten)]
    passphrase: Passphrase,
    #[command(flatten)]
    rules: RuleArgs,
    /// A file that changes while it is read: fail (the read gets an error) or serve (as it is)
    #[arg(long, value_name = "fail|serve", value_parser = on_change)]
    on_change: Option<OnChange>,
    #[command(flatten)]
    running: Running,
}

const AFTER: &str = "\
Of the patterns of --exclude and --include the first that matches a path decides, in the order in
which they stand; what none matches is shown. A directory that is hidden hides what is below it.
*.tmp matches at any depth, /cache from the root of the view, docs/** all below docs.

Examples:
  tierfs key init --reverse /srv/docs             once: make the key of the view
  tierfs encrypt-view /srv/docs /mnt/docs.enc
  rsync -a --delete /mnt/docs.enc/ backup:docs/
  tierfs umount /mnt/docs.enc

  tierfs key init --reverse --conf /etc/tierfs/backup.conf /home      once, for several
  tierfs encrypt-view --conf /etc/tierfs/backup.conf /home /etc www=/srv/www /mnt/backup
  tierfs encrypt-view --include '/home/*/Documents' --exclude '/home/*/*' \\
    --conf /etc/tierfs/backup.conf /home /etc /mnt/backup

A file for --config:
  version: 1
  mountpoint: /mnt/backup
  encryption: {conf: /etc/tierfs/backup.conf, passfile: /etc/tierfs/backup.pass}
  sources:
    - {path: /home}
    - {path: /srv/www, label: www}
  rules:
    - include: /home/*/Documents
    - exclude: '*.tmp'
  on_change: fail
  allow_other: true

Exit codes:
  0 done   1 error   2 wrong usage   75 in use   77 wrong passphrase   78 wrong configuration";

fn on_change(text: &str) -> Result<OnChange, String> {
    OnChange::read(text)
}

/// Patterns in the order in which they stand on the command line, whatever they do.
#[derive(Debug, Default)]
struct RuleArgs(Vec<(Verdict, Pattern)>);

impl FromArgMatches for RuleArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<RuleArgs, clap::Error> {
        let mut found = Vec::new();
        for (id, verdict) in [(EXCLUDE, Verdict::Exclude), (INCLUDE, Verdict::Include)] {
            let places = matches.indices_of(id).into_iter().flatten();
            let patterns = matches.get_many::<Pattern>(id).into_iter().flatten();
            found.extend(places.zip(patterns).map(|(place, pattern)| (place, (verdict, pattern.clone()))));
        }
        found.sort_by_key(|(place, _)| *place);
        Ok(RuleArgs(found.into_iter().map(|(_, rule)| rule).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = RuleArgs::from_arg_matches(matches)?;
        Ok(())
    }
}

const EXCLUDE: &str = "exclude";
const INCLUDE: &str = "include";

impl Args for RuleArgs {
    fn augment_args(command: Command) -> Command {
        let arg = |id: &'static str, help: &'static str| {
            let arg = Arg::new(id).long(id).value_name("PATTERN").action(ArgAction::Append);
            arg.value_parser(|text: &str| Pattern::new(text)).help(help)
        };
        command.arg(arg(EXCLUDE, "Hide what matches")).arg(arg(INCLUDE, "Show what matches"))
    }

    fn augment_args_for_update(command: Command) -> Command {
        RuleArgs::augment_args(command)
    }
}

impl EncryptViewCommand {
    /// Shows them.
    ///
    /// # Errors
    /// Why it does not serve.
    pub fn run(self) -> Outcome {
        let config = self.configuration()?;
        let source = config.encryption.source.clone();
        self.running.run(|| encrypt::open(&config, &|conf, path| unlock(&source, conf, path)))
    }

    /// The command line over the file.
    fn configuration(&self) -> Result<EncryptView, Failure> {
        let mut draft = match &self.config {
            Some(file) => view::load(file)?,
            None => EncryptDraft::default(),
        };
        let (sources, mountpoint) = self.split()?;
        for text in sources {
            let (label, path) = view::read_source(text).map_err(|line| Failure::new(Exit::Usage, line))?;
            draft.sources.push((label, absolute(&path)?));
        }
        if let Some(mountpoint) = mountpoint {
            draft.mountpoint = Some(absolute(Path::new(mountpoint))?);
        }
        if let Some(conf) = &self.conf {
            draft.encryption.conf = Some(absolute(conf)?);
        }
        if let Some(source) = self.passphrase.source() {
            draft.encryption.source = source;
        }
        // What is said here comes before what the file says.
        draft.rules = self.rules.0.iter().cloned().chain(draft.rules).collect();
        draft.on_change = self.on_change.or(draft.on_change);
        draft.options = self.running.options(draft.options)?;
        Ok(view::finish(draft)?)
    }

    /// Sources, and the mount point.
    fn split(&self) -> Result<(Vec<&OsStr>, Option<&OsStr>), Failure> {
        let words: Vec<&OsStr> = self.words.iter().map(OsString::as_os_str).collect();
        match (words.split_last(), &self.config) {
            (None, Some(_)) => Ok((Vec::new(), None)),
            (Some((mountpoint, [])), Some(_)) => Ok((Vec::new(), Some(mountpoint))),
            (Some(_), Some(_)) => Err(usage("with --config only the mount point can be named besides")),
            (Some((_, [])) | None, None) => Err(usage("a directory to show and one to mount on are needed")),
            (Some((mountpoint, sources)), None) => Ok((sources.to_vec(), Some(mountpoint))),
        }
    }
}

fn usage(what: &str) -> Failure {
    let line = format!("{what}: write tierfs encrypt-view SOURCE... MOUNTPOINT (see tierfs encrypt-view --help)");
    Failure::new(Exit::Usage, line)
}
