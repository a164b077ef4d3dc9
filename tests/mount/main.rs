//! The real program on real directories: one file for each group of operations.

#[path = "../common/mod.rs"]
mod common;

mod create;
mod crowd;
mod data;
mod hostile;
mod link;
mod moving;
mod names;
mod open_files;
mod outside;
mod pages;
mod readdir;
mod remove;
mod rename;
mod resolve;
mod rights;
mod setattr;
mod start;
mod statfs;
mod xattr;
