//! A program that works on the tiers directly, beside the mount.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::common::{fs as short, wait};
use crate::rng::Rng;
use crate::writer::sync_dir;

const FILES: usize = 6;
const DIR: &str = "beside";

/// What may be in each of its files: the last tag is the newest.
#[derive(Debug)]
pub(crate) struct Beside {
    roots: Vec<PathBuf>,
    possible: Vec<Vec<u64>>,
    done: Vec<usize>,
    rng: Rng,
    next: u64,
    pub(crate) steps: usize,
    /// Times that what was acknowledged was there but hidden by a copy on the faster tier: a file that
    /// is written on the slower one in the moment in which it is promoted.
    pub(crate) hidden: usize,
}

fn block(tag: u64) -> Vec<u8> {
    tag.to_le_bytes().iter().copied().cycle().take(4096).collect()
}

fn path(root: &Path, at: usize) -> PathBuf {
    root.join(DIR).join(format!("b{at}"))
}

impl Beside {
    /// On plain tiers only: what it is given.
    pub(crate) fn new(roots: &[PathBuf], seed: u64) -> Beside {
        for at in 0..FILES {
            short::put(path(&roots[0], at), block(0));
        }
        let (possible, done) = (vec![vec![0]; FILES], vec![0; FILES]);
        Beside { roots: roots.to_vec(), possible, done, rng: Rng::new(seed), next: 0, steps: 0, hidden: 0 }
    }

    pub(crate) fn work(&mut self, stop: &AtomicBool, cutting: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            match self.step(cutting) {
                Ok(()) => self.steps += 1,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(_) => return,
            }
            let pause = std::time::Duration::from_micros(self.rng.below(6000) as u64);
            let _never = wait::within(pause, || None::<()>);
        }
    }

    fn step(&mut self, cutting: &AtomicBool) -> io::Result<()> {
        let at = self.rng.below(FILES);
        // As a person would: where the file is seen. A tier that fails is no tier without the file.
        let mut seen = None;
        for root in self.roots.iter().rev() {
            match path(root, at).symlink_metadata() {
                Ok(_) => seen = Some(root.clone()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let Some(root) = seen else { return Ok(()) };
        let there = path(&root, at);
        let tag = self.next + 1;
        if self.rng.below(3) == 0 {
            let new = there.with_extension("new");
            let file = File::create(&new)?;
            file.write_all_at(&block(tag), 0)?;
            file.sync_all()?;
            self.issue(at, tag);
            std::fs::rename(&new, &there)?;
            self.done[at] = self.possible[at].len() - 1;
            sync_dir(&root.join(DIR))?;
        } else {
            let file = File::options().write(true).open(&there)?;
            self.issue(at, tag);
            file.write_all_at(&block(tag), 0)?;
            self.done[at] = self.possible[at].len() - 1;
            file.sync_all()?;
        }
        if cutting.load(Ordering::SeqCst) {
            return Err(io::Error::other("the power is being cut"));
        }
        self.possible[at] = vec![tag];
        self.done[at] = 0;
        Ok(())
    }

    fn issue(&mut self, at: usize, tag: u64) {
        self.next = tag;
        self.possible[at].push(tag);
    }

    /// Whether a slower tier has what the union does not show.
    fn is_hidden(&self, at: usize, possible: &[u64]) -> bool {
        let below = self.roots.get(1).map(|root| std::fs::read(path(root, at)).unwrap_or_default());
        let below = below.unwrap_or_default();
        short::exists(path(&self.roots[0], at)) && possible.iter().any(|tag| block(*tag) == below)
    }

    /// Whether it is where what was moved from under a writer is kept: who opened it while it went.
    fn is_lost(&self, possible: &[u64]) -> bool {
        let lost = self.roots.iter().filter_map(|root| std::fs::read_dir(root.join(".tierfs/lost")).ok());
        let kept = lost.flatten().flatten().filter_map(|entry| std::fs::read(entry.path()).ok());
        kept.into_iter().any(|bytes| possible.iter().any(|tag| block(*tag) == bytes))
    }

    pub(crate) fn check(&mut self, root: &Path, power: bool) -> Vec<String> {
        let mut wrong = Vec::new();
        for at in 0..FILES {
            let bytes = std::fs::read(path(root, at)).unwrap_or_default();
            let possible = &self.possible[at][if power { 0 } else { self.done[at] }..];
            match possible.iter().find(|tag| block(**tag) == bytes) {
                Some(tag) => self.possible[at] = vec![*tag],
                None if self.is_hidden(at, possible) || self.is_lost(possible) => {
                    let tag = bytes.first_chunk().map(|raw| u64::from_le_bytes(*raw));
                    self.possible[at] = vec![tag.unwrap_or_default()];
                    self.hidden += 1;
                }
                None => {
                    let tag = bytes.first_chunk().map(|raw| u64::from_le_bytes(*raw));
                    wrong.push(format!("beside/b{at}: found {} bytes of {tag:?}, possible {possible:?}", bytes.len()));
                }
            }
            self.done[at] = 0;
        }
        wrong
    }
}
