//! Counting, and what the renderings hold.

use std::time::Duration;

use super::text::Style;
use super::*;
use crate::types::attr::{Stat, Time};

const DAY: u64 = 86_400;

fn days(days: u64) -> Duration {
    Duration::from_secs(days * DAY)
}

fn stat(size: u64, body: u64, nlink: u32, uid: u32) -> Stat {
    let zero = Time::default();
    Stat {
        body: Body(body),
        generation: 0,
        mode: 0o100_644,
        nlink,
        uid,
        gid: 0,
        rdev: 0,
        size,
        blocks: size.div_ceil(512),
        blksize: 4096,
        atime: zero,
        mtime: zero,
        ctime: zero,
    }
}

fn gather(depth: usize) -> Gather {
    Gather::new(Spec { thresholds: vec![days(30), days(365)], depth, tiers: 2 })
}

/// Adds a file: path, tier, pin, attributes, age in days.
fn add(gather: &mut Gather, path: &str, rank: u8, pin: Option<u8>, stat: &Stat, age: u64) {
    let (dir, name) = UnionPath::new(path.as_bytes()).unwrap().split().unwrap();
    let seen = Seen { dir: &dir, name: name.as_bytes(), rank: Rank(rank), stat, pin: pin.map(Rank) };
    gather.add(&seen, days(age));
}

fn files(ages: &[Sums]) -> Vec<u64> {
    ages.iter().map(|sums| sums.files).collect()
}

fn labels() -> Labels {
    let tier = |name: &str| TierLabel { name: name.into(), path: format!("/{name}"), space: None };
    Labels {
        subject: "/srv/docs".into(),
        made: "today".into(),
        age_by: "last change".into(),
        tiers: vec![tier("primary"), tier("secondary")],
        owners: HashMap::from([(7, "ann".into())]),
        unread: 0,
    }
}

/// The space of a filesystem that has `total` blocks of 1 KiB, `used` of them taken.
fn space(filesystem: u64, used: u64, total: u64) -> Space {
    let free = total - used;
    Space { frsize: 1024, blocks: total, bfree: free, bavail: free, filesystem, ..Space::default() }
}

#[test]
fn a_threshold_itself_belongs_to_the_older() {
    let mut counted = gather(1);
    for (age, rank) in [(0, 0), (29, 0), (30, 0), (364, 0), (365, 0), (9999, 0), (9999, 1)] {
        add(&mut counted, &format!("d/{age}-{rank}"), rank, None, &stat(1000, 1, 1, 0), age);
    }
    let report = counted.finish();
    assert_eq!(files(&report.all.ages), [2, 2, 3]);
    assert_eq!((files(&report.tiers[0]), files(&report.tiers[1])), (vec![2, 2, 2], vec![0, 0, 1]));
    // Only what is on the primary can be freed there.
    assert_eq!(report.all.freed(0), Sums { files: 4, bytes: 4000, allocated: 4096 });
    assert_eq!(report.all.freed(1), Sums { files: 2, bytes: 2000, allocated: 2048 });
    assert_eq!(report.all.total().files, 7);
}

#[test]
fn the_curve_falls_from_all_to_nothing() {
    let mut counted = gather(1);
    for (age, size) in [(0, 512), (2, 1024), (400, 2048), (9999, 4096)] {
        add(&mut counted, &format!("{age}"), 0, None, &stat(size, 1, 1, 0), age);
    }
    add(&mut counted, "below", 1, None, &stat(512, 1, 1, 0), 400);
    let report = counted.finish();
    let older = |age: Duration| {
        let at = Report::edges().iter().position(|edge| *edge >= age).unwrap();
        report.curve[at]
    };
    assert_eq!(older(days(1)), 1024 + 2048 + 4096);
    assert_eq!(older(days(3)), 2048 + 4096);
    assert_eq!(older(days(450)), 4096, "the steps are a tenth wide");
    assert!(report.curve.is_sorted_by(|one, next| one >= next));
    assert_eq!(report.curve.len(), Report::edges().len());
}

#[test]
fn hard_links_count_once_under_the_first_name() {
    for order in [["b/x.pdf", "a/y.txt"], ["a/y.txt", "b/x.pdf"]] {
        let mut counted = gather(1);
        order.iter().for_each(|path| add(&mut counted, path, 0, None, &stat(512, 5, 2, 0), 400));
        // The same number on another tier is another body, and its second name is not here.
        add(&mut counted, "c/z", 1, None, &stat(512, 5, 2, 0), 400);
        // Nor is this one's, which therefore stays on the primary.
        add(&mut counted, "c/out", 0, None, &stat(1024, 6, 3, 0), 400);
        let report = counted.finish();
        assert_eq!(report.all.total().files, 3);
        let dirs: Vec<String> = report.dirs.iter().map(|(dir, _)| dir.to_string()).collect();
        assert_eq!(dirs, ["c", "a"]);
        let kinds: Vec<&str> = report.types.iter().map(|(kind, _)| &**kind).collect();
        assert_eq!(kinds, ["", "txt"]);
        assert_eq!(report.all.freed(0), Sums { files: 1, bytes: 512, allocated: 512 });
        assert_eq!(report.linked_outside, Sums { files: 1, bytes: 1024, allocated: 1024 });
    }
}

#[test]
fn what_is_pinned_to_the_primary_is_not_freed() {
    let mut counted = gather(1);
    add(&mut counted, "pinned", 0, Some(0), &stat(512, 1, 1, 0), 400);
    add(&mut counted, "elsewhere", 0, Some(1), &stat(1024, 2, 1, 0), 400);
    // One pinned name keeps the whole body.
    add(&mut counted, "one", 0, None, &stat(2048, 3, 2, 0), 400);
    add(&mut counted, "two", 0, Some(0), &stat(2048, 3, 2, 0), 400);
    let report = counted.finish();
    assert_eq!(report.all.freed(1).allocated, 1024);
    assert_eq!(report.pinned, Sums { files: 2, bytes: 2560, allocated: 2560 });
    let text = text::render(&report, &labels(), By::Age, Style { width: 80, rich: false });
    assert!(text.contains("2 files (2.5 KiB) stay on the primary: they are pinned to it."), "{text}");
}

#[test]
fn files_are_grouped_by_directory_type_and_owner() {
    let mut counted = gather(2);
    for (path, uid) in [
        ("root.TXT", 0),
        ("a/b/c/d.txt", 0),
        ("a/b/e", 7),
        ("a/.hidden", 7),
        ("a/x.tar.gz", 7),
        ("a/odd.t-t", 0),
        ("a/long.abcdefghijk", 0),
    ] {
        add(&mut counted, path, 0, None, &stat(100, 1, 1, uid), 0);
    }
    let report = counted.finish();
    let dirs: Vec<(String, u64)> =
        report.dirs.iter().map(|(dir, group)| (dir.to_string(), group.total().files)).collect();
    assert_eq!(dirs, [("a".into(), 4), ("a/b".into(), 2), (String::new(), 1)]);
    let kinds: Vec<(&str, u64)> = report.types.iter().map(|(kind, group)| (&**kind, group.total().files)).collect();
    assert_eq!(kinds, [("", 4), ("txt", 2), ("gz", 1)]);
    let owners: Vec<(u32, u64)> = report.owners.iter().map(|(uid, group)| (*uid, group.total().files)).collect();
    assert_eq!(owners, [(0, 4), (7, 3)]);
    for by in [By::Dir, By::Type, By::Owner] {
        let text = text::render(&report, &labels(), by, Style { width: 80, rich: false });
        let says = match by {
            By::Dir => "/a/b ",
            By::Type => "no ending ",
            _ => "ann ",
        };
        assert!(text.lines().any(|line| line.starts_with(says)), "{text}");
    }
}

#[test]
fn what_a_disk_holds_afterwards_is_told() {
    let mut counted = gather(1);
    add(&mut counted, "a", 0, None, &stat(300 << 10, 1, 1, 0), 400);
    let report = counted.finish();
    let mut labels = labels();
    labels.tiers[0].space = Some(space(1, 900, 1000));
    labels.tiers[1].space = Some(space(2, 900, 1000));
    let text = text::render(&report, &labels, By::Age, Style { width: 100, rich: false });
    assert!(text.contains("90% full") && text.contains("leaves it  60% full"), "{text}");
    let page = html::render(&report, &labels);
    assert!(page.contains("60% full"));
    assert!(page.contains("The secondary has 100 KiB free: not enough"), "{page}");
    labels.tiers[1].space = Some(space(1, 900, 1000));
    let page = html::render(&report, &labels);
    assert!(page.contains("on one filesystem: moving files between them frees nothing"));
}

#[test]
fn a_terminal_is_filled_and_not_left() {
    let mut counted = gather(1);
    for number in 0..40u64 {
        let name = format!("{}{number}/f", "directory-with-a-long-name-".repeat(3));
        add(&mut counted, &name, 0, None, &stat(1 << number.min(35), 1, 1, 0), number * 30);
    }
    let report = counted.finish();
    for by in [By::Age, By::Dir, By::Type, By::Owner] {
        for width in [80, 100, 200] {
            let text = text::render(&report, &labels(), by, Style { width, rich: false });
            assert!(text.is_ascii() || by == By::Dir, "{text}");
            let widest = text.lines().map(|line| line.chars().count()).max().unwrap();
            assert!(widest <= width, "{widest} of {width}:\n{text}");
            assert!(text.contains('#'));
        }
        let rich = text::render(&report, &labels(), by, Style { width: 80, rich: true });
        assert!(rich.contains('\u{2588}') && rich.contains("\u{1b}[") && !rich.contains('#'));
    }
    let text = text::render(&report, &labels(), By::Dir, Style { width: 80, rich: false });
    assert!(text.contains("15 more"), "{text}");
}

#[test]
fn names_that_strangers_chose_are_only_text() {
    let evil = "<script>alert(1)<\u{1b}[2J&\"'\n";
    let mut counted = gather(1);
    add(&mut counted, &format!("{evil}/f"), 0, None, &stat(512, 1, 1, 0), 0);
    let report = counted.finish();
    let mut labels = labels();
    labels.subject = evil.into();
    labels.tiers[0].path = evil.into();
    let page = html::render(&report, &labels);
    assert!(!page.contains("<script") && page.contains("&lt;script&gt;alert(1)&lt;"));
    let text = text::render(&report, &labels, By::Dir, Style { width: 200, rich: false });
    assert!(text.contains("\n/<script>alert(1)<\\033[2J&\"'\\n "), "{text}");
    assert!(!text.contains('\u{1b}') && !text.contains("'\n"), "{text}");
}

#[test]
fn a_table_is_read_by_a_spreadsheet_as_text() {
    let mut counted = gather(1);
    add(&mut counted, "a,\"b\"/f", 0, None, &stat(512, 1, 1, 0), 31);
    let report = counted.finish();
    let mut labels = labels();
    labels.owners.insert(0, "=cmd".into());
    assert_eq!(
        data::csv(&report, &labels, By::Dir),
        "directory,files,bytes,allocated,frees_30d,frees_365d\n\"/a,\"\"b\"\"\",1,512,512,512,0\n"
    );
    assert!(data::csv(&report, &labels, By::Owner).contains("\n'=cmd,1,512,"));
    assert_eq!(data::csv(&report, &labels, By::Age).lines().nth(2), Some("primary,2592000,31536000,1,512,512"),);
}

#[test]
fn an_empty_tree_has_a_report_too() {
    let report = gather(1).finish();
    let text = text::render(&report, &labels(), By::Age, Style { width: 80, rich: true });
    assert!(text.ends_with("No files.\n"), "{text}");
    let page = html::render(&report, &labels());
    assert!(page.contains("There are no files here") && !page.contains("NaN"));
    assert_eq!(data::json(&report, &labels())["total"]["files"], 0);
}

#[test]
fn a_file_without_space_makes_no_broken_picture() {
    let mut counted = gather(1);
    add(&mut counted, "empty", 0, None, &stat(0, 1, 1, 0), 400);
    let report = counted.finish();
    let page = html::render(&report, &labels());
    assert!(!page.contains("NaN") && !page.contains("inf"));
}
