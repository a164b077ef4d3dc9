//! What commands print.

use super::*;

fn summary() -> Summary {
    Summary {
        moved: 1234,
        bytes: 6_012_954_214,
        skipped: [("in use".to_owned(), 3), ("immutable".to_owned(), 1)].into(),
        took: Duration::from_secs(12),
        ..Summary::default()
    }
}

#[test]
fn the_summary_is_one_line() {
    let line = summary_line(&summary(), &[(0, 1)].into(), false);
    assert_eq!(line, "moved 1,234 files, 5.6GiB, from primary to secondary in 12s; skipped 1 immutable, 3 in use");
    let nothing = Summary { stopped: Some(Stop::Limit), failed: 2, ..Summary::default() };
    let line = summary_line(&nothing, &BTreeSet::new(), false);
    assert_eq!(line, "moved nothing in 0.0s; 2 failed; stopped at a limit");
}

#[test]
fn a_dry_run_says_what_would_be() {
    let line = summary_line(&summary(), &[(0, 1)].into(), true);
    assert_eq!(line, "would move 1,234 files, 5.6GiB, from primary to secondary; skipped 1 immutable, 3 in use");
    let nothing = |scanned| summary_line(&Summary { scanned, ..Summary::default() }, &BTreeSet::new(), true);
    assert_eq!(nothing(0), "would move nothing: no file is there that could move");
    assert_eq!(nothing(1234), "would move nothing: of 1,234 files looked at, none has to move");
    assert_eq!(summary_json(&summary(), true)["dry_run"], json!(true));
    let (path, age) = (convert::text(b"a"), Duration::ZERO);
    let moved = Event::Moved { path, from: 0, to: 1, bytes: 1, age };
    let results = [true, false].map(|dry| row(&moved, dry).unwrap()[5].clone());
    assert_eq!(results, [b"would move".to_vec(), b"moved".to_vec()]);
}

#[test]
fn a_closed_window_is_told_with_its_file_and_when_it_opens() {
    let closed = Some(Box::new(Closed {
        window: "20:00-06:00".into(),
        origin: convert::text(b"docs.yaml"),
        opens: "mon 20:00".into(),
        wait: Duration::from_secs(5 * 3600 + 20),
    }));
    let real = Summary { closed: closed.clone(), stopped: Some(Stop::Window), ..Summary::default() };
    let line = summary_line(&real, &BTreeSet::new(), false);
    assert_eq!(
        line,
        "moved nothing: the window 20:00-06:00 of docs.yaml is closed and opens mon 20:00, in 5h; \
         --ignore-window moves files all the same"
    );
    let object = summary_json(&real, false);
    assert_eq!((&object["stopped"], &object["closed"]["opens_in_secs"]), (&json!("window"), &json!(18_020)));
    let dry = Summary { closed, moved: 1, bytes: 1, ..Summary::default() };
    let line = summary_line(&dry, &BTreeSet::new(), true);
    assert_eq!(line, "would move 1 file, 1B; the window 20:00-06:00 of docs.yaml is closed and opens mon 20:00, in 5h");
}

#[test]
fn exits_tell_the_worst_that_happened() {
    let with = |failed, stopped, moved| exit(&Summary { failed, stopped, moved, ..Summary::default() }, true);
    assert_eq!(with(0, None, 1), Ok(Exit::Ok));
    assert_eq!(with(0, None, 0), Ok(Exit::Nothing));
    assert_eq!(with(1, Some(Stop::Limit), 1), Ok(Exit::Partial));
    assert_eq!(with(0, Some(Stop::Limit), 1), Ok(Exit::Limit));
    assert_eq!(with(0, Some(Stop::Window), 0), Ok(Exit::Limit));
    assert_eq!(with(1, Some(Stop::Interrupted), 1), Ok(Exit::Interrupted));
    assert_eq!(with(0, Some(Stop::Full(1)), 1).unwrap_err().code, 1);
    assert_eq!(with(0, Some(Stop::Errors), 1).unwrap_err().code, 1);
}

#[test]
fn lines_keep_the_bytes_of_names() {
    let path = convert::text(b"a\xff");
    let moved = Event::Moved { path, from: 0, to: 1, bytes: 1536, age: Duration::from_secs(86400 * 400) };
    let (text, failure) = line(&moved).unwrap();
    assert_eq!((text.as_slice(), failure), (&b"a\xff: primary -> secondary (1.5KiB, 400d old)"[..], false));
    let object = as_json(&moved).unwrap();
    assert_eq!((&object["path_hex"], &object["age_secs"]), (&json!("61ff"), &json!(34_560_000)));
    assert_eq!(thousands(1_000_000), "1,000,000");
    assert_eq!(thousands(999), "999");
}

#[test]
fn a_report_of_no_run_leaves_the_one_before() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("r.csv");
    std::fs::write(&file, "before").unwrap();
    let manner = Manner { quiet: true, ..Manner::default() };
    Output::new(manner, Some(&file)).unwrap().give_up();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "before");
    let mut output = Output::new(manner, Some(&file)).unwrap();
    output.tell(&Event::Skipped { path: convert::text(b"a"), why: "in use".into() });
    output.give_up();
    assert!(std::fs::read_to_string(&file).unwrap().ends_with("\na,,,,,skipped,in use\n"));
}

#[test]
fn a_report_quotes_what_it_must() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("r.csv");
    let manner = Manner { quiet: true, ..Manner::default() };
    let mut output = Output::new(manner, Some(&file)).unwrap();
    output.tell(&Event::Skipped { path: convert::text(b"a,\"b\""), why: "in use".into() });
    assert_eq!(output.finish(&Summary::default()), Ok(Exit::Ok));
    let text = std::fs::read_to_string(file).unwrap();
    assert_eq!(text, "path,from,to,bytes,age,result,reason\n\"a,\"\"b\"\"\",,,,,skipped,in use\n");
}
