//! `PRIMARY:SECONDARY[:…]`, the tiers as one argument. `\:` stands for a colon in a path and `\\`
//! for a backslash; a backslash before anything else is itself.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::config::Error;

/// The tier roots in `spec`, fastest first.
///
/// # Errors
/// [`Error::Usage`] where a path is empty.
pub fn parse(spec: &OsStr) -> Result<Vec<PathBuf>, Error> {
    let parts = split(spec.as_bytes(), b':');
    if parts.iter().any(Vec::is_empty) {
        let shown = spec.display();
        return Err(Error::Usage(format!(
            "`{shown}` has an empty path: write PRIMARY:SECONDARY, such as /fast/docs:/slow/docs"
        )));
    }
    Ok(parts.into_iter().map(|part| PathBuf::from(OsString::from_vec(part))).collect())
}

/// The tier roots as [`parse`] reads them.
pub fn show<'a>(paths: impl IntoIterator<Item = &'a Path>) -> OsString {
    let mut spec = Vec::new();
    for (index, path) in paths.into_iter().enumerate() {
        if index > 0 {
            spec.push(b':');
        }
        for byte in path.as_os_str().as_bytes() {
            if matches!(byte, b':' | b'\\') {
                spec.push(b'\\');
            }
            spec.push(*byte);
        }
    }
    OsString::from_vec(spec)
}

/// Splits at `separator`, which a backslash before it makes an ordinary byte.
pub(super) fn split(text: &[u8], separator: u8) -> Vec<Vec<u8>> {
    let mut parts = vec![Vec::new()];
    let mut bytes = text.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        if byte == separator {
            parts.push(Vec::new());
            continue;
        }
        let escaped = bytes.next_if(|next| byte == b'\\' && (*next == separator || *next == b'\\'));
        if let Some(part) = parts.last_mut() {
            part.push(escaped.unwrap_or(byte));
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(spec: &str) -> Vec<String> {
        let paths = parse(OsStr::new(spec)).unwrap();
        paths.into_iter().map(|path| path.to_str().unwrap().to_string()).collect()
    }

    #[test]
    fn colons_separate_unless_escaped() {
        for (spec, paths) in [
            ("/one", &["/one"][..]),
            ("/fast:/slow", &["/fast", "/slow"]),
            ("/a:/b:/c", &["/a", "/b", "/c"]),
            (r"/a\:b:/c", &["/a:b", "/c"]),
            (r"/a\\:/c", &[r"/a\", "/c"]),
            (r"/a\n:/c", &[r"/a\n", "/c"]),
            (r"/a\", &[r"/a\"]),
        ] {
            assert_eq!(read(spec), paths, "{spec}");
        }
    }

    #[test]
    fn an_empty_path_is_refused() {
        for spec in ["", ":", "/a:", ":/a", "/a::/b"] {
            assert!(parse(OsStr::new(spec)).is_err(), "{spec}");
        }
    }

    proptest! {
        #[test]
        fn any_paths_survive(paths in prop::collection::vec(prop::collection::vec(1u8.., 1..12), 1..9)) {
            let paths: Vec<PathBuf> =
                paths.into_iter().map(|bytes| PathBuf::from(OsString::from_vec(bytes))).collect();
            let spec = show(paths.iter().map(PathBuf::as_path));
            prop_assert_eq!(parse(&spec).unwrap(), paths);
        }
    }
}
