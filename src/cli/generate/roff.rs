//! A manual page while it is written, in the macros of `man(7)`.

/// The text of one page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Page(String);

impl Page {
    /// Begins a page, such as `TIERFS.YAML`, `5`.
    pub(super) fn new(title: &str, section: u8) -> Page {
        let version = env!("CARGO_PKG_VERSION");
        Page(format!(".TH \"{}\" {section} \"\" \"tierfs {version}\" \"tierfs\"\n", escape(title)))
    }

    /// Goes on with a page that is written so far.
    pub(super) fn from_text(text: String) -> Page {
        Page(text)
    }

    pub(super) fn section(&mut self, title: &str) {
        self.0.push_str(&format!(".SH \"{}\"\n", escape(title).replace('"', "'")));
    }

    /// One paragraph, whose lines are filled.
    pub(super) fn text(&mut self, paragraph: &str) {
        self.0.push_str(".PP\n");
        for line in paragraph.lines() {
            self.line(line);
        }
    }

    /// Lines as they are.
    pub(super) fn verbatim(&mut self, lines: &str) {
        self.0.push_str(".PP\n.RS 4\n.nf\n");
        for line in lines.lines() {
            self.line(line);
        }
        self.0.push_str(".fi\n.RE\n");
    }

    /// A word and what it means.
    pub(super) fn item(&mut self, term: &str, text: &str) {
        self.0.push_str(".TP\n");
        self.0.push_str(&format!("\\fB{}\\fR\n", guard(&escape(term))));
        self.line(text);
    }

    fn line(&mut self, line: &str) {
        self.0.push_str(&guard(&escape(line)));
        self.0.push('\n');
    }

    pub(super) fn finish(self) -> String {
        self.0
    }
}

/// Backslashes begin commands, and a bare hyphen may be printed as a dash that cannot be pasted.
fn escape(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-").replace('`', "\\(ga").replace('~', "\\(ti")
}

/// A dot or apostrophe at the start of a line begins a command.
fn guard(line: &str) -> String {
    if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_roff_would_obey_is_text() {
        let mut page = Page::new("x", 5);
        page.text(".hidden is `a` \\ name\n'tis --dry-run");
        let text = page.finish();
        assert!(text.ends_with(".PP\n\\&.hidden is \\(gaa\\(ga \\e name\n\\&'tis \\-\\-dry\\-run\n"), "{text}");
    }
}
