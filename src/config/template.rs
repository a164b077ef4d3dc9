//! The commented configuration that `tierfs init` writes.

use std::path::Path;

use crate::config::words::Word;
use crate::config::{MinFree, TierConfig, load};
use crate::yaml;

/// A configuration file for these tiers, with every option explained.
///
/// # Errors
/// One line where a path is not UTF-8: YAML cannot hold it.
pub fn render(name: &str, mountpoint: Option<&Path>, tiers: &[TierConfig]) -> Result<String, String> {
    let mut text = HEAD.to_string();
    text.push_str(&format!("name: {}\n", scalar(name)?));
    match mountpoint {
        Some(path) => text.push_str(&format!("mountpoint: {}\n", quoted(path)?)),
        None => text.push_str("#mountpoint: /srv/docs\n"),
    }
    text.push_str(POLICY);
    text.push_str(TIERS);
    for tier in tiers {
        text.push_str(&format!("  - path: {}\n", quoted(&tier.path)?));
        if let Some(id) = &tier.id {
            text.push_str(&format!("    id: {}\n", scalar(id)?));
        }
        match tier.min_free {
            MinFree::Bytes(0) => text.push_str("    #min_free: 5%\n"),
            min_free => text.push_str(&format!("    min_free: {}\n", min_free.show())),
        }
        if let Some(encryption) = &tier.encryption {
            text.push_str(&format!("    encryption: {}\n", load::show_encryption(encryption)?));
        }
    }
    text.push_str(MOUNT);
    Ok(text)
}

fn quoted(path: &Path) -> Result<String, String> {
    let text = path.to_str();
    let text = text.ok_or_else(|| format!("{} is not UTF-8: YAML cannot hold it", path.display()))?;
    scalar(text)
}

fn scalar(text: &str) -> Result<String, String> {
    Ok(yaml::render(&text)?.trim_end().to_string())
}

const HEAD: &str = "\
# tierfs configuration. Check it with: tierfs config check FILE
# Mount it with:                       tierfs mount --config FILE
version: 1

# What df shows as the source.
";

const POLICY: &str = "
# Which files `tierfs migrate` moves; relative to the directory of this file.
#policy: docs-policy.yaml
";

const TIERS: &str = "
# Fastest first. New files go to the first; the visible copy of a path is on the first tier that
# holds it. `id` is in the tier's .tierfs/marker: with it, a wrong or unmounted disk is refused.
# `min_free` sends new files to the next tier when less is free: 10%, 4GiB.
# A tier with `encryption:` holds ciphertext in the format of gocryptfs: make it with `tierfs key init`.
# Say where its passphrase is, or nothing to be asked at the terminal: encryption: {passfile: FILE},
# or keyfile: FILE, extpass: COMMAND, credential: NAME (of systemd), keyring: NAME. Relative files are
# beside this one. `conf: FILE` is for a gocryptfs.conf that is not in the tier's root.
tiers:
";

const MOUNT: &str = "
# Every line shows the default; remove the # to change it.
mount:
  #allow_other: false          # true: other users, and Samba, may use the mount
  #ro: false                   # true: nothing can be changed through the mount
  #suid: false                 # true: set-user-id programs work (root only)
  #dev: false                  # true: device nodes work (root only)
  #exec: true                  # false: programs cannot be started from the mount
  #out_of_band: watch          # changes made beside the mount: watch, ttl or never
  #ttl: 1s                     # how long the kernel caches with out_of_band: ttl
  #tier_timeout: 30s           # a tier that does not answer for so long is given up until it does; 0s: never
  #statfs: sum                 # what df shows: sum, primary or secondary
  #spill: true                 # new files go to the next tier when one is full
  #on_write: in_place          # a file of a slower tier that is written stays there, or: promote
  #on_missing: fail            # a tier that is not there at the start: fail or degraded
  #passthrough: true           # the kernel reads and writes the backing files itself
  #track_access: false         # true: reading counts also on tiers mounted noatime (root only)
  #remember: 0                 # for export by NFS: so many files stay known, such as 1000000
  #smb_offline: never          # files that Samba shows as offline: never, demoted or last (tier)
  #threads: 4                  # threads that serve requests

# Numbers for Prometheus: on a port of this machine, and in a file for node_exporter.
#metrics: {listen: '127.0.0.1:9567', textfile: /var/lib/prometheus/node-exporter/tierfs.prom}
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{MountOptions, check, load};

    fn tiers() -> Vec<TierConfig> {
        ["/fast/a: b", "/slow/#1"]
            .map(|path| TierConfig {
                path: path.into(),
                id: Some(format!("{:032x}", path.len())),
                min_free: MinFree::Percent(3),
                encryption: (path == "/slow/#1").then(|| crate::config::Encryption {
                    conf: Some("/etc/it's".into()),
                    source: crate::types::passphrase::Source::Command("pass show: x".into()),
                }),
            })
            .to_vec()
    }

    #[test]
    fn the_template_reads_back_to_what_it_was_made_of() {
        let text = render("docs", Some(Path::new("/srv/docs")), &tiers()).unwrap();
        let draft = load::parse(&text).unwrap();
        assert_eq!(draft.tiers, tiers());
        assert_eq!(draft.options, MountOptions::default());
        let config = check::finish(draft).unwrap();
        assert_eq!(config.mountpoint, Path::new("/srv/docs"));
    }

    #[test]
    fn every_commented_option_exists_and_shows_the_default() {
        let text = render("docs", Some(Path::new("/srv/docs")), &tiers()).unwrap();
        let mut plain = text.replace("\n  #", "\n  ");
        plain = plain.replace("\n  threads: 4", "\n  #threads: 4");
        assert_eq!(load::parse(&plain).unwrap().options, MountOptions::default());
    }
}
