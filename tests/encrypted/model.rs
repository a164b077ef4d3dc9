//! Random operations on a union of encrypted tiers and on a plain directory; see `tests/model`.
//!
//! `TIERFS_MODEL_SEED=7` runs one seed, `TIERFS_MODEL_SECONDS=3600` looks for new failures.

use std::time::{Duration, Instant};

use crate::case::{Case, Field};

/// Operations of one run.
const LENGTH: usize = 200;

/// Runs that always happen. `tests/model` shrinks what fails here, with `TIERFS_TEST_ENCRYPTED=1`.
const RUNS: u64 = 6;

#[test]
fn random_operations_match_a_plain_directory() {
    let Some(field) = Field::new() else { return };
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let (first, last) = match (number("TIERFS_MODEL_SEED"), number("TIERFS_MODEL_SECONDS")) {
        (Some(seed), _) => (seed, seed),
        (None, Some(_)) => (1, u64::MAX),
        (None, None) => (1, RUNS),
    };
    let limit = Duration::from_secs(number("TIERFS_MODEL_SECONDS").unwrap_or(600));
    let start = Instant::now();
    for seed in (first..=last).take_while(|_| start.elapsed() < limit) {
        if let Err(words) = field.run(&Case::draw(seed, LENGTH)) {
            panic!("seed {seed}: {words}");
        }
    }
}
