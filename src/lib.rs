//! tierfs: one directory over an ordered list of tiers. `docs/ARCHITECTURE.md` is the map.
//!
//! Modules in the order in which they build on each other; imports only point up this list.

pub mod types;

pub mod stats;

#[expect(unsafe_code, reason = "system calls live here and nowhere else")]
pub mod sys;

pub mod log;
pub mod yaml;

pub mod crypt;
pub mod keys;

pub mod config;
pub mod tier;

pub mod union;

pub mod policy;
pub mod report;

pub mod doctor;

pub mod migrate;

pub mod check;

pub mod control;

pub mod fuse;
pub mod watch;

pub mod daemon;

pub mod cli;
