//! When systemd makes the next run of each mount that it knows.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// How long systemd may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// What systemd says of the timer and the service of one mount.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Timer {
    /// Whether the timer is started.
    pub active: bool,
    /// When it elapses next, in seconds since 1970.
    pub next: Option<u64>,
    /// Whether the last run by the service has failed.
    pub failed: bool,
}

/// What systemd says of each of these names; `None` where it does not answer, or there is none.
pub(super) fn of(names: &[String]) -> Option<BTreeMap<String, Timer>> {
    if names.is_empty() {
        return Some(BTreeMap::new());
    }
    let mut command = Command::new("systemctl");
    command.args(["show", "--timestamp=unix", "--property=Id,ActiveState,NextElapseUSecRealtime"]);
    command.args(names.iter().flat_map(|name| ["timer", "service"].map(|kind| unit(name, kind))));
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
    let (tell, told) = mpsc::channel();
    // The thread ends with the process, where systemd does not answer.
    let waiting = std::thread::Builder::new().name("systemctl".into());
    // Nobody may wait for it any more.
    waiting.spawn(move || tell.send(child.wait_with_output()).ok()).ok()?;
    let output = told.recv_timeout(PATIENCE).ok()?.ok().filter(|output| output.status.success())?;
    Some(read(&String::from_utf8_lossy(&output.stdout), names))
}

fn unit(name: &str, kind: &str) -> String {
    format!("tierfs-migrate@{name}.{kind}")
}

/// Reads blocks of `KEY=VALUE`, one for each unit.
fn read(text: &str, names: &[String]) -> BTreeMap<String, Timer> {
    let blocks: Vec<BTreeMap<&str, &str>> =
        text.split("\n\n").map(|block| block.lines().filter_map(|line| line.split_once('=')).collect()).collect();
    let block = |id: String| blocks.iter().find(|block| block.get("Id") == Some(&id.as_str()));
    let is = |block: Option<&BTreeMap<&str, &str>>, state| block.and_then(|b| b.get("ActiveState")) == Some(&state);
    let each = names.iter().map(|name| {
        let timer = block(unit(name, "timer"));
        let next = timer.and_then(|timer| timer.get("NextElapseUSecRealtime")?.strip_prefix('@')?.parse().ok());
        let failed = is(block(unit(name, "service")), "failed");
        (name.clone(), Timer { active: is(timer, "active"), next, failed })
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_systemd_prints_is_read_by_unit() {
        let text = "Id=tierfs-migrate@docs.timer\nActiveState=active\nNextElapseUSecRealtime=@1796000000\n\n\
            Id=tierfs-migrate@docs.service\nActiveState=failed\n\n\
            Id=tierfs-migrate@old.timer\nActiveState=inactive\nNextElapseUSecRealtime=\n";
        let read = read(text, &["docs".into(), "old".into(), "other".into()]);
        assert_eq!(read["docs"], Timer { active: true, next: Some(1_796_000_000), failed: true });
        assert_eq!((read["old"], read["other"]), (Timer::default(), Timer::default()));
    }
}
