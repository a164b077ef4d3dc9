//! A tier goes while the mount is in use, and comes back: real filesystems that really fail.

#[path = "../common/mod.rs"]
mod common;

mod disk;
mod gone;
mod hang;
mod memory;
mod moves;
mod waits;
