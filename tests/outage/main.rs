//! The outage campaign: tiers go and come back under a mount that stays, while programs write and files move.
//!
//! Each test makes a few rounds and prints them with the seed of its chances. In a round writers and movers work,
//! one or two tiers fail, lose what was not synced, and come back; then every byte and name that was acknowledged
//! must be there, and none that was removed. More by hand, best with the disks in memory:
//!
//! ```text
//! TMPDIR=/dev/shm TIERFS_OUTAGE_ROUNDS=500 cargo test --test outage -- --nocapture
//! ```
//!
//! A failure names its seed; `TIERFS_OUTAGE_SEED` repeats the chances, though not how threads met.
//! `TIERFS_OUTAGE_FAILURES` goes on after a failure, `TIERFS_OUTAGE_VERBOSE=1` tells each step.

mod bench;
mod check;
mod clock;
#[path = "../common/mod.rs"]
mod common;
mod contents;
mod disks;
mod known;
mod looks;
mod movers;
mod names;
#[path = "../model/rng.rs"]
mod rng;
mod rounds;
#[path = "../crash/tree.rs"]
#[allow(dead_code, reason = "a campaign of outages needs only a part of it")]
mod tree;
#[path = "../crash/version.rs"]
#[allow(dead_code, reason = "no block is torn here")]
mod version;
mod writer;
