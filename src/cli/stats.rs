//! `tierfs stats`.

use std::ffi::OsString;
use std::io::{ErrorKind, IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::exit::{Exit, Failure, Outcome};
use crate::cli::{run, status, target};
use crate::stats::Snapshot;
use crate::stats::snapshot::{Hot, Requests};
use crate::types::ids::Rank;
use crate::types::{shown, units};

/// Shows what a mount does: requests a second and how long they take, by operation and tier; files moved;
/// who is busy where. The first block is since the mount.
///
/// The tier of a request is the slowest one that was asked. Data of files that are served by passthrough
/// is read and written by the kernel itself, and shows only as opens.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tierfs stats /srv/docs               since the mount
  tierfs stats /srv/docs -i 1          and then every second
  tierfs stats /srv/docs -i 10 -n 7    a minute of it
  tierfs stats --json -i 5 | jq .requests_per_second

Exit codes:
  0 told   1 error   2 wrong usage")]
pub struct Stats {
    /// A path in a mounted tierfs, or a name in /etc/tierfs; may be left out where there is only one mount
    #[arg(value_name = "MOUNT")]
    mount: Option<OsString>,
    /// Go on with what happens in so many seconds each
    #[arg(short, long, value_name = "SECONDS", value_parser = seconds)]
    interval: Option<Duration>,
    /// Stop after so many blocks, the first counted
    #[arg(short = 'n', long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// One JSON object for each block, in one line; times in nanoseconds
    #[arg(long)]
    json: bool,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: Option<f64> = text.parse().ok().filter(|seconds| (0.1..=86_400.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "write seconds, from 0.1 to 86400".to_owned())
}

impl Stats {
    /// Asks and prints.
    ///
    /// # Errors
    /// Where the path is in no mount, or the mount does not answer or ends.
    pub fn run(self) -> Outcome {
        let (point, socket) = match &self.mount {
            Some(word) if status::names_a_configuration(word) => status::serving(Some(word))?,
            Some(path) => {
                let point = target::spot_of(Path::new(path))?.0.point;
                let socket = target::socket_of(&point)?;
                (point, socket)
            }
            None => {
                let point = target::only_mount("mount it first: what it does is counted while it serves")?;
                let socket = target::socket_of(&point)?;
                (point, socket)
            }
        };
        let mut before: Option<Snapshot> = None;
        let interval = self.interval.unwrap_or(Duration::from_secs(1));
        let wanted = self.count.or(if self.interval.is_none() { Some(1) } else { None });
        let mut told = 0;
        loop {
            let now = run::stats(&socket)?;
            // Another mount has taken its place meanwhile: it is as at the beginning.
            let known = before.as_ref().filter(|before| before.over <= now.over);
            let block = known.map_or_else(|| now.clone(), |before| now.since(before));
            let text = if self.json {
                format!("{}\n", as_json(&point.display().to_string(), &block, known.is_none()))
            } else {
                as_text(&point.display().to_string(), &block, known.is_none())
            };
            if !write(&text)? {
                return Ok(Exit::Ok);
            }
            told += 1;
            if wanted.is_some_and(|wanted| told >= wanted) {
                return Ok(Exit::Ok);
            }
            before = Some(now);
            std::thread::sleep(interval);
        }
    }
}

/// Whether there is still somebody who reads.
fn write(text: &str) -> Result<bool, Failure> {
    let mut out = std::io::stdout().lock();
    let safe = if out.is_terminal() {
        let lines = text.lines().map(|line| shown::escape(line.as_bytes()));
        lines.collect::<Vec<_>>().join("\n") + "\n"
    } else {
        text.to_owned()
    };
    match out.write_all(safe.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::error(format!("standard output: {error}"))),
    }
}

fn files(count: u64) -> String {
    if count == 1 { "1 file".into() } else { format!("{count} files") }
}

/// `-` for requests that asked no tier.
fn tier(tier: Option<u8>) -> String {
    tier.map_or_else(|| "-".to_owned(), |rank| Rank(rank).to_string())
}

fn latency(requests: &Requests, part: f64) -> String {
    requests.latency.quantile(part).map_or_else(|| "-".to_owned(), units::show_latency)
}

/// A block for people. Values stand in columns; a blank line ends it.
fn as_text(point: &str, block: &Snapshot, is_first: bool) -> String {
    let over = units::show_duration(if is_first {
        Duration::from_secs(block.over.as_secs())
    } else {
        Duration::from_millis(u64::try_from(block.over.as_millis()).unwrap_or(u64::MAX))
    });
    let since = if is_first { "since the mount" } else { "in the last" };
    let head = if is_first { format!("{since}, {over} ago") } else { format!("{since} {over}") };
    let count = block.count();
    let gauges = &block.gauges;
    let mut text = format!("{point}: {head}: {count} requests, {:.1}/s\n", block.per_second(count));
    text += &format!(
        "  now: {} files open ({} of them past tierfs), {} inodes known\n",
        gauges.open_files, gauges.passthrough_files, gauges.inodes
    );
    if !block.requests.is_empty() {
        let titles = ["operation", "tier", "ops/s", "p50", "p99", "bytes/s", "errors"];
        text += &row(&titles.map(str::to_owned));
    }
    for one in &block.requests {
        let bytes = block.per_second(one.bytes) as u64;
        text += &row(&[
            one.op.name().to_owned(),
            tier(one.tier),
            format!("{:.1}", block.per_second(one.count())),
            latency(one, 0.5),
            latency(one, 0.99),
            if one.bytes == 0 { "-".into() } else { units::show_size(bytes) },
            match (one.errors, one.faults) {
                (0, _) => "-".into(),
                (errors, 0) => errors.to_string(),
                (errors, faults) => format!("{errors} ({faults} I/O)"),
            },
        ]);
    }
    text + &moves(block)
        + &hot("directories", block, &block.hot_directories)
        + &hot("programs", block, &block.hot_programs)
        + "\n"
}

fn row(fields: &[String; 7]) -> String {
    let [op, tier, ops, median, tail, bytes, errors] = fields;
    let line = format!("  {op:<16} {tier:<10} {ops:>10} {median:>8} {tail:>8} {bytes:>10} {errors:>8}");
    format!("{}\n", line.trim_end())
}

fn moves(block: &Snapshot) -> String {
    let mut text = String::new();
    for moves in &block.moves {
        let (from, to, size) = (Rank(moves.from), Rank(moves.to), units::show_size(moves.bytes));
        text += &format!("  moved: {} ({size}) {from} -> {to}\n", files(moves.files));
    }
    let skips: Vec<String> = block.move_skips.iter().map(|(why, count)| format!("{count} {why}")).collect();
    if !skips.is_empty() {
        text += &format!("  not moved: {}\n", skips.join(", "));
    }
    if block.move_failures > 0 {
        text += &format!("  failed to move: {}\n", block.move_failures);
    }
    for recalls in &block.recalls {
        let size = units::show_size(recalls.bytes);
        text += &format!("  brought back for {}: {} ({size})\n", recalls.program, files(recalls.files));
    }
    text
}

/// The busiest few.
fn hot(what: &str, block: &Snapshot, all: &[Hot]) -> String {
    const SHOWN: usize = 5;
    if all.is_empty() {
        return String::new();
    }
    let over = units::show_duration(Duration::from_secs(block.hot_over.as_secs()));
    let mut text = format!("  busiest {what} of the last {over}, about:\n");
    for one in all.iter().take(SHOWN) {
        let slow = if one.slow > 0 { format!(", {} of slower tiers", one.slow) } else { String::new() };
        text += &format!("    {}: {} requests, {} opens{slow}\n", one.name, one.requests, one.opens);
    }
    text
}

/// A block for programs, without its newline.
fn as_json(point: &str, block: &Snapshot, is_first: bool) -> Value {
    let requests = block.requests.iter().map(|one| {
        json!({
            "op": one.op.name(),
            "tier": one.tier.map(|rank| Rank(rank).to_string()),
            "count": one.count(),
            "per_second": block.per_second(one.count()),
            "mean_ns": one.latency.mean(),
            "p50_ns": one.latency.quantile(0.5),
            "p99_ns": one.latency.quantile(0.99),
            "bytes": one.bytes,
            "errors": one.errors,
            "faults": one.faults,
        })
    });
    let moves = block.moves.iter().map(|one| {
        let (from, to) = (Rank(one.from).to_string(), Rank(one.to).to_string());
        json!({ "from": from, "to": to, "files": one.files, "bytes": one.bytes })
    });
    let recalls =
        block.recalls.iter().map(|one| json!({ "program": one.program, "files": one.files, "bytes": one.bytes }));
    let hot = |all: &[Hot]| {
        let each = all
            .iter()
            .map(|one| json!({ "name": one.name, "requests": one.requests, "opens": one.opens, "slow": one.slow }));
        each.collect::<Vec<_>>()
    };
    let runs = block
        .runs
        .iter()
        .map(|(trigger, runs)| (trigger.clone(), json!({ "ended": runs.ended, "failed": runs.failed })));
    json!({
        "mountpoint": point,
        "since_mount": is_first,
        "seconds": block.over.as_secs_f64(),
        "count": block.count(),
        "requests_per_second": block.per_second(block.count()),
        "requests": requests.collect::<Vec<_>>(),
        "open_files": block.gauges.open_files,
        "passthrough_files": block.gauges.passthrough_files,
        "inodes": block.gauges.inodes,
        "moves": moves.collect::<Vec<_>>(),
        "skipped": block.move_skips,
        "failed": block.move_failures,
        "runs": runs.collect::<serde_json::Map<_, _>>(),
        "last_success": block.last_success,
        "recalls": recalls.collect::<Vec<_>>(),
        "hot_seconds": block.hot_over.as_secs(),
        "hot_directories": hot(&block.hot_directories),
        "hot_programs": hot(&block.hot_programs),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Op;
    use crate::stats::histogram::Histogram;
    use crate::stats::snapshot::Moves;

    #[test]
    fn a_block_shows_rates_and_times_by_operation_and_tier() {
        let lookups =
            Requests { latency: Histogram::new(&[0, 0, 0, 20], 40_000), ..Requests::none(Op::Lookup, Some(1)) };
        let reads = Requests {
            bytes: 4 << 20,
            errors: 3,
            faults: 1,
            latency: Histogram::new(&[0, 0, 4], 4_000),
            ..Requests::none(Op::Read, None)
        };
        let block = Snapshot {
            over: Duration::from_secs(2),
            requests: vec![lookups, reads],
            moves: vec![Moves { from: 0, to: 1, files: 3, bytes: 1 << 20 }],
            move_skips: [("in use".to_owned(), 2)].into(),
            hot_programs: vec![Hot { name: "smbd".into(), requests: 9, opens: 1, slow: 2 }],
            hot_over: Duration::from_secs(70),
            ..Snapshot::default()
        };
        let text = as_text("/srv/docs", &block, false);
        let expected = "\
/srv/docs: in the last 2s: 24 requests, 12.0/s
  now: 0 files open (0 of them past tierfs), 0 inodes known
  operation        tier            ops/s      p50      p99    bytes/s   errors
  lookup           secondary        10.0    1.5us    2.0us          -        -
  read             -                 2.0    768ns    1.0us       2MiB 3 (1 I/O)
  moved: 3 files (1MiB) primary -> secondary
  not moved: 2 in use
  busiest programs of the last 1min 10s, about:
    smbd: 9 requests, 1 opens, 2 of slower tiers

";
        assert_eq!(text, expected);
        let json = as_json("/srv/docs", &block, false);
        assert_eq!((&json["requests"][0]["tier"], &json["requests"][1]["tier"]), (&json!("secondary"), &Value::Null));
        assert_eq!(json["requests"][0]["p50_ns"], 1536);
        assert!(!json.to_string().contains('\n'));
    }

    #[test]
    fn an_interval_is_a_sensible_number_of_seconds() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for bad in ["0", "-1", "nan", "inf", "1s", "", "1e9"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
