//! What is made from the program: manual pages, completions, the tarball and the RPM.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::common::mount::{program, temp_dir};
use crate::common::{need, wait};
use crate::machine::{PATIENCE, Ran};
use crate::packages::{packaging, repository};

/// A directory with what `tierfs generate` writes.
fn generated(what: &str) -> (TempDir, PathBuf) {
    let home = temp_dir();
    let dir = home.path().join(what);
    let ran = Ran::of(&wait::output_within(PATIENCE, Command::new(program()).args(["generate", what]).arg(&dir)));
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    (home, dir)
}

/// All pages are rendered without a warning and can be listed by `whatis`; every command has one.
#[test]
fn manual_pages_are_rendered() {
    let Some([man, lexgrog]) = need::programs(["man", "lexgrog"]) else { return };
    let (_home, dir) = generated("man");
    let help = Ran::of(&wait::output_within(PATIENCE, Command::new(program()).arg("--help"))).out;
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // What a command does may go on in the next line.
    let commands = commands.filter(|line| !line.starts_with("   "));
    let mut expected: BTreeSet<String> =
        ["tierfs.1", "tierfs-config-check.1", "tierfs.yaml.5", "mount.tierfs.8"].map(String::from).into();
    expected.extend(commands.map(|line| format!("tierfs-{}.1", line.split_whitespace().next().expect("a word"))));
    let pages: BTreeSet<String> = fs::read_dir(&dir)
        .expect("pages")
        .flatten()
        .map(|entry| entry.file_name().into_string().expect("UTF-8"))
        .collect();
    assert!(pages.is_superset(&expected), "{:?}", expected.difference(&pages));
    assert!(!pages.iter().any(|page| page.contains("generate")), "{pages:?}");
    for page in pages {
        let file = dir.join(&page);
        let mut render = Command::new(&man);
        render.args(["--warnings", "-E", "UTF-8", "-l"]).arg(&file).env("MANWIDTH", "100").env("LC_ALL", "C.UTF-8");
        let ran = Ran::of(&wait::output_within(PATIENCE, &mut render));
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{page}");
        assert!(ran.out.contains("NAME") && ran.out.contains("SEE ALSO"), "{page}: {}", ran.out);
        let ran = Ran::of(&wait::output_within(PATIENCE, Command::new(&lexgrog).arg(&file)));
        assert_eq!(ran.code, Some(0), "{page}: {}", ran.out);
    }
}

/// Each key of the configuration is in its page, by the names in the source.
#[test]
fn every_key_of_the_configuration_is_in_its_page() {
    let (_home, dir) = generated("man");
    let page = fs::read_to_string(dir.join("tierfs.yaml.5")).expect("page");
    let schema = fs::read_to_string(repository().join("src/config/schema.rs")).expect("source");
    let section = schema.split_once("\nmount! {").expect("the section").1.split_once("\n}").expect("its end").0;
    let file = schema.split_once("pub struct File {").expect("the file").1.split_once("\n}").expect("its end").0;
    let tier = schema.split_once("pub struct Tier {").expect("a tier").1.split_once("\n}").expect("its end").0;
    let encryption = schema.split_once("pub struct Encryption {").expect("encryption").1;
    let encryption = encryption.split_once("\n}").expect("its end").0;
    let keys = [section, file, tier, encryption].into_iter().flat_map(str::lines).filter_map(|line| {
        let (key, _) = line.trim().trim_start_matches("pub ").split_once(": ")?;
        key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_').then_some(key)
    });
    // Shown as `fsname` only through `name:`, and refused when it is turned off.
    let unexplained = ["fsname", "default_permissions"];
    let keys: Vec<&str> = keys.filter(|key| !unexplained.contains(key)).collect();
    assert!(keys.len() > 20, "{keys:?}");
    for key in keys {
        assert!(page.contains(&format!("{key}: ")), "{key} is not in tierfs.yaml(5)");
    }
}

/// Each shell takes its completions and completes by them.
#[test]
fn shells_complete_commands_and_options() {
    let Some([bash, zsh, fish]) = need::programs(["bash", "zsh", "fish"]) else { return };
    let (home, dir) = generated("completions");
    let run = |shell: &Path, arguments: &[&str]| {
        let mut command = Command::new(shell);
        command.args(arguments).current_dir(&dir).env("HOME", home.path()).env("LC_ALL", "C.UTF-8");
        let ran = Ran::of(&wait::output_within(PATIENCE, &mut command));
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{}", shell.display());
        ran.out
    };
    let script = "source bash/tierfs; complete -p tierfs >/dev/null
        COMP_WORDS=(tierfs migrate --older) COMP_CWORD=2; _tierfs tierfs --older migrate; echo ${COMPREPLY[@]}
        COMP_WORDS=(tierfs \"\") COMP_CWORD=1; _tierfs tierfs \"\" tierfs; echo ${COMPREPLY[@]}";
    let out = run(&bash, &["--norc", "-c", script]);
    assert!(out.starts_with("--older-than\n") && out.contains(" migrate ") && !out.contains("generate"), "{out}");
    let script =
        "fpath=($PWD/zsh $fpath); autoload -Uz compinit; compinit -u -D; echo $_comps[tierfs]; autoload +X _tierfs";
    assert_eq!(run(&zsh, &["-f", "-c", script]), "_tierfs\n");
    let out = run(
        &fish,
        &["--no-config", "-c", "source fish/tierfs.fish; complete -C 'tierfs mig'; complete -C 'tierfs umount --la'"],
    );
    assert!(out.contains("migrate\tMove cold files") && out.contains("--lazy\t"), "{out}");
    assert!(!out.contains("generate"), "{out}");
}

/// The tarball brings everything to /usr/local, leaves what is in /etc, and can be laid over itself.
#[test]
fn a_tarball_installs_below_a_directory() {
    let Some([tar]) = need::programs(["tar"]) else { return };
    let home = temp_dir();
    let made = Command::new(packaging("tarball")).arg(program()).arg(home.path()).output().expect("tarball runs");
    let ran = Ran::of(&made);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let unpacked = Command::new(tar).arg("-xzf").arg(ran.out.trim()).arg("-C").arg(home.path()).status();
    assert!(unpacked.expect("tar runs").success());
    let name = Path::new(ran.out.trim()).file_name().expect("a name").to_str().expect("UTF-8");
    let install = home.path().join(name.trim_end_matches(".tar.gz")).join("install.sh");
    let root = home.path().join("root");
    let run = || assert_eq!(Ran::of(&wait::output_within(PATIENCE, Command::new(&install).arg(&root))).code, Some(0));
    run();
    fs::write(root.join("etc/default/tierfs"), "mine").expect("write");
    run();
    assert_eq!(fs::read_to_string(root.join("etc/default/tierfs")).expect("read"), "mine");
    let unit = fs::read_to_string(root.join("usr/local/lib/systemd/system/tierfs@.service")).expect("the unit");
    assert!(unit.contains("ExecStart=/usr/local/bin/tierfs mount") && !unit.contains("/usr/bin/tierfs"), "{unit}");
    assert_eq!(fs::read_link(root.join("usr/sbin/mount.tierfs")).expect("a link"), Path::new("/usr/local/bin/tierfs"));
    let ran = Ran::of(&wait::output_within(PATIENCE, Command::new(root.join("usr/local/bin/tierfs")).arg("--version")));
    assert_eq!(ran.code, Some(0));
}

/// The spec makes an RPM that has the same files as the other packages.
#[test]
fn a_spec_makes_an_rpm() {
    let Some([rpmbuild, rpm]) = need::programs(["rpmbuild", "rpm"]) else { return };
    let home = temp_dir();
    let mut build = Command::new(rpmbuild);
    build.arg("-bb").arg(packaging("rpm/tierfs.spec")).args(["--define", "_binary_payload w1.gzdio"]);
    for (key, value) in
        [("binary", program()), ("sources", repository()), ("_topdir", home.path()), ("_tmppath", home.path())]
    {
        build.arg("--define").arg(format!("{key} {}", value.display()));
    }
    let built = Ran::of(&build.output().expect("rpmbuild runs"));
    assert_eq!(built.code, Some(0), "{}", built.err);
    let made =
        built.out.lines().chain(built.err.lines()).find_map(|line| line.strip_prefix("Wrote: ")).expect("a package");
    let ran = Ran::of(&wait::output_within(PATIENCE, Command::new(rpm).args(["-qlp", "--nosignature", made.trim()])));
    for file in
        ["/usr/bin/tierfs", "/usr/sbin/mount.tierfs", "/usr/share/man/man5/tierfs.yaml.5.gz", "/etc/default/tierfs"]
    {
        assert!(ran.out.lines().any(|line| line == file), "{file}: {}", ran.out);
    }
}
