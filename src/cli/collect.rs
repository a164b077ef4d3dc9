//! `tierfs collect-info`.

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use clap::Args;

use crate::cli::doctor::child::{self, PATIENCE};
use crate::cli::doctor::unions;
use crate::cli::exit::{Exit, Failure, Outcome};
use crate::cli::{complain, print};
use crate::config::{MountConfig, load};
use crate::doctor::facts::{Asked, Device, Facts, Tried, Union};
use crate::doctor::redact::{GONE, Redactor};
use crate::doctor::{self, Finding, words};
use crate::types::attr::Time;
use crate::types::errno::Errno;
use crate::types::passphrase::Source;
use crate::types::units::show_time;

/// Lines of the journal that are taken along.
const JOURNAL_LINES: usize = 300;

/// Of a log file, the bytes at its end among which they are.
const LOG_LEN_MAX: u64 = 1 << 20;

/// Everything together is cut here: a mail takes it.
const REPORT_LEN_MAX: usize = 4 << 20;

/// Writes what a bug report needs into one text file, with secrets left out: version, machine, mounts,
/// configurations and policies, what `tierfs doctor` finds, status and statistics of the mounts, the last
/// lines of the log. Read it before you send it.
///
/// Left out are: contents of passphrase and key files, extpass commands, names of credentials and keys of
/// the kernel's keyring, comments in configurations, environment variables, values after words such as
/// password or token, and what looks like a key. Names of files and directories stay, unless --hide-names.
#[derive(Debug, Args)]
#[command(
    name = "collect-info",
    after_help = "\
UNION is as for tierfs doctor; without one everything on this machine is told.

Examples:
  sudo tierfs collect-info                       writes tierfs-info-TIME.txt here
  tierfs collect-info -o - /srv/docs | less
  tierfs collect-info --hide-names               for names that are nobody's business

Exit codes:
  0 written   1 could not be written   2 wrong usage"
)]
pub struct CollectInfo {
    /// A mount point, a configuration file, the name of one, or PRIMARY:SECONDARY
    #[arg(value_name = "UNION")]
    unions: Vec<OsString>,
    /// Write to this file, which must not be there yet; - for standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Put a short word in the place of each name of a file, directory, host or rule
    #[arg(long)]
    hide_names: bool,
}

impl CollectInfo {
    /// Collects, and writes.
    ///
    /// # Errors
    /// The file is there already, or cannot be written.
    pub fn run(self) -> Outcome {
        let to_stdout = self.output.as_deref() == Some(Path::new("-"));
        let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
        let now = Time { sec: i64::try_from(now).unwrap_or(0), nsec: 0 };
        let stamp: String = show_time(now).chars().filter(char::is_ascii_alphanumeric).collect();
        let path = self.output.clone().unwrap_or_else(|| format!("tierfs-info-{stamp}.txt").into());
        // Before the work, so that a mistake shows at once. Nobody but its owner reads it.
        let file = if to_stdout { None } else { Some(create(&path)?) };
        let facts = unions::gather(&self.unions, false)?;
        let redactor = redactor(&facts, self.hide_names);
        let mut report = Report { text: String::new(), titles: Vec::new(), redactor };
        report.fill(&facts, &stamp);
        let Some(mut file) = file else {
            print(&report.text)?;
            return Ok(Exit::Ok);
        };
        let written = file.write_all(report.text.as_bytes()).and_then(|()| file.sync_all());
        written.map_err(|error| Failure::error(format!("{}: {error}", path.display())))?;
        let (shown, titles) = (path.display(), report.titles.join(", "));
        print(&format!("{shown}: {titles}.\nPlease read it before you send it: less {shown}\n"))?;
        if !self.hide_names {
            print("Names of files and directories are in it; --hide-names puts other words in their place.\n")?;
        }
        if facts.machine.uid != 0 {
            complain(b"not run as root: what only root may see is not in it");
        }
        Ok(Exit::Ok)
    }
}

fn create(path: &Path) -> Result<fs::File, Failure> {
    let made = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    made.map_err(|error| match Errno::of(&error) {
        Errno::EEXIST => Failure::error(format!("{} is there already: name a new file", path.display())),
        errno => Failure::error(format!("{}: {errno}", path.display())),
    })
}

/// One that knows what is secret about these unions, and which names are theirs.
fn redactor(facts: &Facts, hide: bool) -> Redactor {
    let mut redactor = Redactor::new(hide);
    for union in &facts.unions {
        for tier in union.config.iter().flat_map(|config| &config.tiers) {
            redactor.name(&tier.path);
            match tier.encryption.as_ref().map(|encryption| &encryption.source) {
                Some(Source::Command(text) | Source::Credential(text) | Source::Keyring(text)) => redactor.forget(text),
                Some(Source::PassFile(path) | Source::KeyFile(path)) => redactor.name(path),
                Some(Source::Prompt) | None => {}
            }
        }
        let files = union.file.iter().map(|rights| &rights.path).chain(union.policy.iter().map(|(path, _)| path));
        files.chain(union.config.iter().map(|config| &config.mountpoint)).for_each(|path| redactor.name(path));
    }
    facts.mounts.iter().for_each(|mount| redactor.name(&mount.point));
    redactor
}

/// The report as it grows.
struct Report {
    text: String,
    titles: Vec<&'static str>,
    redactor: Redactor,
}

impl Report {
    fn fill(&mut self, facts: &Facts, stamp: &str) {
        let opening = format!(
            "tierfs collect-info {stamp}\n\nSecrets are left out as far as they can be told. Read it before you send it.\n"
        );
        self.text.push_str(&opening);
        self.add("machine", &self.redactor.ours(&machine(facts)));
        self.add("mounts", &self.mounts(facts));
        for union in &facts.unions {
            let text = self.configuration(union);
            self.add("configurations", &text);
        }
        let found = doctor::examine(facts);
        self.add("doctor", &self.doctor(found));
        for mount in &facts.mounts {
            // Statistics name directories and programs in many places.
            let commands = [["status", "--json"], ["stats", "--json"]];
            let told = if self.redactor.hides() { 1 } else { commands.len() };
            for command in commands.into_iter().take(told) {
                if let Some(text) = own(&command, &mount.point) {
                    let text = self.redactor.foreign(&text);
                    self.add("status and statistics", &format!("$ tierfs {}\n{text}", command.join(" ")));
                }
            }
        }
        self.add("log", &self.redactor.foreign(&journal()));
        if self.text.len() > REPORT_LEN_MAX {
            let end = (0..=REPORT_LEN_MAX).rev().find(|at| self.text.is_char_boundary(*at)).unwrap_or(0);
            self.text.truncate(end);
            self.text.push_str("\n(cut here)\n");
        }
    }

    fn add(&mut self, title: &'static str, text: &str) {
        if !self.titles.contains(&title) {
            self.titles.push(title);
            self.text.push_str(&format!("\n===== {title} =====\n"));
        }
        self.text.push_str(text.trim_end());
        self.text.push('\n');
    }

    fn mounts(&self, facts: &Facts) -> String {
        let mut text = String::new();
        for mount in &facts.mounts {
            let state = match &mount.state {
                Some(Asked::Told(served)) if served.dead => "dead".to_owned(),
                Some(Asked::Told(served)) => {
                    let tiers: Vec<String> = served.tiers.iter().map(|path| path.display().to_string()).collect();
                    format!("answers; tiers seen: {}", tiers.join(", "))
                }
                Some(Asked::Refused(why)) => why.clone(),
                Some(Asked::Silent) | None => "does not answer".into(),
            };
            let user = mount.user.map_or_else(|| "?".into(), |user| user.to_string());
            let (point, source) = (mount.point.display(), self.redactor.hidden_if(&mount.source));
            text += &format!("{point} ({}) by user {user}: {}\n  {state}\n", source, mount.options.join(","));
        }
        for union in &facts.unions {
            let paths = union.config.iter().flat_map(|config| &config.tiers).map(|tier| tier.path.display());
            for (path, tier) in paths.zip(&union.tiers) {
                text += &match tier {
                    Asked::Told(tier) => format!(
                        "tier {path}: {} on {} ({}), {} of {} bytes free, {} of {} inodes free\n  {}\n",
                        tier.kind,
                        tier.point.display(),
                        tier.options.join(","),
                        tier.bytes.1,
                        tier.bytes.0,
                        tier.inodes.1,
                        tier.inodes.0,
                        abilities(&tier.tried)
                    ),
                    Asked::Refused(why) => format!("tier {path}: {why}\n"),
                    Asked::Silent => format!("tier {path}: does not answer\n"),
                };
            }
        }
        self.redactor.ours(&text)
    }

    /// What a configuration comes to, without what was only written in it: comments can hold anything.
    fn configuration(&self, union: &Union) -> String {
        let mut text = format!("--- {}\n", self.redactor.ours(&union.name));
        match (&union.config, &union.problem) {
            (Some(config), _) if !union.guessed => {
                let shown = load::show(&without_sources(config)).unwrap_or_else(|why| why);
                text += &self.redactor.ours(&self.name_hidden(&shown));
            }
            (_, Some(problem)) => {
                let read = union.file.as_ref().and_then(|rights| load::read(&rights.path).ok()).unwrap_or_default();
                text += &format!("{}\n", self.redactor.ours(&self.redactor.without_quotes(problem)));
                text += &self.redactor.keys_of(&read);
            }
            _ => text += "(mounted without a configuration file)",
        }
        if let Some((path, policy)) = &union.policy {
            text += &format!("\n--- {}\n", self.redactor.ours(&path.display().to_string()));
            text += &match policy {
                Ok(_) => self.policy(&load::read(path).unwrap_or_default()),
                Err(why) => self.redactor.ours(&self.redactor.without_quotes(why)),
            };
        }
        text
    }

    fn name_hidden(&self, text: &str) -> String {
        let line = |line: &str| match line.split_once(": ") {
            Some((key, value)) if ["name", "fsname"].contains(&key.trim()) => {
                format!("{key}: {}", self.redactor.hidden_if(value))
            }
            _ => line.to_owned(),
        };
        text.lines().map(line).collect::<Vec<_>>().join("\n")
    }

    /// A policy as it is written but for its comments; with hidden names, what its rules are called and match is
    /// hidden, too.
    fn policy(&self, text: &str) -> String {
        let bare = text.lines().map(without_comment).filter(|line| !line.trim().is_empty());
        let line = |line: &str| {
            let shown = self.redactor.ours(line);
            if !self.redactor.hides() {
                return shown;
            }
            let at = ["name:", "match:", "not:", "exclude:", "owner:", "group:"]
                .iter()
                .filter_map(|key| Some(line.find(key)? + key.len()));
            match at.min() {
                Some(at) if !line[at..].trim().is_empty() => {
                    format!("{} {}", &line[..at], self.redactor.short(&line[at..]))
                }
                None if line.trim_start().starts_with('-') && !line.contains(':') => {
                    format!("  - {}", self.redactor.short(line))
                }
                _ => shown,
            }
        };
        bare.map(line).collect::<Vec<_>>().join("\n")
    }

    fn doctor(&self, found: Vec<Finding>) -> String {
        let clean = |finding: Finding| {
            let cites = ["configuration", "policy"].contains(&finding.check);
            let quoted = |text: &str| match (cites || self.redactor.hides(), finding.check) {
                (_, "case-conflicts") if self.redactor.hides() => GONE.to_owned(),
                (true, _) => self.redactor.ours(&self.redactor.without_quotes(text)),
                (false, _) => self.redactor.ours(text),
            };
            let about = match finding.about.strip_prefix("Samba share ") {
                Some(name) => format!("Samba share {}", self.redactor.hidden_if(name)),
                None => self.redactor.ours(&finding.about),
            };
            Finding { about, found: quoted(&finding.found), todo: quoted(&finding.todo), ..finding }
        };
        let found: Vec<Finding> = found.into_iter().map(clean).collect();
        let lines = words::json(&found).as_array().into_iter().flatten().map(ToString::to_string).collect::<Vec<_>>();
        lines.join("\n")
    }
}

/// The configuration with a source of a passphrase that says no more than what kind it is.
fn without_sources(config: &MountConfig) -> MountConfig {
    let mut config = config.clone();
    for encryption in config.tiers.iter_mut().filter_map(|tier| tier.encryption.as_mut()) {
        match &mut encryption.source {
            Source::Command(text) | Source::Credential(text) | Source::Keyring(text) => *text = GONE.into(),
            Source::Prompt | Source::PassFile(_) | Source::KeyFile(_) => {}
        }
    }
    config
}

/// A line of YAML up to its comment: a `#` that begins it, or stands after a blank and outside of quotes.
fn without_comment(line: &str) -> &str {
    let mut quote = None;
    let mut blank = true;
    for (at, letter) in line.char_indices() {
        match (quote, letter) {
            (None, '#') if blank => return line[..at].trim_end(),
            (None, '"' | '\'') => quote = Some(letter),
            (Some(open), letter) if letter == open => quote = None,
            _ => {}
        }
        blank = letter.is_whitespace();
    }
    line
}

/// What was tried on a tier, in a line.
fn abilities(tried: &Asked<Tried>) -> String {
    let tried = match tried {
        Asked::Told(tried) => tried,
        Asked::Refused(why) => return format!("nothing was tried: {why}"),
        Asked::Silent => return "does not answer to a try".into(),
    };
    let kept =
        [("user.*", &tried.user), ("trusted.*", &tried.trusted), ("security.*", &tried.security), ("ACLs", &tried.acl)];
    let kept = kept.into_iter().map(|(what, why)| match why {
        None => what.to_owned(),
        Some(why) => format!("no {what} ({why})"),
    });
    let able = [("reflink", tried.reflink), ("fallocate", tried.reserve), ("holes", tried.punch)];
    let able = able.into_iter().filter(|(_, can)| *can).map(|(what, _)| what.to_owned());
    let largest = format!("attributes of {} bytes", tried.largest);
    kept.chain([largest]).chain(able).collect::<Vec<_>>().join(", ")
}

fn machine(facts: &Facts) -> String {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let distro =
        release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or("unknown").trim_matches('"');
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = memory.lines().next().unwrap_or_default().split_whitespace().skip(1).collect::<Vec<_>>().join(" ");
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let machine = &facts.machine;
    let fusermount = machine.fusermount.as_ref();
    let fusermount = fusermount.map_or("absent".into(), |(path, mode)| format!("{} ({mode:o})", path.display()));
    let device = match &machine.device {
        Device::Usable => "usable".into(),
        Device::Absent => "absent".into(),
        Device::Refused(mode, why) => format!("mode {mode:o}: {why}"),
    };
    let number = |value: Option<u64>| value.map_or_else(|| "not here".into(), |value| value.to_string());
    let known = |value: Option<bool>| value.map_or("unknown", |value| if value { "yes" } else { "no" });
    [
        format!("tierfs {}", env!("CARGO_PKG_VERSION")),
        format!("Linux {} {}, {distro}", machine.release, std::env::consts::ARCH),
        format!("{cpus} processors, {memory}, AES {}", known(Some(machine.aes))),
        format!("asked by user {}, systemd {}", machine.uid, known(Some(machine.systemd))),
        format!("Samba shares {}, NFS exports {}", facts.shares.len(), facts.exports.len()),
        format!(
            "/dev/fuse {device}, fusermount3 {fusermount}, user_allow_other {}",
            known(Some(machine.user_allow_other))
        ),
        format!(
            "passthrough {}, io_uring {}, max_pages {}",
            known(machine.passthrough),
            known(machine.uring),
            number(machine.max_pages)
        ),
        format!(
            "request timeouts {} and {}, watches {}",
            number(machine.default_timeout),
            number(machine.max_timeout),
            number(machine.watches)
        ),
    ]
    .join("\n")
}

/// What a command of this program says of a mount, if there is such a command and it works.
fn own(words: &[&str], point: &Path) -> Option<String> {
    let mut command = Command::new("/proc/self/exe");
    match child::output(command.args(words).arg(point), PATIENCE * 2) {
        Asked::Told((true, bytes)) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        Asked::Told((false, _)) | Asked::Refused(_) => None,
        Asked::Silent => Some("does not answer".into()),
    }
}

/// The last lines of the log, from the journal or from the file where syslog puts them.
fn journal() -> String {
    let mut command = Command::new("journalctl");
    let lines = JOURNAL_LINES.to_string();
    command.args(["--no-pager", "-q", "-o", "short-iso", "-n", &lines, "-t", "tierfs"]);
    if let Asked::Told((true, bytes)) = child::output(&mut command, Duration::from_secs(15))
        && !bytes.is_empty()
    {
        return String::from_utf8_lossy(&bytes).into_owned();
    }
    for file in ["/var/log/syslog", "/var/log/messages", "/var/log/daemon.log"] {
        let text = tail(Path::new(file)).unwrap_or_default();
        let ours: Vec<&str> = text.lines().filter(|line| line.contains("tierfs")).collect();
        if !ours.is_empty() {
            return ours[ours.len().saturating_sub(JOURNAL_LINES)..].join("\n");
        }
    }
    "no lines of tierfs, or not this user's to read".into()
}

fn tail(file: &Path) -> Option<String> {
    use std::os::unix::fs::FileExt;
    let opened = fs::File::open(file).ok()?;
    let len = opened.metadata().ok()?.len();
    let from = len.saturating_sub(LOG_LEN_MAX);
    let mut bytes = vec![0; usize::try_from(len - from).ok()?];
    opened.read_exact_at(&mut bytes, from).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_go_and_what_looks_like_one_stays() {
        for (line, bare) in [
            ("# hunter2", ""),
            ("a: b # hunter2", "a: b"),
            ("match: '~$*#'", "match: '~$*#'"),
            ("match: \".~lock.*#\"  # x", "match: \".~lock.*#\""),
            ("a: b#c", "a: b#c"),
        ] {
            assert_eq!(without_comment(line), bare);
        }
    }
}
