//! t
pub mod types;
#[expect(unsafe_code, reason = "x")]
pub mod sys;
pub mod tier;
pub mod union;
pub mod fuse;
pub mod watch;
