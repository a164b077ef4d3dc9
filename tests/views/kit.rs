//! A directory of plaintext, its key, and views that are taken down whatever happens.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use tempfile::TempDir;

use crate::common::mount::{is_mounted, program, temp_dir, unmount_for_sure};
use crate::common::volume::{Flavour, PASSPHRASE, Volume};
use crate::common::{fs::put, need, wait};

/// A place for one test: `source` with plaintext, `pass` with the passphrase, and room for more.
#[derive(Debug)]
pub(crate) struct Ground {
    home: TempDir,
}

impl Ground {
    /// With an empty source. Reports a skip where the machine cannot mount or has no gocryptfs.
    pub(crate) fn new() -> Option<Ground> {
        need::programs(["gocryptfs"])?;
        if !need::fuse() {
            return None;
        }
        let ground = Ground { home: temp_dir() };
        std::fs::create_dir(ground.source()).expect("source");
        put(ground.pass(), format!("{PASSPHRASE}\n"));
        std::fs::set_permissions(ground.pass(), std::fs::Permissions::from_mode(0o600)).expect("chmod");
        Some(ground)
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.home.path().join(name)
    }

    pub(crate) fn source(&self) -> PathBuf {
        self.path("source")
    }

    pub(crate) fn pass(&self) -> PathBuf {
        self.path("pass")
    }

    /// A directory that is there from now on.
    pub(crate) fn dir(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(&path).expect("mkdir");
        path
    }

    /// Makes a key with the stock program, as `.gocryptfs.reverse.conf` in the source.
    pub(crate) fn init(&self, flags: &[&str]) {
        let mut command = Command::new(need::find("gocryptfs").expect("looked for before"));
        command.args(["-init", "-reverse", "-q", "-scryptn", "10"]).args(flags);
        let output = wait::output(command.arg("-passfile").arg(self.pass()).arg("--").arg(self.source()));
        assert!(output.status.success(), "gocryptfs -init: {output:?}");
    }

    /// The same, but the key is a file outside of the source.
    pub(crate) fn init_outside(&self, flags: &[&str]) -> PathBuf {
        self.init(flags);
        let conf = self.path("conf");
        std::fs::rename(self.source().join(".gocryptfs.reverse.conf"), &conf).expect("rename");
        conf
    }

    /// The view of the source whose key is within.
    pub(crate) fn view(&self, name: &str) -> View {
        self.encrypt(name, &[self.source().as_os_str()])
    }

    /// `tierfs encrypt-view` of these words, mounted on the directory `name`.
    pub(crate) fn encrypt(&self, name: &str, words: &[&OsStr]) -> View {
        self.start("encrypt-view", name, words).unwrap_or_else(|(code, line)| panic!("{code:?}: {line}"))
    }

    /// `tierfs decrypt-view` of these words.
    pub(crate) fn decrypt(&self, name: &str, words: &[&OsStr]) -> View {
        self.start("decrypt-view", name, words).unwrap_or_else(|(code, line)| panic!("{code:?}: {line}"))
    }

    /// A view, or with which exit code and words it was refused.
    pub(crate) fn start(&self, what: &str, name: &str, words: &[&OsStr]) -> Result<View, (Option<i32>, String)> {
        let point = self.dir(name);
        let mut command = Command::new(program());
        command.arg(what).arg("-f").arg("--passfile").arg(self.pass()).args(words).arg(&point);
        if rustix::process::geteuid().is_root() {
            command.args(["-o", "allow_other"]);
        }
        View::of(command, point, self.path(format!("{name}.log")))
    }

    /// The stock program's view of the source.
    pub(crate) fn stock(&self, name: &str) -> StockView {
        let point = self.dir(name);
        let mut command = Command::new(need::find("gocryptfs").expect("looked for before"));
        command.args(["-reverse", "-q", "-nosyslog", "-passfile"]).arg(self.pass());
        command.arg("--").arg(self.source()).arg(&point);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        assert!(command.status().expect("gocryptfs runs").success());
        StockView { point }
    }

    /// The copy of a view as a volume of the stock program.
    pub(crate) fn volume(&self, copy: &Path) -> Volume {
        Volume::at(copy, &self.pass())
    }

    /// A forward volume made by the stock program.
    pub(crate) fn forward(&self, name: &str) -> Volume {
        Volume::init(&self.path(name), &self.pass(), Flavour::DEFAULT).expect("looked for before")
    }
}

/// A view that serves.
#[derive(Debug)]
pub(crate) struct View {
    point: PathBuf,
    log: PathBuf,
    daemon: Option<Child>,
}

impl View {
    /// Runs `command`, which is to mount on `point` and to stay in the foreground.
    pub(crate) fn of(mut command: Command, point: PathBuf, log: PathBuf) -> Result<View, (Option<i32>, String)> {
        let words = std::fs::File::create(&log).expect("log file");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(words);
        let mut daemon = command.spawn().expect("tierfs starts");
        let ended = wait::until("the view appears or tierfs ends", || match daemon.try_wait().expect("wait") {
            Some(status) => Some(Some(status)),
            None => is_mounted(&point).then_some(None),
        });
        if let Some(status) = ended {
            return Err((status.code(), std::fs::read_to_string(&log).unwrap_or_default()));
        }
        // It appears before it serves.
        let _served_or_refused = std::fs::metadata(&point);
        Ok(View { point, log, daemon: Some(daemon) })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.point
    }

    pub(crate) fn log(&self) -> String {
        if let Some(daemon) = &self.daemon {
            wait::all_said(daemon.id());
        }
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Takes it down and checks that the daemon ends well.
    pub(crate) fn unmount(mut self) {
        let status = self.end();
        assert!(status.is_some_and(|status| status.success()), "{status:?}: {}", self.log());
    }

    fn end(&mut self) -> Option<ExitStatus> {
        let mut daemon = self.daemon.take()?;
        unmount_for_sure(&self.point);
        let ended = wait::within(wait::PATIENCE, || daemon.try_wait().expect("wait"));
        if ended.is_none() {
            daemon.kill().expect("kill");
            daemon.wait().expect("wait");
        }
        ended
    }
}

impl Drop for View {
    fn drop(&mut self) {
        let _status = self.end();
        if std::thread::panicking() {
            eprintln!("--- the log of {}\n{}---", self.point.display(), self.log());
        }
    }
}

/// A view by the stock program.
#[derive(Debug)]
pub(crate) struct StockView {
    point: PathBuf,
}

impl StockView {
    pub(crate) fn root(&self) -> &Path {
        &self.point
    }
}

impl Drop for StockView {
    fn drop(&mut self) {
        unmount_for_sure(&self.point);
    }
}

/// `OsString`s as arguments.
pub(crate) fn words(words: &[OsString]) -> Vec<&OsStr> {
    words.iter().map(OsString::as_os_str).collect()
}

/// A directory under a label, as an argument.
pub(crate) fn labelled(label: &str, path: &Path) -> OsString {
    let mut word = OsString::from(format!("{label}="));
    word.push(path);
    word
}

/// Mirrors a tree with rsync; gives the lines that tell what was changed.
pub(crate) fn mirror(from: &Path, to: &Path) -> Vec<String> {
    let mut command = Command::new(need::find("rsync").expect("looked for before"));
    let from = format!("{}/", from.to_str().expect("UTF-8"));
    let output = wait::output(command.args(["-aHX", "--delete", "--itemize-changes"]).arg(from).arg(to));
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}
