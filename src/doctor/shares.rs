//! What Samba and the kernel's NFS server give to others: through the mount, never out of a tier.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::facts::{Export, Facts, Share, Union};
use super::{Book, Finding, word};

/// The definition that comes with the package, with the reasons in docs/SAMBA.md.
const DEFINITION: &str = "/usr/share/tierfs/samba/tierfs.conf";

/// A setting that a share on a mount should have.
struct Advice {
    /// As smb.conf(5) writes it.
    name: &'static str,
    /// What it should be.
    wanted: &'static str,
    /// What Samba takes where it is not written.
    default: &'static str,
    /// What is lost otherwise.
    why: &'static str,
}

const ADVICE: &[Advice] = &[
    Advice {
        name: "kernel oplocks",
        wanted: "no",
        default: "no",
        why: "clients get no leases, and a program on the tier is not held back",
    },
    Advice { name: "oplocks", wanted: "yes", default: "yes", why: "clients keep nothing in their cache" },
    Advice { name: "kernel share modes", wanted: "no", default: "yes", why: DURABLE },
    Advice { name: "posix locking", wanted: "no", default: "yes", why: DURABLE },
    Advice { name: "strict allocate", wanted: "no", default: "no", why: "a nearly full primary refuses files" },
    Advice { name: "store dos attributes", wanted: "yes", default: "yes", why: "hidden and read-only change the mode" },
    Advice { name: "ea support", wanted: "yes", default: "yes", why: "clients' extended attributes are refused" },
];

const DURABLE: &str = "clients lose open files with a short loss of the network";

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
    if union.config.as_ref().is_some_and(|config| !config.options.allow_other) && !union.guessed {
        book.trouble(
            "samba-allow-other",
            "the mount lets nobody in but the user who mounted it, so users of the share are refused",
            "allow_other: true in the section `mount:` of the configuration, then mount again",
        );
    }
    if share.settings.contains_key("include") {
        // What is included is not known here: nothing can be said against the rest.
        return book.fine(CHECK, "it includes settings from another file");
    }
    if given(share, "acl_xattr:ignore system acls", "no") == "yes" {
        book.warning(
            "samba-acls",
            "acl_xattr:ignore system acls = yes: every local user can use every file, whatever its Windows ACL says",
            "acl_xattr:ignore system acls = no",
        );
    }
    let mut odd: Vec<String> = Vec::new();
    for Advice { name, wanted, default, why } in ADVICE {
        let value = given(share, name, default);
        if value != *wanted {
            odd.push(format!("{name} = {value} ({why})"));
        }
    }
    if !share.settings.get("vfsobjects").is_some_and(|modules| modules.contains("acl_xattr")) {
        odd.push("no vfs objects = acl_xattr (Windows ACLs are kept in part)".into());
    }
    if ["rootpreexec", "preexec", "exec"].iter().all(|key| !share.settings.contains_key(*key)) {
        odd.push("no root preexec (while nothing is mounted, clients fill the directory below)".into());
    }
    if odd.is_empty() {
        book.fine(CHECK, "its settings suit a tierfs mount");
    } else {
        let todo = format!("include = {DEFINITION} in [{}], see docs/SAMBA.md", share.name);
        book.hint(CHECK, odd.join("; "), todo);
    }
}

/// A setting of a share, `yes` and `no` however they are written.
fn given(share: &Share, name: &str, default: &str) -> String {
    let key: String = name.chars().filter(|letter| !letter.is_whitespace()).collect();
    let value = share.settings.get(&key).map_or(default, String::as_str).to_ascii_lowercase();
    match value.as_str() {
        "true" | "1" | "on" => "yes".into(),
        "false" | "0" | "off" => "no".into(),
        other => other.to_owned(),
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
        assert_eq!(told(&facts), [("samba-settings", Level::Hint), ("samba-path", Level::Trouble)]);
        let found = judge(&facts);
        let path = found.iter().find(|it| it.level == Level::Trouble).unwrap();
        assert_eq!(path.about, "Samba share [raw]");
        assert!(path.todo.ends_with("/srv/docs/"), "{path:?}");
    }

    /// A share that is as it should be.
    const GOOD: &str = "[docs]\npath = /srv/docs\nroot preexec = findmnt\nvfs objects = acl_xattr streams_xattr\n\
                        kernel share modes = no\nposix locking = No\n";

    #[test]
    fn settings_that_do_not_suit_are_told() {
        assert_eq!(told(&facts(GOOD, "")), []);
        for setting in [
            "kernel oplocks = yes",
            "oplocks = no",
            "kernel share modes = 1",
            "posix locking = On",
            "strict allocate = True",
            "store dos attributes = no",
            "ea support = 0",
            "vfs objects = streams_xattr",
        ] {
            let facts = facts(&format!("{GOOD}{setting}\n"), "");
            assert_eq!(told(&facts), [("samba-settings", Level::Hint)], "{setting}");
            let name = setting.split(" =").next().unwrap();
            assert!(judge(&facts).iter().any(|it| it.found.contains(name)), "{setting}: {:?}", judge(&facts));
        }
        let unlocked = GOOD.replace("root preexec = findmnt\n", "");
        assert_eq!(told(&facts(&unlocked, "")), [("samba-settings", Level::Hint)]);
        let open = format!("{GOOD}acl_xattr:ignore system acls = yes\n");
        assert_eq!(told(&facts(&open, "")), [("samba-acls", Level::Warning)]);
    }

    #[test]
    fn what_is_included_or_elsewhere_is_not_told() {
        assert_eq!(told(&facts("[docs]\npath = /srv/docs\ninclude = /x\n", "")), []);
        assert_eq!(told(&facts("[other]\npath = /home\nstrict allocate = yes\n", "")), []);
        let mut closed = facts(GOOD, "");
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
