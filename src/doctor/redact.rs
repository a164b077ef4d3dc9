//! Secrets and names taken out of text that is sent to strangers.
//!
//! What goes is decided by the key before a value, by shape (what looks like a key, or an address with a
//! password), and by what the configuration says of its sources. Too much goes rather than too little.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;

/// What stands in place of a value.
pub const GONE: &str = "(left out)";

/// Parts of the names of values that are not told, in small letters.
const SECRET_KEYS: [&str; 12] =
    ["pass", "pwd", "secret", "token", "key", "credential", "auth", "private", "cookie", "session", "login", "salt"];

/// Words that have such a part and are followed by nothing secret.
const OPEN_WORDS: [&str; 5] = ["passfile", "keyfile", "passthrough", "passno", "keyringmode"];

/// Keys of a configuration whose values are told though the file cannot be read as a whole.
const OPEN_KEYS: [&str; 26] = [
    "version",
    "name",
    "mountpoint",
    "path",
    "id",
    "min_free",
    "policy",
    "allow_other",
    "default_permissions",
    "ro",
    "fsname",
    "suid",
    "dev",
    "exec",
    "out_of_band",
    "ttl",
    "statfs",
    "spill",
    "on_write",
    "on_missing",
    "passthrough",
    "track_access",
    "threads",
    "tiers",
    "primary",
    "secondary",
];

/// So many letters and digits in a row are a key. The ids of unions and tiers have 32, a UUID has 36.
const KEY_LEN_MIN: usize = 40;

/// Shorter words of a command are everywhere, and tell nothing.
const WORD_LEN_MIN: usize = 3;

/// Names that every machine has: they stay where names are hidden.
const COMMON: [&str; 34] = [
    "etc",
    "tierfs",
    "run",
    "dev",
    "proc",
    "sys",
    "usr",
    "bin",
    "sbin",
    "var",
    "lib",
    "log",
    "fs",
    "fuse",
    "mnt",
    "srv",
    "home",
    "media",
    "tmp",
    "boot",
    "systemd",
    "system",
    "samba",
    "smb.conf",
    "fuse.conf",
    "updatedb.conf",
    "exports",
    ".tierfs",
    "marker",
    "fstab",
    "user",
    "sysctl.d",
    "cron.d",
    "share",
];

/// What is taken out of one report.
#[derive(Debug)]
pub struct Redactor {
    /// Words that are not told wherever they stand, longest first.
    words: Vec<String>,
    /// Paths that may have spaces in them, longest first.
    paths: Vec<String>,
    hide: bool,
    salt: RandomState,
}

impl Redactor {
    /// One that also hides names, if `hide`: the same name is the same short word throughout one report, and
    /// another in the next.
    pub fn new(hide: bool) -> Redactor {
        Redactor { words: Vec::new(), paths: Vec::new(), hide, salt: RandomState::new() }
    }

    /// A secret, or a text of which each word could be one.
    pub fn forget(&mut self, text: &str) {
        let words = text.split_whitespace().map(|word| word.trim_matches(['"', '\'']));
        let words = words.filter(|word| word.len() >= WORD_LEN_MIN && !word.starts_with('/'));
        self.words.extend(words.map(str::to_owned));
        self.words.push(text.trim().to_owned());
        self.words.retain(|word| word.len() >= WORD_LEN_MIN);
        self.words.sort_by_key(|word| std::cmp::Reverse(word.len()));
        self.words.dedup();
    }

    /// A path that the report names.
    pub fn name(&mut self, path: &Path) {
        let text = path.display().to_string();
        if text.len() > 1 && !self.paths.contains(&text) {
            self.paths.push(text);
            self.paths.sort_by_key(|path| std::cmp::Reverse(path.len()));
        }
    }

    /// What tierfs itself has said.
    pub fn ours(&self, text: &str) -> String {
        text.lines().map(|line| self.names(&self.shapes(&self.known(line)))).collect::<Vec<_>>().join("\n")
    }

    /// What others have written, or tierfs with words of others, such as a journal.
    pub fn foreign(&self, text: &str) -> String {
        let line = |line: &str| {
            let line = self.shapes(&self.known(&valueless(line)));
            if !self.hide {
                return line;
            }
            // A name may have spaces in it, so nobody knows where it ends.
            match path_at(&line) {
                Some(at) => format!("{}{} {GONE}", &line[..at], self.short(&line[at..])),
                None => line,
            }
        };
        text.lines().map(line).collect::<Vec<_>>().join("\n")
    }

    /// A configuration that cannot be read: its keys, and values only of those that hold no secret.
    pub fn keys_of(&self, text: &str) -> String {
        let lines = text.lines().filter(|line| !line.trim_start().starts_with('#') && !line.trim().is_empty());
        let line = |line: &str| {
            let Some((key, value)) = line.split_once(':') else { return GONE.to_owned() };
            let name = key.trim().trim_start_matches("- ").trim_matches(['"', '\'']);
            let plain = !value.contains(['{', '[', '#', '|', '>', '&', '*', ':']);
            if value.trim().is_empty() && is_word(name) {
                format!("{key}:")
            } else if OPEN_KEYS.contains(&name) && plain {
                format!("{key}:{}", self.ours(value))
            } else if is_word(name) {
                format!("{key}: {GONE}")
            } else {
                GONE.to_owned()
            }
        };
        lines.map(line).collect::<Vec<_>>().join("\n")
    }

    /// A text that cites what somebody has written: without what is in quotes.
    pub fn without_quotes(&self, line: &str) -> String {
        let mut out = String::new();
        let mut open: Option<char> = None;
        for letter in line.chars() {
            match open {
                Some(end) if letter == end => {
                    out.push_str("...");
                    out.push(letter);
                    open = None;
                }
                Some(_) => {}
                None => {
                    out.push(letter);
                    open = ['"', '`'].contains(&letter).then_some(letter);
                }
            }
        }
        out
    }

    /// The stand-in for a name.
    pub fn short(&self, name: &str) -> String {
        format!("x{:08x}", self.salt.hash_one(name) & 0xffff_ffff)
    }

    /// A single name, hidden if names are.
    pub fn hidden_if(&self, name: &str) -> String {
        if self.hide { self.short(name) } else { self.known(name) }
    }

    /// Whether names are hidden.
    pub fn hides(&self) -> bool {
        self.hide
    }

    fn known(&self, line: &str) -> String {
        self.words.iter().fold(line.to_owned(), |line, word| line.replace(word, GONE))
    }

    fn shapes(&self, line: &str) -> String {
        words(line, "\"'`,;()").map(|(word, end)| shape(word) + end).collect()
    }

    fn names(&self, line: &str) -> String {
        if !self.hide {
            return line.to_owned();
        }
        let known = self.paths.iter().fold(line.to_owned(), |line, path| line.replace(path, &self.hidden(path)));
        let part =
            |(word, end): (&str, &str)| if word.starts_with('/') { self.hidden(word) } else { word.into() } + end;
        words(&known, "\"'`,;()=").map(part).collect()
    }

    /// A path with the names in it hidden.
    pub fn hidden(&self, path: &str) -> String {
        let common: BTreeSet<&str> = COMMON.into_iter().collect();
        let is_short = |name: &str| name.len() == 9 && name.starts_with('x') && name[1..].bytes().all(is_hex);
        let name = |name: &str| {
            if name.is_empty() || common.contains(name) || is_short(name) { name.to_owned() } else { self.short(name) }
        };
        path.split('/').map(name).collect::<Vec<_>>().join("/")
    }
}

fn is_hex(byte: u8) -> bool {
    byte.is_ascii_hexdigit()
}

/// The words of a line, each with the blank or one of `ends` that ends it.
fn words<'a>(line: &'a str, ends: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
    let is_end = move |letter: char| letter.is_whitespace() || ends.contains(letter);
    line.split_inclusive(is_end).map(move |part| part.split_at(part.trim_end_matches(is_end).len()))
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
}

/// Where a path begins in a line: at a slash that no word is before.
fn path_at(line: &str) -> Option<usize> {
    let before = |at: usize| line[..at].chars().next_back();
    line.match_indices('/').map(|(at, _)| at).find(|at| before(*at).is_none_or(|letter| !letter.is_alphanumeric()))
}

/// A word, or what stands for it where it looks like a key or has a password in it.
fn shape(word: &str) -> String {
    if let Some((scheme, rest)) = word.split_once("://")
        && let Some((_, host)) = rest.split_once('@')
    {
        return format!("{scheme}://{GONE}@{host}");
    }
    // Base64 ends with `=`.
    let body = word.trim_end_matches('=');
    let tail = body.rsplit(['=', ':']).next().unwrap_or(body);
    let is_key = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/_-=".contains(&byte));
    if tail.len() >= KEY_LEN_MIN && is_key(tail) && !tail.starts_with('/') && tail.bytes().any(|it| it.is_ascii_digit())
    {
        return format!("{}{GONE}", &word[..body.len() - tail.len()]);
    }
    word.to_owned()
}

/// A line up to the first value after a name that sounds secret: what comes then is not told.
fn valueless(line: &str) -> String {
    // Letters of ASCII alone change, so places are the same in both.
    let lower = line.to_ascii_lowercase();
    let mut from = 0;
    while let Some((at, end)) = next_word(&lower, from) {
        let word = &lower[at..end];
        let secret = SECRET_KEYS.iter().any(|part| word.contains(part)) && !OPEN_WORDS.contains(&word);
        let rest = lower[end..].trim_start_matches(['"', '\'', ' ', ']', ')']);
        if secret && rest.starts_with(['=', ':']) {
            let value = line.len() - rest.len() + 1;
            return format!("{} {GONE}", &line[..value]);
        }
        let named = ["passphrase", "password", "extpass", "passwd", "masterkey"].contains(&word);
        if named && lower[end..].starts_with(' ') {
            return format!("{} {GONE}", &line[..end]);
        }
        from = end;
    }
    line.to_owned()
}

/// The next run of letters, digits, `_` and `-` from `from` on.
fn next_word(text: &str, from: usize) -> Option<(usize, usize)> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == '-';
    let at = from + text.get(from..)?.find(is_part)?;
    let end = text[at..].find(|letter: char| !is_part(letter)).map_or(text.len(), |len| at + len);
    Some((at, end))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_of_secret_names_go_and_others_stay() {
        let redactor = Redactor::new(false);
        for (line, expected) in [
            ("passphrase=hunter2 more", "passphrase= (left out)"),
            ("the password: hunter2", "the password: (left out)"),
            ("{\"api_key\" : \"hunter2\"}", "{\"api_key\" : (left out)"),
            ("password hunter2", "password (left out)"),
            ("extpass echo hunter2 failed", "extpass (left out)"),
            ("passfile: /etc/tierfs/p", "passfile: /etc/tierfs/p"),
            ("moved 3 files, 4 GiB", "moved 3 files, 4 GiB"),
            ("passthrough: on", "passthrough: on"),
            ("smb://ann:hunter2@host/x", "smb://(left out)@host/x"),
        ] {
            assert_eq!(redactor.foreign(line), expected);
        }
    }

    #[test]
    fn what_looks_like_a_key_goes_and_ids_stay() {
        let redactor = Redactor::new(false);
        let master = "6f717d8b-6b5f8e8a-fd0aa206-778ec093-62c5669b-abd229cd-241e00cd-b4d6713d";
        let base64 = "mXk3Yy+Y2b0Zt8mB1o7q/0ZqkJ2hX1xqYw5lN9uVd3E=";
        for secret in [master, base64] {
            assert_eq!(redactor.ours(&format!("is {secret} x")), "is (left out) x");
            assert_eq!(redactor.ours(&format!("it={secret}")), "it=(left out)");
        }
        let id = "0123456789abcdef0123456789abcdef";
        assert_eq!(redactor.ours(&format!("union {id}")), format!("union {id}"));
    }

    #[test]
    fn words_of_a_source_go_wherever_they_stand() {
        let mut redactor = Redactor::new(false);
        redactor.forget("/usr/bin/tool --say 'hunter2' ab");
        assert_eq!(redactor.ours("xhunter2x /usr/bin/tool ab"), "x(left out)x /usr/bin/tool ab");
    }

    #[test]
    fn a_configuration_that_cannot_be_read_shows_its_keys_alone() {
        let text = "version: 1 # hunter2\n# hunter2\nmountpoint: /srv/docs\npassfrase: hunter2\n\
                    primary: {path: /a, encryption: {passphrase: hunter2}}\nencryption:\n  extpass: echo hunter2\n\
                    hunter2\nhunter2 a: b\n";
        let shown = Redactor::new(false).keys_of(text);
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("mountpoint: /srv/docs\npassfrase: (left out)\nprimary: (left out)\n"), "{shown}");
    }

    #[test]
    fn hidden_names_are_equal_where_they_were_and_differ_between_reports() {
        let mut one = Redactor::new(true);
        one.name(Path::new("/srv/My Customer"));
        let text = one.ours("/srv/My Customer/a is on /fast/My_Customer/a; see /etc/tierfs/docs.yaml");
        assert!(!text.contains("Customer") && !text.contains("docs.yaml") && text.contains("/etc/tierfs/"), "{text}");
        assert_eq!(one.ours("/a/b"), one.ours("/a/b"));
        assert_ne!(one.ours("/a/b"), Redactor::new(true).ours("/a/b"));
        let line = one.foreign("cannot read /srv/x/Smith vs Jones.pdf: no space");
        assert!(line.starts_with("cannot read x") && !line.contains("Jones"), "{line}");
        let twice = one.ours(&text);
        assert_eq!(twice, text);
    }

    #[test]
    fn cited_words_go() {
        let line = "docs.yaml:3:1: invalid type: string \"hunter2\", expected `x` or so";
        assert_eq!(
            Redactor::new(false).without_quotes(line),
            "docs.yaml:3:1: invalid type: string \"...\", expected `...` or so"
        );
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".{0,80}", hide: bool) {
            let mut redactor = Redactor::new(hide);
            redactor.forget(&text.chars().take(5).collect::<String>());
            let _ = (redactor.ours(&text), redactor.foreign(&text), redactor.keys_of(&text));
        }
    }
}
