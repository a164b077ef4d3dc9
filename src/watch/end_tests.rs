//! The end of a watch beside a request.

use super::*;

/// Stands for the kernel, which waits in an invalidation for the lock of a directory.
struct Waits(std::sync::Arc<parking_lot::Mutex<()>>, std::sync::mpsc::SyncSender<()>);

impl Listener for Waits {
    fn changed(&self, _: &Change<'_>) {
        // Told once is enough.
        let _full = self.1.try_send(());
        drop(self.0.lock());
    }
    fn lost(&self) {}
}

/// A request had a directory learned while the mount dropped the watch, and ended it: it waited for the watch, and the
/// watch for the request.
#[test]
fn a_request_never_waits_for_the_end_of_a_watch() {
    use std::os::fd::AsFd;
    let lock = std::sync::Arc::new(parking_lot::Mutex::new(()));
    let (tell, told) = std::sync::mpsc::sync_channel(1);
    let learned =
        super::learned::Learned::start(std::sync::Arc::new(Waits(std::sync::Arc::clone(&lock), tell))).unwrap();
    let watch = std::sync::Arc::new(Watch { coverage: vec![Coverage::ByDirectory], learned, _whole: None });
    let home = tempfile::tempdir().unwrap();
    let dir = crate::sys::durable::open_root(home.path()).unwrap();
    assert_eq!(watch.learn(Rank(0), dir.as_fd()), Coverage::Watched);
    // The kernel has the directory locked for a request.
    let held = lock.lock();
    let request = std::sync::Arc::clone(&watch);
    std::fs::write(home.path().join("f"), "x").unwrap();
    told.recv().unwrap();
    drop(watch);
    let (done, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        Watch::let_go(request);
        done.send(()).unwrap();
    });
    let result = ended.recv_timeout(std::time::Duration::from_secs(60));
    drop(held);
    assert_eq!(result, Ok(()));
}
