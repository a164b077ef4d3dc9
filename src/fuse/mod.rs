//! The only folder that knows fuser: decode, one call into the union, reply.

mod convert;
mod counted;
mod invalidate;
mod ops;
mod reply;
mod session;
mod spare;
mod waiting;

pub use invalidate::Invalidator;
pub use session::{Behaviour, Session};
pub use spare::Spare;
