//! Commands to a running mount: one local socket for each mount, one connection for each command.
//!
//! A connection carries lines of JSON, each with the version of the format: one line from the
//! command, then from the mount any number of events and one last line that ends the exchange. A
//! command that closes its way of writing wants the work to stop; it can still read how it went.
//!
//! Only root and the user who mounted may connect: the directory and the socket are theirs alone,
//! and the other end's user is asked of the kernel besides.

pub mod client;
pub mod convert;
pub mod line;
pub mod place;
pub mod server;
pub mod status;
pub mod wire;
