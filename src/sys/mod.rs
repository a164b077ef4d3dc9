//! System calls: the only place of `unsafe`, and the only folder that names nix and libc.

pub mod fanotify;
