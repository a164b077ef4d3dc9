//! Which combinations are legal: every rule that looks at more than one value.

use std::path::{Component, Path};
use std::time::Duration;

use crate::config::{Draft, Error, Metrics, MountConfig, StatfsOf, TierConfig};
use crate::types::ids::TIERS_MAX;

/// More threads than this only wait for one another.
const THREADS_MAX: usize = 256;

/// The kernel counts a timeout in jiffies; a year is safe on every machine and as good as ever.
const TTL_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// How often metrics can be written.
const EVERY: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);

/// Hexadecimal digits of a tier id.
const ID_DIGITS: usize = 32;

/// Completes a draft.
///
/// # Errors
/// The first rule that is broken: [`Error::File`] if a file was read, else [`Error::Usage`].
pub fn finish(draft: Draft) -> Result<MountConfig, Error> {
    let file = draft.file.clone();
    legal(&draft).and_then(|()| complete(draft)).map_err(|line| match file {
        Some(file) => Error::File(format!("{}: {line}", file.display())),
        None => Error::Usage(line),
    })
}

/// Completes a draft for whoever opens the union without mounting it: a mount point may be missing.
///
/// # Errors
/// As [`finish`].
pub fn finish_unmounted(draft: Draft) -> Result<MountConfig, Error> {
    let given = draft.mountpoint.clone();
    let nowhere = Some("/".into());
    let config = finish(Draft { mountpoint: given.clone().or(nowhere), ..draft })?;
    Ok(MountConfig { mountpoint: given.unwrap_or_default(), ..config })
}

fn complete(draft: Draft) -> Result<MountConfig, String> {
    let mut options = draft.options;
    options.fsname = options.fsname.or(draft.name);
    let Some(mountpoint) = draft.mountpoint else {
        return Err("there is no mount point: add `mountpoint: /some/directory`".into());
    };
    let file = draft.file.map(|file| std::path::absolute(&file).unwrap_or(file));
    Ok(MountConfig { tiers: draft.tiers, mountpoint, policy: draft.policy, file, options, metrics: draft.metrics })
}

fn legal(draft: &Draft) -> Result<(), String> {
    match draft.tiers.len() {
        0 => {
            let says = "there are no tiers: add `primary:` and `secondary:`, or a list `tiers:`";
            return Err(says.into());
        }
        1..=TIERS_MAX => {}
        many => {
            return Err(format!("{many} tiers are too many: a union has at most {TIERS_MAX}"));
        }
    }
    for (index, tier) in draft.tiers.iter().enumerate() {
        tier_legal(tier)?;
        for other in &draft.tiers[..index] {
            if plain(&tier.path) == plain(&other.path) {
                let path = tier.path.display();
                return Err(format!("{path} is named twice: each tier needs its own directory"));
            }
            if tier.id.is_some() && tier.id == other.id {
                let (a, b) = (other.path.display(), tier.path.display());
                return Err(format!("{a} and {b} carry the same id: copy each from its marker"));
            }
        }
    }
    if let Some(mountpoint) = &draft.mountpoint {
        absolute("the mount point", mountpoint)?;
    }
    metrics_legal(&draft.metrics)?;
    options_legal(draft)
}

fn metrics_legal(metrics: &Metrics) -> Result<(), String> {
    if let Some(listen) = metrics.listen {
        if !listen.ip().is_loopback() {
            return Err(format!(
                "metrics on {listen} could be read from other machines, and nobody is asked for a password there: \
                 write 127.0.0.1:{}, and let node_exporter (textfile) or a proxy pass them on",
                listen.port()
            ));
        }
        if listen.port() == 0 {
            return Err("metrics need a port that Prometheus can be told, such as 127.0.0.1:9567".into());
        }
    }
    if let Some(file) = &metrics.textfile {
        absolute("the file for metrics", file)?;
        if file.extension().is_none_or(|word| word != "prom") {
            return Err(format!("{}: node_exporter reads only files that end in .prom", file.display()));
        }
    }
    if !EVERY.contains(&metrics.every) {
        return Err("metrics can be written every 1s to 1h".into());
    }
    Ok(())
}

fn tier_legal(tier: &TierConfig) -> Result<(), String> {
    absolute("the tier", &tier.path)?;
    match &tier.id {
        Some(id) if id.len() != ID_DIGITS || !id.bytes().all(|b| b.is_ascii_hexdigit()) => {
            let says = "is not a tier id: copy the 32 digits after `tier:` from";
            Err(format!("`{id}` {says} {}/.tierfs/marker", tier.path.display()))
        }
        _ => Ok(()),
    }
}

fn options_legal(draft: &Draft) -> Result<(), String> {
    let options = &draft.options;
    if options.statfs == StatfsOf::Secondary && draft.tiers.len() < 2 {
        return Err("statfs: secondary needs a second tier".into());
    }
    if !options.default_permissions {
        let says = "default_permissions cannot be turned off: without the kernel's check nothing \
                    would keep users from each other's files";
        return Err(says.into());
    }
    if options.threads.is_some_and(|threads| !(1..=THREADS_MAX).contains(&threads)) {
        return Err(format!("threads must be from 1 to {THREADS_MAX}"));
    }
    if options.ttl > TTL_MAX {
        return Err("ttl must be at most 366d".into());
    }
    if options.fsname.as_ref().or(draft.name.as_ref()).is_some_and(String::is_empty) {
        return Err("the name must not be empty".into());
    }
    Ok(())
}

fn absolute(what: &str, path: &Path) -> Result<(), String> {
    if path.is_absolute() {
        return Ok(());
    }
    Err(format!("{what} {} must be an absolute path, one that begins with /", path.display()))
}

/// Without `.` and doubled or trailing slashes. `..` stays: only the kernel knows where it leads.
fn plain(path: &Path) -> Vec<Component<'_>> {
    path.components().filter(|part| *part != Component::CurDir).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tier(path: &str) -> TierConfig {
        TierConfig::at(path.into())
    }

    fn draft(paths: &[&str]) -> Draft {
        let tiers = paths.iter().map(|path| tier(path)).collect();
        Draft { tiers, mountpoint: Some("/m".into()), ..Draft::default() }
    }

    fn refused(draft: Draft) -> String {
        finish(draft).unwrap_err().to_string()
    }

    #[test]
    fn one_to_eight_tiers() {
        assert!(refused(draft(&[])).contains("no tiers"));
        let names: Vec<String> = (0..9).map(|n| format!("/t{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert!(finish(draft(&names[..1])).is_ok());
        assert!(finish(draft(&names[..8])).is_ok());
        assert!(refused(draft(&names)).contains("at most 8"));
    }

    #[test]
    fn paths_are_absolute_and_distinct() {
        assert!(refused(draft(&["fast", "/slow"])).contains("absolute"));
        assert!(refused(draft(&["/fast", "/./fast//"])).contains("named twice"));
        let mut relative = draft(&["/a"]);
        relative.mountpoint = Some("m".into());
        assert!(refused(relative).contains("the mount point m must be an absolute path"));
        let mut nowhere = draft(&["/a"]);
        nowhere.mountpoint = None;
        assert!(refused(nowhere).contains("no mount point"));
    }

    #[test]
    fn ids_are_hexadecimal_and_distinct() {
        let mut short = draft(&["/a", "/b"]);
        short.tiers[0].id = Some("12".into());
        assert!(refused(short).contains("/a/.tierfs/marker"));
        let mut twins = draft(&["/a", "/b"]);
        twins.tiers[0].id = Some("0".repeat(32));
        twins.tiers[1].id = Some("0".repeat(32));
        assert!(refused(twins).contains("same id"));
    }

    #[test]
    fn metrics_stay_on_this_machine() {
        let with = |listen: Option<&str>, textfile: Option<&str>, every| {
            let (listen, textfile) = (listen.map(|text| text.parse().unwrap()), textfile.map(Into::into));
            Draft { metrics: Metrics { listen, textfile, every: Duration::from_secs(every) }, ..draft(&["/a"]) }
        };
        for good in ["127.0.0.1:9567", "127.0.0.9:1", "[::1]:9567"] {
            assert!(finish(with(Some(good), Some("/run/x.prom"), 15)).is_ok(), "{good}");
        }
        for open in ["0.0.0.0:9567", "192.168.1.2:9567", "[::]:9567"] {
            let told = refused(with(Some(open), None, 15));
            assert!(told.contains("from other machines") && told.contains("write 127.0.0.1:9567"), "{told}");
        }
        assert!(refused(with(Some("127.0.0.1:0"), None, 15)).contains("need a port"));
        assert!(refused(with(None, Some("x.prom"), 15)).contains("must be an absolute path"));
        assert!(refused(with(None, Some("/x.txt"), 15)).contains("end in .prom"));
        assert!(refused(with(None, Some("/x.prom"), 0)).contains("every 1s to 1h"));
    }

    #[test]
    fn options_have_bounds() {
        let mut one = draft(&["/a"]);
        one.options.statfs = StatfsOf::Secondary;
        assert!(refused(one).contains("second tier"));
        let mut open = draft(&["/a"]);
        open.options.default_permissions = false;
        assert!(refused(open).contains("cannot be turned off"));
        for threads in [0, THREADS_MAX + 1] {
            let mut many = draft(&["/a"]);
            many.options.threads = Some(threads);
            assert!(refused(many).contains("threads must be"));
        }
        let mut long = draft(&["/a"]);
        long.options.ttl = TTL_MAX * 2;
        assert!(refused(long).contains("ttl"));
    }

    #[test]
    fn the_name_is_the_source_unless_another_is_given() {
        let mut named = draft(&["/a"]);
        named.name = Some("docs".into());
        assert_eq!(finish(named.clone()).unwrap().options.fsname.as_deref(), Some("docs"));
        named.options.fsname = Some("other".into());
        assert_eq!(finish(named).unwrap().options.fsname.as_deref(), Some("other"));
    }
}
