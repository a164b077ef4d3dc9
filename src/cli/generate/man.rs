//! Pages of section 1 from the definitions of the commands.

use clap::Command;
use clap_mangen::Man;

use super::roff::Page;
use crate::cli::described;

/// What `apropos` shows; the description of the program is longer.
const BRIEF: &str = "tiered-storage union filesystem";

/// File name and text of the page of the program and of each command that is not hidden.
pub(super) fn all(program: Command) -> Vec<(String, String)> {
    // Without them the pages would list `help` and `--version` of every command.
    let mut program = program.disable_help_subcommand(true);
    program.build();
    let mut pages = Vec::new();
    add(&program, &[], &mut pages);
    pages
}

fn add(command: &Command, above: &[&str], pages: &mut Vec<(String, String)>) {
    let words: Vec<&str> = above.iter().copied().chain([command.get_name()]).collect();
    let name = words.join("-");
    pages.push((format!("{name}.1"), page(command, &name)));
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        add(below, &words, pages);
    }
}

fn page(command: &Command, name: &str) -> String {
    let mut command = command.clone();
    if name == "tierfs" {
        let long = command.get_about().cloned().unwrap_or_default();
        command = command.about(BRIEF).long_about(long);
    } else if let Some(long) = name.strip_prefix("tierfs-").and_then(described::of) {
        command = command.long_about(long);
    }
    let man = Man::new(command.clone()).title(name).section("1").manual("tierfs").date("");
    let man = man.source(concat!("tierfs ", env!("CARGO_PKG_VERSION")));
    let mut text = Vec::new();
    // Writing to memory does not fail.
    let _ = man.render_title(&mut text);
    let _ = man.render_name_section(&mut text);
    let _ = man.render_synopsis_section(&mut text);
    let _ = man.render_description_section(&mut text);
    let _ = man.render_options_section(&mut text);
    let mut page = Page::from_text(String::from_utf8_lossy(&text).into_owned());
    let below: Vec<&Command> = command.get_subcommands().filter(|below| !below.is_hide_set()).collect();
    if !below.is_empty() {
        page.section("COMMANDS");
        for below in &below {
            let about = below.get_about().map(ToString::to_string).unwrap_or_default();
            page.item(&format!("{name}-{}(1)", below.get_name()), &about);
        }
    }
    let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    for part in parts(&after) {
        page.section(&part.title);
        fill(&mut page, &part.lines);
    }
    page.section("SEE ALSO");
    page.text(if name == "tierfs" {
        "tierfs.yaml(5), mount.tierfs(8)"
    } else {
        "tierfs(1), tierfs.yaml(5), mount.tierfs(8)"
    });
    page.finish()
}

/// A part of the help that follows the options.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// As a section of a page is called.
    pub(super) title: String,
    /// What is below.
    pub(super) lines: Vec<String>,
}

/// Takes the help apart: what begins a paragraph and ends with a colon is the title of a part.
pub(super) fn parts(help: &str) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    let mut fresh = true;
    for line in help.lines() {
        let title = line.strip_suffix(':').filter(|line| fresh && !line.starts_with(' ') && line.len() < 40);
        fresh = line.is_empty();
        match (title, parts.last_mut()) {
            (Some(title), _) => parts.push(Part { title: shown(title), lines: Vec::new() }),
            (None, None) => parts.push(Part { title: "NOTES".into(), lines: vec![line.to_owned()] }),
            (None, Some(last)) => last.lines.push(line.to_owned()),
        }
    }
    parts
}

fn shown(title: &str) -> String {
    match title {
        "Exit codes" => "EXIT STATUS".into(),
        "Mount options (-o)" => "MOUNT OPTIONS".into(),
        other => other.to_uppercase(),
    }
}

/// Indented lines stay as they are, others are filled.
pub(super) fn fill(page: &mut Page, lines: &[String]) {
    let kind = |line: &String| (line.is_empty(), line.starts_with(' '));
    for run in lines.chunk_by(|one, next| kind(one) == kind(next)) {
        match kind(&run[0]) {
            (true, _) => {}
            (_, true) => page.verbatim(
                &run.iter().map(|line| line.strip_prefix("  ").unwrap_or(line)).collect::<Vec<_>>().join("\n"),
            ),
            (_, false) => page.text(&run.join("\n")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_is_taken_apart_at_its_titles() {
        let found = parts("Words first.\n\nExamples:\n  a\nIn cron:\n  b\n\nExit codes:\n  0 done");
        let part = |title: &str, lines: &[&str]| Part {
            title: title.into(),
            lines: lines.iter().map(|line| (*line).to_owned()).collect(),
        };
        let expected = [
            part("NOTES", &["Words first.", ""]),
            part("EXAMPLES", &["  a", "In cron:", "  b", ""]),
            part("EXIT STATUS", &["  0 done"]),
        ];
        assert_eq!(found, expected);
    }
}
