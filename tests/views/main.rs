//! Views, mounted by the real program: directories as ciphertext, against `gocryptfs -reverse`, and
//! volumes as plaintext.

#[path = "../common/mod.rs"]
mod common;

mod changes;
mod copies;
mod kit;
mod refused;
mod sources;
mod stock;
