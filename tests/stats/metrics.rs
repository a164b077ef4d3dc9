//! Metrics for Prometheus, on a port and in a file.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use crate::common::fs::{exists, get, put};
use crate::common::mount::{Setup, TestMount};
use crate::common::user::User;
use crate::common::{need, wait};

/// A port that nobody listens on at this moment, and that no other test was given: its mount may not listen yet.
fn free_port() -> SocketAddr {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let at = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its number");
        if GIVEN.lock().expect("lock").insert(at.port()) {
            return at;
        }
    }
}

fn ask(at: SocketAddr, question: &str) -> Option<String> {
    let mut stream = TcpStream::connect(at).ok()?;
    stream.write_all(question.as_bytes()).ok()?;
    let mut told = String::new();
    stream.read_to_string(&mut told).ok()?;
    Some(told)
}

fn scrape(at: SocketAddr) -> String {
    let page = wait::until("the port answers", || ask(at, "GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n"));
    let (head, body) = page.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.starts_with("HTTP/1.1 200 OK") && head.contains("version=0.0.4"), "{head}");
    body.to_owned()
}

fn value(page: &str, sample: &str) -> Option<f64> {
    page.lines().find_map(|line| line.strip_prefix(sample)?.trim().parse().ok())
}

/// What Prometheus's own reader says of the page.
fn is_read_by_prometheus(page: &str) {
    let script = "import sys\n\
                  from prometheus_client.parser import text_string_to_metric_families as read\n\
                  families = list(read(sys.stdin.read()))\n\
                  assert len(families) > 20, families\n\
                  assert all(family.documentation for family in families)";
    if !Command::new(need::PYTHON)
        .args(["-c", "import prometheus_client"])
        .output()
        .is_ok_and(|out| out.status.success())
    {
        return need::skip("needs python3-prometheus-client");
    }
    let mut reader = Command::new(need::PYTHON).args(["-c", script]).stdin(Stdio::piped()).spawn().expect("python3");
    reader.stdin.take().expect("its input").write_all(page.as_bytes()).expect("write");
    assert!(reader.wait().expect("wait").success(), "{page}");
}

fn with_metrics(setup: Setup) -> (Setup, SocketAddr) {
    let at = free_port();
    (setup.option(&format!("metrics_listen={at}")), at)
}

fn label(mount: &TestMount) -> String {
    mount.root().display().to_string()
}

#[test]
fn a_scrape_tells_what_was_done_and_how_the_tiers_are() {
    let (setup, at) = with_metrics(Setup::new().option("nopassthrough"));
    let Some(mount) = setup.mount() else { return };
    for n in 0..7 {
        put(mount.path(format!("f{n}")), "content");
    }
    let is_up = |line: &&str| line.starts_with("tierfs_tier_up{") && line.ends_with(" 1");
    let page = wait::until("both tiers answer in time", || {
        Some(scrape(at)).filter(|page| page.lines().filter(is_up).count() == 2)
    });
    let label = label(&mount);
    assert_eq!(value(&page, &format!("tierfs_up{{mountpoint=\"{label}\"}}")), Some(1.0));
    assert_eq!(value(&page, &format!("tierfs_degraded{{mountpoint=\"{label}\"}}")), Some(0.0));
    for tier in ["primary", "secondary"] {
        assert_eq!(value(&page, &format!("tierfs_tier_up{{mountpoint=\"{label}\",tier=\"{tier}\"}}")), Some(1.0));
        let size = value(&page, &format!("tierfs_tier_size_bytes{{mountpoint=\"{label}\",tier=\"{tier}\"}}"));
        assert!(size > Some(0.0), "{page}");
    }
    let creates: f64 = ["primary", "secondary"]
        .iter()
        .filter_map(|tier| {
            value(&page, &format!("tierfs_requests_total{{mountpoint=\"{label}\",op=\"create\",tier=\"{tier}\"}}"))
        })
        .sum();
    assert!((creates - 7.0).abs() < 0.1, "{page}");
    is_read_by_prometheus(&page);
}

/// Strangers on the port: nonsense is refused, and those that say nothing hold up neither the mount nor a
/// scrape, nor the end of the mount.
#[test]
fn strangers_on_the_port_hold_nothing_up() {
    let (setup, at) = with_metrics(Setup::new());
    let Some(mount) = setup.mount() else { return };
    scrape(at);
    let silent: Vec<_> = (0..3).map(|_| TcpStream::connect(at).expect("connect")).collect();
    for (question, code) in [
        ("GET /../../etc/passwd HTTP/1.1\r\n\r\n", "404"),
        ("DELETE /metrics HTTP/1.1\r\n\r\n", "405"),
        ("what is this\r\n\r\n", "400"),
    ] {
        let told = wait::until("one place is free", || ask(at, question).filter(|told| !told.contains(" 503 ")));
        assert!(told.starts_with(&format!("HTTP/1.1 {code}")), "{told}");
    }
    put(mount.path("a"), "a");
    assert_eq!(get(mount.path("a")), "a");
    drop(mount.unmount());
    drop(silent);
    assert!(TcpStream::connect(at).is_err(), "the port is free again");
}

#[test]
fn a_port_that_is_taken_is_told_and_had_when_it_is_free() {
    let at = free_port();
    let taken = TcpListener::bind(at).expect("nobody else takes it");
    let Some(mount) = Setup::new().verbose().option(&format!("metrics_listen={at}")).mount() else { return };
    put(mount.path("a"), "a");
    wait::until("the log tells of the port", || mount.log().contains("no metrics on http://").then_some(()));
    assert_eq!(mount.log().matches("no metrics on").count(), 1);
    drop(taken);
    scrape(at);
}

#[test]
fn the_file_is_there_for_everybody_while_the_mount_is() {
    let home = crate::common::mount::temp_dir();
    let file = home.path().join("docs.prom");
    let options = format!("metrics_textfile={},metrics_every=1s", file.display());
    let Some(mount) = Setup::new().option(&options).mount() else { return };
    put(mount.path("a"), "a");
    let page = wait::until("the file tells of the request", || {
        std::fs::read_to_string(&file).ok().filter(|page| page.contains("op=\"create\""))
    });
    is_read_by_prometheus(&page);
    assert_eq!(std::fs::metadata(&file).expect("stat").permissions().mode() & 0o777, 0o644);
    // It is written every second, and has another name meanwhile.
    wait::until("nothing half written is left", || {
        (std::fs::read_dir(home.path()).expect("list").count() == 1).then_some(())
    });
    drop(mount.unmount());
    assert!(!exists(&file), "what no longer serves is not told to be up");
}

#[test]
fn an_ordinary_user_has_metrics_and_an_open_port_is_refused() {
    if let Some([user, _]) = User::two() {
        let (setup, at) = with_metrics(Setup::new());
        let Some(mount) = setup.by(&user).mount() else { return };
        let page = scrape(at);
        assert!(page.contains("tierfs_up"));
        drop(mount);
    }
    if !need::fuse() {
        return;
    }
    let refused = Setup::new().option("metrics_listen=0.0.0.0:9567").try_mount().expect_err("it is refused");
    assert_eq!(refused.code, Some(2));
    assert!(refused.message.contains("from other machines"), "{}", refused.message);
}
