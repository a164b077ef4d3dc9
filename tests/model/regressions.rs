//! Runs that failed once, shrunk, each under the name of what was wrong.

use crate::case::{Case, Field};
use crate::ops::Op;

fn check(tiers: usize, seeds: &[(usize, Op)], ops: &[Op]) {
    let Some(field) = Field::new() else { return };
    let case = Case { tiers, options: &[], seeds: seeds.to_vec(), ops: ops.to_vec() };
    if let Err(words) = field.run(&case) {
        panic!("{words}");
    }
}

/// The smallest run there is: the frame itself.
#[test]
fn a_merged_tree_is_a_plain_tree() {
    check(
        3,
        &[
            (0, Op::Write("a", 0, 10, 1)),
            (1, Op::Write("a", 0, 20, 2)),
            (2, Op::Mkdir("b", 0o755)),
            (2, Op::Write("b/c", 0, 30, 3)),
        ],
        &[Op::List("b"), Op::Read("a"), Op::Create("b/d", 0o600), Op::Unlink("a"), Op::Stat("a")],
    );
}
