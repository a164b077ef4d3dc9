//! What cron is told to do, as far as this user may read it.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Where cron looks for what it is to do.
const PLACES: [&str; 8] = [
    "/etc/crontab",
    "/etc/cron.d",
    "/etc/cron.hourly",
    "/etc/cron.daily",
    "/etc/cron.weekly",
    "/etc/cron.monthly",
    "/var/spool/cron/crontabs",
    "/var/spool/cron",
];

/// Overrides all of them; meant for tests.
const ENVIRONMENT: &str = "TIERFS_CRON";

/// A file of cron is small.
const LEN_MAX: u64 = 1 << 20;

/// A line of a file of cron.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Job {
    /// The file.
    pub file: PathBuf,
    /// The line, with its times where the file has such.
    pub line: String,
}

impl Job {
    /// Whether it is a run of the migrator.
    pub(super) fn migrates(&self) -> bool {
        runs_tierfs(&self.line) && self.line.contains("migrate")
    }

    /// Whether it names none but the union of this mount point and configuration file. One that names nothing is
    /// about the only mount there is.
    pub(super) fn is_about(&self, point: &Path, config: Option<&Path>) -> bool {
        let words: Vec<&str> = self.line.split_ascii_whitespace().collect();
        let verb = words.iter().position(|word| *word == "migrate").unwrap_or(0);
        let names: Vec<&Path> = words[verb..]
            .iter()
            .map(|word| word.trim_matches(['"', '\'', ';']))
            .take_while(|word| !word.starts_with(['|', '>', '&', '2']))
            .filter(|word| (word.starts_with('/') || word.ends_with(".yaml")) && !word.contains(':'))
            .map(Path::new)
            .collect();
        names.is_empty() || names.iter().any(|name| name.starts_with(point) || Some(*name) == config)
    }

    /// When cron does it, as the file says it; none where the file's place says it.
    pub(super) fn times(&self) -> Option<String> {
        let mut words = self.line.split_ascii_whitespace();
        let first = words.next()?;
        if first.starts_with('@') {
            return Some(first.to_owned());
        }
        let is_time = |word: &&str| word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"*,/-".contains(&byte));
        let five: Vec<&str> = std::iter::once(first).chain(words).take(5).take_while(is_time).collect();
        let begins = first.starts_with(|letter: char| letter == '*' || letter.is_ascii_digit());
        (five.len() == 5 && begins).then(|| five.join(" "))
    }
}

/// Whether a line has tierfs for a command.
pub(super) fn runs_tierfs(line: &str) -> bool {
    line.split([' ', '\t', ';', '&', '|', '(']).any(|word| word.rsplit('/').next() == Some("tierfs"))
}

/// The runs of the migrator over the union of this mount point and configuration file.
pub(super) fn migrations(point: &Path, config: Option<&Path>) -> Vec<Job> {
    let mut all = jobs(runs_tierfs);
    all.retain(|job| job.migrates() && job.is_about(point, config));
    all
}

/// All lines of which `is_it` says yes.
pub(super) fn jobs(is_it: impl Fn(&str) -> bool) -> Vec<Job> {
    let given = std::env::var_os(ENVIRONMENT).filter(|given| !given.is_empty()).map(PathBuf::from);
    let places = given.map_or_else(|| PLACES.map(PathBuf::from).to_vec(), |given| vec![given]);
    let files = places.into_iter().flat_map(|path| match fs::read_dir(&path) {
        Ok(entries) => {
            let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
            files.sort();
            files
        }
        Err(_) => vec![path],
    });
    files.flat_map(|file| of_file(file, &is_it)).collect()
}

fn of_file(file: PathBuf, is_it: &impl Fn(&str) -> bool) -> Vec<Job> {
    let small = fs::metadata(&file).is_ok_and(|found| found.is_file() && found.len() <= LEN_MAX);
    // cron leaves such files out: packages and editors put them beside.
    let is_left_out =
        file.file_name().is_some_and(|name| name.as_bytes().contains(&b'~') || is_of_package(name.as_bytes()));
    let text = (small && !is_left_out).then(|| fs::read(&file).ok()).flatten().unwrap_or_default();
    let lines = text.split(|byte| *byte == b'\n').map(|line| String::from_utf8_lossy(line).into_owned());
    lines
        .filter(|line| !line.trim_start().starts_with('#') && is_it(line))
        .map(|line| Job { file: file.clone(), line })
        .collect()
}

fn is_of_package(name: &[u8]) -> bool {
    [&b".dpkg-"[..], b".rpmsave", b".rpmnew", b".rpmorig"]
        .iter()
        .any(|part| name.windows(part.len()).any(|at| at == *part))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(line: &str) -> Job {
        Job { file: "/etc/cron.d/x".into(), line: line.into() }
    }

    #[test]
    fn a_path_with_the_name_in_it_is_not_the_command() {
        assert!(runs_tierfs("30 1 * * * root /usr/bin/tierfs migrate -q"));
        assert!(runs_tierfs("cd /; tierfs migrate"));
        assert!(!runs_tierfs("0 3 * * * root find /mnt/tierfs/slow -delete"));
    }

    #[test]
    fn a_job_is_about_what_it_names() {
        let about = |line: &str| job(line).is_about(Path::new("/srv/docs"), Some(Path::new("/etc/tierfs/docs.yaml")));
        assert!(about("30 1 * * * root /usr/local/bin/tierfs migrate /srv/docs --older-than 1y --quiet"));
        assert!(about("30 1 * * * root tierfs migrate /srv/docs/projects > /dev/null"));
        assert!(about("30 1 * * * root tierfs migrate -q /etc/tierfs/docs.yaml"));
        assert!(about("30 1 * * * root tierfs migrate -q --older-than 1y > /dev/null"), "the only mount");
        assert!(!about("30 1 * * * root tierfs migrate -q /etc/tierfs/other.yaml"));
        assert!(!about("30 1 * * * root tierfs migrate /srv/docs2 --older-than 1y"));
    }

    #[test]
    fn times_are_told_as_they_are_written() {
        assert_eq!(job("30 1 * * *  root  tierfs migrate").times().as_deref(), Some("30 1 * * *"));
        assert_eq!(job("*/5 1-3 1,2 jan mon root tierfs migrate").times().as_deref(), Some("*/5 1-3 1,2 jan mon"));
        assert_eq!(job("@daily root tierfs migrate").times().as_deref(), Some("@daily"));
        assert_eq!(job("/usr/bin/tierfs migrate -q /srv/docs --older-than 1y").times(), None);
        assert_eq!(job("exec tierfs migrate -q /srv/docs --older-than 1y").times(), None);
    }
}
