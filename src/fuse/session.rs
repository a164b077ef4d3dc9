//! The connection to the kernel.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};

use fuser::{Config, InitFlags, KernelConfig, SessionACL};

use super::counted::Programs;
use super::invalidate::Invalidator;
use super::spare::Spare;
use super::waiting::Waiting;
use crate::stats::Stats;
use crate::union::Union;

/// What of the kernel's abilities is used.
#[derive(Debug, Clone)]
pub struct Behaviour {
    /// Data of plain tiers goes past tierfs where the kernel can.
    pub passthrough: bool,
    /// Whether pages and listings may be kept from one open to the next.
    pub keep_cache: bool,
    /// Nothing that is read is kept: each read of a program comes here, so that no program gets what
    /// another has read before.
    pub uncached: bool,
    /// Threads that serve requests.
    pub threads: usize,
}

/// Largest request in bytes: what the kernel allows by default (`fs.fuse.max_pages_limit`).
const WRITE_LEN_MAX: u32 = 1 << 20;

/// Requests nobody waits for that the kernel may have under way: releases above all.
const BACKGROUND_MAX: u16 = 256;

/// The union behind fuser.
#[derive(Debug, Clone)]
pub(super) struct Adapter {
    pub(super) union: Arc<Union>,
    pub(super) stats: Arc<Stats>,
    pub(super) programs: Arc<Programs>,
    pub(super) behaviour: Behaviour,
    /// Whether the kernel can; not known before it has said so.
    pub(super) passthrough: Arc<OnceLock<bool>>,
    pub(super) waiting: Waiting,
}

impl Adapter {
    pub(super) fn negotiate(&mut self, config: &mut KernelConfig) {
        // Not AUTO_INVAL_DATA: the kernel would drop pages of which a write is under way, and might read them
        // again before that is done (`union/pages.rs`).
        // Not ATOMIC_O_TRUNC: the kernel sends such an open before it has refused to empty a program
        // that runs (ETXTBSY), and the program would be gone.
        let wanted = [
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
            InitFlags::FUSE_POSIX_ACL,
            InitFlags::FUSE_DONT_MASK,
            InitFlags::FUSE_ASYNC_DIO,
            InitFlags::FUSE_HANDLE_KILLPRIV_V2,
            InitFlags::FUSE_EXPORT_SUPPORT,
        ];
        let links = (!self.behaviour.uncached).then_some(InitFlags::FUSE_CACHE_SYMLINKS);
        for flag in wanted.into_iter().chain(links) {
            if config.add_capabilities(flag).is_err() {
                tracing::debug!(?flag, "the kernel lacks an ability");
            }
        }
        let passthrough = self.behaviour.passthrough
            && config.set_max_stack_depth(1).is_ok()
            && config.add_capabilities(InitFlags::FUSE_PASSTHROUGH).is_ok();
        // Of a spare session, which shakes hands with nobody, it is known already.
        let passthrough = self.passthrough.get_or_init(|| passthrough);
        let limits = [config.set_max_write(WRITE_LEN_MAX).is_ok(), config.set_max_background(BACKGROUND_MAX).is_ok()];
        tracing::debug!(passthrough, ?limits, "connected to the kernel");
    }
}

impl Adapter {
    pub(super) fn passes_through(&self) -> bool {
        self.passthrough.get().copied().unwrap_or(false)
    }
}

/// A session that has shaken hands with the kernel and is ready to serve.
#[derive(Debug)]
pub struct Session {
    session: fuser::Session<Adapter>,
    adapter: Adapter,
    device: File,
}

impl Session {
    /// Over an opened and mounted `/dev/fuse`; requests are counted in `stats`.
    ///
    /// # Errors
    /// What the handshake says.
    pub fn new(union: Arc<Union>, stats: Arc<Stats>, device: OwnedFd, behaviour: Behaviour) -> io::Result<Session> {
        let copy = File::from(device.try_clone()?);
        let config = config_of(behaviour.threads);
        let (programs, waiting) = (Arc::default(), Waiting::default());
        let adapter = Adapter { union, stats, programs, behaviour, passthrough: Arc::default(), waiting };
        let session = fuser::Session::from_fd(adapter.clone(), device, SessionACL::All, config)?;
        Ok(Session { session, adapter, device: copy })
    }

    /// The way to tell the kernel what it must forget.
    ///
    /// # Errors
    /// Out of descriptors.
    pub fn invalidator(&self) -> io::Result<Invalidator> {
        Ok(Invalidator { notifier: self.session.notifier(), device: self.device.try_clone()? })
    }

    /// More threads for it, to be had when they are needed.
    ///
    /// # Errors
    /// Out of descriptors.
    pub fn spare(&self) -> io::Result<Spare> {
        Ok(Spare { adapter: self.adapter.clone(), device: self.device.try_clone()? })
    }

    /// Serves until the mount is gone.
    ///
    /// # Errors
    /// What reading from the kernel says.
    pub fn run(self) -> io::Result<()> {
        // The copy must not outlive the mount: while it is open the kernel keeps the connection.
        drop((self.device, self.adapter));
        self.session.run()
    }
}

/// With so many threads.
pub(super) fn config_of(threads: usize) -> Config {
    let mut config = Config::default();
    config.n_threads = Some(threads.max(1));
    // The kernel itself keeps other users out unless the mount allows them.
    config.acl = SessionACL::All;
    config
}
