//! Tiers that hold ciphertext: against the stock gocryptfs in both directions, damaged in every way, and
//! under what the plain tiers' own tests do.
//!
//! In this program every tier is encrypted where a test does not say otherwise: see `common::setting`.

#[path = "../common/mod.rs"]
mod common;

// What the plain tiers' tests ask for, asked of encrypted ones.
#[path = "../mount/create.rs"]
mod create;
#[path = "../mount/crowd.rs"]
mod crowd;
#[path = "../mount/data.rs"]
mod data;
#[path = "../mount/hostile.rs"]
mod hostile;
#[path = "../migrate/identity.rs"]
mod identity;
#[allow(dead_code, reason = "the migrator's tests use the rest")]
#[path = "../migrate/kit.rs"]
mod kit;
#[path = "../mount/link.rs"]
mod link;
#[path = "../mount/moving.rs"]
mod moving;
#[path = "../mount/names.rs"]
mod names;
#[path = "../mount/open_files.rs"]
mod open_files;
#[path = "../mount/outside.rs"]
mod outside;
#[path = "../mount/readdir.rs"]
mod readdir;
#[path = "../mount/remove.rs"]
mod remove;
#[path = "../mount/rename.rs"]
mod rename;
#[path = "../mount/resolve.rs"]
mod resolve;
#[path = "../mount/rights.rs"]
mod rights;
#[path = "../mount/setattr.rs"]
mod setattr;
#[path = "../mount/statfs.rs"]
mod statfs;
#[path = "../migrate/trouble.rs"]
mod trouble;
#[path = "../mount/xattr.rs"]
mod xattr;

// The model of a plain directory.
#[path = "../model/case.rs"]
mod case;
#[path = "../model/ops.rs"]
mod ops;
#[path = "../model/rng.rs"]
mod rng;
#[path = "../model/tree.rs"]
mod tree;

mod beside;
mod cipher;
mod damage;
mod full;
mod interop;
mod metadata;
mod model;
mod moves;
mod names_damage;
mod unlock;
mod volumes;
