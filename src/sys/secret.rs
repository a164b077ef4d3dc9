//! Memory for keys and passphrases: kept out of swap and core dumps where the system allows it,
//! and wiped when it is given up.
//!
//! Locking is limited by RLIMIT_MEMLOCK. Where it fails the memory still serves, and can be
//! swapped: a mount must not fail for that.

use std::fmt;
use std::ops::Deref;
use std::ptr::NonNull;

use nix::libc;
use nix::sys::resource::{Resource, setrlimit};
use parking_lot::Mutex;
use zeroize::Zeroize;

use crate::types::errno::Errno;

/// Bytes of one page; mappings are whole pages, so that unlocking one never unlocks another.
const PAGE: usize = 4096;

/// Address and length of every live mapping, for [`lock_again`].
static LIVE: Mutex<Vec<(usize, usize)>> = Mutex::new(Vec::new());

/// A private anonymous mapping, zeroed, locked and left out of dumps.
struct Pages {
    at: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to this value alone, and any thread may use and unmap it.
unsafe impl Send for Pages {}
// SAFETY: shared references only read.
unsafe impl Sync for Pages {}

impl Pages {
    /// At least `len` bytes. Ends the process where there is no memory at all, as every allocation
    /// of Rust does.
    fn new(len: usize) -> Pages {
        let len = len.max(1).div_ceil(PAGE).saturating_mul(PAGE);
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no other memory.
        let got = unsafe {
            libc::mmap(std::ptr::null_mut(), len, protection, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
        };
        let at = if got == libc::MAP_FAILED { None } else { NonNull::new(got.cast::<u8>()) };
        let Some(at) = at else {
            let layout =
                std::alloc::Layout::from_size_align(len, PAGE).unwrap_or(std::alloc::Layout::new::<[u8; 4096]>());
            std::alloc::handle_alloc_error(layout);
        };
        // SAFETY: the range is the mapping made above. Failing is allowed, see the top.
        unsafe {
            libc::mlock(got, len);
            libc::madvise(got, len, libc::MADV_DONTDUMP);
        }
        LIVE.lock().push((at.as_ptr() as usize, len));
        Pages { at, len }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        let address = self.at.as_ptr() as usize;
        LIVE.lock().retain(|(other, _)| *other != address);
        // SAFETY: the mapping is ours, `len` bytes long, and no reference to it outlives this value.
        unsafe {
            std::slice::from_raw_parts_mut(self.at.as_ptr(), self.len).zeroize();
            libc::munmap(self.at.as_ptr().cast(), self.len);
        }
    }
}

/// Secret bytes of a fixed number.
pub struct Secret {
    pages: Pages,
    len: usize,
}

impl Secret {
    /// `len` bytes of zeros.
    pub fn zeroed(len: usize) -> Secret {
        Secret { pages: Pages::new(len), len }
    }

    /// A copy of `bytes`, whose owner should wipe them.
    pub fn from_slice(bytes: &[u8]) -> Secret {
        let mut secret = Secret::zeroed(bytes.len());
        secret.as_mut_slice().copy_from_slice(bytes);
        secret
    }

    /// Takes the bytes of `bytes` and wipes them there.
    pub fn take(mut bytes: Vec<u8>) -> Secret {
        let secret = Secret::from_slice(&bytes);
        bytes.zeroize();
        secret
    }

    /// `len` fresh random bytes.
    pub fn random(len: usize) -> Result<Secret, Errno> {
        let mut secret = Secret::zeroed(len);
        super::random::direct(secret.as_mut_slice())?;
        Ok(secret)
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: the mapping holds at least `len` initialised bytes for as long as `self` lives.
        unsafe { std::slice::from_raw_parts(self.pages.at.as_ptr(), self.len) }
    }

    /// The bytes, to be set.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `&mut self` makes this the only reference.
        unsafe { std::slice::from_raw_parts_mut(self.pages.at.as_ptr(), self.len) }
    }

    /// How many bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Cuts to the first `len` bytes; the rest is wiped.
    pub fn truncate(&mut self, len: usize) {
        if len < self.len {
            self.as_mut_slice()[len..].zeroize();
            self.len = len;
        }
    }
}

impl Clone for Secret {
    fn clone(&self) -> Secret {
        Secret::from_slice(self.as_slice())
    }
}

impl PartialEq for Secret {
    /// Takes the same time wherever the bytes differ.
    fn eq(&self, other: &Secret) -> bool {
        super::aead::same(self.as_slice(), other.as_slice())
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// A value such as a key schedule in secret memory. It never moves.
pub struct Locked<T> {
    pages: Pages,
    value: std::marker::PhantomData<T>,
}

impl<T> Locked<T> {
    /// Moves `value` there. What the stack held of it is not wiped.
    pub fn new(value: T) -> Locked<T> {
        const { assert!(std::mem::align_of::<T>() <= PAGE) };
        let pages = Pages::new(std::mem::size_of::<T>());
        // SAFETY: the mapping is page-aligned, large enough for a `T`, and holds no value yet.
        unsafe { pages.at.as_ptr().cast::<T>().write(value) };
        Locked { pages, value: std::marker::PhantomData }
    }

    /// For calls that take an address.
    pub(super) fn as_mut_ptr(&mut self) -> *mut T {
        self.pages.at.as_ptr().cast()
    }
}

impl<T> Deref for Locked<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: `new` has put a `T` there, which lives as long as `self`.
        unsafe { self.pages.at.cast::<T>().as_ref() }
    }
}

impl<T> Drop for Locked<T> {
    fn drop(&mut self) {
        // SAFETY: there is a `T`, and nothing uses it afterwards: the pages go next.
        unsafe { std::ptr::drop_in_place(self.as_mut_ptr()) };
    }
}

impl<T> fmt::Debug for Locked<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// Forbids core dumps of this process and other users' and debuggers' looks into it. For every
/// process that handles keys, before the first of them; it lasts across a fork.
pub fn protect_process() -> Result<(), Errno> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(|errno| Errno(errno as i32))?;
    // SAFETY: prctl with this option reads one number and no memory.
    super::check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) })?;
    Ok(())
}

/// Locks all secret memory once more: a child of fork(2) does not inherit locks.
pub fn lock_again() {
    for (address, len) in LIVE.lock().iter() {
        // SAFETY: LIVE lists only live mappings of this process; failing is allowed, see the top.
        unsafe { libc::mlock(*address as *const libc::c_void, *len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_holds_its_bytes_and_shows_none_of_them() {
        let mut secret = Secret::from_slice(b"password");
        assert_eq!(secret.as_slice(), b"password");
        assert_eq!(format!("{secret:?}"), "…");
        secret.truncate(4);
        assert_eq!(secret.as_slice(), b"pass");
        assert_eq!(secret, Secret::from_slice(b"pass"));
        assert_ne!(secret, Secret::from_slice(b"past"));
        assert_ne!(secret, Secret::from_slice(b"passw"));
    }

    #[test]
    fn an_empty_secret_is_empty() {
        let secret = Secret::zeroed(0);
        assert!(secret.is_empty());
        assert_eq!(secret.as_slice(), b"");
    }

    #[test]
    fn a_secret_is_locked_and_not_dumped() {
        let secret = Secret::from_slice(&[7; 100]);
        let smaps = std::fs::read_to_string("/proc/self/smaps").expect("smaps");
        let address = secret.as_slice().as_ptr() as usize;
        let mut flags = "";
        let mut inside = false;
        for line in smaps.lines() {
            if let Some((from, rest)) = line.split_once('-')
                && let (Ok(from), Some(to)) = (usize::from_str_radix(from, 16), rest.split(' ').next())
                && let Ok(to) = usize::from_str_radix(to, 16)
            {
                inside = (from..to).contains(&address);
            } else if inside && line.starts_with("VmFlags:") {
                flags = line;
            }
        }
        assert!(flags.contains(" dd"), "not left out of dumps: {flags}");
        assert!(flags.contains(" lo"), "not locked: {flags}");
        lock_again();
    }

    #[test]
    fn a_locked_value_is_dropped_once() {
        let shared = std::sync::Arc::new(());
        let locked = Locked::new(shared.clone());
        assert_eq!(std::sync::Arc::strong_count(&locked), 2);
        drop(locked);
        assert_eq!(std::sync::Arc::strong_count(&shared), 1);
    }
}
