//! What counting costs, in nanoseconds of processor time a request: `cargo bench --bench counting`.
//!
//! Each figure is the best of several rounds, by the time that the processor gave to the threads: other
//! work on the machine only makes it worse.

use std::hint::black_box;
use std::time::{Duration, Instant};

use tierfs::stats::{Op, Stats, counters};
use tierfs::types::ids::{Ino, Rank};

const REQUESTS: u32 = 500_000;
const ROUNDS: usize = 15;

/// One request as `fuse/counted.rs` counts it; without `stats` only what is there anyway.
fn request(stats: Option<&Stats>, op: Op, name: &String) {
    let Some(stats) = stats else {
        black_box(op);
        return;
    };
    let began = Instant::now();
    counters::begin();
    counters::touch(Rank(0));
    if let Some(sampled) = stats.served(op, began, black_box(Ok(0))) {
        stats.enter(sampled, Some(Ino(7)), Some(name));
    }
}

/// The time that this thread has run.
fn ran() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or_default())
}

/// Nanoseconds a request, on each of so many threads at a time.
fn measure(stats: Option<&Stats>, op: Op, threads: usize) -> f64 {
    let work = || {
        let (name, began) = ("cat".to_owned(), ran());
        (0..REQUESTS).for_each(|_| request(stats, op, &name));
        ran() - began
    };
    let round = || {
        std::thread::scope(|scope| {
            let each: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            each.into_iter().filter_map(|thread| thread.join().ok()).min()
        })
    };
    let best = (0..ROUNDS).filter_map(|_| round()).min().unwrap_or_default();
    best.as_secs_f64() * 1e9 / f64::from(REQUESTS)
}

fn main() {
    let stats = Stats::new(2, 4);
    for threads in [1, 4] {
        for op in [Op::Lookup, Op::Open] {
            let (without, with) = (measure(None, op, threads), measure(Some(&stats), op, threads));
            println!("{threads} threads, {}: {:.0} ns a request for counting", op.name(), with - without);
        }
    }
}
