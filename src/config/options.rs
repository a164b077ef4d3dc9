//! `-o`: words separated by commas, as `mount(8)` and `/etc/fstab` pass them. `\,` stands for a
//! comma in a value and `\\` for a backslash. A later word overrides an earlier one.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use crate::config::words::Word;
use crate::config::{Draft, Error, spec, suggest};

/// Words that are on or off and nothing more, and what they do.
const FLAGS: &[(&str, fn(&mut Draft))] = &[
    ("allow_other", |d| d.options.allow_other = true),
    ("noallow_other", |d| d.options.allow_other = false),
    ("default_permissions", |d| d.options.default_permissions = true),
    ("nodefault_permissions", |d| d.options.default_permissions = false),
    ("ro", |d| d.options.read_only = true),
    ("rw", |d| d.options.read_only = false),
    ("suid", |d| d.options.suid = true),
    ("nosuid", |d| d.options.suid = false),
    ("dev", |d| d.options.dev = true),
    ("nodev", |d| d.options.dev = false),
    ("exec", |d| d.options.exec = true),
    ("noexec", |d| d.options.exec = false),
    ("spill", |d| d.options.spill = true),
    ("nospill", |d| d.options.spill = false),
    ("passthrough", |d| d.options.passthrough = true),
    ("nopassthrough", |d| d.options.passthrough = false),
    ("track_access", |d| d.options.track_access = true),
    ("notrack_access", |d| d.options.track_access = false),
];

/// What `key=value` does.
type Set = fn(&mut Draft, &str) -> Result<(), String>;

/// Words that take a value, and what they do.
const VALUES: &[(&str, Set)] = &[
    ("fsname", |d, v| Word::read(v).map(|x| d.options.fsname = Some(x))),
    ("min_free", |d, v| Word::read(v).map(|x| d.tiers.iter_mut().for_each(|tier| tier.min_free = x))),
    ("out_of_band", |d, v| Word::read(v).map(|x| d.options.out_of_band = x)),
    ("ttl", |d, v| Word::read(v).map(|x| d.options.ttl = x)),
    ("tier_timeout", |d, v| Word::read(v).map(|x| d.options.tier_timeout = x)),
    ("statfs", |d, v| Word::read(v).map(|x| d.options.statfs = x)),
    ("spill", |d, v| Word::read(v).map(|x| d.options.spill = x)),
    ("on_write", |d, v| Word::read(v).map(|x| d.options.on_write = x)),
    ("on_missing", |d, v| Word::read(v).map(|x| d.options.on_missing = x)),
    ("passthrough", |d, v| Word::read(v).map(|x| d.options.passthrough = x)),
    ("track_access", |d, v| Word::read(v).map(|x| d.options.track_access = x)),
    ("remember", |d, v| Word::read(v).map(|x| d.options.remember = x)),
    ("smb_offline", |d, v| Word::read(v).map(|x| d.options.smb_offline = x)),
    ("threads", |d, v| Word::read(v).map(|x| d.options.threads = Some(x))),
    ("metrics_listen", |d, v| Word::read(v).map(|x| d.metrics.listen = Some(x))),
    ("metrics_textfile", |d, v| Word::read(v).map(|x| d.metrics.textfile = Some(x))),
    ("metrics_every", |d, v| Word::read(v).map(|x| d.metrics.every = x)),
];

/// The word that names the configuration file; it is read before all others take effect.
const CONFIG: &str = "config";

/// Meant for `mount(8)`, systemd or a boot script: true as it is, or without meaning for a union.
const ACCEPTED: &[&str] = &[
    "_netdev",
    "async",
    "atime",
    "auto",
    "comment",
    "defaults",
    "diratime",
    "group",
    "lazytime",
    "noauto",
    "noatime",
    "nodiratime",
    "nofail",
    "nogroup",
    "nolazytime",
    "noowner",
    "norelatime",
    "nostrictatime",
    "nouser",
    "nousers",
    "owner",
    "relatime",
    "silent",
    "strictatime",
    "user",
    "users",
];

/// The words of every `-o` on a command line, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options(Vec<OsString>);

impl Options {
    /// Splits each argument into words.
    pub fn new<'a>(arguments: impl IntoIterator<Item = &'a OsStr>) -> Options {
        let words = arguments.into_iter().flat_map(|text| spec::split(text.as_bytes(), b','));
        Options(words.filter(|word| !word.is_empty()).map(OsString::from_vec).collect())
    }

    /// Each word.
    pub fn words(&self) -> impl Iterator<Item = &OsStr> {
        self.0.iter().map(OsString::as_os_str)
    }

    /// The file named by the last `config=`.
    pub fn config_file(&self) -> Option<PathBuf> {
        let files = self.0.iter().rev().map(|word| word.as_bytes());
        let mut files = files.filter_map(|word| word.strip_prefix(b"config="));
        files.next().map(|file| PathBuf::from(OsString::from_vec(file.to_vec())))
    }

    /// Applies every word to `draft`, whose tiers are known by now.
    ///
    /// # Errors
    /// [`Error::Usage`] for the first word that is wrong.
    pub fn apply(&self, draft: &mut Draft) -> Result<(), Error> {
        self.0.iter().try_for_each(|word| apply_word(word, draft).map_err(Error::Usage))
    }
}

fn apply_word(word: &OsStr, draft: &mut Draft) -> Result<(), String> {
    if word.as_bytes().starts_with(b"config=") {
        return Ok(());
    }
    let Some(word) = word.to_str() else {
        return Err(format!("-o {}: not UTF-8", word.display()));
    };
    let (key, value) = match word.split_once('=') {
        Some((key, value)) => (key, Some(value)),
        None => (word, None),
    };
    if is_accepted(key) {
        return Ok(());
    }
    let flag = FLAGS.iter().find(|(name, _)| *name == key);
    let with_value = VALUES.iter().find(|(name, _)| *name == key);
    match (flag, with_value, value) {
        (Some((_, set)), _, None) => {
            set(draft);
            Ok(())
        }
        (_, Some((_, set)), Some(value)) => set(draft, value).map_err(|line| format!("-o {key}={value}: {line}")),
        (Some(_), None, Some(_)) => Err(format!("-o {word}: `{key}` takes no value")),
        (None, Some(_), None) => Err(format!("-o {key}: needs a value: write {key}=…")),
        (None, None, _) => Err(unknown(key)),
    }
}

/// Whether a word is meant for others, and changes nothing here.
pub fn is_accepted(key: &str) -> bool {
    ACCEPTED.contains(&key) || key.starts_with("x-") || key.starts_with("X-")
}

fn unknown(key: &str) -> String {
    match key {
        CONFIG => "-o config: needs a value: write config=FILE".into(),
        _ => {
            let known = FLAGS.iter().map(|(name, _)| *name);
            let known = known.chain(VALUES.iter().map(|(name, _)| *name)).chain([CONFIG]);
            format!("-o {key}: unknown option{}", suggest::hint(key, known))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::config::{MinFree, OnMissing, OnWrite, OutOfBand, StatfsOf, TierConfig};

    fn tier(path: &str) -> TierConfig {
        TierConfig::at(path.into())
    }

    fn read(arguments: &[&str]) -> Result<Draft, String> {
        let mut draft = Draft { tiers: vec![tier("/a"), tier("/b")], ..Draft::default() };
        let options = Options::new(arguments.iter().map(OsStr::new));
        options.apply(&mut draft).map_err(|error| error.to_string())?;
        Ok(draft)
    }

    #[test]
    fn every_word_does_what_it_says() {
        let words = "allow_other,ro,suid,dev,noexec,nospill,nopassthrough,nodefault_permissions";
        let options = read(&[words]).unwrap().options;
        assert!(options.allow_other && options.read_only && options.suid && options.dev);
        assert!(!options.exec && !options.spill && !options.passthrough);
        assert!(!options.default_permissions);
        let words = "out_of_band=ttl,ttl=5s,statfs=primary,on_write=promote,threads=8";
        let draft = read(&[words, "on_missing=degraded,fsname=docs,min_free=10%"]).unwrap();
        let options = draft.options;
        assert_eq!(options.out_of_band, OutOfBand::Ttl);
        assert_eq!(options.ttl, Duration::from_secs(5));
        assert_eq!(options.statfs, StatfsOf::Primary);
        assert_eq!(options.on_write, OnWrite::Promote);
        assert_eq!(options.on_missing, OnMissing::Degraded);
        assert_eq!(options.threads, Some(8));
        assert_eq!(options.fsname.as_deref(), Some("docs"));
        assert!(draft.tiers.iter().all(|tier| tier.min_free == MinFree::Percent(10)));
    }

    #[test]
    fn the_last_word_wins() {
        assert!(!read(&["ro,rw"]).unwrap().options.read_only);
        assert!(read(&["nospill", "spill=yes"]).unwrap().options.spill);
    }

    #[test]
    fn what_fstab_carries_changes_nothing() {
        let words = "rw,nofail,_netdev,noauto,user,x-systemd.automount,defaults,relatime,\
                     x-systemd.requires-mounts-for=/fast/docs,comment=hello,,X-mount.mkdir";
        assert_eq!(read(&[words]), read(&[]));
    }

    #[test]
    fn an_escaped_comma_belongs_to_the_value() {
        let draft = read(&[r"fsname=a\,b\\c,ro"]).unwrap();
        assert_eq!(draft.options.fsname.as_deref(), Some(r"a,b\c"));
        assert!(draft.options.read_only);
    }

    #[test]
    fn the_last_config_file_counts() {
        let arguments = [OsStr::new("config=/a,ro"), OsStr::new(r"config=/b\,c.yaml")];
        assert_eq!(Options::new(arguments).config_file(), Some("/b,c.yaml".into()));
        assert_eq!(Options::new([OsStr::new("ro")]).config_file(), None);
    }

    #[test]
    fn a_wrong_word_is_one_clear_line() {
        for (word, line) in [
            ("alow_other", "-o alow_other: unknown option; did you mean `allow_other`?"),
            ("frobnicate", "-o frobnicate: unknown option"),
            ("ro=1", "-o ro=1: `ro` takes no value"),
            ("ttl", "-o ttl: needs a value: write ttl=…"),
            ("config", "-o config: needs a value: write config=FILE"),
            ("threads=many", "-o threads=many: `many` is not a whole number"),
        ] {
            assert_eq!(read(&[word]).unwrap_err(), line);
        }
        assert!(read(&["ttl=5m"]).unwrap_err().contains("5min"));
        assert!(read(&["min_free=4MB"]).unwrap_err().contains("4MiB"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = Options::new([OsStr::from_bytes(&bytes)]).apply(&mut Draft::default());
        }
    }
}
