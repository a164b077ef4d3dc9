//! Making many files and directories durable one by one, for tiers that cannot be synced as a whole.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{Builder, scope};

use parking_lot::Mutex;

use crate::types::errno::Result;

/// So many at a time: a journal is written once for all who wait for it, and a server answers several requests in
/// less time than one after another.
const AT_A_TIME: usize = 8;

/// Calls `sync` for each of `all`, in any order. More than a few are shared with threads that are there for
/// this; where none can be had, the caller does it alone.
///
/// # Errors
/// The first that is found; some are then not asked at all.
pub(super) fn each_durable<T: Sync>(all: &[T], sync: impl Fn(&T) -> Result<()> + Sync) -> Result<()> {
    if all.len() <= AT_A_TIME {
        return all.iter().try_for_each(sync);
    }
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(None));
    let work = || {
        while failed.lock().is_none()
            && let Some(one) = all.get(next.fetch_add(1, Ordering::Relaxed))
        {
            if let Err(errno) = sync(one) {
                failed.lock().get_or_insert(errno);
            }
        }
    };
    scope(|scope| {
        for _ in 1..AT_A_TIME {
            if Builder::new().spawn_scoped(scope, work).is_err() {
                break;
            }
        }
        work();
    });
    failed.into_inner().map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::errno::Errno;

    #[test]
    fn each_of_many_is_made_durable_once_and_a_failure_is_told() {
        for len in [0usize, 1, 8, 9, 300] {
            let calls: Vec<AtomicUsize> = (0..len).map(|_| AtomicUsize::new(0)).collect();
            let counted = each_durable(&calls, |one| {
                one.fetch_add(1, Ordering::Relaxed);
                Ok(())
            });
            assert_eq!(counted, Ok(()));
            assert!(calls.iter().all(|one| one.load(Ordering::Relaxed) == 1), "{calls:?}");
            let numbers: Vec<usize> = (0..len).collect();
            let last = each_durable(&numbers, |at| if at + 1 == len { Err(Errno::EIO) } else { Ok(()) });
            assert_eq!(last, if len == 0 { Ok(()) } else { Err(Errno::EIO) });
        }
    }
}
