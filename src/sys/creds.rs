//! Acting for a caller: new files get his owner, group and umask as the kernel gives them.
//!
//! A root daemon switches the filesystem ids of the one thread that serves the request, so that
//! the backing filesystem itself applies set-group-id directories, default ACLs and quotas.
//! Capabilities stay as they are meanwhile (`SECBIT_NO_SETUID_FIXUP`, `capabilities(7)`): the
//! kernel's FUSE layer has already checked the caller's rights, with all his groups, against the
//! visible copy, and the daemon must not check again with fewer.
//!
//! CAP_FSETID is off all the time. With it, set-user-id bits would survive writes of other users:
//! fuser cannot hand on the kernel's wish to clear them, so the backing filesystem must do it of
//! its own, and it does for a process that lacks this capability.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::libc;

use crate::types::caller::Caller;

/// Whether filesystem ids can be switched: only root may.
static SWITCHES: AtomicBool = AtomicBool::new(false);

/// Whether the kernel changes capabilities along with filesystem ids: where the secure bit could
/// not be set.
static FIXUP: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// The umask of this thread, once it has one of its own.
    static UMASK: Cell<Option<u32>> = const { Cell::new(None) };
}

/// Prepares the process. Must run before threads are started: they inherit what is set here.
pub fn prepare() {
    let root = nix::unistd::geteuid().is_root();
    SWITCHES.store(root, Ordering::Relaxed);
    if root {
        // SAFETY: prctl with plain integers.
        let result = unsafe { libc::prctl(libc::PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP) };
        FIXUP.store(result != 0, Ordering::Relaxed);
        set_fsetid(false);
    }
    nix::sys::stat::umask(nix::sys::stat::Mode::empty());
}

/// `SECBIT_NO_SETUID_FIXUP` of `linux/securebits.h`.
const SECBIT_NO_SETUID_FIXUP: libc::c_ulong = 1 << 2;

/// Whether the process runs as root.
#[must_use]
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Runs `act` with the caller's ids and umask.
pub fn as_caller<T>(caller: &Caller, act: impl FnOnce() -> T) -> T {
    wear_umask(caller.umask);
    let ids = (SWITCHES.load(Ordering::Relaxed) && (caller.uid, caller.gid) != (0, 0)).then(|| Ids::wear(caller));
    let result = act();
    drop(ids);
    result
}

/// Runs `act` with the set-group-id bit under control, which needs CAP_FSETID.
///
/// The kernel has cleared the bit from the caller's mode already where he may not set it.
pub fn with_fsetid<T>(act: impl FnOnce() -> T) -> T {
    let _raised = SWITCHES.load(Ordering::Relaxed).then(Fsetid::raise);
    act()
}

/// CAP_FSETID on this thread until dropped.
struct Fsetid;

impl Fsetid {
    fn raise() -> Fsetid {
        set_fsetid(true);
        Fsetid
    }
}

impl Drop for Fsetid {
    fn drop(&mut self) {
        set_fsetid(false);
    }
}

/// The caller's filesystem ids on this thread until dropped.
struct Ids;

impl Ids {
    fn wear(caller: &Caller) -> Ids {
        // The group first: a user without capabilities could not change it any more.
        set_ids(caller.gid, caller.uid);
        Ids
    }
}

impl Drop for Ids {
    fn drop(&mut self) {
        // SAFETY: plain calls that concern only this thread; the user first, for the same reason.
        unsafe {
            libc::setfsuid(0);
            libc::setfsgid(0);
        }
        if FIXUP.load(Ordering::Relaxed) {
            set_fsetid(false);
        }
    }
}

fn set_ids(gid: u32, uid: u32) {
    // SAFETY: plain calls that concern only this thread.
    unsafe {
        libc::setfsgid(gid);
        libc::setfsuid(uid);
    }
}

/// A umask belongs to all threads of a process until one unshares it.
fn wear_umask(umask: u32) {
    let present = UMASK.get();
    if present == Some(umask) {
        return;
    }
    if present.is_none() {
        // SAFETY: takes this thread's root, working directory and umask out of the shared set;
        // tierfs uses neither of the first two.
        let result = unsafe { libc::unshare(libc::CLONE_FS) };
        if result != 0 {
            tracing::warn!("cannot give a thread its own umask: new files may get too few permissions");
        }
    }
    // SAFETY: cannot fail.
    unsafe { libc::umask(umask) };
    UMASK.set(Some(umask));
}

/// `struct __user_cap_header_struct` and data of `linux/capability.h`, version 3.
#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const CAP_VERSION_3: u32 = 0x2008_0522;
const CAP_FSETID: u32 = 4;

/// Raises or lowers CAP_FSETID in this thread's effective set.
fn set_fsetid(on: bool) {
    let mut header = CapHeader { version: CAP_VERSION_3, pid: 0 };
    let mut data = [CapData::default(); 2];
    // SAFETY: header and data have the layout of version 3, which takes two data structs.
    if unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) } != 0 {
        return;
    }
    let bit = 1 << CAP_FSETID;
    data[0].effective = if on { data[0].effective | bit & data[0].permitted } else { data[0].effective & !bit };
    // SAFETY: as above; the kernel only reads both.
    unsafe { libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr()) };
}

/// The supplementary groups of a process, which FUSE requests do not carry (`proc_pid_status(5)`).
/// Empty if it is gone.
#[must_use]
pub fn groups(pid: u32) -> Vec<u32> {
    let status = std::fs::read(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.split(|b| *b == b'\n').find_map(|line| line.strip_prefix(b"Groups:"));
    let text = std::str::from_utf8(line.unwrap_or_default()).unwrap_or_default();
    text.split_whitespace().filter_map(|gid| gid.parse().ok()).collect()
}
