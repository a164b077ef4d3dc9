//! What two trees would hide from each other as tiers of one union: the report before adopting.

use crate::check::{self, Depth, Finding, Newer, Options, What, Words};
use crate::migrate::scan::Progress;
use crate::tier::place::Place;
use crate::types::errno::Errno;
use crate::types::ids::Rank;
use crate::types::path::UnionPath;

/// Threads: the trees may be on different disks, and a disk answers several questions sooner.
const THREADS: usize = 4;

/// Looks through the trees below `places`, fastest first, and passes on a line for each conflict;
/// returns how many there are. Follows no link.
///
/// # Errors
/// Where no thread can be started.
pub fn find(places: &[Place], mut each: impl FnMut(&str)) -> Result<usize, Errno> {
    let roots: Vec<(Rank, Place)> = (0u8..).map(Rank).zip(places.iter().cloned()).collect();
    let progress = Progress::default();
    let options =
        Options { depth: Depth::Names, threads: THREADS, progress: &progress, in_use: false, at_work: &|| false };
    let found = check::run(&roots, &[UnionPath::root()], &options)?.findings;
    found.iter().for_each(|finding| each(&line(finding, &roots)));
    Ok(found.len())
}

fn line(finding: &Finding, roots: &[(Rank, Place)]) -> String {
    let matter = match &finding.what {
        What::Shadowed { visible, hidden, compared } => {
            let alike = (visible.1.size, visible.1.mtime) == (hidden.1.size, hidden.1.mtime);
            let how = match compared.newer {
                Newer::Hidden => "the hidden copy is NEWER",
                Newer::Visible | Newer::Neither if alike => "same size and time",
                Newer::Visible | Newer::Neither => "size or time differ",
            };
            format!("the copy on {} hides that on {} ({how})", visible.0, hidden.0)
        }
        _ => Words { finding, roots }.matter(),
    };
    format!("{}: {matter}", if finding.path.is_root() { "/".into() } else { finding.path.to_string() })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::time::{Duration, SystemTime};

    use super::*;

    fn file(root: &Path, path: &str, bytes: &str, age: u64) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 - age)).unwrap();
    }

    #[test]
    fn everything_that_hides_something_is_told() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for root in [a.path(), b.path()] {
            file(root, "dir/alike", "x", 9);
            file(root, ".tierfs/marker", "private", 0);
            fs::create_dir_all(root.join("merged/empty")).unwrap();
        }
        file(a.path(), "dir/newer", "old", 9);
        file(b.path(), "dir/newer", "new", 1);
        file(a.path(), "dir/differ", "1", 1);
        file(b.path(), "dir/differ", "22", 9);
        file(a.path(), "kind", "a file", 1);
        file(b.path(), "kind/below", "never seen", 1);
        file(a.path(), "dir/Case", "", 1);
        file(b.path(), "dir/case", "", 1);
        file(b.path(), "alone", "", 1);
        let mut told = Vec::new();
        let count =
            find(&[a.path(), b.path()].map(|root| Place::plain(root.into())), |line| told.push(line.to_owned()))
                .unwrap();
        told.sort();
        let start = "the copy on primary hides that on secondary";
        let expected = [
            "dir/alike: ? (same size and time)",
            "dir/differ: ? (size or time differ)",
            "dir/newer: ? (the hidden copy is NEWER)",
            "dir: names that differ only in case, one to Windows programs: Case (primary), case (secondary)",
            "kind: a file on primary hides a directory on secondary with everything below it",
        ];
        assert_eq!(told, expected.map(|line| line.replace('?', start)));
        assert_eq!(count, 5);
    }
}
