//! Taking a tier in again, step by step, without a mount.

use std::sync::mpsc::channel;

use super::*;
use crate::config::{self, TierConfig};
use crate::daemon::{tiers, unlock};

struct Setting {
    _home: tempfile::TempDir,
    shared: Arc<Shared>,
}

const RANK: Rank = Rank(1);

impl Setting {
    fn new() -> Setting {
        let home = tempfile::tempdir().unwrap();
        let paths = ["m", "0", "1"].map(|name| home.path().join(name));
        paths.iter().for_each(|path| std::fs::create_dir(path).unwrap());
        let [mountpoint, tiers @ ..] = paths;
        let config = config::check::finish(config::Draft {
            mountpoint: Some(mountpoint),
            tiers: tiers.map(TierConfig::at).to_vec(),
            ..config::Draft::default()
        });
        let config = config.unwrap();
        let places = unlock::places(&config).unwrap();
        let opened = tiers::open(&config, &places, tiers::Purpose::Serve).unwrap();
        let seats = Arc::new(Seats::new(&config, opened));
        let union = Arc::new(crate::daemon::build(&config, seats.tiers().map(Some), 1024, false).unwrap());
        let shared = Shared {
            places,
            seats,
            forgetter: Arc::new(Forgetter::new(Arc::clone(&union))),
            union,
            turns: Arc::default(),
            watch: Mutex::new(None),
            spare: OnceLock::new(),
            ending: Ending::default(),
            config,
        };
        Setting { _home: home, shared: Arc::new(shared) }
    }

    /// As a tier goes whose filesystem fails.
    fn lose(&self) {
        let seat = self.shared.seats.at(RANK).unwrap();
        let instance = seat.guarded.remove();
        let closing = self.shared.union.lose(RANK, Condition::Failed, "pulled", false);
        drop((instance, closing, seat.opened.lock().take()));
    }

    /// What was open on a tier that went is closed by a thread of its own.
    fn until_closed(&self) {
        while self.shared.seats.called().any(|(_, _, called)| called) {
            std::thread::yield_now();
        }
    }
}

/// What is inside would land after everything was brought to rest.
#[test]
fn a_tier_is_taken_in_only_when_no_call_is_inside_a_former_instance() {
    let setting = Setting::new();
    let shared = &setting.shared;
    let root = shared.seats.at(RANK).unwrap().guarded.root();
    let ((inside, is_inside), (end, ended)) = (channel(), channel::<()>());
    std::thread::scope(|scope| {
        let hangs = scope.spawn(move || {
            root.list(&mut |_| {
                let _told = inside.send(());
                let _end = ended.recv();
            })
        });
        is_inside.recv().unwrap();
        setting.lose();
        assert!(shared.seats.called().any(|(rank, _, called)| rank == RANK && called));
        let refused = shared.bring_back(RANK).unwrap_err().unwrap();
        assert!(refused.contains("have not come back"), "{refused}");
        assert!(shared.union.missing().has(RANK));
        drop(end);
        assert!(hangs.join().unwrap().is_err(), "a listing of what is gone is not believed");
    });
    setting.until_closed();
    assert_eq!(shared.bring_back(RANK), Ok(()));
    assert!(shared.union.missing().is_empty());
}

/// A run would not know what becomes of its records.
#[test]
fn a_tier_is_taken_in_only_when_no_run_is_at_work() {
    let setting = Setting::new();
    setting.lose();
    setting.until_closed();
    let turn = setting.shared.turns.background().unwrap();
    assert_eq!(setting.shared.bring_back(RANK), Err(None), "without a word: it is tried again");
    drop(turn);
    assert_eq!(setting.shared.bring_back(RANK), Ok(()));
}
