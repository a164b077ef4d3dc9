//! What an administrator gets and boots: packages, manual pages, completions, units under the real systemd,
//! `mount(8)` and `/etc/fstab`. Nothing of it changes the machine that runs the tests.

#[path = "../common/mod.rs"]
mod common;

mod apart;
mod debian;
mod files;
mod fstab;
mod machine;
mod packages;
mod services;
