//! `tierfs top` in a pseudo terminal, which `script(1)` makes.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::fs::put;
use crate::common::mount::{Setup, TestMount, program};
use crate::common::{need, wait};
use crate::ran;

/// What a terminal is told when the screen that was there before comes back, and the cursor.
const RESTORED: [&str; 2] = ["\u{1b}[?1049l", "\u{1b}[?25h"];

/// The command in a terminal of 80 columns and 24 lines. What it shows is in a file.
struct Screen {
    child: Child,
    out: PathBuf,
}

impl Screen {
    fn start(mount: &TestMount) -> Option<Screen> {
        let [script, _] = need::programs(["script", "stty"])?;
        let out = mount.home().join("screen");
        // Not that of an earlier screen.
        let _ = std::fs::remove_file(&out);
        let (top, root) = (program().display().to_string(), mount.root().display().to_string());
        let shell = format!("stty cols 80 rows 24; {top} top {root} -i 0.2; echo code=$?; stty -a");
        let mut command = mount.tierfs_with(&[]);
        let environment: Vec<_> =
            command.get_envs().filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned()))).collect();
        command = std::process::Command::new(script);
        command.args(["-q", "-f", "-c", &shell]).arg(&out).envs(environment);
        command.env("TERM", "xterm").env("LC_ALL", "C.UTF-8").env("TIERFS_CONFIG_DIR", "/nonexistent");
        command.env("SHELL", "/bin/sh").env_remove("NO_COLOR");
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Some(Screen { child, out })
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.out).unwrap_or_default()).into_owned()
    }

    fn shows(&self, word: &str) {
        wait::until(&format!("the screen shows {word}"), || self.text().contains(word).then_some(()));
    }

    fn press(&mut self, keys: &str) {
        self.child.stdin.as_mut().unwrap().write_all(keys.as_bytes()).unwrap();
    }

    /// Waits for the end and gives all that was shown after the terminal was given back.
    fn ended(mut self) -> String {
        wait::until("the command ends", || self.child.try_wait().unwrap());
        let text = self.text();
        let last = RESTORED.iter().map(|sequence| text.rfind(sequence).unwrap_or_else(|| panic!("{text:?}")));
        let after = &text[last.max().unwrap()..];
        // The terminal reads lines and shows what is typed, as before.
        assert!(after.contains(" icanon") && after.contains(" echo "), "{after}");
        after.to_owned()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn mount() -> Option<TestMount> {
    Setup::new().seed(|tiers| put(tiers[0].join("a"), "a")).mount()
}

/// The process that shows the mount.
fn process_of(root: &Path) -> Option<Pid> {
    let wanted = format!("\0top\0{}\0", root.display());
    std::fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        String::from_utf8_lossy(&line).contains(&wanted).then(|| Pid::from_raw(pid))
    })
}

#[test]
fn keys_change_the_screen_and_q_gives_the_terminal_back() {
    let Some(mount) = mount() else { return };
    let Some(mut screen) = Screen::start(&mount) else { return };
    screen.shows("operation");
    screen.shows("primary");
    // Only what is another letter than before is drawn: these words are where there was nothing.
    screen.press("2");
    screen.shows("slow/s");
    screen.press("?");
    screen.shows("scroll;");
    screen.press("x");
    screen.press("q");
    assert!(screen.ended().contains("code=0"));
}

#[test]
fn a_signal_and_the_end_of_the_mount_give_the_terminal_back() {
    let Some(mount) = mount() else { return };
    let Some(screen) = Screen::start(&mount) else { return };
    screen.shows("operation");
    let pid = process_of(&mount.root()).expect("it is at work");
    kill(pid, Signal::SIGTERM).unwrap();
    assert!(screen.ended().contains("code=130"));
    let Some(screen) = Screen::start(&mount) else { return };
    screen.shows("operation");
    let setup = mount.unmount();
    let after = screen.ended();
    assert!(after.contains("the mount has ended") && after.contains("code=1"), "{after}");
    drop(setup);
}

/// Without a terminal one picture is printed.
#[test]
fn without_a_terminal_one_picture_is_printed() {
    let Some(mount) = mount() else { return };
    let root = mount.root();
    let printed = ran(&mut mount.tierfs_with(&["top", root.to_str().unwrap(), "-i", "0.2"]));
    printed.says(0, &["tierfs top  ", "primary", "requests/s", "operation"]);
    assert!(!printed.out.contains('\u{1b}'), "{}", printed.out);
    let unknown = ran(&mut mount.tierfs_with(&["top", "/nonexistent"]));
    assert_eq!(unknown.code, Some(2), "{}", unknown.err);
}
