//! A program that writes files of its own through the mount, in every way there is, and knows what
//! must be in each.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::common::fs::{put, xattr};
use crate::kit::pattern;
use crate::rng::Rng;
use crate::writers::{Alarm, OWN, Soak};

/// Where two contents begin to differ, in few words.
pub(crate) fn compare(found: &[u8], wanted: &[u8], what: &str) {
    if found != wanted {
        let at = found.iter().zip(wanted).position(|(a, b)| a != b).unwrap_or(found.len().min(wanted.len()));
        panic!("{what}: {} bytes instead of {}, different from byte {at}", found.len(), wanted.len());
    }
}

/// What a writer knows of a file of its own.
pub(crate) struct Own {
    pub(crate) path: PathBuf,
    pub(crate) content: Vec<u8>,
    pub(crate) ino: u64,
    pub(crate) mode: u32,
    pub(crate) mark: Option<Vec<u8>>,
    /// A second name.
    pub(crate) link: Option<PathBuf>,
}

pub(crate) struct Writer<'a, 'b> {
    soak: &'a Soak<'b>,
    folder: String,
    rng: Rng,
    files: Vec<Own>,
    made: u64,
}

pub(crate) fn ok<T, E: std::fmt::Display>(result: Result<T, E>, what: &str, path: &Path) -> T {
    result.unwrap_or_else(|error| panic!("{}: {what}: {error}", path.display()))
}

impl<'a, 'b> Writer<'a, 'b> {
    pub(crate) fn new(soak: &'a Soak<'b>, folder: String, seed: u64) -> Writer<'a, 'b> {
        let mut writer = Writer { soak, folder, rng: Rng::new(seed), files: Vec::new(), made: seed << 20 };
        for at in 0..OWN {
            let path = PathBuf::from(format!("{}/{}/f{at}", writer.folder, ["a", "b"][at % 2]));
            let own = writer.create(path);
            writer.files.push(own);
        }
        writer
    }

    fn bytes(&mut self, length_max: usize) -> Vec<u8> {
        self.made += 1;
        let length = self.rng.below(length_max) + 1;
        pattern(self.made, 0, length)
    }

    fn through(&self, path: &Path) -> PathBuf {
        self.soak.mount.path(path)
    }

    fn create(&mut self, path: PathBuf) -> Own {
        let content = self.bytes(150_000);
        put(self.through(&path), &content);
        let shown = ok(self.through(&path).metadata(), "stat", &path);
        Own { ino: shown.ino(), mode: shown.mode(), path, content, mark: None, link: None }
    }

    fn open(&self, at: usize) -> File {
        let path = &self.files[at].path;
        let file = ok(File::options().read(true).write(true).open(self.through(path)), "open", path);
        assert_eq!(ok(file.metadata(), "fstat", path).ino(), self.files[at].ino, "{path:?}");
        file
    }

    /// Changes contents through one open file, and perhaps asks for durability.
    fn write(&mut self, at: usize) {
        let file = self.open(at);
        for _ in 0..=self.rng.below(3) {
            let data = self.bytes(60_000);
            let own = &mut self.files[at];
            match self.rng.below(4) {
                0 | 1 => {
                    let offset = self.rng.below(own.content.len() + 10_000);
                    ok(file.write_all_at(&data, offset as u64), "write", &own.path);
                    overwrite(&mut own.content, offset, &data);
                }
                2 => {
                    let length = self.rng.below(own.content.len() + 20_000);
                    ok(file.set_len(length as u64), "ftruncate", &own.path);
                    own.content.resize(length, 0);
                }
                _ => {
                    let append = File::options().append(true).open(self.soak.mount.path(&own.path));
                    let mut append = ok(append, "open to append", &own.path);
                    ok(append.write_all(&data), "append", &own.path);
                    own.content.extend_from_slice(&data);
                }
            }
        }
        let own = &mut self.files[at];
        own.content.truncate(400_000);
        ok(file.set_len(own.content.len() as u64), "ftruncate", &own.path);
        if self.rng.below(4) == 0 {
            ok(file.sync_all(), "fsync", &own.path);
        }
        compare_open(&file, own);
    }

    fn truncate_by_path(&mut self, at: usize) {
        let length = self.rng.below(100_000);
        let own = &mut self.files[at];
        let path = self.soak.mount.path(&own.path);
        ok(nix::unistd::truncate(&path, length as i64), "truncate", &own.path);
        own.content.resize(length, 0);
    }

    /// Writes through a mapping of which no descriptor is left.
    fn map(&mut self, at: usize) {
        let own = &mut self.files[at];
        map_write(&self.soak.mount.path(&own.path), &mut own.content, &mut self.rng);
    }

    fn replace(&mut self, at: usize) {
        let old = ok(File::open(self.through(&self.files[at].path)), "open", &self.files[at].path);
        let temporary = PathBuf::from(format!("{}/a/new", self.folder));
        let new = self.create(temporary);
        let own = &mut self.files[at];
        ok(std::fs::rename(self.soak.mount.path(&new.path), self.soak.mount.path(&own.path)), "rename over", &own.path);
        if own.link.is_none() {
            compare_open(&old, own);
        }
        let former = std::mem::replace(own, Own { path: own.path.clone(), ..new });
        if let Some(link) = former.link {
            let own = Own { path: link, link: None, ..former };
            self.verify(&own);
            ok(std::fs::remove_file(self.through(&own.path)), "unlink", &own.path);
        }
    }

    fn rename(&mut self, at: usize) {
        self.made += 1;
        let to = PathBuf::from(format!("{}/{}/r{}", self.folder, ["a", "b"][self.rng.below(2)], self.made));
        let own = &mut self.files[at];
        ok(std::fs::rename(self.soak.mount.path(&own.path), self.soak.mount.path(&to)), "rename", &own.path);
        let from = std::mem::replace(&mut own.path, to);
        assert!(self.through(&from).symlink_metadata().is_err(), "{from:?} is back");
    }

    fn remove(&mut self, at: usize) {
        let own = self.files.swap_remove(at);
        for path in std::iter::once(&own.path).chain(&own.link) {
            ok(std::fs::remove_file(self.through(path)), "unlink", path);
            assert!(self.through(path).symlink_metadata().is_err(), "{path:?} is back");
        }
        self.made += 1;
        let path = PathBuf::from(format!("{}/{}/n{}", self.folder, ["a", "b"][self.rng.below(2)], self.made));
        let own = self.create(path);
        self.files.push(own);
    }

    fn link(&mut self, at: usize) {
        self.made += 1;
        let to = PathBuf::from(format!("{}/{}/l{}", self.folder, ["a", "b"][self.rng.below(2)], self.made));
        let own = &mut self.files[at];
        match own.link.take() {
            Some(link) => ok(std::fs::remove_file(self.soak.mount.path(&link)), "unlink a link", &link),
            None => {
                let (from, new) = (self.soak.mount.path(&own.path), self.soak.mount.path(&to));
                ok(std::fs::hard_link(from, new), "link", &own.path);
                own.link = Some(to);
            }
        }
    }

    fn attributes(&mut self, at: usize) {
        let mode = 0o600 + u32::try_from(self.rng.below(64)).expect("small");
        let mark = self.bytes(100);
        let own = &mut self.files[at];
        let path = self.soak.mount.path(&own.path);
        let rights = std::os::unix::fs::PermissionsExt::from_mode(mode);
        ok(std::fs::set_permissions(&path, rights), "chmod", &own.path);
        own.mode = own.mode & !0o7777 | mode;
        let set = rustix::fs::lsetxattr(&path, "user.mark", &mark, rustix::fs::XattrFlags::empty());
        ok(set, "setxattr", &own.path);
        own.mark = Some(mark);
    }

    fn step(&mut self) {
        let at = self.rng.below(self.files.len());
        match self.rng.below(16) {
            0..=4 => self.write(at),
            5 => self.truncate_by_path(at),
            6 => self.map(at),
            7 | 8 => self.replace(at),
            9 | 10 => self.rename(at),
            11 => self.remove(at),
            12 | 13 => self.link(at),
            _ => self.attributes(at),
        }
        let mut rng = self.rng.clone();
        self.verify(&self.files[rng.below(self.files.len())]);
        self.soak.rest(&mut rng, |rng| self.verify(&self.files[rng.below(self.files.len())]));
        self.rng = rng;
    }

    fn verify(&self, own: &Own) {
        for path in std::iter::once(&own.path).chain(&own.link) {
            let file = ok(File::open(self.through(path)), "open", path);
            compare_open(&file, own);
            let nlink = ok(file.metadata(), "fstat", path).nlink();
            assert_eq!(nlink, 1 + u64::from(own.link.is_some()), "{path:?}: links");
            if let Some(mark) = &own.mark {
                assert_eq!(ok(xattr(self.through(path), "user.mark"), "getxattr", path), *mark, "{path:?}");
            }
        }
    }

    pub(crate) fn work(mut self) -> Vec<Own> {
        let _alarm = Alarm(self.soak);
        let mut done = 0;
        while self.soak.on(done) {
            self.step();
            done += 1;
        }
        self.soak.end_writer();
        self.files
    }
}

pub(crate) fn overwrite(content: &mut Vec<u8>, offset: usize, data: &[u8]) {
    let end = offset + data.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset..end].copy_from_slice(data);
}

pub(crate) fn compare_open(file: &File, own: &Own) {
    let shown = ok(file.metadata(), "fstat", &own.path);
    assert_eq!((shown.ino(), shown.mode()), (own.ino, own.mode), "{:?}: number and mode", own.path);
    let mut found = vec![0; own.content.len() + 1];
    let mut at = 0;
    loop {
        match ok(file.read_at(&mut found[at..], at as u64), "read", &own.path) {
            0 => break,
            got => at += got,
        }
    }
    compare(&found[..at], &own.content, &format!("{}", own.path.display()));
}

/// Changes one stretch of a file by a mapping that outlives its descriptor.
pub(crate) fn map_write(path: &Path, content: &mut [u8], rng: &mut Rng) {
    if content.is_empty() {
        return;
    }
    let offset = rng.below(content.len());
    let length = (rng.below(9000) + 1).min(content.len() - offset);
    let byte = u8::try_from(rng.below(255)).expect("a byte");
    // By its standard input it goes on without an open file.
    let words = format!("mmap -rw 0 {}\nclose\nmwrite -S {byte} {offset} {length}\nmunmap\n", content.len());
    let mut command = Command::new("xfs_io");
    command.arg(path).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("xfs_io runs");
    child.stdin.take().expect("a pipe").write_all(words.as_bytes()).expect("words for xfs_io");
    let output = child.wait_with_output().expect("xfs_io ends");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.is_empty(), "{path:?}: {said}");
    content[offset..offset + length].fill(byte);
}
