//! `tierfs history`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::exit::{Exit, Failure, Outcome};
use crate::cli::output::thousands;
use crate::cli::{print_json, print_line, run, target};
use crate::migrate::manifest::{self, Line};
use crate::migrate::scan;
use crate::tier::Dir;
use crate::types::errno::Errno;
use crate::types::hex;
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
  0 told   1 error   2 wrong usage   3 some could not be read
  77 wrong passphrase")]
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
    state: State,
    moved: u64,
    bytes: u64,
    failed: u64,
    took_ms: u64,
}

/// How far a run has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    /// It has not written its last line: a crash, or it is not that far yet.
    #[default]
    CutShort,
    /// That, and something is at work.
    AtWork,
    /// A limit, a user or errors ended it.
    Stopped,
    /// All that was planned was dealt with.
    Done,
}

impl History {
    /// Prints.
    ///
    /// # Errors
    /// Where the manifests cannot be read.
    pub fn run(self) -> Outcome {
        let (runs, unions) = told_apart(&self.words, &|word| Path::new(word).exists());
        if runs.len() > 1 || unions.len() > 1 {
            let what = if runs.len() > 1 { "two runs" } else { "two unions" };
            return Err(Failure::new(Exit::Usage, format!("{what} are named: name one (see tierfs history --help)")));
        }
        let target = target::find(unions.first().map(|union| union.as_os_str()))?;
        let primary = target.primary()?;
        let fail = |errno: Errno| {
            let hint = if errno == Errno::EACCES { ": run this with sudo" } else { "" };
            Failure::error(format!("{}/.tierfs/{}: {errno}{hint}", primary.path.display(), manifest::DIRECTORY))
        };
        let tier = scan::open_to_read(&primary, Rank::PRIMARY).map_err(fail)?;
        let root = tier.root();
        let Some(name) = runs.first().and_then(|run| run.to_str()) else {
            // Asked before the manifests are read: a run that ends meanwhile has its last line then.
            let at_work = run::is_at_work(&target, &[(Rank::PRIMARY, primary.clone())]);
            return self.list(root.as_ref(), at_work, &fail);
        };
        let lines = manifest::read(root.as_ref(), name).map_err(fail)?;
        let lines = lines.ok_or_else(|| {
            Failure::error(format!(
                "{name}: there is no such run of {}; `tierfs history` lists them",
                primary.path.display()
            ))
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

    fn list(&self, root: &dyn Dir, at_work: bool, fail: &dyn Fn(Errno) -> Failure) -> Outcome {
        let names = manifest::runs(root).map_err(fail)?;
        let newest = names.last().cloned();
        for name in names {
            let lines = manifest::read(root, &name).map_err(fail)?.unwrap_or_default();
            // One run is at work at a time, so no older one can be.
            let may_work = at_work && newest.as_ref() == Some(&name);
            let run = summed(name, &lines, may_work);
            if self.json {
                print_json(&object(&run))?;
            } else {
                print_line(shown(&run).as_bytes())?;
            }
        }
        Ok(Exit::Ok)
    }
}

/// The runs and the unions among the words. Of two words one is a run: where none looks like one, that
/// is what can be no union.
fn told_apart<'a>(words: &'a [OsString], exists: &dyn Fn(&OsStr) -> bool) -> (Vec<&'a OsString>, Vec<&'a OsString>) {
    let none = !words.iter().any(is_run);
    let is_union = |word: &OsString| {
        let file = [".yaml", ".yml"].iter().any(|ending| word.as_bytes().ends_with(ending.as_bytes()));
        file || word.as_bytes().iter().any(|byte| matches!(byte, b':' | b'/')) || exists(word)
    };
    words.iter().partition(|word| is_run(word) || (words.len() == 2 && none && !is_union(word)))
}

/// Whether a word is the name of a run and not of a union: a time in digits and four more.
fn is_run(word: &OsString) -> bool {
    let Some((time, more)) = word.to_str().and_then(|word| word.split_once('-')) else { return false };
    let digits = time.bytes().enumerate().all(|(at, byte)| if at == 8 { byte == b'T' } else { byte.is_ascii_digit() });
    time.len() == 15 && digits && !more.is_empty() && more.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// What the files come to, or what the last line says.
fn summed(name: String, lines: &[Line], may_work: bool) -> Run {
    let state = if may_work { State::AtWork } else { State::CutShort };
    let mut run = Run { name, state, ..Run::default() };
    for line in lines {
        match line {
            Line::Begin { started, command, .. } => (run.started, run.command) = (*started, command.clone()),
            Line::File { bytes, .. } => {
                run.moved += 1;
                run.bytes += bytes;
            }
            Line::End { done, moved, bytes, failed, took_ms, .. } => {
                (run.moved, run.bytes, run.failed, run.took_ms) = (*moved, *bytes, *failed, *took_ms);
                run.state = if *done { State::Done } else { State::Stopped };
            }
        }
    }
    run
}

fn object(run: &Run) -> Value {
    json!({
        "run": run.name, "started": run.started, "command": run.command,
        "finished": matches!(run.state, State::Done | State::Stopped), "stopped": run.state == State::Stopped,
        "at_work": run.state == State::AtWork,
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
    line.push_str(match run.state {
        State::Done => "",
        State::Stopped => "; stopped before its end",
        State::AtWork => "; at work",
        State::CutShort => "; cut short",
    });
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
    let name = path_hex.as_deref().and_then(hex::read).unwrap_or_else(|| path.clone().into_bytes());
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
    fn of_two_words_one_is_a_run() {
        let runs = |words: &[&str]| {
            let words: Vec<OsString> = words.iter().map(OsString::from).collect();
            let (runs, unions) = told_apart(&words, &|word| word == "here");
            (runs.len(), unions.len())
        };
        assert_eq!(runs(&["20261121T091500-ab12", "here"]), (1, 1));
        assert_eq!(runs(&["nosuchrun", "c.yaml"]), (1, 1));
        assert_eq!(runs(&["here", "nosuchrun"]), (1, 1));
        assert_eq!(runs(&["/a:/b", "here"]), (0, 2));
        assert_eq!(runs(&["one", "two"]), (2, 0));
        assert_eq!(runs(&["alone"]), (0, 1));
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
        let mut lines = vec![begin, file("a", None), file("b", None)];
        let run = summed("r".into(), &lines, true);
        assert_eq!(shown(&run), "r          2 files      2KiB  migrate; at work");
        let run = summed("r".into(), &lines, false);
        assert_eq!(shown(&run), "r          2 files      2KiB  migrate; cut short");
        lines.push(Line::End { done: false, moved: 2, bytes: 2048, skipped: 0, failed: 0, took_ms: 1 });
        let run = summed("r".into(), &lines, true);
        assert_eq!(shown(&run), "r          2 files      2KiB  migrate; stopped before its end");
        assert_eq!((&object(&run)["finished"], &object(&run)["stopped"]), (&json!(true), &json!(true)));
        assert_eq!(super::file(&file("c?", Some("63ff"))).unwrap().1, b"c\xff: primary -> secondary (1KiB)");
    }
}
