//! `tierfs demo`.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use clap::Args;

use crate::cli::exit::{Exit, Failure, Outcome};
use crate::cli::{print, where_is};
use crate::config::spec;
use crate::sys::{mount, process};

/// Makes two small tiers with documents of several ages in a temporary directory, mounts them as
/// one tree, writes a new file, moves what is older than a year to the slow tier, shows that the
/// tree is still the same, and cleans up. Changes nothing else; needs no root where fusermount3 is
/// installed.
#[derive(Debug, Args)]
pub struct Demo {}

/// Tier, path, age in days, content.
const DOCUMENTS: [(&str, &str, u64, &str); 6] = [
    ("fast", "contracts/2026-lease.txt", 3, "The lease of this year.\n"),
    ("fast", "letters/reply.txt", 12, "Thank you for your letter.\n"),
    ("fast", "notes.txt", 40, "Call the landlord.\n"),
    ("fast", "contracts/2019-lease.txt", 2500, "The lease of 2019.\n"),
    ("fast", "contracts/2021-lease.txt", 1800, "The lease of 2021.\n"),
    ("slow", "archive/minutes-2015.txt", 4000, "Minutes of the meeting.\n"),
];

const NEW: &str = "letters/new.txt";

const FAREWELL: &str = "\
Unmounted, and the temporary directory is gone.

Your turn:
  tierfs mount /fast/docs:/slow/docs /srv/docs
  tierfs migrate /srv/docs --older-than 1y --dry-run
";

/// Everything the demo made; dropped, it is gone.
struct Stage {
    dir: Option<tempfile::TempDir>,
    root: PathBuf,
}

impl Drop for Stage {
    fn drop(&mut self) {
        let mountpoint = self.root.join("docs");
        if mount::is_mounted(&mountpoint) {
            let ended = mount::unmount(&mountpoint, false);
            if ended.is_err() && mount::unmount(&mountpoint, true).is_err() {
                // Deleting would reach through the mount, so the rest is left to the user.
                let kept = self.dir.take().map(tempfile::TempDir::keep);
                if let Some(path) = kept {
                    eprintln!("tierfs: left behind, still mounted: {}", path.display());
                }
            }
        }
    }
}

impl Demo {
    /// Runs through it once.
    ///
    /// # Errors
    /// The step that failed. Everything is cleaned up then, too.
    pub fn run(self) -> Outcome {
        process::catch_stop().map_err(|errno| Failure::error(format!("sigaction: {errno}")))?;
        let dir = tempfile::Builder::new().prefix("tierfs-demo-").tempdir();
        let dir = dir.map_err(|error| Failure::error(format!("the temporary directory: {error}")))?;
        let stage = Stage { root: dir.path().to_path_buf(), dir: Some(dir) };
        let steps: [fn(&Path) -> Result<String, Failure>; 5] = [prepare, mount_it, look, write_new, migrate];
        for step in steps {
            let told = step(&stage.root)?;
            print(&told)?;
            if process::should_stop() {
                return Err(Failure { line: "interrupted; cleaned up".into(), code: 130 });
            }
        }
        drop(stage);
        print(FAREWELL)?;
        Ok(Exit::Ok)
    }
}

fn failed(what: &Path) -> impl Fn(std::io::Error) -> Failure + '_ {
    move |error| Failure::error(format!("{}: {error}", what.display()))
}

fn prepare(root: &Path) -> Result<String, Failure> {
    for (tier, name, days, text) in DOCUMENTS {
        let path = root.join(tier).join(name);
        let make = || {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::write(&path, text)?;
            let time = SystemTime::now() - Duration::from_secs(days * 24 * 3600);
            let times = fs::FileTimes::new().set_accessed(time).set_modified(time);
            fs::File::options().write(true).open(&path)?.set_times(times)
        };
        make().map_err(failed(&path))?;
    }
    let mountpoint = root.join("docs");
    fs::create_dir(&mountpoint).map_err(failed(&mountpoint))?;
    Ok(format!(
        "Two tiers, one fast and one slow, with documents of several ages:\n{}{}\n",
        tree(&root.join("fast"), "  fast")?,
        tree(&root.join("slow"), "  slow")?
    ))
}

fn mount_it(root: &Path) -> Result<String, Failure> {
    let (fast, slow, mountpoint) = (root.join("fast"), root.join("slow"), root.join("docs"));
    let tiers = spec::show([fast.as_path(), slow.as_path()]);
    tierfs(&["mount".as_ref(), "--".as_ref(), &tiers, mountpoint.as_os_str()])?;
    Ok(format!("$ tierfs mount {} {}\n\n", tiers.display(), mountpoint.display()))
}

/// Runs this program and returns what it prints.
fn tierfs(arguments: &[&OsStr]) -> Result<String, Failure> {
    let program =
        std::env::current_exe().map_err(|error| Failure::error(format!("this program's own file: {error}")))?;
    let output = Command::new(program).args(arguments).output();
    let output = output.map_err(|error| Failure::error(format!("tierfs: {error}")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim().trim_start_matches("tierfs: ").to_string();
    let code = output.status.code().and_then(|code| u8::try_from(code).ok());
    Err(Failure { line: said, code: code.unwrap_or(Exit::Error as u8) })
}

fn migrate(root: &Path) -> Result<String, Failure> {
    let mountpoint = root.join("docs");
    let before = snapshot(&mountpoint)?;
    let said = tierfs(&["migrate".as_ref(), mountpoint.as_os_str(), "--older-than".as_ref(), "1y".as_ref()])?;
    let mut text = format!("$ tierfs migrate {} --older-than 1y\n{said}\n", mountpoint.display());
    text.push_str("What is older than a year is on the slow tier now:\n");
    for name in before.keys() {
        text.push_str(&whereabouts(&mountpoint, name)?);
    }
    let mut same = snapshot(&mountpoint)? == before;
    for (_, name, _, content) in DOCUMENTS {
        let path = mountpoint.join(name);
        same &= fs::read_to_string(&path).map_err(failed(&path))? == content;
    }
    if !same {
        return Err(Failure::error("the tree has changed by the move: please report this"));
    }
    let count = before.len();
    text.push_str(&format!(
        "\nPrograms see the same tree as before: {count} files compared by name, inode number, size, mode, owner,\ntimes and contents, no difference.\n\n"
    ));
    Ok(text)
}

/// What programs see of the files below a directory without reading them, which would make them
/// young.
fn snapshot(top: &Path) -> Result<BTreeMap<String, Vec<i64>>, Failure> {
    let mut files = BTreeMap::new();
    let mut dirs = vec![top.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).map_err(failed(&dir))? {
            let path = entry.map_err(failed(&dir))?.path();
            let seen = fs::symlink_metadata(&path).map_err(failed(&path))?;
            if seen.is_dir() {
                dirs.push(path);
                continue;
            }
            let numbers =
                [seen.ino(), seen.size(), u64::from(seen.mode()), u64::from(seen.uid()), u64::from(seen.gid())];
            let times = [seen.mtime(), seen.mtime_nsec(), seen.ctime(), seen.ctime_nsec()];
            let facts = numbers.iter().map(|number| number.cast_signed()).chain(times).collect();
            let name = path.strip_prefix(top).unwrap_or(&path).display().to_string();
            files.insert(name, facts);
        }
    }
    Ok(files)
}

fn look(root: &Path) -> Result<String, Failure> {
    let mountpoint = root.join("docs");
    let mut text = format!("The mount shows both as one tree:\n{}\n", tree(&mountpoint, "  docs")?);
    text.push_str("Each file stays an ordinary file on its tier (tierfs where):\n");
    let mut names: Vec<&str> = DOCUMENTS.iter().map(|(_, name, ..)| *name).collect();
    names.sort_unstable();
    for name in names {
        text.push_str(&whereabouts(&mountpoint, name)?);
    }
    text.push('\n');
    Ok(text)
}

fn write_new(root: &Path) -> Result<String, Failure> {
    let path = root.join("docs").join(NEW);
    fs::write(&path, "Written through the mount.\n").map_err(failed(&path))?;
    let real = root.join("fast").join(NEW);
    let mut content = String::new();
    let read = fs::File::open(&real).and_then(|mut file| file.read_to_string(&mut content));
    read.map_err(failed(&real))?;
    Ok(format!(
        "A new file, docs/{NEW}, lands on the primary:\n{}  and there it says: {content}\n",
        whereabouts(&root.join("docs"), NEW)?
    ))
}

fn whereabouts(mountpoint: &Path, name: &str) -> Result<String, Failure> {
    let copies = where_is::copies(&mountpoint.join(name))?;
    let copies = copies.iter().map(|copy| format!("{:<9} {}", copy.tier, copy.path.display()));
    Ok(format!("  {name:<26} {}\n", copies.collect::<Vec<_>>().join(", ")))
}

/// The names below `dir`, two spaces a level, each file with its age.
fn tree(dir: &Path, title: &str) -> Result<String, Failure> {
    let mut text = format!("{title}/\n");
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed(dir))? {
        names.push(entry.map_err(failed(dir))?.path());
    }
    names.sort();
    let indent = " ".repeat(title.len() - title.trim_start().len() + 2);
    for path in names {
        let name = path.file_name().unwrap_or_default().display().to_string();
        let metadata = fs::symlink_metadata(&path).map_err(failed(&path))?;
        if metadata.is_dir() && name != crate::types::name::PRIVATE_DIR {
            text.push_str(&tree(&path, &format!("{indent}{name}"))?);
        } else if metadata.is_file() {
            let age = metadata.modified().ok().and_then(|time| time.elapsed().ok());
            let days = age.unwrap_or_default().as_secs() / (24 * 3600);
            let line = format!("{indent}{name}");
            text.push_str(&format!("{line:<34} {days:>5} days old\n"));
        }
    }
    Ok(text)
}
