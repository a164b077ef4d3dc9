//! From each source to the bytes of a passphrase.
//!
//! The rules are those of gocryptfs: a passphrase is one line, its newline cut and nothing else
//! changed, of 1 to 2048 bytes.

use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::keys::{Error, Kind};
use crate::sys::keyring;
use crate::sys::secret::Secret;
use crate::types::errno::Errno;
use crate::types::passphrase::Source;

/// The longest passphrase, in bytes.
const LEN_MAX: usize = 2048;

/// How much a program may write after its first line.
const EXCESS_MAX: usize = 64 << 10;

/// The variable that systemd sets for a service with credentials.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// Reads the passphrase from `source`; `ask` is called for the prompt.
pub(super) fn read(source: &Source, ask: &mut dyn FnMut() -> Result<Secret, Error>) -> Result<Secret, Error> {
    let (secret, origin) = match source {
        Source::Prompt => (ask()?, "what was typed".to_owned()),
        Source::PassFile(path) => (first_line(open(path, "passphrase file")?, &shown(path))?, shown(path)),
        Source::KeyFile(path) => (whole(open(path, "key file")?, &shown(path))?, shown(path)),
        Source::Command(words) => (run(words)?, format!("what `{}` wrote", program(words))),
        Source::Credential(name) => {
            let path = credential(name)?;
            (first_line(open(&path, "credential")?, &shown(&path))?, shown(&path))
        }
        Source::Keyring(description) => {
            let origin = format!("the key `{description}` in the keyring");
            (first_line(from_keyring(description)?.as_slice(), &origin)?, origin)
        }
    };
    match secret.len() {
        0 => Err(Error::new(Kind::Failed, format!("{origin} is no passphrase: its first line is empty"))),
        len if len > LEN_MAX => Err(too_long(&origin)),
        _ => Ok(secret),
    }
}

/// What is careless about a source, for a warning.
pub fn careless(source: &Source) -> Option<String> {
    let (Source::PassFile(path) | Source::KeyFile(path)) = source else { return None };
    let metadata = std::fs::metadata(path).ok().filter(|metadata| metadata.is_file())?;
    let others = metadata.permissions().mode() & 0o077;
    (others != 0)
        .then(|| format!("{} can be used by other users than its owner: chmod 600 {}", path.display(), path.display()))
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn too_long(origin: &str) -> Error {
    Error::new(Kind::Failed, format!("{origin} is no passphrase: one has at most {LEN_MAX} bytes"))
}

fn open(path: &Path, what: &str) -> Result<File, Error> {
    let fail = |errno: Errno| Error::new(Kind::Failed, format!("the {what} {}: {errno}", path.display()));
    let file = File::open(path).map_err(|error| fail(Errno::of(&error)))?;
    if file.metadata().is_ok_and(|metadata| metadata.is_dir()) { Err(fail(Errno::EISDIR)) } else { Ok(file) }
}

/// Fills `room` as far as there are bytes; straight to secret memory, with no buffer between.
fn fill(mut from: impl Read, room: &mut [u8], origin: &str) -> Result<usize, Error> {
    let mut len = 0;
    while len < room.len() {
        match from.read(&mut room[len..]) {
            Ok(0) => break,
            Ok(got) => len += got,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::new(Kind::Failed, format!("{origin}: {}", Errno::of(&error)))),
        }
    }
    Ok(len)
}

/// The first line without its newline.
fn first_line(from: impl Read, origin: &str) -> Result<Secret, Error> {
    let mut secret = Secret::zeroed(LEN_MAX + 1);
    let len = fill(from, secret.as_mut_slice(), origin)?;
    let bytes = &secret.as_slice()[..len];
    let line = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(len);
    secret.truncate(line);
    Ok(secret)
}

/// A key file: one line and nothing else, so that gocryptfs reads the same from it.
fn whole(from: impl Read, origin: &str) -> Result<Secret, Error> {
    let mut secret = Secret::zeroed(LEN_MAX + 2);
    let len = fill(from, secret.as_mut_slice(), origin)?;
    let bytes = &secret.as_slice()[..len];
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let text = std::str::from_utf8(bytes).is_ok_and(|text| !text.contains(|letter: char| letter.is_control()));
    if !text && len <= LEN_MAX + 1 {
        return Err(Error::new(
            Kind::Failed,
            format!(
                "{origin} is no single line of text, which gocryptfs could not read as a passphrase: \
                 make one of it with `base64 -w0` or choose another, such as `head -c 32 /dev/urandom | base64 -w0`"
            ),
        ));
    }
    let line = bytes.len();
    secret.truncate(line);
    Ok(secret)
}

/// The words of a command: separated by spaces, as gocryptfs does it.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(' ').filter(|word| !word.is_empty())
}

/// The program alone, for messages: its arguments could be telling.
fn program(text: &str) -> &str {
    words(text).next().unwrap_or_default()
}

fn run(text: &str) -> Result<Secret, Error> {
    let name = program(text);
    let fail = |why: String| Error::new(Kind::Failed, format!("the program `{name}` for the passphrase {why}"));
    let mut command = Command::new(name);
    command.args(words(text).skip(1)).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(|error| fail(format!("cannot be run: {}", Errno::of(&error))))?;
    let mut secret = Secret::zeroed(0);
    if let Some(mut pipe) = child.stdout.take() {
        let mut all = Secret::zeroed(EXCESS_MAX);
        let len = fill(&mut pipe, all.as_mut_slice(), name)?;
        // The pipe closes here: whoever writes still more is told so by the system.
        drop(pipe);
        secret = first_line(&all.as_slice()[..len], name)?;
    }
    let status = child.wait().map_err(|error| fail(format!("was lost: {}", Errno::of(&error))))?;
    if status.success() { Ok(secret) } else { Err(fail(format!("failed ({status})"))) }
}

fn credential(name: &str) -> Result<PathBuf, Error> {
    let Some(directory) = std::env::var_os(CREDENTIALS) else {
        let line = format!(
            "there are no credentials here (${CREDENTIALS} is not set): the service needs LoadCredential={name}:FILE"
        );
        return Err(Error::new(Kind::Failed, line));
    };
    if name.is_empty() || name.contains('/') || name == "." || name == ".." {
        return Err(Error::new(Kind::Usage, format!("`{name}` is no name of a credential")));
    }
    Ok(Path::new(&directory).join(name))
}

fn from_keyring(description: &str) -> Result<Secret, Error> {
    let wrong = |why: &str| Error::new(Kind::Failed, format!("the key `{description}` in the keyring {why}"));
    let name = CString::new(description).map_err(|_| wrong("cannot have such a name"))?;
    keyring::read(&name, LEN_MAX + 2).map_err(|errno| match errno {
        keyring::NO_KEY => {
            wrong("is not there, or not for this session and user: add it with `keyctl padd user NAME @u`")
        }
        Errno::EFBIG => too_long(&format!("the key `{description}`")),
        errno => Error::new(Kind::Failed, format!("the key `{description}` in the keyring: {errno}")),
    })
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use super::*;

    fn get(source: &Source) -> Result<Vec<u8>, Error> {
        read(source, &mut || panic!("nobody is asked")).map(|secret| secret.as_slice().to_vec())
    }

    #[test]
    fn a_passphrase_is_the_first_line_of_a_file_and_nothing_of_it_is_changed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p");
        let source = Source::PassFile(path.clone());
        let long = [vec![b'x'; LEN_MAX], b"\n".to_vec()].concat();
        for (text, line) in [
            (&b"one\ntwo\n"[..], &b"one"[..]),
            (b" a b \r\n", b" a b \r"),
            (b"no newline", b"no newline"),
            (b"\xff\0\n", b"\xff\0"),
            (&long, &long[..LEN_MAX]),
        ] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(get(&source), Ok(line.to_vec()));
        }
        for (text, says) in [(&b""[..], "empty"), (b"\nsecond", "empty"), (&[b'x'; LEN_MAX + 1], "at most")] {
            std::fs::write(&path, text).unwrap();
            assert!(get(&source).unwrap_err().line.contains(says));
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(get(&source).unwrap_err().kind, Kind::Failed);
    }

    #[test]
    fn a_key_file_is_one_line_of_text_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k");
        let source = Source::KeyFile(path.clone());
        for (text, key) in [(&b"c2VjcmV0\n"[..], &b"c2VjcmV0"[..]), (b"c2VjcmV0", b"c2VjcmV0")] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(get(&source), Ok(key.to_vec()));
        }
        for (text, says) in [
            (&b"a\nb\n"[..], "base64"),
            (b"a\n\n", "base64"),
            (b"a\0", "base64"),
            (b"\xff\xfe", "base64"),
            (b"", "empty"),
            (&[b'x'; LEN_MAX + 1], "at most"),
            (&[b'x'; 2 * LEN_MAX], "at most"),
        ] {
            std::fs::write(&path, text).unwrap();
            assert!(get(&source).unwrap_err().line.contains(says), "{:?}", get(&source));
        }
    }

    #[test]
    fn a_program_gives_its_first_line_if_it_ends_well() {
        let get = |words: &str| get(&Source::Command(words.into()));
        assert_eq!(get("echo  one two"), Ok(b"one two".to_vec()));
        assert_eq!(get("printf a\\nb"), Ok(b"a".to_vec()));
        assert!(get("false").unwrap_err().line.contains("failed"));
        assert!(get("true").unwrap_err().line.contains("empty"));
        assert!(get("/nowhere/at/all secret").unwrap_err().line.contains("cannot be run"));
        assert!(!get("/nowhere/at/all secret").unwrap_err().line.contains("secret"));
        // More than it may write: it is cut off and does not end well.
        assert!(get("yes").unwrap_err().line.contains("failed"));
    }

    #[test]
    fn files_that_others_may_read_are_careless() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let source = Source::PassFile(file.path().into());
        for (mode, told) in [(0o600, false), (0o400, false), (0o640, true), (0o604, true)] {
            std::fs::set_permissions(file.path(), Permissions::from_mode(mode)).unwrap();
            assert_eq!(careless(&source).is_some(), told, "{mode:o}");
        }
        assert_eq!(careless(&Source::Prompt), None);
        assert_eq!(careless(&Source::PassFile("/dev/null".into())), None);
    }
}
