//! `tierfs history`.

use std::ffi::OsString;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::exit::{Exit, Failure, Outcome};
use crate::cli::output::thousands;
use crate::cli::{print_json, print_line, target};
use crate::control::convert;
use crate::migrate::manifest::{self, Line};
use crate::migrate::scan;
use crate::tier::Dir;
use crate::types::errno::Errno;
use crate::types::ids::Rank;
use crate::types::units;

/// Lists the runs that moved files, oldest first; or what one of them moved.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tierfs history                              of the only mount there is
  tierfs history /srv/docs                    a mount point, a configuration, or PRIMARY:SECONDARY
  tierfs history 20261121T091500-ab12         each file that this run moved
  tierfs recall --run 20261121T091500-ab12    takes it back

Exit codes:
  0 told   1 error   2 wrong usage   3 some could not be read")]
pub struct History {
    /// The union and the run, either or both
    #[arg(value_name = "UNION|RUN", num_args = 0..=2)]
    words: Vec<OsString>,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

/// What the lines of one run come to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Run {
    name: String,
    /// Seconds since 1970.
    started: u64,
    command: String,
    finished: bool,
    moved: u64,
    bytes: u64,
    failed: u64,
    took_ms: u64,
}

impl History {
    /// Prints.
    ///
    /// # Errors
    /// Where the manifests cannot be read.
    pub fn run(self) -> Outcome {
        let (runs, unions): (Vec<&OsString>, Vec<&OsString>) = self.words.iter().partition(|word| is_run(word));
        if runs.len() > 1 || unions.len() > 1 {
            let what = if runs.len() > 1 { "two runs" } else { "two unions" };
            return Err(Failure::new(Exit::Usage, format!("{what} are named: name one (see tierfs history --help)")));
        }
        let primary = target::find(unions.first().map(|union| union.as_os_str()))?.primary()?;
        let fail = |errno: Errno| {
            let hint = if errno == Errno::EACCES { ": run this with sudo" } else { "" };
            Failure::error(format!("{}/.tierfs/{}: {errno}{hint}", primary.display(), manifest::DIRECTORY))
        };
        let tier = scan::open_to_read(&primary, Rank::PRIMARY).map_err(fail)?;
        let root = tier.root();
        let Some(run) = runs.first().and_then(|run| run.to_str()) else {
            return self.list(root.as_ref(), &fail);
        };
        let lines = manifest::read(root.as_ref(), run).map_err(fail)?;
        let lines = lines.ok_or_else(|| {
            Failure::error(format!("{run}: there is no such run of {}; `tierfs history` lists them", primary.display()))
        })?;
        for line in &lines {
            match file(line) {
                Some((object, _)) if self.json => print_json(&object)?,
                Some((_, text)) => print_line(&text)?,
                None => {}
            }
        }
        Ok(Exit::Ok)
    }

    fn list(&self, root: &dyn Dir, fail: &dyn Fn(Errno) -> Failure) -> Outcome {
        let mut names = manifest::runs(root).map_err(fail)?;
        names.sort();
        for name in names {
            let lines = manifest::read(root, &name).map_err(fail)?.unwrap_or_default();
            let run = summed(name, &lines);
            if self.json {
                print_json(&object(&run))?;
            } else {
                print_line(shown(&run).as_bytes())?;
            }
        }
        Ok(Exit::Ok)
    }
}

/// Whether a word is the name of a run and not of a union: a time in digits and four more.
fn is_run(word: &OsString) -> bool {
    let Some((time, more)) = word.to_str().and_then(|word| word.split_once('-')) else { return false };
    let digits = time.bytes().enumerate().all(|(at, byte)| if at == 8 { byte == b'T' } else { byte.is_ascii_digit() });
    time.len() == 15 && digits && !more.is_empty() && more.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// What the files come to, or what the last line says.
fn summed(name: String, lines: &[Line]) -> Run {
    let mut run = Run { name, ..Run::default() };
    for line in lines {
        match line {
            Line::Begin { started, command, .. } => (run.started, run.command) = (*started, command.clone()),
            Line::File { bytes, .. } => {
                run.moved += 1;
                run.bytes += bytes;
            }
            Line::End { moved, bytes, failed, took_ms, .. } => {
                (run.moved, run.bytes, run.failed, run.took_ms) = (*moved, *bytes, *failed, *took_ms);
                run.finished = true;
            }
        }
    }
    run
}

fn object(run: &Run) -> Value {
    json!({
        "run": run.name, "started": run.started, "command": run.command, "finished": run.finished,
        "moved": run.moved, "bytes": run.bytes, "failed": run.failed, "took_ms": run.took_ms,
    })
}

fn shown(run: &Run) -> String {
    let (files, size) = (thousands(run.moved), units::show_size(run.bytes));
    let word = if run.moved == 1 { "file " } else { "files" };
    let mut line = format!("{}  {files:>9} {word} {size:>9}  {}", run.name, run.command);
    if run.failed > 0 {
        line.push_str(&format!("; {} failed", thousands(run.failed)));
    }
    if !run.finished {
        line.push_str("; cut short");
    }
    line
}

/// A file that was moved, for programs and for people.
fn file(line: &Line) -> Option<(Value, Vec<u8>)> {
    let Line::File { path, path_hex, from, to, bytes, .. } = line else { return None };
    let (from, to) = (Rank(*from).to_string(), Rank(*to).to_string());
    let mut object = json!({ "path": path, "from": from, "to": to, "bytes": bytes });
    if let Some(hex) = path_hex {
        object["path_hex"] = json!(hex);
    }
    let name = path_hex.as_deref().and_then(convert::unhex).unwrap_or_else(|| path.clone().into_bytes());
    let text = [name, format!(": {from} -> {to} ({})", units::show_size(*bytes)).into_bytes()].concat();
    Some((object, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_told_from_a_union() {
        assert!(is_run(&"20261121T091500-ab12".into()));
        for other in ["", "docs.yaml", "/srv/docs", "20261121T091500", "20261121T091500-a/b", "2026-11-21"] {
            assert!(!is_run(&other.into()), "{other}");
        }
    }

    #[test]
    fn a_run_that_was_cut_short_is_summed_by_its_files() {
        let file = |path: &str, hex: Option<&str>| Line::File {
            path: path.into(),
            path_hex: hex.map(String::from),
            from: 0,
            to: 1,
            bytes: 1024,
            mtime: (1, 2),
            hash: "00".into(),
        };
        let begin = Line::Begin { version: 1, run: "r".into(), started: 9, command: "migrate".into() };
        let run = summed("r".into(), &[begin, file("a", None), file("b", None)]);
        assert_eq!(shown(&run), "r          2 files      2KiB  migrate; cut short");
        assert_eq!(super::file(&file("c?", Some("63ff"))).unwrap().1, b"c\xff: primary -> secondary (1KiB)");
    }
}
