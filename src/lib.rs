//! tierfs: one directory over an ordered list of tiers. `docs/ARCHITECTURE.md` is the map.

pub mod types;

#[expect(unsafe_code, reason = "system calls; nowhere else")]
pub mod sys;

pub mod config;
pub mod log;
pub mod tier;
pub mod union;
pub mod yaml;

pub mod cli;
pub mod daemon;
pub mod fuse;
pub mod watch;
