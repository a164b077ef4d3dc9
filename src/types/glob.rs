//! Patterns for union paths.
//!
//! The package `globset` does the matching, on bytes. What it would take in a way that few people
//! mean is refused here with a hint: a pattern that quietly matches something else moves the wrong
//! files.

use std::path::Path;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use super::path::UnionPath;

/// Longest pattern in bytes: as long as a path can be (`PATH_MAX`, `limits.h`).
const PATTERN_LEN_MAX: usize = 4096;

/// One pattern as it was written, known to be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    glob: globset::Glob,
}

impl Pattern {
    /// Reads a pattern: `*` and `?` match within a name, `**` any number of directories, `[a-z]`
    /// one byte, `{a,b}` either. Without a slash before its end it matches at any depth, otherwise
    /// from the root. `dir/` means all that is below `dir`.
    ///
    /// # Errors
    /// One line that says what to write instead.
    pub fn new(text: &str) -> Result<Pattern, String> {
        check_shape(text).map_err(|why| format!("`{text}` is not a pattern: {why}"))?;
        let glob = compile(&anchored(&classes(text)?)).map_err(|why| format!("`{text}` is not a pattern: {why}"))?;
        Ok(Pattern { text: text.to_owned(), glob })
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// Patterns of which any may match. None of them matches nothing.
#[derive(Debug, Clone)]
pub struct Globs {
    patterns: Vec<Pattern>,
    set: GlobSet,
}

impl Globs {
    /// The files whose own path matches.
    ///
    /// # Errors
    /// One line, if the patterns are too large together.
    pub fn new(patterns: Vec<Pattern>) -> Result<Globs, String> {
        let set = build(patterns.iter().map(|pattern| pattern.glob.clone()))?;
        Ok(Globs { patterns, set })
    }

    /// The files whose own path matches and those below a directory that does.
    ///
    /// # Errors
    /// As [`Globs::new`].
    pub fn with_below(patterns: Vec<Pattern>) -> Result<Globs, String> {
        let mut globs = Vec::new();
        for pattern in &patterns {
            globs.push(pattern.glob.clone());
            globs.push(compile(&format!("{}/**", pattern.glob.glob()))?);
        }
        Ok(Globs { set: build(globs)?, patterns })
    }

    /// The directories on the way down to something that a pattern might match, as far as the pattern
    /// tells them: below its first `**` every directory is on the way.
    ///
    /// # Errors
    /// As [`Globs::new`].
    pub fn on_the_way(patterns: Vec<Pattern>) -> Result<Globs, String> {
        let ways = patterns.iter().flat_map(|pattern| ways(pattern.glob.glob()));
        let set = build(ways.map(|way| compile(&way)).collect::<Result<Vec<_>, _>>()?)?;
        Ok(Globs { patterns, set })
    }

    /// Whether one matches.
    pub fn matches(&self, path: &UnionPath) -> bool {
        self.set.is_match(Path::new(path.as_os_str()))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// What it was made of.
    pub fn patterns(&self) -> &[Pattern] {
        &self.patterns
    }
}

impl Default for Globs {
    fn default() -> Globs {
        Globs { patterns: Vec::new(), set: GlobSet::empty() }
    }
}

impl PartialEq for Globs {
    fn eq(&self, other: &Globs) -> bool {
        self.patterns == other.patterns
    }
}

fn compile(pattern: &str) -> Result<globset::Glob, String> {
    let mut builder = GlobBuilder::new(pattern);
    builder.literal_separator(true).backslash_escape(true).empty_alternates(true);
    builder.build().map_err(|error| error.kind().to_string())
}

fn build(globs: impl IntoIterator<Item = globset::Glob>) -> Result<GlobSet, String> {
    let mut builder = GlobSetBuilder::new();
    for glob in globs {
        builder.add(glob);
    }
    builder.build().map_err(|error| format!("the patterns are too large: {}", error.kind()))
}

/// Patterns for the directories on the way to what a pattern matches that begins at the root.
fn ways(anchored: &str) -> Vec<String> {
    if has_slash_in_braces(anchored) {
        return vec!["**".into()];
    }
    let parts: Vec<&str> = anchored.split('/').collect();
    let mut ways = Vec::new();
    for at in 0..parts.len().saturating_sub(1) {
        let way = parts[..=at].join("/");
        ways.push(way);
        if parts[at] == "**" {
            break;
        }
    }
    ways
}

fn has_slash_in_braces(text: &str) -> bool {
    let (mut depth, mut escaped) = (0_usize, false);
    for letter in text.chars() {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            '/' if depth > 0 => return true,
            _ => {}
        }
    }
    false
}

/// What is wrong with the components, if anything.
fn check_shape(text: &str) -> Result<(), String> {
    if text.is_empty() || text == "/" {
        return Err("write `**` for every file".into());
    }
    if text.len() > PATTERN_LEN_MAX || text.contains(['\0', '\n']) {
        return Err("it must be one line of at most 4096 bytes".into());
    }
    let inner = text.strip_prefix('/').unwrap_or(text);
    let inner = inner.strip_suffix('/').unwrap_or(inner);
    if inner.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
        return Err("write paths from the root of the mount, without `.`, `..` or `//`".into());
    }
    for part in text.split(['/', '{', '}', ',']) {
        if part.contains("**") && part != "**" {
            return Err("`**` stands alone between slashes, such as a/**/b or **/*.pdf".into());
        }
    }
    Ok(())
}

/// The pattern from the root of the union, without slashes at the ends.
fn anchored(text: &str) -> String {
    let inner = text.strip_suffix('/').unwrap_or(text);
    let below = if inner.len() < text.len() { "/**" } else { "" };
    match inner.strip_prefix('/') {
        Some(from_root) => format!("{from_root}{below}"),
        None if inner.contains('/') || inner == "**" => format!("{inner}{below}"),
        None => format!("**/{inner}{below}"),
    }
}

/// The pattern with each `[!…]` closed for the slash, which no class shall match. An unclosed class
/// is left for `globset` to refuse.
fn classes(text: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text.chars();
    while let Some(letter) = rest.next() {
        out.push(letter);
        match letter {
            '\\' => out.extend(rest.next()),
            '[' => {
                let Some((inner, after)) = rest.as_str().split_once(']') else { continue };
                let negated = inner.starts_with(['!', '^']);
                let letters = &inner[usize::from(negated)..];
                check_class(letters).map_err(|why| format!("`[{inner}]` in a pattern: {why}"))?;
                out.extend([if negated { "!/" } else { "" }, letters, "]"]);
                rest = after.chars();
            }
            _ => {}
        }
    }
    Ok(out)
}

fn check_class(inner: &str) -> Result<(), &'static str> {
    if inner.is_empty() {
        return Err("brackets hold at least one letter, and `]` cannot be one of them");
    }
    if !inner.is_ascii() {
        return Err("brackets match one byte, so only ASCII fits: write {ä,ö}");
    }
    if inner.starts_with('-') {
        return Err("write the `-` last");
    }
    let spans_slash = |range: &[u8]| range[1] == b'-' && (range[0]..=range[2]).contains(&b'/');
    if inner.contains('/') || inner.as_bytes().windows(3).any(spans_slash) {
        return Err("a slash is never in brackets, nor in a range");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn path(raw: &[u8]) -> UnionPath {
        UnionPath::new(raw).unwrap()
    }

    fn globs(text: &str) -> Globs {
        Globs::new(vec![Pattern::new(text).unwrap()]).unwrap()
    }

    #[test]
    fn patterns_match_what_the_readme_says() {
        for (pattern, yes, no) in [
            ("*.pdf", &["a.pdf", "d/e/a.pdf", ".pdf"][..], &["a.pdf/b", "a.PDF", "apdf"][..]),
            ("/*.pdf", &["a.pdf"], &["d/a.pdf"]),
            ("docs/*.pdf", &["docs/a.pdf"], &["docs/d/a.pdf", "x/docs/a.pdf", "docs"]),
            ("docs/**", &["docs/a", "docs/d/e"], &["docs", "docsx/a", "x/docs/a"]),
            ("docs/**/a", &["docs/a", "docs/d/e/a"], &["docsa", "docs/ba"]),
            ("**/docs/**", &["docs/a", "x/y/docs/a"], &["docs", "xdocs/a"]),
            ("cache/", &["cache/a", "x/cache/d/a"], &["cache", "xcache/a"]),
            ("/cache/", &["cache/a/b"], &["x/cache/a", "cache"]),
            ("x/cache/", &["x/cache/a"], &["y/x/cache/a"]),
            ("a?c", &["abc", "d/a.c"], &["ac", "a/c", "abbc"]),
            ("[a-c]1", &["a1", "x/c1"], &["d1", "ab1"]),
            ("x[!a-c]1", &["xd1", "x!1"], &["xa1", "x/1"]),
            ("x[^a]1", &["xb1"], &["xa1", "x/1"]),
            ("{a,b/*}", &["a", "b/x"], &["b", "x/a", "b/x/y"]),
            ("*.{jpg,JP{E,}G}", &["a.jpg", "d/a.JPEG", "a.JPG"], &["a.jpeg"]),
            ("**", &["a", "a/b/c"], &[]),
            ("*", &["a", "a/b/c"], &[]),
            ("/*", &["a"], &["a/b"]),
            ("\\*x", &["*x"], &["ax"]),
            ("[*]x", &["*x"], &["ax"]),
            ("ä?", &["äb"], &["ä"]),
        ] {
            let globs = globs(pattern);
            for name in yes {
                assert!(globs.matches(&path(name.as_bytes())), "{pattern} should match {name}");
            }
            for name in no {
                assert!(!globs.matches(&path(name.as_bytes())), "{pattern} should not match {name}");
            }
        }
    }

    #[test]
    fn names_that_are_no_text_are_matched() {
        assert!(globs("*.pdf").matches(&path(b"\xff\xfe/\xe4.pdf")));
        assert!(globs("d/?.pdf").matches(&path(b"d/\xe4.pdf")));
        assert!(!globs("d/?.pdf").matches(&path(b"d/\xc3\xa4.pdf")));
        assert!(globs("x[!a].pdf").matches(&path(b"x\xff.pdf")));
    }

    #[test]
    fn an_excluded_directory_takes_what_is_below_it() {
        let globs = Globs::with_below(vec![Pattern::new(".git").unwrap(), Pattern::new("a/b").unwrap()]).unwrap();
        for (name, is) in [
            (".git", true),
            ("x/.git/objects/1", true),
            ("a/b/c", true),
            ("x/a/b", false),
            ("x.git/c", false),
            ("a/bc", false),
        ] {
            assert_eq!(globs.matches(&path(name.as_bytes())), is, "{name}");
        }
    }

    #[test]
    fn no_pattern_matches_nothing() {
        assert!(!Globs::default().matches(&path(b"a")));
        assert!(!Globs::new(Vec::new()).unwrap().matches(&path(b"a")));
    }

    #[test]
    fn a_pattern_that_says_something_else_is_refused() {
        for (pattern, says) in [
            ("", "`**` for every file"),
            ("/", "`**` for every file"),
            ("**.pdf", "stands alone"),
            ("a**/b", "stands alone"),
            ("a/../b", "from the root"),
            ("./a", "from the root"),
            ("a//b", "from the root"),
            ("[a", "unclosed"),
            ("{a", "unclosed"),
            ("a}", "unopened"),
            ("[]", "at least one"),
            ("[ä]", "write {ä,ö}"),
            ("[+-9]", "a slash is never"),
            ("[!-a]", "last"),
            ("[z-a]", "invalid range"),
            ("a\\", "dangling"),
        ] {
            let line = Pattern::new(pattern).unwrap_err();
            assert!(line.contains(says) && !line.contains('\n'), "{pattern}: {line}");
        }
    }

    proptest! {
        #[test]
        fn no_pattern_and_no_path_makes_it_panic(
            text in r"[\[\]{}a-c,!^*?/\\ä.-]{0,14}|.{0,30}",
            raw in proptest::collection::vec(any::<u8>(), 0..20),
        ) {
            if let (Ok(pattern), Ok(path)) = (Pattern::new(&text), UnionPath::new(&raw)) {
                let below = Globs::with_below(vec![pattern.clone()]).unwrap().matches(&path);
                let own = Globs::new(vec![pattern]).unwrap().matches(&path);
                prop_assert!(below || !own);
            }
        }

        #[test]
        fn a_plain_name_matches_itself_at_any_depth(name in "[a-z ]{1,8}", dir in "[a-z]{0,4}") {
            let globs = globs(&name);
            let deeper = path(format!("{dir}/{name}").as_bytes());
            let longer = path(format!("{dir}/{name}x").as_bytes());
            prop_assert!(globs.matches(&deeper) && !globs.matches(&longer));
        }
    }
}
