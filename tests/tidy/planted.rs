//! Planted violations: each must be reported, and nothing else.

use super::*;

#[track_caller]
fn reports(path: &str, text: &str, parts: &[&str]) {
    let text = format!("//! Header.\n{text}");
    let found = check_source(&Source::new(path, &text));
    assert_eq!(found.len(), parts.len(), "{found:?}");
    for (problem, part) in found.iter().zip(parts) {
        assert!(problem.contains(part), "{problem}");
    }
}

#[test]
fn clean_sources_pass() {
    let text = "use crate::types::{ino::Ino, name};\nuse crate::tier;\n// crate::fuse is above\n\
                fn a() -> &'static str { \"crate::cli fuser:: unsafe\" }\n\
                #[cfg(test)]\nmod tests {\n    use crate::fuse;\n    fn b() { x().unwrap(); }\n}\n";
    reports("src/union/a.rs", text, &[]);
    reports("src/main.rs", "fn main() { tierfs::cli::run() }\n", &[]);
}

#[test]
fn upward_imports() {
    reports("src/tier/a.rs", "use crate::union::Union;\n", &["`tier` must not import `union`"]);
    let group = "use crate::{types::a::{b, fuse}, sys::c,\n    daemon, log};\n";
    let parts = ["import `sys`", "import `daemon`", "import `log`"];
    reports("src/union/a.rs", group, &parts);
    reports("src/union/mod.rs", "use super::fuse::x;\n", &["`union` must not import `fuse`"]);
    reports("src/yaml.rs", "fn a() { crate::types::b() }\n", &["`yaml` must not import `types`"]);
    reports("src/unknown/a.rs", "", &["`unknown` is not in LAYERS"]);
    reports("src/union/a.rs", "use super::super::fuse;\n", &["`super::super`"]);
}

#[test]
fn a_ring_in_the_table() {
    let ring: &[(&str, &[&str])] = &[("a", &["b"]), ("b", &["a"])];
    assert_eq!(check_table(ring).len(), 1);
    assert!(check_table(LAYERS).is_empty());
}

#[test]
fn packages_away_from_home() {
    reports("src/union/a.rs", "use nix::libc;\n", &["`nix` has its home"]);
    reports("src/union/a.rs", "fn a() { libc::x() }\n", &["`libc` has its home"]);
    reports("src/tier/a.rs", "use fuser;\n", &["`fuser` has its home"]);
    reports("src/log.rs", "use serde_yaml::x;\n", &["`serde_yaml` has its home"]);
    reports("src/sys/a.rs", "use nix::libc;\nuse inotify::x;\n", &[]);
}

#[test]
fn unsafe_code() {
    reports("src/union/a.rs", "fn a() { unsafe { b() } }\n", &["in src/sys only"]);
    reports("src/sys/a.rs", "fn a() {\n    unsafe { b() }\n}\n", &["without a `// SAFETY:`"]);
    reports("src/sys/a.rs", "fn a() {\n    // SAFETY: b is fine.\n    unsafe { b() }\n}\n", &[]);
}

#[test]
fn headers_sizes_words_and_calls() {
    assert_eq!(check_header(&Source::new("src/a.rs", "fn a() {}\n")).len(), 1);
    let long = format!("fn a() {{\n{}}}\n", "    b();\n".repeat(79));
    reports("src/types/a.rs", &long, &["a function of 81 lines"]);
    reports("src/types/a.rs", &"// A line.\n".repeat(450), &["451 lines"]);
    let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "    // A line.\n".repeat(600));
    reports("src/types/a.rs", &tests, &[]);
    reports("src/types/a.rs", "// A Branch of the union.\n", &["`branch`: say tier"]);
    reports("src/types/a.rs", "// Do the copy-up later. TODO\n", &["promote", "issue"]);
    reports("src/types/a.rs", "fn a() { b().unwrap(); todo!() }\n", &[".unwrap()", "todo!("]);
}

#[test]
fn tests_that_pause_or_are_ignored() {
    let text = "//! Header.\n#[ignore]\nfn a() { std::thread::sleep(b) }\n";
    assert_eq!(check_tests(&Source::new("tests/a.rs", text)).len(), 2);
    assert!(check_tests(&Source::new("tests/common/wait.rs", "thread::sleep(x)")).is_empty());
}
