//! The migrator on real mounts and real filesystems: one file for each kind of promise.

#[path = "../common/mod.rs"]
mod common;
#[path = "../model/rng.rs"]
mod rng;

mod blocks;
mod commands;
mod coordination;
mod dry;
mod identity;
mod kit;
mod owner;
mod trouble;
mod writers;
