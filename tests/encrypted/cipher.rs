//! What these tests share: unions of encrypted tiers, and where ciphertext lies.

use std::path::{Path, PathBuf};
use std::process::Output;

use crate::common::mount::{Setup, TestMount};
use crate::common::setting::Encrypted;
use crate::common::trees;
use crate::common::volume::{Flavour, Volume};
use crate::common::wait;

/// The size of a block of ciphertext with AES-GCM or AES-SIV, and of the header of a file.
pub(crate) const BLOCK: u64 = 4128;
pub(crate) const HEADER: u64 = 18;

/// Two encrypted tiers of this kind.
pub(crate) fn union(flavour: Flavour) -> Setup {
    Setup::new().encrypted(Encrypted::all().flavour(flavour))
}

/// The volume of that rank.
pub(crate) fn volume(setup: &Setup, rank: usize) -> Volume {
    Volume::at(&setup.place(rank), &setup.home().join("passphrase"))
}

/// The path of the ciphertext of what the mount shows as `path`.
pub(crate) fn real(mount: &TestMount, rank: usize, path: &str) -> PathBuf {
    let output = wait::output(mount.tierfs().args(["where", "--json"]).arg(mount.path(path)));
    let line: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    let real = line["realpath"].as_str().unwrap_or_else(|| panic!("{line}"));
    let real = PathBuf::from(real);
    assert!(real.starts_with(mount.place(rank, "")), "{path} is at {real:?}");
    real
}

/// A command of the program on this union.
pub(crate) fn tierfs(setup: &Setup, words: &[&str]) -> Output {
    wait::output(setup.tierfs().args(words).env_remove("TIERFS_LOG"))
}

/// What a command printed, both ways.
pub(crate) fn told(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Changes a byte of a file.
pub(crate) fn flip(path: &Path, at: u64) {
    use std::os::unix::fs::FileExt;
    let file =
        std::fs::File::options().read(true).write(true).open(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("a byte to flip");
    file.write_all_at(&[byte[0] ^ 0x40], at).expect("write");
}

/// Block after block: its bytes, or `None` where reading it is an error, which must be EIO.
pub(crate) fn blocks(path: &Path) -> Vec<Option<Vec<u8>>> {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::open(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let size = file.metadata().expect("fstat").len();
    let mut found = Vec::new();
    for start in (0..size).step_by(4096) {
        let mut bytes = vec![0; 4096.min((size - start) as usize)];
        match file.read_exact_at(&mut bytes, start) {
            Ok(()) => found.push(Some(bytes)),
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(5), "{path:?} at {start}: {error}");
                found.push(None);
            }
        }
    }
    found
}

/// The blocks of what `trees::bytes` gives.
pub(crate) fn expected(tag: usize, length: usize) -> Vec<Option<Vec<u8>>> {
    trees::bytes(tag, length).chunks(4096).map(|chunk| Some(chunk.to_vec())).collect()
}
