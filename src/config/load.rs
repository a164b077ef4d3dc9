//! From a configuration file to a [`Draft`], and back to text.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::config::schema::{self, File, Mount, Plain, Tier, VERSION};
use crate::config::{Draft, Encryption, Error, Metrics, MinFree, MountConfig, TierConfig, suggest};
use crate::types::passphrase::Source;
use crate::yaml::{self, Problem};

/// A larger file is not one that was written for tierfs.
const FILE_LEN_MAX: u64 = 1 << 20;

/// Reads `path`.
///
/// # Errors
/// [`Error::File`] with path, line and column.
pub fn load(path: &Path) -> Result<Draft, Error> {
    let fail = |line: String| Error::File(format!("{}{line}", path.display()));
    let text = read(path).map_err(|line| fail(format!(": {line}")))?;
    let mut draft = parse(&text).map_err(|problem| fail(other_kind(&text).unwrap_or_else(|| describe(&problem))))?;
    if let Some(policy) = draft.policy.take() {
        let beside = path.parent().unwrap_or(Path::new("")).join(policy);
        let absolute = std::path::absolute(&beside);
        draft.policy = Some(absolute.map_err(|error| fail(format!(": policy: {error}")))?);
    }
    for tier in &mut draft.tiers {
        tier.encryption.iter_mut().flat_map(files).try_for_each(|file| {
            let beside = path.parent().unwrap_or(Path::new("")).join(&*file);
            *file = std::path::absolute(&beside).map_err(|error| fail(format!(": encryption: {error}")))?;
            Ok(())
        })?;
    }
    draft.file = Some(path.to_path_buf());
    Ok(draft)
}

/// What a file was written as that is no configuration.
fn other_kind(text: &str) -> Option<String> {
    let keys = yaml::keys(text);
    let has = |words: &[&str]| keys.iter().any(|key| words.contains(&key.as_str()));
    if has(&["tiers", "primary", "secondary"]) {
        None
    } else if has(&["sources"]) {
        Some(": is the configuration of a view, for `tierfs encrypt-view --config`".into())
    } else if has(&["rules", "watermarks", "promote"]) {
        Some(": is a policy, no configuration: name it as `policy:` in one, or give it with --policy".into())
    } else {
        None
    }
}

/// The files that a section `encryption:` names.
pub(super) fn files(encryption: &mut Encryption) -> impl Iterator<Item = &mut PathBuf> {
    let source = match &mut encryption.source {
        Source::PassFile(file) | Source::KeyFile(file) => Some(file),
        Source::Prompt | Source::Command(_) | Source::Credential(_) | Source::Keyring(_) => None,
    };
    encryption.conf.iter_mut().chain(source)
}

/// The text of a small file that an administrator wrote, such as a policy.
///
/// # Errors
/// One line without the path.
pub fn read(path: &Path) -> Result<String, String> {
    let cannot = |error: std::io::Error| format!("cannot be read: {}", os_text(&error));
    // A fifo would make the open itself wait, so the type is looked at first.
    if !fs::metadata(path).map_err(cannot)?.is_file() {
        return Err("is not a regular file".into());
    }
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(cannot)?;
    file.take(FILE_LEN_MAX + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > FILE_LEN_MAX {
        return Err("is over 1 MiB: this was not written for tierfs".into());
    }
    // Editors of Windows begin a text so.
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes).to_vec();
    let text = String::from_utf8(text).map_err(|_| "is not UTF-8 text".to_owned())?;
    if text.trim().is_empty() {
        return Err("is empty: `tierfs init` writes a configuration, and policies/README.md shows policies".into());
    }
    Ok(text)
}

fn os_text(error: &std::io::Error) -> String {
    crate::types::errno::Errno::of(error).to_string()
}

/// Reads the text of a configuration file.
///
/// # Errors
/// The first thing that is wrong, with its place where it has one.
pub fn parse(text: &str) -> Result<Draft, Problem> {
    let file: File = yaml::parse(text).map_err(suggested)?;
    let wrong = |message: String| Problem { at: None, message };
    if file.version != VERSION {
        let says = format!("version {} is not known: this tierfs reads version 1", file.version);
        return Err(wrong(says));
    }
    let tiers = match (file.tiers, file.primary, file.secondary) {
        (Some(tiers), None, None) => tiers,
        (Some(_), _, _) => {
            return Err(wrong("give either `tiers` or `primary` and `secondary`, not both".into()));
        }
        (None, None, Some(_)) => {
            return Err(wrong("`secondary` is there but `primary` is not".into()));
        }
        (None, primary, secondary) => primary.into_iter().chain(secondary).collect(),
    };
    let mut draft = Draft {
        name: file.name.map(|name| name.0),
        mountpoint: file.mountpoint.map(|path| path.0),
        tiers: tiers.into_iter().map(tier).collect::<Result<_, _>>().map_err(wrong)?,
        policy: file.policy.map(|path| path.0),
        ..Draft::default()
    };
    apply(file.mount, &mut draft);
    if let Some(metrics) = file.metrics {
        let every = metrics.every.map_or(draft.metrics.every, |every| every.0);
        let (listen, textfile) = (metrics.listen.map(|listen| listen.0), metrics.textfile.map(|file| file.0));
        draft.metrics = Metrics { listen, textfile, every };
    }
    Ok(draft)
}

fn tier(tier: Tier) -> Result<TierConfig, String> {
    let path = tier.path.0;
    let unlocking = tier.encryption.map(encryption).transpose();
    let encryption = unlocking.map_err(|line| format!("{}: encryption: {line}", path.display()))?;
    let min_free = tier.min_free.map_or(MinFree::Bytes(0), |min_free| min_free.0);
    Ok(TierConfig { path, id: tier.id.map(|id| id.0), min_free, encryption })
}

pub(super) fn encryption(section: schema::Encryption) -> Result<Encryption, String> {
    let sources = [
        section.passfile.map(|file| Source::PassFile(file.0)),
        section.keyfile.map(|file| Source::KeyFile(file.0)),
        section.extpass.map(|words| Source::Command(words.0)),
        section.credential.map(|name| Source::Credential(name.0)),
        section.keyring.map(|name| Source::Keyring(name.0)),
    ];
    let mut sources = sources.into_iter().flatten();
    let source = sources.next().unwrap_or_default();
    if sources.next().is_some() {
        return Err("give one of passfile, keyfile, extpass, credential and keyring, or none to be asked".into());
    }
    let text = match &source {
        Source::Command(text) | Source::Credential(text) | Source::Keyring(text) => Some(text),
        Source::Prompt | Source::PassFile(_) | Source::KeyFile(_) => None,
    };
    if text.is_some_and(|text| text.trim().is_empty()) {
        return Err("extpass, credential and keyring must not be empty".into());
    }
    Ok(Encryption { conf: section.conf.map(|file| file.0), source })
}

fn section(encryption: &Encryption) -> schema::Encryption {
    let mut section = schema::Encryption { conf: encryption.conf.clone().map(Plain), ..Default::default() };
    match &encryption.source {
        Source::Prompt => {}
        Source::PassFile(file) => section.passfile = Some(Plain(file.clone())),
        Source::KeyFile(file) => section.keyfile = Some(Plain(file.clone())),
        Source::Command(words) => section.extpass = Some(Plain(words.clone())),
        Source::Credential(name) => section.credential = Some(Plain(name.clone())),
        Source::Keyring(name) => section.keyring = Some(Plain(name.clone())),
    }
    section
}

fn apply(mount: Mount, draft: &mut Draft) {
    fn set<T>(target: &mut T, value: Option<Plain<T>>) {
        if let Some(Plain(value)) = value {
            *target = value;
        }
    }
    let options = &mut draft.options;
    set(&mut options.allow_other, mount.allow_other);
    set(&mut options.default_permissions, mount.default_permissions);
    set(&mut options.read_only, mount.ro);
    set(&mut options.suid, mount.suid);
    set(&mut options.dev, mount.dev);
    set(&mut options.exec, mount.exec);
    set(&mut options.out_of_band, mount.out_of_band);
    set(&mut options.ttl, mount.ttl);
    set(&mut options.tier_timeout, mount.tier_timeout);
    set(&mut options.statfs, mount.statfs);
    set(&mut options.spill, mount.spill);
    set(&mut options.on_write, mount.on_write);
    set(&mut options.on_missing, mount.on_missing);
    set(&mut options.passthrough, mount.passthrough);
    set(&mut options.track_access, mount.track_access);
    set(&mut options.remember, mount.remember);
    set(&mut options.smb_offline, mount.smb_offline);
    options.fsname = mount.fsname.map(|name| name.0);
    options.threads = mount.threads.map(|threads| threads.0);
}

/// The effective configuration as a file that [`load`] reads back to the same mount.
///
/// # Errors
/// One line where a path is not UTF-8: YAML cannot hold it.
pub fn show(config: &MountConfig) -> Result<String, String> {
    let mut encryptions: Vec<_> = config.tiers.iter().filter_map(|tier| tier.encryption.clone()).collect();
    let metrics = &config.metrics;
    let paths = config.tiers.iter().map(|tier| &tier.path).chain([&config.mountpoint]).chain(&config.policy);
    let paths = paths.chain(&metrics.textfile);
    for path in paths.chain(encryptions.iter_mut().flat_map(files).map(|file| &*file)) {
        if path.to_str().is_none() {
            return Err(format!("{} is not UTF-8: YAML cannot hold it", path.display()));
        }
    }
    let tiers = config.tiers.iter().map(|tier| Tier {
        path: Plain(tier.path.clone()),
        id: tier.id.clone().map(Plain),
        min_free: Some(Plain(tier.min_free)),
        encryption: tier.encryption.as_ref().map(section),
    });
    let options = &config.options;
    let mount = Mount {
        allow_other: Some(Plain(options.allow_other)),
        default_permissions: Some(Plain(options.default_permissions)),
        ro: Some(Plain(options.read_only)),
        fsname: options.fsname.clone().map(Plain),
        suid: Some(Plain(options.suid)),
        dev: Some(Plain(options.dev)),
        exec: Some(Plain(options.exec)),
        out_of_band: Some(Plain(options.out_of_band)),
        ttl: Some(Plain(options.ttl)),
        tier_timeout: Some(Plain(options.tier_timeout)),
        statfs: Some(Plain(options.statfs)),
        spill: Some(Plain(options.spill)),
        on_write: Some(Plain(options.on_write)),
        on_missing: Some(Plain(options.on_missing)),
        passthrough: Some(Plain(options.passthrough)),
        track_access: Some(Plain(options.track_access)),
        remember: Some(Plain(options.remember)),
        smb_offline: Some(Plain(options.smb_offline)),
        threads: options.threads.map(Plain),
    };
    yaml::render(&File {
        version: VERSION,
        mountpoint: Some(Plain(config.mountpoint.clone())),
        tiers: Some(tiers.collect()),
        policy: config.policy.clone().map(Plain),
        mount,
        metrics: (*metrics != Metrics::default()).then(|| schema::Metrics {
            listen: metrics.listen.map(Plain),
            textfile: metrics.textfile.clone().map(Plain),
            every: Some(Plain(metrics.every)),
        }),
        ..File::default()
    })
}

/// A section `encryption:` on one line, for a configuration that is written by hand.
///
/// # Errors
/// One line where a path is not UTF-8: YAML cannot hold it.
pub fn show_encryption(encryption: &Encryption) -> Result<String, String> {
    for file in files(&mut encryption.clone()) {
        if file.to_str().is_none() {
            return Err(format!("{} is not UTF-8: YAML cannot hold it", file.display()));
        }
    }
    let text = yaml::render(&section(encryption))?;
    let lines: Vec<&str> = text.lines().filter(|line| *line != "{}").collect();
    Ok(format!("{{{}}}", lines.join(", ")))
}

/// `:line:column: message`, the form that editors jump to.
pub fn describe(problem: &Problem) -> String {
    match problem.at {
        Some((line, column)) => format!(":{line}:{column}: {}", problem.message),
        None => format!(": {}", problem.message),
    }
}

/// Adds the nearest known word to serde's "unknown field" message, which lists all known ones
/// between backticks after the unknown one.
pub fn suggested(mut problem: Problem) -> Problem {
    let unknown = ["unknown field", "unknown variant"].iter().any(|s| problem.message.contains(s));
    if unknown {
        let mut quoted = problem.message.split('`').skip(1).step_by(2);
        if let Some(word) = quoted.next() {
            let hint = suggest::hint(word, quoted);
            problem.message.push_str(&hint);
        }
    }
    problem
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::config::{OutOfBand, check};

    const FULL: &str = "\
version: 1
name: docs
mountpoint: /srv/docs
tiers:
  - path: /fast/docs
    id: 00112233445566778899aabbccddeeff
    min_free: 10%
  - { path: /slow/docs, min_free: 4GiB }
mount:
  allow_other: true
  ro: yes
  out_of_band: ttl
  ttl: 5s
  threads: 8
metrics: {listen: '127.0.0.1:9567', textfile: /var/lib/node_exporter/docs.prom, every: 30s}
";

    #[test]
    fn a_full_file_is_read() {
        let draft = parse(FULL).unwrap();
        assert_eq!(draft.tiers[0].min_free, MinFree::Percent(10));
        assert_eq!(draft.tiers[0].id.as_deref(), Some("00112233445566778899aabbccddeeff"));
        assert_eq!(draft.tiers[1].min_free, MinFree::Bytes(4 << 30));
        assert!(draft.options.allow_other && draft.options.read_only);
        assert_eq!(draft.options.out_of_band, OutOfBand::Ttl);
        assert_eq!(draft.options.ttl, Duration::from_secs(5));
        assert_eq!(draft.options.threads, Some(8));
    }

    #[test]
    fn a_value_is_its_text_whatever_yaml_takes_it_for() {
        let id = "12345678901234567890123456789012";
        let draft = parse(&format!("version: 1\nname: 1e5\nprimary: {{path: /a, id: {id}}}\n"));
        let draft = draft.unwrap();
        assert_eq!(draft.name.as_deref(), Some("1e5"));
        assert_eq!(draft.tiers[0].id.as_deref(), Some(id));
    }

    #[test]
    fn primary_and_secondary_are_the_first_two_tiers() {
        let text = "version: 1\nsecondary: {path: /s}\nprimary: {path: /p}\n";
        let paths: Vec<_> = parse(text).unwrap().tiers.into_iter().map(|tier| tier.path).collect();
        assert_eq!(paths, [Path::new("/p"), Path::new("/s")]);
    }

    #[test]
    fn a_mistake_is_told_with_its_place() {
        for (text, line) in [
            ("version: 1\nmount:\n  alow_other: true\n", ":3:3: mount: unknown field `alow_other`"),
            ("version: 1\nmont: {}\n", ":2:1: unknown field `mont`"),
            ("version: 1\nmount:\n  ttl: 5m\n", ":3:8: mount.ttl: `5m` can mean"),
            ("version: 1\nmount:\n  ttl: 5\n", ":3:8: mount.ttl: `5` has no unit"),
            ("version: 1\nmount:\n  statfs: some\n", ":3:11: mount.statfs: `some` is not one of"),
            ("version: 1\nmount:\n  spill: maybe\n", ":3:10: mount.spill: `maybe` is not one"),
            ("version: 1\ntiers:\n  - {path: /a, min_fre: 1}\n", ":3:16: tiers[0]: unknown field"),
            ("version: 1\ntiers:\n  - {id: x}\n", ":3:5: tiers[0]: missing field `path`"),
            ("some text", ":1:1: invalid type: string \"some text\", expected keys such as"),
            ("version: 1\ntiers: [/a]\n", ":2:9: tiers[0]: invalid type: string \"/a\", expected a tier"),
            ("version: 1\nmount: ro\n", ":2:8: mount: invalid type: string \"ro\", expected mount options"),
            ("version: 1\nmetrics: {port: 1}\n", ":2:11: metrics: unknown field `port`"),
            ("version: 1\nmetrics: {listen: 9567}\n", ":2:19: metrics.listen: `9567` is not an address and a port"),
            ("version: 2\n", ": version 2 is not known"),
            ("mountpoint: /m\n", ":1:1: missing field `version`"),
            ("version: 1\nversion: 1\n", ":1:1: duplicate field `version`"),
            ("version: 1\ntiers: []\nprimary: {path: /p}\n", ": give either"),
            ("version: 1\nsecondary: {path: /p}\n", ": `secondary` is there but"),
            ("", ":1:1: missing field `version`"),
            ("version: [1", ":"),
        ] {
            let told = describe(&parse(text).unwrap_err());
            assert!(told.starts_with(line), "{text:?}\n{told}");
            assert!(!told.contains('\n'), "{told}");
        }
    }

    #[test]
    fn an_encrypted_tier_has_one_source_of_its_passphrase() {
        let tier = |section: &str| {
            let draft = parse(&format!("version: 1\nmountpoint: /m\nprimary: {{path: /a, encryption: {section}}}\n"));
            draft.map(|draft| (draft.tiers[0].encryption.clone().unwrap(), check::finish(draft).unwrap()))
        };
        for (section, source) in [
            ("", Source::Prompt),
            ("{}", Source::Prompt),
            ("{passfile: /p}", Source::PassFile("/p".into())),
            ("{keyfile: /k}", Source::KeyFile("/k".into())),
            ("{extpass: pass show docs}", Source::Command("pass show docs".into())),
            ("{credential: docs}", Source::Credential("docs".into())),
            ("{keyring: 'tierfs:docs'}", Source::Keyring("tierfs:docs".into())),
        ] {
            let (read, config) = tier(section).unwrap();
            assert_eq!((read.conf.clone(), read.source.clone()), (None, source), "{section}");
            assert_eq!(check::finish(parse(&show(&config).unwrap()).unwrap()).unwrap(), config);
            let line = show_encryption(&read).unwrap();
            assert_eq!(tier(&line).unwrap().0, read, "{line}");
        }
        for (section, says) in [
            ("{passfile: /p, keyring: x}", "/a: encryption: give one of passfile, keyfile"),
            ("{extpass: ' '}", "must not be empty"),
            ("{passfil: /p}", "unknown field `passfil`"),
            ("/p", "expected how the tier is unlocked, such as {passfile"),
        ] {
            let told = tier(section).map(|_| ()).map_err(|problem| describe(&suggested(problem)));
            assert!(told.as_ref().is_err_and(|told| told.contains(says)), "{told:?}");
        }
        let told = tier("{passfil: /p}").unwrap_err().message;
        assert!(told.ends_with("; did you mean `passfile`?"), "{told}");
    }

    #[test]
    fn files_of_a_passphrase_are_beside_the_configuration() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("docs.yaml");
        std::fs::write(&file, "version: 1\nprimary: {path: /a, encryption: {passfile: docs.pass, conf: /c}}\n")
            .unwrap();
        let read = load(&file).unwrap().tiers[0].encryption.clone().unwrap();
        assert_eq!(read.source, Source::PassFile(home.path().join("docs.pass")));
        assert_eq!(read.conf.as_deref(), Some(Path::new("/c")));
    }

    #[test]
    fn the_nearest_known_key_is_suggested() {
        let told = parse("version: 1\nmount:\n  alow_other: true\n").unwrap_err().message;
        assert!(told.ends_with("; did you mean `allow_other`?"), "{told}");
        let told = parse("version: 1\nmount_point: /m\n").unwrap_err().message;
        assert!(told.ends_with("; did you mean `mountpoint`?"), "{told}");
    }

    #[test]
    fn the_effective_configuration_reads_back() {
        let config = check::finish(parse(FULL).unwrap()).unwrap();
        let text = show(&config).unwrap();
        assert_eq!(check::finish(parse(&text).unwrap()).unwrap(), config);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in ".{0,80}") {
            let _ = parse(&text);
        }
    }
}
