//! A mount of the real program over real directories, taken down whatever happens.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::mount::{UnmountFlags, unmount};
use tempfile::TempDir;

use super::setting::{self, Encrypted};
use super::user::User;
use super::{need, wait};

/// A mount that still serves after this time hangs: its daemon is killed, and the test fails
/// with ENOTCONN instead of standing for ever.
const HANG_LIMIT: Duration = Duration::from_secs(900);

/// What is to be mounted.
#[derive(Debug)]
pub(crate) struct Setup {
    /// Dropped first: its mounts are on the other directories.
    pub(super) encrypted: Option<Encrypted>,
    home: TempDir,
    pub(super) roots: Vec<PathBuf>,
    options: Vec<String>,
    pub(super) user: Option<User>,
    verbose: bool,
    hang_limit: Duration,
}

/// Why `tierfs mount` did not serve.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) code: Option<i32>,
    pub(crate) message: String,
    pub(crate) setup: Setup,
}

impl Setup {
    /// Two empty tiers in the temporary directory; root lets everybody in.
    pub(crate) fn new() -> Setup {
        let mut options = Vec::new();
        if rustix::process::geteuid().is_root() {
            options.push("allow_other".to_owned());
        }
        let home = temp_dir();
        let encrypted = setting::all_encrypted().then(Encrypted::all);
        let (roots, hang_limit) = (Vec::new(), HANG_LIMIT);
        let setup = Setup { encrypted, home, roots, options, user: None, verbose: false, hang_limit };
        std::fs::create_dir(setup.mountpoint()).expect("mount point");
        setup.tiers(2)
    }

    /// That many empty tiers in the temporary directory.
    pub(crate) fn tiers(mut self, count: usize) -> Setup {
        self.roots = (0..count).map(|rank| self.home.path().join(format!("t{rank}"))).collect();
        for root in &self.roots {
            std::fs::create_dir_all(root).expect("tier");
        }
        self
    }

    /// These directories as tiers, made if they are not there.
    pub(crate) fn roots(mut self, roots: &[PathBuf]) -> Setup {
        self.roots = roots.to_vec();
        for root in &self.roots {
            std::fs::create_dir_all(root).expect("tier");
        }
        self
    }

    /// One more mount option.
    pub(crate) fn option(mut self, option: &str) -> Setup {
        self.options.push(option.to_owned());
        self
    }

    /// Mounted by an ordinary user, who owns tiers and mount point.
    pub(crate) fn by(mut self, user: &User) -> Setup {
        self.options.retain(|option| option != "allow_other");
        let runtime = self.runtime_dir();
        if !runtime.exists() {
            std::fs::create_dir(&runtime).expect("runtime directory");
            std::fs::set_permissions(&runtime, std::fs::Permissions::from_mode(0o700)).expect("chmod");
        }
        for path in self.roots.iter().chain([&self.mountpoint(), &runtime]) {
            std::os::unix::fs::chown(path, Some(user.uid), Some(user.gid)).expect("chown");
        }
        self.user = Some(user.clone());
        self
    }

    /// The log tells what happens, and not only what is wrong.
    pub(crate) fn verbose(mut self) -> Setup {
        self.verbose = true;
        self
    }

    /// A test that takes longer than others: it hangs only after so long.
    pub(crate) fn hangs_after(mut self, limit: Duration) -> Setup {
        self.hang_limit = limit;
        self
    }

    /// Puts something into the tiers before they are mounted.
    pub(crate) fn seed(mut self, fill: impl FnOnce(&[PathBuf])) -> Setup {
        if self.ready() {
            fill(&self.roots);
        }
        self
    }

    /// Where it will appear.
    pub(crate) fn mountpoint(&self) -> PathBuf {
        self.home.path().join("mnt")
    }

    /// The tier's root of that rank.
    pub(crate) fn tier(&self, rank: usize) -> &Path {
        &self.roots[rank]
    }

    /// A directory for the test's own use beside tiers and mount point.
    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// Mounts. `None`, and a skip is reported, where the machine cannot.
    pub(crate) fn mount(mut self) -> Option<TestMount> {
        let able = if self.user.is_some() { need::root() } else { need::fuse() };
        (able && self.ready()).then(|| match self.try_mount() {
            Ok(mount) => mount,
            Err(refused) => panic!("the mount was refused: {refused:?}"),
        })
    }

    /// Mounts, or says with which words and exit code it was refused.
    pub(crate) fn try_mount(mut self) -> Result<TestMount, Box<Refused>> {
        assert!(self.ready(), "gocryptfs is missing");
        let places: Vec<PathBuf> = (0..self.roots.len()).map(|rank| self.place(rank)).collect();
        wait::let_go(&places);
        let mut daemon = self.command().spawn().expect("tierfs starts");
        let point = self.mountpoint();
        let ended = wait::until("the mount appears or tierfs ends", || {
            if let Some(status) = daemon.try_wait().expect("wait") {
                return Some(Some(status));
            }
            is_mounted(&point).then_some(None)
        });
        if let Some(status) = ended {
            let (code, message) = (status.code(), self.log());
            return Err(Box::new(Refused { code, message, setup: self }));
        }
        let watchdog = Watchdog::over(daemon.id(), self.hang_limit);
        // It appears before it serves. Who may not look is told so at once.
        let _served_or_refused = std::fs::metadata(&point);
        Ok(TestMount { daemon: Some(daemon), watchdog, setup: Some(self) })
    }

    /// `tierfs` as whoever mounts, finding mounts of this test only.
    pub(crate) fn tierfs(&self) -> Command {
        let mut command = match &self.user {
            // A thread that has become this user cannot become it again.
            Some(user) if rustix::process::geteuid().as_raw() != user.uid => user.command(self.program_for_all()),
            Some(_) => Command::new(self.program_for_all()),
            None => Command::new(program()),
        };
        command.env("TIERFS_RUNTIME_DIR", self.runtime_dir());
        command
    }

    /// `tierfs mount …` in the foreground, its words going to the log.
    pub(crate) fn command(&self) -> Command {
        let mut command = self.tierfs();
        let log = std::fs::File::options()
            .create(true)
            .write(true)
            .truncate(true)
            .open(self.home.path().join("log"))
            .expect("log file");
        command.arg("mount");
        if self.encrypted.is_some() || self.roots.len() == 1 {
            command.arg("--config");
        }
        command.arg(self.union()).arg(self.mountpoint()).arg("-f");
        if self.verbose {
            command.arg("-v");
        }
        if !self.options.is_empty() {
            command.arg("-o").arg(self.options.join(","));
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        command
    }

    /// Where the daemon puts its socket.
    pub(crate) fn runtime_dir(&self) -> PathBuf {
        self.home.path().join("run")
    }

    /// The program at a place that every user can reach; the build directory may be private.
    fn program_for_all(&self) -> PathBuf {
        let copy = self.home.path().join("tierfs");
        if copy.exists() {
            return copy;
        }
        super::fs::copy_program(program(), &copy);
        std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o755)).expect("chmod");
        copy
    }

    /// All the daemon has said.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.home.path().join("log")).unwrap_or_default()
    }
}

/// A mount that serves.
#[derive(Debug)]
pub(crate) struct TestMount {
    daemon: Option<Child>,
    watchdog: Watchdog,
    setup: Option<Setup>,
}

impl TestMount {
    fn setup(&self) -> &Setup {
        self.setup.as_ref().expect("the setup is taken only when the mount ends")
    }

    /// The mount point.
    pub(crate) fn root(&self) -> PathBuf {
        self.setup().mountpoint()
    }

    /// A path in the mount.
    pub(crate) fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root().join(path)
    }

    /// The same path in the tier of that rank.
    pub(crate) fn tier(&self, rank: usize, path: impl AsRef<Path>) -> PathBuf {
        self.setup().roots[rank].join(path)
    }

    /// The same path where tierfs finds that tier: ciphertext, if it is encrypted.
    pub(crate) fn place(&self, rank: usize, path: impl AsRef<Path>) -> PathBuf {
        self.setup().place(rank).join(path)
    }

    /// The one word that names the union to a command.
    pub(crate) fn union(&self) -> std::ffi::OsString {
        self.setup().union()
    }

    /// The roots of all tiers.
    pub(crate) fn roots(&self) -> &[PathBuf] {
        &self.setup().roots
    }

    /// A directory for the test's own use beside tiers and mount point.
    pub(crate) fn home(&self) -> &Path {
        self.setup().home.path()
    }

    /// A command of the program that finds this mount, as the tests' own user.
    pub(crate) fn tierfs_with(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.args(arguments).env("TIERFS_RUNTIME_DIR", self.setup().runtime_dir()).env_remove("TIERFS_LOG");
        command
    }

    /// `tierfs` as whoever mounted this, finding mounts of this test only.
    pub(crate) fn tierfs(&self) -> Command {
        self.setup().tierfs()
    }

    /// The daemon's process id.
    pub(crate) fn pid(&self) -> u32 {
        self.daemon.as_ref().map_or(0, Child::id)
    }

    /// How many descriptors the daemon holds.
    pub(crate) fn descriptors(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.pid());
        std::fs::read_dir(folder).expect("the daemon lives").count()
    }

    /// All the daemon has said.
    pub(crate) fn log(&self) -> String {
        if let Some(daemon) = &self.daemon {
            wait::all_said(daemon.id());
        }
        self.setup().log()
    }

    /// Waits until the daemon has said that. Its words may be written after the reply to the request that they are about.
    #[track_caller]
    pub(crate) fn until_said(&self, words: &str) {
        let said = wait::within(wait::PATIENCE, || self.log().contains(words).then_some(()));
        assert!(said.is_some(), "the log does not say {words:?}:\n{}", self.log());
    }

    /// Kills the daemon and leaves the dead mount behind.
    pub(crate) fn kill(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            daemon.kill().expect("kill");
            daemon.wait().expect("wait");
        }
    }

    /// Kills the daemon, as a crash does, and takes the dead mount away.
    pub(crate) fn crash(mut self) -> Setup {
        self.kill();
        let _killed = self.end();
        self.setup.take().expect("ended once")
    }

    /// Gives up a mount whose daemon was killed.
    pub(crate) fn forsake(mut self) -> Setup {
        let _killed = self.end();
        self.setup.take().expect("given up once")
    }

    /// Unmounts, checks that the daemon ends well, and mounts the same again.
    pub(crate) fn remount(self) -> TestMount {
        let setup = self.unmount();
        match setup.try_mount() {
            Ok(mount) => mount,
            Err(refused) => panic!("the second mount was refused: {refused:?}"),
        }
    }

    /// Unmounts and checks that the daemon ends well and soon.
    pub(crate) fn unmount(mut self) -> Setup {
        let status = self.end();
        let setup = self.setup.take().expect("unmounted once");
        assert!(status.is_some_and(|status| status.success()), "{status:?}: {}", setup.log());
        assert!(!is_mounted(&setup.mountpoint()), "still mounted");
        setup
    }

    /// Takes the mount down in any case. The exit status, if the daemon ended by itself.
    fn end(&mut self) -> Option<ExitStatus> {
        let mut daemon = self.daemon.take()?;
        self.watchdog.stop();
        unmount_for_sure(&self.root());
        let ended = wait::within(wait::PATIENCE, || daemon.try_wait().expect("wait"));
        if ended.is_none() {
            eprintln!("the daemon did not end after the unmount: killed");
            daemon.kill().expect("kill");
            daemon.wait().expect("wait");
        }
        ended
    }
}

impl Drop for TestMount {
    fn drop(&mut self) {
        let status = self.end();
        let Some(setup) = &self.setup else { return };
        if std::thread::panicking() {
            eprintln!("--- the daemon's log\n{}---", setup.log());
        } else if let Some(status) = status {
            let killed = std::os::unix::process::ExitStatusExt::signal(&status) == Some(9);
            assert!(status.success() || killed, "the daemon ended with {status}: {}", setup.log());
        } else {
            panic!("the daemon did not end after the unmount: {}", setup.log());
        }
    }
}

/// Kills a daemon that serves longer than any test may take.
#[derive(Debug)]
struct Watchdog {
    stop: Option<mpsc::Sender<()>>,
}

impl Watchdog {
    fn over(pid: u32, limit: Duration) -> Watchdog {
        let (stop, stopped) = mpsc::channel::<()>();
        std::thread::spawn(move || {
            if stopped.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout) {
                eprintln!("a test hangs: its daemon {pid} is killed");
                let pid = nix::unistd::Pid::from_raw(pid.cast_signed());
                let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            }
        });
        Watchdog { stop: Some(stop) }
    }

    fn stop(&mut self) {
        self.stop = None;
    }
}

/// A new temporary directory that every user may pass through.
pub(crate) fn temp_dir() -> TempDir {
    let home = tempfile::Builder::new().prefix("tierfs-test-").tempdir().expect("temporary directory");
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(home.path(), open).expect("chmod");
    home
}

/// The program under test.
pub(crate) fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_tierfs"))
}

/// The tiers as one argument: separated by colons, a colon in a path escaped.
pub(crate) fn spec(roots: &[PathBuf]) -> std::ffi::OsString {
    let escaped = roots.iter().map(|root| {
        let text = root.to_str().expect("the tests name their tiers in UTF-8");
        text.replace('\\', "\\\\").replace(':', "\\:")
    });
    escaped.collect::<Vec<_>>().join(":").into()
}

/// Whether something is mounted exactly there. Asks the kernel's table, never the filesystem.
pub(crate) fn is_mounted(point: &Path) -> bool {
    let table = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let point = point.to_str().expect("UTF-8");
    table.lines().any(|line| line.split(' ').nth(4) == Some(point))
}

/// Unmounts; a mount that stays busy is detached, so that nothing remains in any case.
pub(crate) fn unmount_for_sure(point: &Path) {
    if !is_mounted(point) {
        return;
    }
    if !rustix::process::geteuid().is_root() {
        let _ = Command::new("fusermount3").arg("-uz").arg(point).status();
        return;
    }
    let gone = wait::within(Duration::from_secs(5), || unmount(point, UnmountFlags::empty()).is_ok().then_some(()));
    if gone.is_none() {
        eprintln!("{} is busy: detached", point.display());
        let _ = unmount(point, UnmountFlags::DETACH);
    }
}
