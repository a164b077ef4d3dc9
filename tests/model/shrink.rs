//! Makes a failing run small by leaving out what does not matter (delta debugging).

use std::time::{Duration, Instant};

use crate::case::Case;

/// Shrinking ends after this time, with the smallest failing run found so far.
const TIME_MAX: Duration = Duration::from_secs(90);

/// The smallest failing run that was found, and how it fails.
pub(crate) fn shrink(case: &Case, words: String, run: impl Fn(&Case) -> Result<(), String>) -> (Case, String) {
    let end = Instant::now() + TIME_MAX;
    let mut best = (case.clone(), words);
    loop {
        let before = best.0.ops.len() + best.0.seeds.len();
        leave_out(&mut best, end, &run, |case| &mut case.ops);
        leave_out(&mut best, end, &run, |case| &mut case.seeds);
        if best.0.ops.len() + best.0.seeds.len() == before || Instant::now() > end {
            return best;
        }
    }
}

/// Leaves out halves, quarters and so on of one list as long as the run still fails.
fn leave_out<T: Clone>(
    best: &mut (Case, String),
    end: Instant,
    run: &impl Fn(&Case) -> Result<(), String>,
    list: impl Fn(&mut Case) -> &mut Vec<T>,
) {
    let mut size = list(&mut best.0).len().div_ceil(2);
    while size > 0 {
        let mut start = 0;
        while start < list(&mut best.0).len() && Instant::now() < end {
            let mut smaller = best.0.clone();
            let items = list(&mut smaller);
            let stop = (start + size).min(items.len());
            items.drain(start..stop);
            match run(&smaller) {
                Err(words) => *best = (smaller, words),
                Ok(()) => start += size,
            }
        }
        size = if size == 1 { 0 } else { size.div_ceil(2) };
    }
}

#[test]
fn shrinking_finds_the_two_operations_that_matter() {
    use crate::ops::Op;
    let case = Case::draw(3, 120);
    let mut noisy = case.clone();
    noisy.ops.insert(17, Op::Rmdir("a/b/c"));
    noisy.ops.insert(90, Op::Unlink("d/d/d"));
    let run = |case: &Case| {
        let place = |op| case.ops.iter().position(|other| *other == op);
        match (place(Op::Rmdir("a/b/c")), place(Op::Unlink("d/d/d"))) {
            (Some(first), Some(second)) if first < second => Err("fails".to_owned()),
            _ => Ok(()),
        }
    };
    let (small, words) = shrink(&noisy, "fails".to_owned(), run);
    assert_eq!(small.ops, [Op::Rmdir("a/b/c"), Op::Unlink("d/d/d")]);
    assert!(small.seeds.is_empty());
    assert_eq!(words, "fails");
}
