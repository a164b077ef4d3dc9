//! Random operations on a mount and on a plain directory that holds the merged tree.
//!
//! Whatever a program does, it must not be able to tell the two apart: answers and errors of each
//! operation, whole trees every few operations, inode numbers for the life of each object, all
//! again after a remount, and at the end the tiers themselves. A failing run is shrunk to few
//! operations, which belong into `regressions.rs` under a name.
//!
//! `TIERFS_MODEL_SEED=7` runs one seed, `TIERFS_MODEL_SECONDS=3600` looks for new failures.

#[path = "../common/mod.rs"]
mod common;

mod case;
mod ops;
mod regressions;
mod rng;
mod shrink;
mod tree;

use std::time::{Duration, Instant};

use case::{Case, Field};

/// Operations of one run.
const LENGTH: usize = 250;

/// Runs that always happen, and the time after which no further ones begin.
const RUNS_MIN: u64 = 6;
const RUNS_MAX: u64 = 60;
const TIME_MAX: Duration = Duration::from_secs(60);

#[test]
fn random_operations_match_a_plain_directory() {
    let Some(field) = Field::new() else { return };
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("TIERFS_MODEL_SEED") {
        return check(&field, seed);
    }
    let limit = number("TIERFS_MODEL_SECONDS");
    let (time, last) = limit.map_or((TIME_MAX, RUNS_MAX), |limit| (Duration::from_secs(limit), u64::MAX));
    let start = Instant::now();
    let mut done = 0;
    for seed in 1..=last {
        if seed > RUNS_MIN && start.elapsed() > time {
            break;
        }
        check(&field, seed);
        done += 1;
    }
    eprintln!("{done} runs of {LENGTH} operations in {:?}", start.elapsed());
}

/// One run; a failure is shrunk and reported with its seed.
fn check(field: &Field, seed: u64) {
    let case = Case::draw(seed, LENGTH);
    if let Err(first) = field.run(&case) {
        eprintln!("seed {seed}: {first}\nshrinking …");
        let (small, words) = shrink::shrink(&case, first, |case| field.run(case));
        panic!("seed {seed}, shrunk:\n{small:?}\n{words}");
    }
}
