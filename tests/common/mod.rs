//! What the mounted tests share: mounts that clean up, filesystems in image files, ordinary users.
//!
//! A machine may lack root, a program or `/dev/fuse`. Such a test says `skipped: …` and returns;
//! where the environment says `CI=true` it fails instead, so that nothing is passed silently.
#![allow(dead_code, reason = "every test program uses its own part of this")]

pub(crate) mod fs;
pub(crate) mod loopfs;
pub(crate) mod mount;
pub(crate) mod need;
pub(crate) mod ran;
pub(crate) mod setting;
pub(crate) mod trees;
pub(crate) mod user;
pub(crate) mod volume;
pub(crate) mod wait;
