//! Programs that people run, on a mount whose files are demoted and promoted under them all the time:
//! one file for each program.

#[path = "../common/mod.rs"]
mod common;
#[path = "../migrate/kit.rs"]
#[allow(dead_code, reason = "this program uses its own part of it")]
mod kit;

mod cargo;
mod crowd;
mod export;
mod git;
mod handles;
mod moving;
mod postgres;
mod rsync;
mod saves;
mod sqlite;
mod tar;
