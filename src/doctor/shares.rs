//! What Samba and the kernel's NFS server give to others: through the mount, never out of a tier.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::facts::{Export, Facts, Share, Union};
use super::{Book, Finding, word};

/// Settings that a share on a mount should have, and why: name, value, and what another value costs. The
/// reasons are in docs/SAMBA.md.
const ADVICE: &[(&str, &str, &str)] = &[
    (
        "kerneloplocks",
        "no",
        "clients get no leases, and a program that uses the tier itself is not held back all the same",
    ),
    ("strictallocate", "no", "every new file would be written twice"),
    ("storedosattributes", "yes", "hidden and read-only would be kept in permissions, and lost to others"),
    ("easupport", "yes", "extended attributes of Windows and macOS would be refused"),
];

/// What Samba takes where a setting is not written (smb.conf(5)).
fn default_of(name: &str) -> &'static str {
    match name {
        "storedosattributes" | "easupport" => "yes",
        _ => "no",
    }
}

/// Judges all shares and exports.
pub fn judge(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    for share in &facts.shares {
        let mut book = Book::new(format!("Samba share [{}]", share.name));
        if let Some((union, tier)) = in_tier(facts, &share.path) {
            beside(&mut book, "samba-path", &share.path, union, tier);
        } else if let Some(union) = on_mount(facts, &share.path) {
            book.fine("samba-path", format!("{} is in the mount", share.path.display()));
            samba(&mut book, share, union);
        }
        found.extend(book.close());
    }
    for export in &facts.exports {
        let mut book = Book::new(format!("NFS export {}", export.path.display()));
        if let Some((union, tier)) = in_tier(facts, &export.path) {
            beside(&mut book, "nfs-path", &export.path, union, tier);
        } else if on_mount(facts, &export.path).is_some() {
            nfs(&mut book, export);
        }
        found.extend(book.close());
    }
    found
}

fn beside(book: &mut Book, check: &'static str, path: &Path, union: &Union, tier: &Path) {
    let mountpoint = union.config.as_ref().map(|config| config.mountpoint.as_path()).unwrap_or(Path::new(""));
    let rest = path.strip_prefix(tier).unwrap_or(Path::new(""));
    let right = mountpoint.join(rest);
    book.trouble(
        check,
        format!(
            "{} is on the tier {}, beside the mount: its users see only a part of the files, and a file that they \
             write can be hidden by another tier's",
            path.display(),
            tier.display()
        ),
        format!("give the path in the mount: {}", word(&right)),
    );
}

fn in_tier<'a>(facts: &'a Facts, path: &Path) -> Option<(&'a Union, &'a Path)> {
    facts.unions.iter().find_map(|union| {
        let tiers = union.config.iter().flat_map(|config| &config.tiers);
        let mut above = tiers.map(|tier| tier.path.as_path());
        above.find(|tier| path.starts_with(tier)).map(|tier| (union, tier))
    })
}

fn on_mount<'a>(facts: &'a Facts, path: &Path) -> Option<&'a Union> {
    facts.unions.iter().find(|union| {
        let point = union.config.as_ref().map(|config| &config.mountpoint);
        point.is_some_and(|point| !point.as_os_str().is_empty() && path.starts_with(point))
    })
}

fn samba(book: &mut Book, share: &Share, union: &Union) {
    const CHECK: &str = "samba-settings";
    let before = book.list.len();
    for (name, wanted, why) in ADVICE {
        let given = share.settings.get(*name).map_or(default_of(name), String::as_str);
        if is_yes(given) != is_yes(wanted) {
            let shown = shown(name);
            book.hint(CHECK, format!("{shown} = {given}: {why}"), format!("{shown} = {wanted} (docs/SAMBA.md)"));
        }
    }
    if union.config.as_ref().is_some_and(|config| !config.options.allow_other) && !union.guessed {
        book.trouble(
            "samba-allow-other",
            "the mount lets nobody in but the user who mounted it, so users of the share are refused",
            "allow_other: true in the section `mount:` of the configuration, then mount again",
        );
    }
    if book.list.len() == before {
        book.fine(CHECK, "its settings suit a tierfs mount");
    }
}

fn is_yes(value: &str) -> bool {
    ["yes", "true", "1", "on"].contains(&value.to_ascii_lowercase().as_str())
}

/// As smb.conf(5) writes it.
fn shown(name: &str) -> &'static str {
    match name {
        "kerneloplocks" => "kernel oplocks",
        "strictallocate" => "strict allocate",
        "storedosattributes" => "store dos attributes",
        _ => "ea support",
    }
}

fn nfs(book: &mut Book, export: &Export) {
    const CHECK: &str = "nfs-export";
    if export.options.contains("fsid=") {
        book.fine(CHECK, "it has an fsid");
    } else {
        book.warning(
            CHECK,
            "it has no fsid=, without which the kernel's NFS server exports no FUSE mount",
            format!("add fsid=1 (a number of its own) in {}, then: exportfs -ra", word(&export.file)),
        );
    }
}

/// The shares of a file of Samba, or of what `testparm -s` prints of it.
pub fn read_shares(text: &str) -> Vec<Share> {
    let mut global = BTreeMap::new();
    let mut shares: Vec<Share> = Vec::new();
    let mut in_global = true;
    for line in joined(text) {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            in_global = name.trim().eq_ignore_ascii_case("global");
            if !in_global {
                shares.push(Share { name: name.trim().to_owned(), ..Share::default() });
            }
            continue;
        }
        let Some((key, value)) = line.split_once('=') else { continue };
        let key: String = key.chars().filter(|letter| !letter.is_whitespace()).collect::<String>().to_lowercase();
        let value = value.trim().to_owned();
        match shares.last_mut().filter(|_| !in_global) {
            Some(share) => {
                if ["path", "directory"].contains(&key.as_str()) {
                    share.path = PathBuf::from(&value);
                }
                share.settings.insert(key, value);
            }
            None => {
                global.insert(key, value);
            }
        }
    }
    for share in &mut shares {
        for (key, value) in &global {
            share.settings.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    shares.retain(|share| !share.path.as_os_str().is_empty());
    shares
}

/// Lines, with those that end in a backslash put together with the next.
fn joined(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut open = String::new();
    for line in text.lines() {
        match line.trim_end().strip_suffix('\\') {
            Some(begun) => open.push_str(begun),
            None => {
                open.push_str(line);
                lines.push(std::mem::take(&mut open));
            }
        }
    }
    lines.push(open);
    lines
}

/// The exports of a file such as `/etc/exports`.
pub fn read_exports(file: &Path, text: &str) -> Vec<Export> {
    let mut exports = Vec::new();
    for line in joined(text) {
        let line = line.split('#').next().unwrap_or_default().trim();
        let (path, options) = match line.strip_prefix('"').and_then(|rest| rest.split_once('"')) {
            Some(parts) => parts,
            None => line.split_once(char::is_whitespace).unwrap_or((line, "")),
        };
        if path.starts_with('/') {
            let (path, options) = (PathBuf::from(path), options.trim().to_owned());
            exports.push(Export { file: file.to_path_buf(), path, options });
        }
    }
    exports
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    const TEXT: &str = "
[global]
   kernel oplocks = no
   ; strict allocate = yes
[docs]
   path = /srv/docs/a
   StoreDosAttributes = \\
     Yes
[raw]
  path = /fast
[homes]
  read only = no
";

    fn facts(smb: &str, exports: &str) -> Facts {
        let text = "version: 1\nmountpoint: /srv/docs\nprimary: {path: /fast}\nsecondary: {path: /slow}\nmount: {allow_other: true}\n";
        let config = crate::config::check::finish(crate::config::load::parse(text).unwrap()).unwrap();
        Facts {
            unions: vec![Union { config: Some(config), ..Union::default() }],
            shares: read_shares(smb),
            exports: read_exports(Path::new("/etc/exports"), exports),
            ..Facts::default()
        }
    }

    fn told(facts: &Facts) -> Vec<(&'static str, Level)> {
        let found = judge(facts);
        found.iter().filter(|it| it.level > Level::Fine).map(|it| (it.check, it.level)).collect()
    }

    #[test]
    fn shares_are_read_as_samba_does() {
        let shares = read_shares(TEXT);
        assert_eq!(shares.len(), 2);
        assert_eq!((shares[0].name.as_str(), shares[0].path.as_path()), ("docs", Path::new("/srv/docs/a")));
        assert_eq!(shares[0].settings["storedosattributes"], "Yes");
        assert_eq!(shares[0].settings["kerneloplocks"], "no");
        assert!(!shares[0].settings.contains_key("strictallocate"));
    }

    #[test]
    fn a_share_out_of_a_tier_is_trouble() {
        let facts = facts(TEXT, "");
        assert_eq!(told(&facts), [("samba-path", Level::Trouble)]);
        let found = judge(&facts);
        let path = found.iter().find(|it| it.level == Level::Trouble).unwrap();
        assert_eq!(path.about, "Samba share [raw]");
        assert!(path.todo.ends_with("/srv/docs/"), "{path:?}");
    }

    #[test]
    fn settings_that_do_not_suit_are_told_each() {
        for setting in ["kernel oplocks = yes", "strict allocate = True", "store dos attributes = no", "ea support = 0"]
        {
            let text = format!("[docs]\npath = /srv/docs\n{setting}\n");
            assert_eq!(told(&facts(&text, "")), [("samba-settings", Level::Hint)], "{setting}");
        }
        assert_eq!(told(&facts("[docs]\npath = /srv/docs\n[other]\npath = /home\nstrict allocate = yes\n", "")), []);
        let mut closed = facts("[docs]\npath = /srv/docs\n", "");
        closed.unions[0].config.iter_mut().for_each(|config| config.options.allow_other = false);
        assert_eq!(told(&closed), [("samba-allow-other", Level::Trouble)]);
    }

    #[test]
    fn an_export_needs_an_fsid_and_is_never_out_of_a_tier() {
        for (line, expected) in [
            ("/srv/docs *(rw,fsid=1)", vec![]),
            ("/srv/docs *(rw)", vec![("nfs-export", Level::Warning)]),
            ("\"/slow/a b\" *(ro)", vec![("nfs-path", Level::Trouble)]),
            ("# /slow *(ro)", vec![]),
            ("/home *(ro)", vec![]),
        ] {
            assert_eq!(told(&facts("", line)), expected, "{line}");
        }
    }
}
