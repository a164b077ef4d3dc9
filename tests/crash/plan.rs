//! How many cuts, where, and by which chance.

use crate::rng::Rng;
use crate::strace::At;

/// Of one campaign.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) name: &'static str,
    pub(crate) seed: u64,
    /// At most so many.
    pub(crate) cuts: usize,
    /// The one cut to be repeated: way, call, which.
    pub(crate) only: Option<(String, At)>,
    /// Failures after which it ends.
    pub(crate) failures_max: usize,
    /// The secondary holds ciphertext.
    pub(crate) encrypted: bool,
}

fn number(key: &str) -> Option<usize> {
    let text = std::env::var(key).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{key} is not a number: {text}")))
}

impl Plan {
    /// What the environment says, else `cuts`.
    pub(crate) fn new(name: &'static str, cuts: usize) -> Plan {
        let clock = || std::time::UNIX_EPOCH.elapsed().expect("clock").subsec_nanos() as usize;
        let only = std::env::var("TIERFS_CRASH_ONLY").ok().map(|text| {
            let words: Vec<&str> = text.split(' ').collect();
            let [way, call, when] = words.as_slice() else { panic!("TIERFS_CRASH_ONLY='WAY CALL NUMBER', not {text}") };
            ((*way).to_owned(), ((*call).to_owned(), when.parse().expect("a number")))
        });
        Plan {
            name,
            seed: number("TIERFS_CRASH_SEED").unwrap_or_else(clock) as u64,
            cuts: number("TIERFS_CRASH_CUTS").unwrap_or(cuts),
            only,
            failures_max: number("TIERFS_CRASH_FAILURES").unwrap_or(1),
            encrypted: false,
        }
    }

    /// The same with an encrypted secondary.
    pub(crate) fn encrypted(name: &'static str, cuts: usize) -> Plan {
        Plan { encrypted: true, ..Plan::new(name, cuts) }
    }

    pub(crate) fn rng(&self) -> Rng {
        Rng::new(self.seed ^ 0x5eed)
    }

    /// Takes as many of all possible cuts as are wanted, spread evenly from a random start; all of
    /// them, and again in another order, where more are wanted than there are.
    pub(crate) fn choose<T: Clone>(&self, all: &[T]) -> Vec<T> {
        if all.is_empty() {
            return Vec::new();
        }
        if self.cuts >= all.len() {
            return all.iter().cycle().take(self.cuts).cloned().collect();
        }
        let start = self.rng().below(all.len());
        (0..self.cuts).map(|at| all[(start + at * all.len() / self.cuts) % all.len()].clone()).collect()
    }

    /// One line that says what was done.
    pub(crate) fn report(&self, tried: usize, more: &str) {
        let line = format!("crash campaign {}: {tried} cuts, seed {}; {more}", self.name, self.seed);
        println!("{line}");
        eprintln!("{line}");
    }
}
