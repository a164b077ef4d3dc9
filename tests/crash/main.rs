//! The crash campaign: moves are stopped, fail and lose their power, and nothing may be lost.
//!
//! Each test makes a bounded number of cuts and prints it with the seed of its chances. More by hand:
//!
//! ```text
//! TIERFS_CRASH_CUTS=5000 cargo test --release --test crash -- --nocapture --test-threads 2
//! ```
//!
//! A failure names what to set to repeat it: `TIERFS_CRASH_SEED`, and `TIERFS_CRASH_ONLY` for a cut
//! at a certain system call. `TIERFS_CRASH_FAILURES` goes on after a failure.

mod bench;
mod beside;
mod calls;
#[path = "../common/mod.rs"]
mod common;
mod daemon;
mod plan;
mod regressions;
mod renames;
#[path = "../model/rng.rs"]
mod rng;
mod rounds;
mod served;
mod strace;
mod tree;
mod version;
mod writer;
