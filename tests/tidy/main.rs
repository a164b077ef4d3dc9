//! The sources themselves: layers, homes of packages, sizes and words.
//!
//! The rules are data at the top; each check takes sources as values, so that the last part can
//! plant violations and see them reported. The checks read text, not syntax: they rely on the
//! layout that rustfmt gives, and a macro could hide an import from them.

mod planted;

use std::path::{Path, PathBuf};

/// Each layer and the layers that it may import besides itself.
const LAYERS: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("stats", &["types"]),
    ("yaml", &[]),
    ("log", &[]),
    ("sys", &["types"]),
    ("crypt", &["types", "sys"]),
    ("keys", &["types", "sys", "crypt"]),
    ("config", &["types", "yaml"]),
    ("tier", &["types", "sys", "crypt"]),
    ("union", &["types", "stats", "tier"]),
    ("watch", &["types", "sys"]),
    ("fuse", &["types", "stats", "sys", "union"]),
    ("policy", &["types", "yaml", "config"]),
    ("report", &["types"]),
    ("doctor", &["types", "config", "policy"]),
    ("migrate", &["types", "stats", "sys", "tier", "union", "policy"]),
    ("check", &["types", "tier", "union", "migrate"]),
    ("control", &["types", "stats", "sys"]),
    (
        "daemon",
        &[
            "types", "stats", "sys", "yaml", "log", "crypt", "keys", "config", "tier", "union", "watch", "fuse",
            "policy", "migrate", "check", "control",
        ],
    ),
    (
        "cli",
        &[
            "types", "stats", "sys", "yaml", "log", "crypt", "keys", "config", "tier", "daemon", "policy", "report",
            "doctor", "migrate", "check", "control",
        ],
    ),
];

/// Imports that pass over the table: file, layer, and why.
const PASSES: &[(&str, &str, &str)] =
    &[("src/fuse/convert.rs", "tier", "the type `Rename` alone, which the union takes as it is")];

/// Each package with one home, and that home.
const HOMES: &[(&str, &str)] = &[
    ("fuser", "src/fuse/"),
    ("nix", "src/sys/"),
    ("libc", "src/sys/"),
    ("serde_yaml", "src/yaml.rs"),
    ("tracing_subscriber", "src/log.rs"),
    ("clap", "src/cli/"),
    ("clap_complete", "src/cli/generate/"),
    ("clap_mangen", "src/cli/generate/"),
    ("notify", "src/watch/"),
    ("humantime", "src/types/units.rs"),
    ("indicatif", "src/cli/"),
    ("csv", "src/cli/"),
    ("ratatui", "src/cli/top/"),
    ("globset", "src/types/glob.rs"),
    ("aws_lc_sys", "src/sys/aead.rs"),
    ("aes", "src/crypt/"),
    ("base64", "src/crypt/"),
    ("hkdf", "src/crypt/"),
    ("scrypt", "src/crypt/"),
    ("sha2", "src/crypt/"),
    ("rpassword", "src/keys/"),
    ("httparse", "src/daemon/metrics/"),
];

/// Words that tierfs does not use for its own things, and the word that it does.
const WORDS: &[(&str, &str)] = &[
    ("branch", "tier"),
    ("branches", "tiers"),
    ("replica", "copy"),
    ("replicas", "copies"),
    ("copy-up", "promote"),
    ("copy_up", "promote"),
    ("popularity", "age"),
    ("upper layer", "faster tier"),
    ("lower layer", "slower tier"),
    ("upperdir", "primary"),
    ("lowerdir", "secondary"),
    ("TODO", "an issue"),
    ("FIXME", "an issue"),
    ("XXX", "an issue"),
];

/// What must not be in the program, only in tests.
const CALLS: &[&str] = &[".unwrap()", ".unwrap_err()", ".expect(", "todo!(", "unimplemented!(", "dbg!("];

/// Lines of a file without its tests, and of a function.
const FILE_LINES_MAX: usize = 450;
const FUNCTION_LINES_MAX: usize = 80;

/// Lines above an `unsafe` among which its `SAFETY:` must be.
const SAFETY_LINES_MAX: usize = 8;

/// One file: path from the top of the repository, text, and the text that is not tests.
struct Source {
    path: String,
    text: String,
    program: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Source {
        let name = Path::new(path).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let all_tests = name == "tests" || name.ends_with("_tests") || format!("/{path}").contains("/tests/");
        let program = if all_tests { String::new() } else { without_tests(text) };
        Source { path: path.to_owned(), text: text.to_owned(), program }
    }

    /// The layer of a file in `src`: its folder, or its own name.
    fn layer(&self) -> Option<&str> {
        let below = self.path.strip_prefix("src/")?;
        let first = below.split('/').next()?;
        Some(first.strip_suffix(".rs").unwrap_or(first))
    }

    fn problem(&self, line: usize, words: &str) -> String {
        format!("{}:{line}: {words}", self.path)
    }
}

/// The text up to the first item under `#[cfg(test)]` that is a module with a body.
fn without_tests(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let tests = lines.windows(2).position(|pair| pair[0].trim() == "#[cfg(test)]" && pair[1].trim_end().ends_with('{'));
    lines[..tests.unwrap_or(lines.len())].join("\n")
}

/// A line without its comment and without what is between quotes.
fn code(line: &str) -> String {
    let mut bare = String::new();
    let mut rest = line.chars().peekable();
    let mut quoted = false;
    while let Some(letter) = rest.next() {
        match letter {
            '\\' if quoted => drop(rest.next()),
            '"' => quoted = !quoted,
            '/' if !quoted && rest.peek() == Some(&'/') => break,
            _ if !quoted => bare.push(letter),
            _ => {}
        }
    }
    bare
}

/// Code of the program, without comments and texts, line by line.
fn code_lines(source: &Source) -> Vec<String> {
    source.program.lines().map(code).collect()
}

fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// Where `word` stands alone in `text`.
fn find_word(text: &str, word: &str) -> Option<usize> {
    let alone = |at: usize| {
        let before = text[..at].chars().next_back().is_some_and(is_word);
        let after = text[at + word.len()..].chars().next().is_some_and(is_word);
        !before && !after
    };
    text.match_indices(word).map(|(at, _)| at).find(|at| alone(*at))
}

/// The names after each `crate::`, `tierfs::` or (in a layer's top file) `super::`: one, or those
/// of a group.
fn imports(source: &Source) -> Vec<(usize, String)> {
    let lines = code_lines(source);
    let text = lines.join("\n");
    let top = source.path.matches('/').count() == 1 || source.path.ends_with("/mod.rs");
    let nested = source.path.matches('/').count() > 2;
    let mut roots = vec!["crate::", "tierfs::"];
    if top && !nested {
        roots.push("super::");
    }
    let mut found = Vec::new();
    for root in roots {
        for (at, _) in text.match_indices(root) {
            if text[..at].chars().next_back().is_some_and(|before| is_word(before) || before == ':') {
                continue;
            }
            let line = text[..at].matches('\n').count() + 1;
            let rest = &text[at + root.len()..];
            found.extend(names_after(rest).into_iter().map(|name| (line, name)));
        }
    }
    found
}

/// `name…` gives the name; `{a::b, c, d::{e, f}}` gives a, c and d.
fn names_after(rest: &str) -> Vec<String> {
    let Some(group) = rest.strip_prefix('{') else {
        return vec![rest.chars().take_while(|letter| is_word(*letter)).collect()];
    };
    let mut names = vec![String::new()];
    let (mut depth, mut taking) = (0, true);
    for letter in group.chars() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                names.push(String::new());
                taking = true;
            }
            ':' if depth == 0 => taking = false,
            _ if is_word(letter) && taking && depth == 0 => {
                names.last_mut().expect("never empty").push(letter);
            }
            _ => {}
        }
    }
    names.into_iter().filter(|name| !name.is_empty()).collect()
}

fn check_layers(source: &Source) -> Vec<String> {
    let Some(layer) = source.layer().filter(|layer| !["lib", "main"].contains(layer)) else {
        return Vec::new();
    };
    let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == layer) else {
        return vec![source.problem(1, &format!("the layer `{layer}` is not in LAYERS of tests/tidy"))];
    };
    let mut problems = Vec::new();
    for (line, name) in imports(source) {
        let known = LAYERS.iter().any(|(other, _)| *other == name);
        let passes = PASSES.iter().any(|(path, other, _)| *path == source.path && *other == name);
        if known && name != layer && !allowed.contains(&name.as_str()) && !passes {
            let words = format!("`{layer}` must not import `{name}`: see LAYERS in tests/tidy");
            problems.push(source.problem(line, &words));
        }
    }
    for (number, line) in code_lines(source).iter().enumerate() {
        if line.contains("super::super") {
            problems.push(source.problem(number + 1, "`super::super`: name the path from `crate`"));
        }
    }
    problems
}

fn check_table(layers: &[(&str, &[&str])]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut done: Vec<&str> = Vec::new();
    for (layer, allowed) in layers {
        // In the order of the table each layer imports only what came before: so there is no ring.
        for below in allowed.iter().filter(|below| !done.contains(below)) {
            problems.push(format!("LAYERS: `{layer}` may import `{below}`, which comes after it"));
        }
        done.push(layer);
    }
    problems
}

fn check_homes(source: &Source) -> Vec<String> {
    let mut problems = Vec::new();
    for (number, line) in code_lines(source).iter().enumerate() {
        for (package, home) in HOMES.iter().filter(|(_, home)| !source.path.starts_with(home)) {
            let named = find_word(line, package).is_some_and(|at| {
                let after = &line[at + package.len()..];
                let own = line[..at].ends_with("::") || line[..at].ends_with('.');
                let used = line.trim_start().starts_with("use ");
                !own && (after.starts_with("::") || (used && after.starts_with(';')))
            });
            if named {
                let words = format!("`{package}` has its home in {home}");
                problems.push(source.problem(number + 1, &words));
            }
        }
    }
    problems
}

fn check_unsafe(source: &Source) -> Vec<String> {
    let mut problems = Vec::new();
    let lines: Vec<&str> = source.text.lines().collect();
    for (number, line) in lines.iter().enumerate() {
        let bare = code(line);
        let Some(at) = find_word(&bare, "unsafe") else { continue };
        let home = source.path.starts_with("src/sys/");
        if !home {
            problems.push(source.problem(number + 1, "`unsafe` is allowed in src/sys only"));
            continue;
        }
        let after = bare[at + "unsafe".len()..].trim_start();
        let argued = lines[number.saturating_sub(SAFETY_LINES_MAX)..=number]
            .iter()
            .any(|above| above.contains("SAFETY:") || above.contains("# Safety"));
        if !after.starts_with("fn") && !after.starts_with("extern") && !argued {
            problems.push(source.problem(number + 1, "`unsafe` without a `// SAFETY:` above it"));
        }
    }
    problems
}

fn check_header(source: &Source) -> Vec<String> {
    let ok = source.text.starts_with("//!");
    if ok { Vec::new() } else { vec![source.problem(1, "the file does not open with `//!`")] }
}

fn check_sizes(source: &Source) -> Vec<String> {
    let mut problems = Vec::new();
    let text = if source.program.is_empty() { &source.text } else { &source.program };
    let lines: Vec<&str> = text.lines().collect();
    if lines.len() > FILE_LINES_MAX {
        let words = format!("{} lines, at most {FILE_LINES_MAX} without tests", lines.len());
        problems.push(source.problem(1, &words));
    }
    for (start, line) in lines.iter().enumerate() {
        let indent = line.len() - line.trim_start().len();
        if find_word(&code(line), "fn").is_none() || !is_function(line) {
            continue;
        }
        let closing = format!("{}}}", " ".repeat(indent));
        let body = lines[start..].iter().position(|other| *other == closing);
        let ends_here = line.trim_end().ends_with('}') || line.trim_end().ends_with(';');
        let length = if ends_here { 1 } else { body.map_or(1, |end| end + 1) };
        if length > FUNCTION_LINES_MAX {
            let words = format!("a function of {length} lines, at most {FUNCTION_LINES_MAX}");
            problems.push(source.problem(start + 1, &words));
        }
    }
    problems
}

/// Whether a line begins a function: only words that may stand before `fn` stand before it.
fn is_function(line: &str) -> bool {
    let before = line.split("fn ").next().unwrap_or_default();
    let mut words = before.split_whitespace();
    words.all(|word| {
        word.starts_with("pub")
            || ["const", "async", "unsafe", "extern", "in", "\"C\""].contains(&word)
            || word.ends_with(')')
    })
}

fn check_words(source: &Source) -> Vec<String> {
    let mut problems = Vec::new();
    for (number, line) in source.text.lines().enumerate() {
        for (word, better) in WORDS {
            let shouted = word.chars().all(char::is_uppercase);
            let there =
                if shouted { find_word(line, word).is_some() } else { find_word(&line.to_lowercase(), word).is_some() };
            if there {
                problems.push(source.problem(number + 1, &format!("`{word}`: say {better}")));
            }
        }
    }
    problems
}

fn check_calls(source: &Source) -> Vec<String> {
    let mut problems = Vec::new();
    for (number, line) in code_lines(source).iter().enumerate() {
        for call in CALLS.iter().filter(|call| line.contains(**call)) {
            problems.push(source.problem(number + 1, &format!("`{call}` outside of tests")));
        }
    }
    problems
}

/// What tests must not do.
fn check_tests(source: &Source) -> Vec<String> {
    let mut problems = Vec::new();
    for (number, line) in source.text.lines().enumerate() {
        let bare = code(line);
        if bare.trim_start().starts_with("#[ignore") {
            problems.push(source.problem(number + 1, "no test is ignored: report a skip instead"));
        }
        if bare.contains("thread::sleep") && source.path != "tests/common/wait.rs" {
            problems.push(source.problem(number + 1, "no pauses: wait with `common::wait`"));
        }
    }
    problems
}

/// All that is wrong with one file of `src`.
fn check_source(source: &Source) -> Vec<String> {
    let checks = [check_layers, check_homes, check_unsafe, check_header, check_sizes, check_words, check_calls];
    checks.iter().flat_map(|check| check(source)).collect()
}

/// The Rust files below a folder of the repository.
fn sources(folder: &str) -> Vec<Source> {
    let top = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("run by cargo"));
    let mut folders = vec![top.join(folder)];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder of sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("a source");
                let name = path.strip_prefix(&top).expect("below the top").to_string_lossy();
                found.push(Source::new(&name, &text));
            }
        }
    }
    assert!(!found.is_empty(), "no sources in {folder}");
    found
}

#[test]
fn the_sources_are_tidy() {
    let mut problems = check_table(LAYERS);
    problems.extend(sources("src").iter().flat_map(check_source));
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn the_tests_are_tidy() {
    let checks = [check_header, check_sizes, check_tests];
    let sources = sources("tests");
    let problems: Vec<String> =
        sources.iter().flat_map(|source| checks.iter().flat_map(|check| check(source))).collect();
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn every_pass_is_still_needed() {
    let all = sources("src");
    for (path, layer, _) in PASSES {
        let source = all.iter().find(|source| source.path == *path);
        let used = source.is_some_and(|source| imports(source).iter().any(|(_, name)| name == layer));
        assert!(used, "{path} does not import {layer} any more: take it out of PASSES");
    }
}
