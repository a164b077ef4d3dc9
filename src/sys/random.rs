//! Random bytes of the kernel.

use std::cell::RefCell;

use nix::libc;

use crate::types::errno::{Errno, Result};

/// Bytes that are fetched ahead of need by each thread: one call costs as much as 4 KiB of
/// encryption.
const AHEAD: usize = 4096;

/// Longer requests than this go to the kernel.
const SMALL: usize = 1024;

/// Bytes not handed out yet, of one thread of one process.
struct Buffer {
    bytes: [u8; AHEAD],
    used: usize,
    process: u32,
}

thread_local! {
    static BUFFER: RefCell<Buffer> = const { RefCell::new(Buffer { bytes: [0; AHEAD], used: AHEAD, process: 0 }) };
}

/// Fills `bytes` for use as nonces and ids. Bytes are never handed out twice, also not by the
/// parent and the child of a fork.
pub fn fill(bytes: &mut [u8]) -> Result<()> {
    if bytes.len() > SMALL {
        return direct(bytes);
    }
    BUFFER.with_borrow_mut(|buffer| {
        let process = std::process::id();
        if buffer.process != process || buffer.used + bytes.len() > AHEAD {
            // Used up first, so that a failure below leaves nothing to be handed out again.
            buffer.used = AHEAD;
            direct(&mut buffer.bytes)?;
            buffer.used = 0;
            buffer.process = process;
        }
        let taken = &mut buffer.bytes[buffer.used..buffer.used + bytes.len()];
        bytes.copy_from_slice(taken);
        taken.fill(0);
        buffer.used += bytes.len();
        Ok(())
    })
}

/// Fills `bytes` from the kernel with no copy left anywhere: for keys.
pub fn direct(bytes: &mut [u8]) -> Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        let rest = &mut bytes[done..];
        // SAFETY: the kernel writes at most `rest.len()` bytes to `rest`.
        match super::check_len(unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) }) {
            Ok(got) => done += got,
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_bytes_come_twice() {
        let mut seen = std::collections::HashSet::new();
        for _ in 0..2000 {
            let mut nonce = [0; 16];
            fill(&mut nonce).expect("random");
            assert!(seen.insert(nonce));
        }
        let mut long = [0; 5000];
        fill(&mut long).expect("random");
        assert!(long[4900..].iter().any(|byte| *byte != 0));
    }
}
