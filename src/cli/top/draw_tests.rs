//! Frames as text, at the sizes that terminals have.

use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::*;
use crate::cli::top::screen::text_of;
use crate::cli::top::state::{Key, News};
use crate::control::status::{MinFree, Next, Status, TierSpace, Watching};
use crate::control::wire::Text;
use crate::stats::Snapshot;
use crate::stats::histogram::Histogram;
use crate::stats::op::Op;
use crate::stats::snapshot::{Hot, Moves, Recalls, Requests};

fn tier(rank: u8, state: TierState) -> TierStatus {
    let space = TierSpace { used: 72 << 30, total: 100 << 30, free: 28 << 30, low: false, inodes: None };
    TierStatus {
        rank,
        path: Text::Plain("/t".into()),
        filesystem: None,
        encrypted: false,
        state,
        since: None,
        why: if state == TierState::Serving { String::new() } else { "the disk is gone".into() },
        times_gone: 0,
        watch: Watching::Whole,
        min_free: MinFree::Bytes(0),
        space: Some(space).filter(|_| state == TierState::Serving),
        own: None,
    }
}

fn status() -> Status {
    Status {
        mountpoint: Text::Plain("/srv/docs".into()),
        device: None,
        since: 1000,
        pid: 1,
        program: "0".into(),
        config: None,
        read_only: false,
        tiers: vec![tier(0, TierState::Serving), tier(1, TierState::Missing)],
        policy: None,
        refused: None,
        running: Some(Running {
            what: "migrate".into(),
            by_itself: false,
            dry_run: false,
            started: 4000,
            scanned: 900,
            planned: (200, 4 << 30),
            copied: 1 << 30,
            moved: (50, 1 << 30),
            failed: 0,
        }),
        last: None,
        written: None,
        held: None,
        next: Next::default(),
    }
}

fn counts(over: u64, times: u64) -> Snapshot {
    let mut bucket = vec![0; 5];
    bucket[4] = times;
    let of = |op, tier| Requests { latency: Histogram::new(&bucket, times), bytes: times, ..Requests::none(op, tier) };
    let hot = |name: &str| Hot { name: name.into(), requests: 600, opens: 60, slow: 0 };
    Snapshot {
        over: Duration::from_secs(over),
        requests: vec![of(Op::Lookup, Some(0)), of(Op::Open, Some(1)), of(Op::Forget, None)],
        moves: vec![Moves { from: 0, to: 1, files: 1234, bytes: 5 << 30 }],
        recalls: vec![Recalls { program: "find\u{1b}[2J".into(), files: 3, bytes: 4096 }],
        hot_directories: vec![hot("projects/2026/a\u{7}b")],
        hot_programs: vec![hot("smbd")],
        hot_over: Duration::from_secs(60),
        ..Snapshot::default()
    }
}

fn view() -> View {
    let mut view = View::new("/srv/docs".into(), Able { colours: true, unicode: true }, Duration::from_secs(1));
    view.take(News::Status(Box::new(status())));
    view.take(News::Counts(Box::new(counts(10, 100))));
    view.take(News::Counts(Box::new(counts(12, 500))));
    view
}

fn drawn(view: &View, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, view, 4600)).unwrap();
    text_of(terminal.backend().buffer())
}

#[test]
fn a_small_terminal_shows_all_that_matters() {
    let mut view = view();
    let text = drawn(&view, 80, 24);
    for says in [
        "tierfs top  /srv/docs  serving for 1h  DEGRADED",
        "primary   \u{2588}\u{2588}\u{2588}\u{2588}\u{2588}\u{2588}\u{2588}\u{2591}\u{2591}\u{2591}  72% 28GiB of 100GiB free",
        "secondary MISSING  the disk is gone",
        "requests/s 600, open files 0",
        " 25% migrate, for 10min: 50 of 200 files, 1GiB of 4GiB copied",
        "operation       tier      requests/s      p50      p99",
        "lookup          primary          200",
        "forget          -                200",
        "q quit",
    ] {
        assert!(text.contains(says), "{says:?} is not in\n{text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 80));
    view.press(Key::Right);
    let text = drawn(&view, 80, 24);
    assert!(text.contains("projects/2026/a\\007b") && text.contains("smbd"), "{text}");
    view.press(Key::Right);
    let text = drawn(&view, 80, 24);
    assert!(text.contains("primary to secondary") && text.contains("1,234") && text.contains("find\\033[2J"), "{text}");
    view.press(Key::Letter('?'));
    assert!(drawn(&view, 80, 24).contains("Any key closes this."));
}

#[test]
fn a_wide_terminal_shows_two_panes() {
    let text = drawn(&view(), 200, 50);
    assert!(text.contains("lookup") && text.contains("directory") && text.contains("smbd"), "{text}");
}

#[test]
fn no_size_makes_the_drawing_panic() {
    let mut view = view();
    for pane in ['1', '2', '3', '?'] {
        view.press(Key::Letter(pane));
        view.scroll = 1000;
        for (width, height) in [(1, 1), (40, 9), (39, 9), (40, 8), (80, 12), (500, 3), (3, 500), (300, 100)] {
            drawn(&view, width, height);
        }
    }
    let empty = View::new(String::new(), Able { colours: false, unicode: false }, Duration::ZERO);
    assert!(drawn(&empty, 80, 24).contains("requests/s: counting"));
}

#[test]
fn without_more_than_ascii_nothing_else_is_drawn() {
    let mut view = view();
    view.able = Able { colours: false, unicode: false };
    for pane in ['1', '2', '3'] {
        view.press(Key::Letter(pane));
        assert!(drawn(&view, 80, 24).is_ascii());
    }
}

#[test]
fn a_mount_that_does_not_answer_and_a_pause_are_told() {
    let mut view = view();
    view.take(News::Silent);
    view.take(News::Silent);
    view.press(Key::Letter('p'));
    let text = drawn(&view, 80, 24);
    assert!(text.contains("DOES NOT ANSWER  PAUSED"), "{text}");
}
