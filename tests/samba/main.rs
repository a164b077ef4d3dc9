//! A real smbd on a mount, and clients as two users, while files move between the tiers.

#[path = "../common/mod.rs"]
mod common;

mod kit;
mod moving;
mod share;
mod torture;
