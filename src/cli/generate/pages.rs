//! The pages that are not about one command: `tierfs.yaml(5)` and `mount.tierfs(8)`. Options and their
//! defaults come from the configuration that `tierfs init` writes and from the help of `tierfs mount`.

use std::path::Path;

use clap::CommandFactory;

use super::man;
use super::roff::Page;
use crate::cli::Cli;
use crate::cli::exit::Failure;
use crate::config::{load, template};

/// File name and text of each.
///
/// # Errors
/// None but a mistake in the example below.
pub(super) fn all() -> Result<Vec<(String, String)>, Failure> {
    let example = load::parse(EXAMPLE).map_err(|problem| Failure::error(problem.message))?;
    let commented = template::render("docs", Some(Path::new("/srv/docs")), &example.tiers).map_err(Failure::error)?;
    Ok(vec![("tierfs.yaml.5".into(), yaml(&commented)), ("mount.tierfs.8".into(), helper())])
}

const EXAMPLE: &str = "\
version: 1
tiers:
  - {path: /fast/docs, id: 1f0e6d4c9b2a48738f5d3c2b1a09f8e7, min_free: 10%}
  - {path: /slow/docs, id: 7c8d9e0f1a2b43c4b5d6e7f8091a2b3c}
";

/// Keys outside of the section `mount:`.
const KEYS: &[(&str, &str)] = &[
    ("version: 1", "The version of the format. Must be there."),
    ("name: WORD", "What df shows as the source where fsname is not given."),
    ("mountpoint: DIR", "Where the union appears: an absolute path. A command line may name another."),
    ("tiers: LIST", "The tiers, fastest first, one to eight. Each has path, and may have id, min_free and encryption."),
    (
        "primary: TIER, secondary: TIER",
        "The first two of tiers, for whoever likes this better. Not together with tiers.",
    ),
    (
        "policy: FILE",
        "Which files tierfs migrate moves without further words; relative to the directory of this file. Without it the mount moves nothing of itself.",
    ),
    ("mount: SECTION", "How the mount behaves: see MOUNT."),
    ("metrics: SECTION", "Where numbers for Prometheus go: see METRICS. Without it nowhere."),
];

/// Keys of the section `metrics:`.
const METRICS: &[(&str, &str)] = &[
    (
        "listen: ADDRESS:PORT",
        "Answers to HTTP GET /metrics, only on this machine: 127.0.0.1:9567. A port that is taken is told in the log and tried again; the mount serves meanwhile.",
    ),
    (
        "textfile: FILE",
        "Written for the textfile collector of node_exporter, and replaced as a whole; ends in .prom. It goes when the mount ends.",
    ),
    ("every: 15s", "How often the file is written."),
];

/// Keys of one tier.
const TIER: &[(&str, &str)] = &[
    ("path: DIR", "Its root: an absolute path to a directory that is there."),
    (
        "id: DIGITS",
        "The id in its .tierfs/marker. With it, another disk in its place is refused. tierfs init writes it.",
    ),
    ("min_free: SHARE or SIZE", "New files go to the next tier when less than this is free: 10%, 4GiB."),
    ("encryption: SECTION", "The tier holds ciphertext in the format of gocryptfs: see ENCRYPTION."),
];

/// Keys of the section `encryption:` of a tier.
const ENCRYPTION: &[(&str, &str)] = &[
    ("conf: FILE", "The volume's gocryptfs.conf, where it is not in the tier's root."),
    ("passfile: FILE", "A file whose first line is the passphrase."),
    ("keyfile: FILE", "A file all of which is the passphrase."),
    ("extpass: COMMAND", "A program that writes the passphrase."),
    (
        "credential: NAME",
        "A credential of the systemd service: LoadCredential=NAME:FILE in a drop-in of tierfs@NAME.service.",
    ),
    ("keyring: NAME", "A key in the kernel's keyrings."),
];

fn yaml(commented: &str) -> String {
    let mut page = Page::new("tierfs.yaml", 5);
    page.section("NAME");
    page.text("tierfs.yaml - configuration of one tierfs mount");
    page.section("SYNOPSIS");
    page.verbatim("/etc/tierfs/NAME.yaml");
    page.section("DESCRIPTION");
    page.text(
        "Each file describes one mount. tierfs init writes one for directories that it is given. \
         tierfs@NAME.service mounts /etc/tierfs/NAME.yaml; tierfs mount --config FILE and the option \
         config=FILE in /etc/fstab take any file.",
    );
    page.text(
        "The files are YAML. A key that is not known is an error, told with its line and column by \
         tierfs config check FILE, which also prints what results with all defaults.",
    );
    page.text("Sizes are written 512, 8K, 1MiB, 4GiB (K, M and G count by 1024), times 1s, 5min, 12h, 90d, 6mo, 1y.");
    for (title, items) in [("KEYS", KEYS), ("TIERS", TIER), ("ENCRYPTION", ENCRYPTION), ("METRICS", METRICS)] {
        page.section(title);
        for (term, text) in items {
            page.item(term, text);
        }
    }
    page.section("MOUNT");
    page.text("Keys of the section mount, each with its default. All but their spelling is the same in -o.");
    for (term, text) in options(commented) {
        page.item(&term, &text);
    }
    page.section("EXAMPLE");
    page.text("As tierfs init writes it:");
    page.verbatim(commented);
    page.section("FILES");
    page.item("/etc/tierfs/NAME.yaml", "The configuration of tierfs@NAME.service and tierfs-migrate@NAME.service.");
    page.item("/usr/share/doc/tierfs/policies", "Policies to start from, and what can be in one.");
    page.section("SEE ALSO");
    page.text("tierfs(1), tierfs-init(1), tierfs-config-check(1), mount.tierfs(8)");
    page.finish()
}

/// Key with default, and explanation, of each line `  #key: value   # explanation`.
fn options(commented: &str) -> Vec<(String, String)> {
    let lines = commented.lines().skip_while(|line| *line != "mount:");
    let options = lines.filter_map(|line| line.strip_prefix("  #")?.split_once('#'));
    options.map(|(option, text)| (option.trim().to_owned(), sentence(text.trim()))).collect()
}

fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    // A value that begins an explanation, as in `true: ...`, is written small.
    if text.starts_with("true:") || text.starts_with("false:") {
        format!("{text}.")
    } else {
        format!("{first}{}.", letters.as_str())
    }
}

fn helper() -> String {
    let mut page = Page::new("mount.tierfs", 8);
    page.section("NAME");
    page.text("mount.tierfs - mount a tierfs by mount(8) and /etc/fstab");
    page.section("SYNOPSIS");
    page.verbatim("mount -t tierfs [-o OPTION[=VALUE],...] PRIMARY:SECONDARY[:...] MOUNTPOINT\nmount -t tierfs -o config=FILE none MOUNTPOINT");
    page.section("DESCRIPTION");
    page.text(
        "mount.tierfs is the program tierfs under the name by which mount(8) finds it. It returns when the \
         mount serves, or prints one line and ends with another exit code; nothing is then mounted. umount(8) \
         unmounts. Like tierfs mount it stays in the background, and logs to the system log.",
    );
    page.text(
        "A colon in a path is written \\:, a comma in a value \\,. In /etc/fstab a space is \\040 and a backslash \\134.",
    );
    let command = Cli::command();
    let help = command.find_subcommand("mount").and_then(|mount| mount.get_after_help()).map(ToString::to_string);
    for part in man::parts(&help.unwrap_or_default()).iter().filter(|part| part.title == "MOUNT OPTIONS") {
        page.section(&part.title);
        man::fill(&mut page, &part.lines);
    }
    page.section("FSTAB");
    page.verbatim(FSTAB);
    page.text(
        "nofail lets the machine boot without the mount. x-systemd.requires-mounts-for= names the filesystems \
         of the tiers, which are then mounted first; _netdev has the same meaning as for any network filesystem \
         and is right where a tier is one. With user an ordinary user may mount: this needs fusermount3 and, with \
         allow_other, the line user_allow_other in /etc/fuse.conf; tiers and mount point must be his.",
    );
    page.section("REMOUNT");
    page.text(
        "mount -o remount,ro and remount,rw, and suid, dev, exec and their opposites, take effect at once, as root. \
         While files are open for writing, ro is refused. A mount that was made with ro does not become writable. \
         Every other option needs an unmount and a new mount, and is refused with one line that says so.",
    );
    page.section("EXIT STATUS");
    page.text("As tierfs-mount(1): 0 it serves, 1 error, 2 wrong usage, 75 in use, 78 wrong configuration or a tier that is not there.");
    page.section("SEE ALSO");
    page.text("tierfs(1), tierfs-mount(1), tierfs.yaml(5), mount(8), fstab(5), systemd.mount(5)");
    page.finish()
}

const FSTAB: &str = "\
/fast/docs:/slow/docs  /srv/docs  tierfs  allow_other,nofail,x-systemd.requires-mounts-for=/fast,x-systemd.requires-mounts-for=/slow,x-systemd.before=smbd.service  0 0
none  /srv/docs  tierfs  config=/etc/tierfs/docs.yaml,nofail  0 0";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::MountOptions;

    #[test]
    fn every_option_of_the_section_mount_is_explained_with_its_default() {
        let page = &all().unwrap()[0].1;
        let known = load::parse("version: 1\nmount: {}\n").unwrap().options;
        assert_eq!(known, MountOptions::default());
        for (term, text) in options(&template::render("docs", None, &[]).unwrap()) {
            assert!(page.contains(&term.replace('-', "\\-")) && text.len() > 5, "{term}: {text}");
        }
        assert!(page.contains("\\fBout_of_band: watch\\fR\nChanges made beside the mount"), "{page}");
        assert!(page.contains("\\fBsuid: false\\fR\ntrue: set\\-user\\-id programs"), "{page}");
    }

    #[test]
    fn the_mount_helper_lists_the_options_of_mount() {
        let page = &all().unwrap()[1].1;
        assert!(page.contains("allow_other") && page.contains("on_missing=fail|degraded"), "{page}");
    }
}
