//! `tierfs pins`.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use crate::cli::exit::{Exit, Failure, Outcome};
use crate::cli::pin::Pinned;
use crate::cli::{complain, named, pin, print_json, print_line, target};
use crate::types::errno::Errno;
use crate::types::ids::Rank;

/// Lists what is pinned, and to which tier. Looks at every file below PATH.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tierfs pins                           of the only mount there is
  tierfs pins /srv/docs/projects
  tierfs pins --json /srv/docs | jq -r .path

Exit codes:
  0 all looked at   1 error   2 wrong usage   3 some could not be looked at")]
pub struct Pins {
    /// A file or directory in a mounted tierfs
    #[arg(value_name = "PATH")]
    path: Option<PathBuf>,
    /// One JSON object a line: path and tier; path_hex where the path is no UTF-8
    #[arg(long)]
    json: bool,
}

impl Pins {
    /// Walks and prints.
    ///
    /// # Errors
    /// Where the path is in no mount.
    pub fn run(self) -> Outcome {
        let top = match self.path {
            Some(path) => {
                target::spot_of(&path)?;
                path
            }
            None => target::only_mount("mount it first: pins are in a mount, on its files and directories")?,
        };
        let dev = fs::symlink_metadata(&top).map(|found| found.dev());
        let dev = dev.map_err(|error| Failure::error(format!("{}: {error}", top.display())))?;
        let mut failures = 0;
        let mut left = vec![top];
        while let Some(path) = left.pop() {
            match look(&path, dev, &mut left) {
                Ok(Some(rank)) if self.json => {
                    let mut object = named("path", path.as_os_str().as_bytes());
                    object["tier"] = json!(rank.to_string());
                    print_json(&object)?;
                }
                Ok(Some(rank)) => {
                    let word = format!("{:<10} ", rank.to_string());
                    print_line(&[word.as_bytes(), path.as_os_str().as_bytes()].concat())?;
                }
                Ok(None) => {}
                Err(why) => {
                    failures += 1;
                    let path = path.as_os_str().as_bytes();
                    complain(&[path, b": ", why.as_bytes()].concat());
                }
            }
        }
        Ok(if failures == 0 { Exit::Ok } else { Exit::Partial })
    }
}

/// The pin of a path. What is below it is added to `left`, so that names come in their order.
fn look(path: &Path, dev: u64, left: &mut Vec<PathBuf>) -> Result<Option<Rank>, String> {
    let why = |error: std::io::Error| target::why(Errno::of(&error));
    let found = fs::symlink_metadata(path).map_err(why)?;
    if found.dev() != dev || !(found.is_dir() || found.is_file()) {
        return Ok(None);
    }
    let pin = pin::get(path);
    if found.is_dir() {
        let mut below = Vec::new();
        for entry in fs::read_dir(path).map_err(why)? {
            below.push(entry.map_err(why)?.path());
        }
        below.sort_by(|a, b| b.cmp(a));
        left.extend(below);
    }
    match pin.map_err(target::why)? {
        Some(Pinned::To(rank)) => Ok(Some(rank)),
        Some(Pinned::Unclear) => Err("its pin names no tier, so it stays where it is: pin it again".into()),
        None => Ok(None),
    }
}
