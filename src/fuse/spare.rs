//! What helps a mount whose threads wait for a tier that does not answer: more threads, and answers in
//! their place.
//!
//! fuser starts its threads once. More of them are another session over the same connection: it shakes
//! hands with a socket that says what the kernel has said to the first, and then has the connection put in
//! the place of the socket.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;

use fuser::SessionACL;

use super::session::{Adapter, config_of};
use crate::sys::device;
use crate::types::errno::Errno;

/// The way to have more threads for a session.
#[derive(Debug)]
pub struct Spare {
    pub(super) adapter: Adapter,
    pub(super) device: File,
}

/// A request to begin, as the kernel sends it (`struct fuse_in_header`, `struct fuse_init_in` of
/// `linux/fuse.h`): protocol 7.31 without any ability.
fn hello() -> Vec<u8> {
    const LEN: u32 = 40 + 64;
    const INIT: u32 = 26;
    let mut message = Vec::new();
    message.extend(LEN.to_ne_bytes());
    message.extend(INIT.to_ne_bytes());
    message.extend(1u64.to_ne_bytes());
    message.resize(40, 0);
    message.extend(7u32.to_ne_bytes());
    message.extend(31u32.to_ne_bytes());
    message.resize(LEN as usize, 0);
    message
}

impl Spare {
    /// Starts so many threads more. They end with the mount.
    ///
    /// # Errors
    /// No descriptor or no thread can be had.
    pub fn start(&self, threads: usize) -> io::Result<()> {
        let (ours, theirs) = UnixDatagram::pair()?;
        ours.send(&hello())?;
        let session =
            fuser::Session::from_fd(self.adapter.clone(), theirs.into(), SessionACL::All, config_of(threads))?;
        device::replace(session.as_fd(), self.device.as_fd())?;
        std::thread::Builder::new().name("tierfs-spare".into()).spawn(move || session.run())?;
        Ok(())
    }

    /// Answers a request with an input/output error in the place of the thread that serves it. What that
    /// one answers later the kernel does not take.
    pub fn give_up(&self, request: u64) {
        let mut message = [0u8; 16];
        message[..4].copy_from_slice(&16u32.to_ne_bytes());
        message[4..8].copy_from_slice(&(-Errno::EIO.0).to_ne_bytes());
        message[8..].copy_from_slice(&request.to_ne_bytes());
        if let Err(error) = (&self.device).write_all(&message) {
            tracing::debug!("a request was answered meanwhile: {error}");
        }
    }

    /// Whether the mount is gone.
    pub fn is_over(&self) -> bool {
        device::is_over(self.device.as_fd())
    }
}
