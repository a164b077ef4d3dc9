//! The clock on the wall.

use std::mem::MaybeUninit;
use std::time::UNIX_EPOCH;

use nix::libc;

use crate::types::attr::Time;

/// Now, in seconds and nanoseconds since 1970.
pub fn now() -> Time {
    let since = UNIX_EPOCH.elapsed().unwrap_or_default();
    Time { sec: i64::try_from(since.as_secs()).unwrap_or(i64::MAX), nsec: since.subsec_nanos() }
}

/// The day of the week (0 is Monday) and the second of the day, in the time zone of this machine;
/// `None` where it cannot be told.
pub fn local(now: Time) -> Option<(u32, u32)> {
    let mut out = MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: both pointers are good for the call, which writes the whole of `out` if it succeeds.
    if unsafe { libc::localtime_r(&raw const now.sec, out.as_mut_ptr()) }.is_null() {
        return None;
    }
    // SAFETY: written by the call above, and all zeros is a valid value too.
    let tm = unsafe { out.assume_init() };
    let day = u32::try_from(tm.tm_wday).ok()?;
    let second = u32::try_from((tm.tm_hour * 60 + tm.tm_min) * 60 + tm.tm_sec).ok()?;
    Some(((day + 6) % 7, second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_later_it_is_the_next_day_of_the_week() {
        // Without a change of the clock in between: both are in one winter week.
        let (monday, noon) = (1_767_614_400, 12 * 3600);
        let (day, second) = local(Time { sec: monday, nsec: 0 }).unwrap();
        let (next, same) = local(Time { sec: monday + 86_400, nsec: 0 }).unwrap();
        assert_eq!(((day + 1) % 7, second), (next, same));
        // 2026-01-05 12:00 UTC is a Monday from UTC-12 to UTC+11.
        assert!(day <= 1, "{day}");
        assert!(second.abs_diff(noon) <= 14 * 3600);
        assert!(now() > Time { sec: monday, nsec: 0 } && local(now()).is_some_and(|(day, s)| day < 7 && s < 86_401));
    }
}
