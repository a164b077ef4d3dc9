//! `tierfs where`.

use std::ffi::{CStr, CString, OsString};
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use crate::cli::exit::{Exit, Failure, Outcome};
use crate::cli::{absolute, complain, named, print_json, print_line, target};
use crate::sys::{by_path, xattr};
use crate::types::errno::Errno;
use crate::types::ids::Rank;

/// All copies, as the mount answers: `rank TAB path NUL` for each, fastest first.
const COPIES: &CStr = c"user.tierfs.copies";

/// Tells which tier holds a file and its real path there. A path may be on several tiers: the
/// visible copy is the one programs see, the others are shadowed by it. Of a directory, every tier
/// that holds it is told.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tierfs where /srv/docs/report.pdf
  tierfs where --json /srv/docs/*.pdf | jq -r 'select(.tier == \"secondary\") | .path'
  getfattr -n user.tierfs.tier /srv/docs/report.pdf     the same without tierfs

Exit codes:
  0 all told   1 none told   2 wrong usage   3 some told")]
pub struct Where {
    /// Files or directories in a mounted tierfs
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    /// One JSON object a line: path, tier, realpath, shadowed (a list of tier and realpath); what is no
    /// UTF-8 also in hexadecimal, as path_hex or realpath_hex
    #[arg(long)]
    json: bool,
}

/// One copy of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileCopy {
    /// The tier's name: `primary`, `secondary`, `tier2` …
    pub tier: String,
    /// Where it is.
    pub path: PathBuf,
}

impl Where {
    /// Prints what each path's mount answers.
    ///
    /// # Errors
    /// Where no path could be told.
    pub fn run(self) -> Outcome {
        let mut failures = 0;
        for path in &self.paths {
            match copies(path) {
                Ok(copies) if self.json => print_json(&as_json(path, &copies))?,
                Ok(copies) => as_lines(path, &copies).iter().try_for_each(|line| print_line(line))?,
                Err(failure) => {
                    failures += 1;
                    complain(failure.line.as_bytes());
                }
            }
        }
        match failures {
            0 => Ok(Exit::Ok),
            all if all == self.paths.len() => Err(Failure::error("")),
            _ => Ok(Exit::Partial),
        }
    }
}

/// The copies of `path`, the visible one first.
///
/// # Errors
/// One line that names the path.
pub fn copies(path: &Path) -> Result<Vec<FileCopy>, Failure> {
    let fail = |why: String| Failure::error(format!("{}: {why}", path.display()));
    let found = match ask(path) {
        // The kernel refuses `user.` attributes on links and devices without asking the mount, so
        // the directory above is asked about the name.
        Err(Errno::ENODATA | Errno::EPERM | Errno::EOPNOTSUPP) if !has_attributes(path) => beside(path),
        other => other,
    };
    match found {
        Ok(copies) if !copies.is_empty() => Ok(copies),
        Ok(_) | Err(Errno::ENODATA | Errno::EOPNOTSUPP | Errno::EPERM) => {
            Err(fail("is not in a mounted tierfs: mount it first, and name the path in the mount".into()))
        }
        Err(errno) => Err(fail(target::why(errno))),
    }
}

fn ask(path: &Path) -> Result<Vec<FileCopy>, Errno> {
    let file = by_path::hold(path)?;
    xattr::get(file.as_fd(), None, COPIES).map(|bytes| parse(&bytes))
}

fn has_attributes(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file() || metadata.is_dir())
}

fn beside(path: &Path) -> Result<Vec<FileCopy>, Errno> {
    let path = std::path::absolute(path).map_err(|error| Errno::of(&error))?;
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Errno::ENODATA);
    };
    let parent = by_path::hold(&fs::canonicalize(parent).map_err(|error| Errno::of(&error))?)?;
    let key = CString::new([COPIES.to_bytes(), b":", name.as_bytes()].concat()).map_err(|_| Errno::EINVAL)?;
    xattr::get(parent.as_fd(), None, &key).map(|bytes| parse(&bytes))
}

fn parse(bytes: &[u8]) -> Vec<FileCopy> {
    let entries = bytes.split(|byte| *byte == 0).filter(|entry| !entry.is_empty());
    let copies = entries.filter_map(|entry| {
        let tab = entry.iter().position(|byte| *byte == b'\t')?;
        let tier = String::from_utf8_lossy(&entry[..tab]).into_owned();
        let tier = tier.parse::<u8>().map_or(tier, |rank| Rank(rank).to_string());
        let path = OsString::from_vec(entry[tab + 1..].to_vec()).into();
        Some(FileCopy { tier, path })
    });
    copies.collect()
}

/// The bytes of the paths as they are, so that a pipe gets the true names.
fn as_lines(path: &Path, copies: &[FileCopy]) -> Vec<Vec<u8>> {
    let is_dir = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir());
    let also: &[u8] = if is_dir { b"  also on " } else { b"  shadowed on " };
    let first = [path.as_os_str().as_bytes(), b": "].concat();
    let before = std::iter::once(first.as_slice()).chain(std::iter::repeat(also));
    let line = |(before, copy): (&[u8], &FileCopy)| {
        [before, copy.tier.as_bytes(), b" ", copy.path.as_os_str().as_bytes()].concat()
    };
    before.zip(copies).map(line).collect()
}

fn as_json(path: &Path, copies: &[FileCopy]) -> Value {
    let real = |copy: &FileCopy| {
        let mut object = named("realpath", copy.path.as_os_str().as_bytes());
        object["tier"] = json!(copy.tier);
        object
    };
    let path = absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let mut object = named("path", path.as_os_str().as_bytes());
    let first = copies.first().map(real).unwrap_or_default();
    // What is no text has a member of its own, with its bytes.
    for key in ["tier", "realpath", "realpath_hex"] {
        if let Some(value) = first.get(key) {
            object[key] = value.clone();
        }
    }
    object["shadowed"] = copies.iter().skip(1).map(real).collect();
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy(tier: &str, path: &str) -> FileCopy {
        FileCopy { tier: tier.into(), path: path.into() }
    }

    #[test]
    fn copies_are_read_by_name_or_number() {
        let bytes = b"primary\t/fast/a\tb\x001\t/slow/a\tb\x00tier2\t/cold\0junk\0";
        let copies = parse(bytes);
        let expected = [copy("primary", "/fast/a\tb"), copy("secondary", "/slow/a\tb"), copy("tier2", "/cold")];
        assert_eq!(copies, expected);
    }

    #[test]
    fn copies_are_told_visible_one_first() {
        let copies = [copy("primary", "/f/a"), copy("secondary", "/s/a")];
        let lines = as_lines(Path::new("/m/a"), &copies);
        assert_eq!(lines, [&b"/m/a: primary /f/a"[..], b"  shadowed on secondary /s/a"]);
        let value = as_json(Path::new("/m/a"), &copies);
        assert_eq!(value["tier"], "primary");
        assert_eq!(value["shadowed"][0]["realpath"], "/s/a");
        assert!(value.get("path_hex").is_none(), "{value}");
    }

    #[test]
    fn what_is_no_text_is_told_byte_by_byte_as_well() {
        let odd = |above: &str| PathBuf::from(OsString::from_vec([above.as_bytes(), b"/\xff"].concat()));
        let copies = ["/f", "/s"].map(|root| FileCopy { tier: "primary".into(), path: odd(root) });
        let value = as_json(&odd("/m"), &copies);
        assert_eq!((&value["path_hex"], &value["realpath_hex"]), (&json!("2f6d2fff"), &json!("2f662fff")));
        assert_eq!(value["shadowed"][0]["realpath_hex"], "2f732fff");
    }

    #[test]
    fn a_file_elsewhere_is_told_so() {
        let dir = tempfile::tempdir().unwrap();
        let told = copies(dir.path()).unwrap_err().line;
        assert!(told.contains("is not in a mounted tierfs: mount it first"), "{told}");
        std::os::unix::fs::symlink("nowhere", dir.path().join("link")).unwrap();
        let told = copies(&dir.path().join("link")).unwrap_err().line;
        assert!(told.contains("is not in a mounted tierfs: mount it first"), "{told}");
        let told = copies(&dir.path().join("absent")).unwrap_err().line;
        assert!(told.ends_with("No such file or directory"), "{told}");
    }
}
