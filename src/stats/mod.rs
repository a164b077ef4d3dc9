//! What a mount does, in numbers: requests by operation and tier with how long they took, moves, and
//! who and what is busy.
//!
//! `counters.rs` counts requests without locks, `sketch.rs` finds what is used most in little memory,
//! `histogram.rs` and `snapshot.rs` are plain values for whoever shows them.

pub mod counters;
pub mod histogram;
pub mod op;
pub mod sketch;
pub mod snapshot;

mod collect;

pub use collect::{Outcome, Sampled, Stats};
pub use counters::touch;
pub use op::Op;
pub use snapshot::Snapshot;
