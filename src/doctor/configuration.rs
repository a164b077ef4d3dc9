//! Configuration files and those with passphrases.

use crate::types::passphrase::Source;

use super::facts::{Facts, Ground, Machine, Rights, Union};
use super::{Book, Finding, word};

/// Programs that only print what they are told: then the passphrase itself is in the configuration.
const PRINTERS: [&str; 3] = ["echo", "printf", "/bin/echo"];

/// Judges the files of one union.
pub fn judge(union: &Union, machine: &Machine) -> Vec<Finding> {
    let mut book = Book::new(&union.name);
    parse(&mut book, union);
    ground(&mut book, union);
    for rights in union.above.iter().chain(&union.file) {
        writers(&mut book, rights, machine);
    }
    passphrases(&mut book, union, machine);
    commands(&mut book, union);
    book.close()
}

/// Judges what two configurations say of one directory: two mounts of one tier would not know of each other.
pub fn together(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "one-union";
    let mut found = Vec::new();
    for (index, union) in facts.unions.iter().enumerate() {
        let Some(config) = union.config.as_ref().filter(|_| union.file.is_some()) else { continue };
        let mut book = Book::new(&union.name);
        for other in facts.unions.iter().take(index).filter(|other| other.file.is_some()) {
            let Some(theirs) = &other.config else { continue };
            let mut tiers = config.tiers.iter().map(|tier| &tier.path);
            let both = tiers.find(|path| theirs.tiers.iter().any(|tier| tier.path == **path));
            let same_point = !config.mountpoint.as_os_str().is_empty() && config.mountpoint == theirs.mountpoint;
            if let Some(path) = both.or(Some(&config.mountpoint).filter(|_| same_point)) {
                let found = format!("{} names {}, too: only one of both can be mounted", other.name, path.display());
                book.warning(CHECK, found, "take one of both away, or give each directories of its own");
            }
        }
        if book.list.is_empty() {
            book.fine(CHECK, "no other configuration names its directories");
        }
        found.extend(book.close());
    }
    found
}

fn parse(book: &mut Book, union: &Union) {
    const CHECK: &str = "configuration";
    let file = union.file.as_ref().map(|rights| word(&rights.path));
    match (&union.problem, file) {
        (Some(problem), Some(file)) => {
            book.trouble(CHECK, problem, format!("correct it, then: tierfs config check {file}"));
        }
        (Some(problem), None) => book.trouble(CHECK, problem, "name the mount point, or a configuration file"),
        (None, Some(_)) => book.fine(CHECK, "the configuration can be read"),
        (None, None) => {}
    }
    if let Some((path, policy)) = &union.policy {
        match policy {
            Ok(_) => book.fine("policy", format!("{} can be read", path.display())),
            Err(line) => book.trouble("policy", line, format!("correct it, then: tierfs config check {}", word(path))),
        }
    }
}

/// The directory that is to be mounted on, while nothing is.
fn ground(book: &mut Book, union: &Union) {
    const CHECK: &str = "mount-point";
    let Some(point) = union.config.as_ref().map(|config| &config.mountpoint).filter(|_| !union.mounted) else { return };
    let path = word(point);
    match union.ground {
        Ground::Unknown => {}
        Ground::Empty => book.fine(CHECK, format!("the mount point {path} is an empty directory")),
        Ground::Absent => {
            book.trouble(CHECK, format!("the mount point {path} does not exist"), format!("mkdir -p {path}"))
        }
        Ground::NoDirectory => book.trouble(
            CHECK,
            format!("the mount point {path} is no directory"),
            format!("name another, or move it away and: mkdir {path}"),
        ),
        Ground::Holds => book.warning(
            CHECK,
            format!("the mount point {path} is not empty: what is in it is hidden while it is mounted"),
            format!("see who wrote it there (ls -la {path}), move it away, then: chattr +i {path}"),
        ),
    }
}

fn writers(book: &mut Book, rights: &Rights, machine: &Machine) {
    const CHECK: &str = "configuration-rights";
    let path = word(&rights.path);
    let is_ours = rights.uid == 0 || rights.uid == machine.uid;
    // Anybody may make files in a directory such as /tmp, but not replace those of others.
    let is_sticky = rights.mode & 0o1000 != 0;
    if !is_ours {
        let found = format!("{path} belongs to user {}, who can have it mount and run anything", rights.uid);
        book.warning(CHECK, found, format!("chown root: {path}"));
    } else if rights.mode & 0o002 != 0 && !is_sticky {
        let found = format!("{path} can be written by everybody (mode {:03o})", rights.mode & 0o777);
        book.trouble(CHECK, found, format!("chmod o-w {path}"));
    } else if rights.mode & 0o020 != 0 && !is_sticky {
        let found = format!("{path} can be written by its group (mode {:03o})", rights.mode & 0o777);
        book.hint(CHECK, found, format!("chmod g-w {path}, unless all of the group are administrators"));
    } else {
        book.fine(CHECK, format!("{path} can be changed by its owner alone"));
    }
}

fn passphrases(book: &mut Book, union: &Union, machine: &Machine) {
    const CHECK: &str = "passphrase-file";
    for secret in &union.secrets {
        match secret {
            Err(why) => book.trouble(CHECK, why, "put the file back, or correct its name in the configuration"),
            Ok(rights) if rights.mode & 0o077 != 0 => {
                let path = word(&rights.path);
                let found = format!("{path} can be used by others (mode {:03o})", rights.mode & 0o777);
                book.trouble(CHECK, found, format!("chmod 600 {path}; who may have read it: tierfs key passwd"));
            }
            Ok(rights) if rights.uid != 0 && rights.uid != machine.uid => {
                let path = word(&rights.path);
                book.warning(CHECK, format!("{path} belongs to user {}", rights.uid), format!("chown root: {path}"));
            }
            Ok(rights) => book.fine(CHECK, format!("{} is its owner's alone", rights.path.display())),
        }
    }
}

fn commands(book: &mut Book, union: &Union) {
    const CHECK: &str = "passphrase-program";
    let tiers = union.config.iter().flat_map(|config| &config.tiers);
    for encryption in tiers.filter_map(|tier| tier.encryption.as_ref()) {
        let Source::Command(text) = &encryption.source else { continue };
        let program = text.split(' ').find(|part| !part.is_empty()).unwrap_or_default();
        if PRINTERS.contains(&program) || program.ends_with("/printf") || program.ends_with("/echo") {
            book.warning(
                CHECK,
                format!("extpass runs {program}: the passphrase itself stands in the configuration"),
                "put it into a file of mode 600 and write passfile: FILE",
            );
        } else {
            book.fine(CHECK, format!("the passphrase comes from the program {program}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;
    use crate::doctor::Level;

    fn rights(uid: u32, mode: u32) -> Rights {
        Rights { path: "/etc/tierfs/docs.yaml".into(), uid, mode }
    }

    fn levels(found: &[Finding], check: &str) -> Vec<Level> {
        found.iter().filter(|finding| finding.check == check).map(|finding| finding.level).collect()
    }

    #[test]
    fn a_configuration_that_others_can_write_is_told() {
        for (uid, mode, level) in [
            (0, 0o644, Level::Fine),
            (0, 0o664, Level::Hint),
            (0, 0o646, Level::Trouble),
            (0, 0o1777, Level::Fine),
            (7, 0o600, Level::Warning),
        ] {
            let union = Union { file: Some(rights(uid, mode)), ..Union::default() };
            assert_eq!(levels(&judge(&union, &Machine::default()), "configuration-rights"), [level], "{uid} {mode:o}");
        }
        let own = Union { file: Some(rights(7, 0o600)), ..Union::default() };
        let machine = Machine { uid: 7, ..Machine::default() };
        assert_eq!(levels(&judge(&own, &machine), "configuration-rights"), [Level::Fine]);
    }

    #[test]
    fn a_configuration_that_cannot_be_read_is_told_with_the_command_to_check_it() {
        let mut union = Union { file: Some(rights(0, 0o600)), ..Union::default() };
        assert_eq!(levels(&judge(&union, &Machine::default()), "configuration"), [Level::Fine]);
        union.problem = Some("docs.yaml:1:1: unknown field".into());
        let found = judge(&union, &Machine::default());
        assert_eq!(found[0].level, Level::Trouble);
        assert!(found[0].todo.contains("tierfs config check /etc/tierfs/docs.yaml"), "{found:?}");
        union.policy = Some(("/etc/tierfs/p.yaml".into(), Err("p.yaml:2:1: wrong".into())));
        assert_eq!(levels(&judge(&union, &Machine::default()), "policy"), [Level::Trouble]);
    }

    #[test]
    fn passphrase_files_are_their_owners_alone() {
        for (secret, level) in [
            (Ok(rights(0, 0o600)), Level::Fine),
            (Ok(rights(0, 0o640)), Level::Trouble),
            (Ok(rights(7, 0o400)), Level::Warning),
            (Err("/p: no such file".to_owned()), Level::Trouble),
        ] {
            let union = Union { secrets: vec![secret], ..Union::default() };
            assert_eq!(levels(&judge(&union, &Machine::default()), "passphrase-file"), [level]);
        }
    }

    #[test]
    fn two_configurations_of_one_directory_are_told() {
        let union = |tier: &str, point: &str| {
            let text = format!("version: 1\nmountpoint: {point}\nprimary: {{path: {tier}}}\n");
            let config = crate::config::check::finish(load::parse(&text).unwrap()).unwrap();
            Union { config: Some(config), file: Some(rights(0, 0o600)), ..Union::default() }
        };
        for (other, level) in
            [(union("/b", "/n"), Level::Fine), (union("/a", "/n"), Level::Warning), (union("/b", "/m"), Level::Warning)]
        {
            let facts = Facts { unions: vec![union("/a", "/m"), other], ..Facts::default() };
            assert_eq!(levels(&together(&facts), "one-union"), [Level::Fine, level]);
        }
    }

    #[test]
    fn a_passphrase_in_the_configuration_is_told_and_not_repeated() {
        for (words, level) in [("echo hunter2", Level::Warning), ("pass show docs", Level::Fine)] {
            let text = format!("version: 1\nmountpoint: /m\nprimary: {{path: /a, encryption: {{extpass: {words}}}}}\n");
            let config = crate::config::check::finish(load::parse(&text).unwrap()).unwrap();
            let found = judge(&Union { config: Some(config), ..Union::default() }, &Machine::default());
            assert_eq!(levels(&found, "passphrase-program"), [level]);
            assert!(!format!("{found:?}").contains("hunter2"));
        }
    }
}
