//! Values every layer may use. No I/O, no locks, no system calls.

pub mod attr;
pub mod caller;
pub mod errno;
pub mod ids;
pub mod name;
pub mod units;
