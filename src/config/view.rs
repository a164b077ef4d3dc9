//! What a view shows: from the command line or a YAML file.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::schema::{self, Plain, VERSION};
use super::words::Choice;
use super::{Draft, Encryption, Error, MountOptions, load};
use crate::types::glob::Pattern;
use crate::types::name::Name;
use crate::types::rules::{Rules, Verdict};
use crate::types::view::OnChange;
use crate::yaml::{self, Problem};

/// How any view is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ViewOptions {
    /// Every user may use it.
    pub allow_other: bool,
    /// What `df` shows as its source.
    pub fsname: Option<String>,
    /// Threads that serve requests.
    pub threads: Option<usize>,
}

/// One directory of a view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// What it is called in the root of a view of several.
    pub label: Name,
    /// Where it is.
    pub path: PathBuf,
}

/// A view of plaintext as ciphertext, while its parts come together.
#[derive(Debug, Clone, Default)]
pub struct EncryptDraft {
    /// The file that was read, if any.
    pub file: Option<PathBuf>,
    /// Directories, each with the label that was given.
    pub sources: Vec<(Option<Name>, PathBuf)>,
    /// Where it appears.
    pub mountpoint: Option<PathBuf>,
    /// The configuration file of the volume, and where the passphrase comes from.
    pub encryption: Encryption,
    /// Which paths are shown.
    pub rules: Vec<(Verdict, Pattern)>,
    /// What happens to a file that changes.
    pub on_change: Option<OnChange>,
    /// How it is mounted.
    pub options: ViewOptions,
}

/// A view of plaintext as ciphertext, complete.
#[derive(Debug, Clone)]
pub struct EncryptView {
    /// One or more; their labels differ.
    pub sources: Vec<Source>,
    /// Whether the directories are entries of the root under their labels, also if there is one.
    pub labelled: bool,
    /// Where it appears.
    pub mountpoint: PathBuf,
    /// The configuration file of the volume, where it is not in the only directory, and where the
    /// passphrase comes from.
    pub encryption: Encryption,
    /// Which paths are shown.
    pub rules: Rules,
    /// What happens to a file that changes.
    pub on_change: OnChange,
    /// How it is mounted.
    pub options: ViewOptions,
}

/// A view of ciphertext as plaintext.
#[derive(Debug, Clone)]
pub struct DecryptView {
    /// The root of the volume.
    pub volume: PathBuf,
    /// The configuration file of the volume, where it is not in its root, and where the passphrase comes from.
    pub encryption: Encryption,
    /// Where it appears.
    pub mountpoint: PathBuf,
    /// How it is mounted.
    pub options: ViewOptions,
}

impl Choice for OnChange {
    const WORDS: &'static [(&'static str, Self)] = &[("fail", OnChange::Fail), ("serve", OnChange::Serve)];
}

/// `LABEL=PATH`, or `PATH` alone. What holds a slash before the `=` is a path.
///
/// # Errors
/// One line for a label that is no name, or where there is no path.
pub fn read_source(text: &OsStr) -> Result<(Option<Name>, PathBuf), String> {
    let bytes = text.as_bytes();
    let split = bytes.iter().position(|byte| *byte == b'=').filter(|at| !bytes[..*at].contains(&b'/'));
    let (label, path) = match split {
        Some(at) => (Some(read_label(&bytes[..at])?), &bytes[at + 1..]),
        None => (None, bytes),
    };
    if path.is_empty() {
        return Err(format!("`{}` names no directory", text.display()));
    }
    Ok((label, PathBuf::from(OsStr::from_bytes(path))))
}

fn read_label(bytes: &[u8]) -> Result<Name, String> {
    let shown = String::from_utf8_lossy(bytes);
    Name::new(bytes).map_err(|_| format!("`{shown}` cannot be a label: it is the name of a directory in the view"))
}

/// Completes a draft.
///
/// # Errors
/// The first thing that is missing or does not fit.
pub fn finish(draft: EncryptDraft) -> Result<EncryptView, Error> {
    let file = draft.file.clone();
    complete(draft).map_err(|line| match file {
        Some(file) => Error::File(format!("{}: {line}", file.display())),
        None => Error::Usage(line),
    })
}

fn complete(draft: EncryptDraft) -> Result<EncryptView, String> {
    let mountpoint = draft.mountpoint.ok_or("there is no mount point: add `mountpoint: /some/directory`")?;
    let labelled = draft.sources.len() != 1 || draft.sources.iter().any(|(label, _)| label.is_some());
    let mut sources: Vec<Source> = Vec::new();
    let mut labels = HashSet::new();
    for (label, path) in draft.sources {
        let label = label.map_or_else(|| base_name(&path), Ok)?;
        if !labels.insert(label.as_bytes().to_vec()) {
            return Err(format!(
                "two directories would be called {label} in the view: give one another label, LABEL={}",
                path.display()
            ));
        }
        sources.push(Source { label, path });
    }
    if sources.is_empty() {
        return Err("there is no directory to show: add `sources:`".into());
    }
    if labelled && draft.encryption.conf.is_none() {
        return Err("directories under labels need the configuration file of a volume that is outside of them: make one with `tierfs key init --reverse --conf FILE DIR`, and name it with --conf (`conf:`)".into());
    }
    Ok(EncryptView {
        sources,
        labelled,
        mountpoint,
        encryption: draft.encryption,
        rules: Rules::new(draft.rules)?,
        on_change: draft.on_change.unwrap_or_default(),
        options: draft.options,
    })
}

fn base_name(path: &Path) -> Result<Name, String> {
    let name = path.file_name().map(|name| Name::new(name.as_bytes()));
    match name {
        Some(Ok(name)) => Ok(name),
        _ => Err(format!("{} has no name of its own: give it a label, LABEL={}", path.display(), path.display())),
    }
}

/// Those of the options of a mount that a view has.
///
/// # Errors
/// One line for one that it has not.
pub fn options(draft: Draft) -> Result<ViewOptions, Error> {
    let MountOptions { allow_other, fsname, threads, .. } = draft.options.clone();
    let rest = MountOptions { allow_other: false, fsname: None, threads: None, read_only: false, ..draft.options };
    if rest != MountOptions::default() {
        return Err(Error::Usage("a view has the options allow_other, ro, fsname=NAME and threads=N".into()));
    }
    Ok(ViewOptions { allow_other, fsname, threads })
}

/// Reads a file that describes a view. Paths in it are relative to its directory.
///
/// # Errors
/// [`Error::File`] with path, line and column.
pub fn load(path: &Path) -> Result<EncryptDraft, Error> {
    let fail = |line: String| Error::File(format!("{}{line}", path.display()));
    let text = load::read(path).map_err(|line| fail(format!(": {line}")))?;
    let mut draft = parse(&text).map_err(|problem| fail(load::describe(&problem)))?;
    let home = path.parent().unwrap_or(Path::new("")).to_path_buf();
    let sources = draft.sources.iter_mut().map(|(_, path)| path);
    for file in sources.chain(draft.mountpoint.iter_mut()).chain(load::files(&mut draft.encryption)) {
        *file = std::path::absolute(home.join(&*file)).map_err(|error| fail(format!(": {error}")))?;
    }
    draft.file = Some(path.to_path_buf());
    Ok(draft)
}

/// Reads the text of such a file.
///
/// # Errors
/// The first thing that is wrong, with its place where it has one.
pub fn parse(text: &str) -> Result<EncryptDraft, Problem> {
    let file: File = yaml::parse(text).map_err(load::suggested)?;
    let wrong = |message: String| Problem { at: None, message };
    if file.version != VERSION {
        return Err(wrong(format!("version {} is not known: this tierfs reads version 1", file.version)));
    }
    let source = |source: FileSource| {
        let label = source.label.map(|label| read_label(label.0.as_bytes())).transpose()?;
        Ok((label, source.path.0))
    };
    let rule = |rule: FileRule| match (rule.include, rule.exclude) {
        (Some(text), None) => Ok((Verdict::Include, Pattern::new(&text.0)?)),
        (None, Some(text)) => Ok((Verdict::Exclude, Pattern::new(&text.0)?)),
        _ => Err("each of `rules` is one pattern: `include: PATTERN` or `exclude: PATTERN`".to_owned()),
    };
    let encryption = file.encryption.map(load::encryption).transpose();
    Ok(EncryptDraft {
        file: None,
        sources: file.sources.into_iter().map(source).collect::<Result<_, _>>().map_err(wrong)?,
        mountpoint: file.mountpoint.map(|path| path.0),
        encryption: encryption.map_err(|line| wrong(format!("encryption: {line}")))?.unwrap_or_default(),
        rules: file.rules.into_iter().map(rule).collect::<Result<_, _>>().map_err(wrong)?,
        on_change: file.on_change.map(|word| word.0),
        options: ViewOptions {
            allow_other: file.allow_other.is_some_and(|word| word.0),
            fsname: file.fsname.map(|name| name.0),
            threads: file.threads.map(|threads| threads.0),
        },
    })
}

/// The file, field for field.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "keys such as version, sources, mountpoint and encryption")]
struct File {
    version: u32,
    mountpoint: Option<Plain<PathBuf>>,
    sources: Vec<FileSource>,
    encryption: Option<schema::Encryption>,
    #[serde(default)]
    rules: Vec<FileRule>,
    on_change: Option<Plain<OnChange>>,
    allow_other: Option<Plain<bool>>,
    fsname: Option<Plain<String>>,
    threads: Option<Plain<usize>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a directory, such as {path: /home, label: home}")]
struct FileSource {
    path: Plain<PathBuf>,
    label: Option<Plain<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a rule, such as exclude: '*.tmp'")]
struct FileRule {
    include: Option<Plain<String>>,
    exclude: Option<Plain<String>>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::passphrase;
    use crate::types::path::UnionPath;

    const FULL: &str = "\
version: 1
mountpoint: /mnt/backup
encryption: {conf: /etc/c, passfile: /etc/p}
sources:
  - {path: /home}
  - {path: /srv/www, label: web}
rules:
  - include: /home/*/docs
  - exclude: /home/*/*
on_change: serve
allow_other: yes
threads: 3
";

    #[test]
    fn a_full_file_is_read() {
        let view = finish(parse(FULL).unwrap()).unwrap();
        let sources: Vec<_> =
            view.sources.iter().map(|source| (source.label.to_string(), source.path.clone())).collect();
        assert_eq!(sources, [("home".into(), "/home".into()), ("web".into(), PathBuf::from("/srv/www"))]);
        assert_eq!(view.encryption.source, passphrase::Source::PassFile("/etc/p".into()));
        assert!(view.labelled && view.on_change == OnChange::Serve && view.options.allow_other);
        assert_eq!(view.options.threads, Some(3));
        let shows = |path: &str| view.rules.shows(&UnionPath::new(path.as_bytes()).unwrap(), false);
        assert!(shows("home/me/docs/a") && !shows("home/me/other") && shows("web/a"));
    }

    #[test]
    fn paths_in_a_file_are_relative_to_it() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("view.yaml");
        std::fs::write(&file, "version: 1\nmountpoint: m\nsources: [{path: a}]\nencryption: {keyfile: k}\n").unwrap();
        let view = finish(load(&file).unwrap()).unwrap();
        assert_eq!((view.mountpoint, view.labelled), (home.path().join("m"), false));
        assert_eq!(view.sources[0].path, home.path().join("a"));
        assert_eq!(view.encryption.source, passphrase::Source::KeyFile(home.path().join("k")));
    }

    #[test]
    fn a_mistake_is_told() {
        let head = "version: 1\nmountpoint: /m\n";
        for (text, part) in [
            ("sources: [{path: /a, lable: x}]", "did you mean `label`?"),
            ("sources: [{path: /a}, {path: /b/a}]\nencryption: {conf: /c}", "two directories would be called a"),
            ("sources: [{path: /a}, {path: /b}]", "--conf"),
            ("sources: [{path: /a, label: x/y}]", "cannot be a label"),
            ("sources: [{path: /}, {path: /b}]", "/ has no name of its own"),
            ("sources: []", "there is no directory to show"),
            ("sources: [{path: /a}]\nrules: [{include: a, exclude: b}]", "is one pattern"),
            ("sources: [{path: /a}]\nrules: [{exclude: a//b}]", "from the root"),
            ("sources: [{path: /a}]\non_change: ignore", "fail or serve"),
            ("sources: [{path: /a}]\nencryption: {passfile: /p, keyring: k}", "give one of passfile"),
        ] {
            let told = match parse(&format!("{head}{text}\n")) {
                Err(problem) => load::describe(&problem),
                Ok(draft) => finish(draft).unwrap_err().to_string(),
            };
            assert!(told.contains(part), "{text}: {told}");
        }
        let nowhere = parse("version: 1\nsources: [{path: /a}]\n").unwrap();
        assert!(finish(nowhere).unwrap_err().to_string().contains("no mount point"));
    }

    #[test]
    fn a_label_comes_before_the_first_equals_sign() {
        let read = |text: &str| {
            read_source(OsStr::new(text)).map(|(label, path)| (label.map(|label| label.to_string()), path))
        };
        for (text, label, path) in [
            ("/home", None, "/home"),
            ("home=/a", Some("home"), "/a"),
            ("a=b=c", Some("a"), "b=c"),
            ("./a=b", None, "./a=b"),
            ("/x/a=b", None, "/x/a=b"),
        ] {
            assert_eq!(read(text), Ok((label.map(String::from), PathBuf::from(path))), "{text}");
        }
        for text in ["", "a=", "=b", "..=b"] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn options_that_a_view_has_not_are_refused() {
        let mut draft = Draft::default();
        draft.options.threads = Some(2);
        draft.options.read_only = true;
        assert_eq!(options(draft.clone()).unwrap().threads, Some(2));
        draft.options.spill = false;
        assert!(options(draft).unwrap_err().to_string().contains("allow_other"));
    }
}
