//! Values every layer may use. No I/O, no locks, no system calls.

pub mod attr;
pub mod caller;
pub mod errno;
pub mod facts;
pub mod glob;
pub mod health;
pub mod hex;
pub mod ids;
pub mod lease;
pub mod name;
pub mod passphrase;
pub mod path;
pub mod pin;
pub mod rules;
pub mod shown;
pub mod units;
pub mod view;
