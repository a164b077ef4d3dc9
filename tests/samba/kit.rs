//! An smbd of the test's own: in a network of its own, with its own accounts, touching nothing of the system.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use tempfile::TempDir;

use crate::common::loopfs::LoopFs;
use crate::common::mount::{Setup, TestMount, temp_dir};
use crate::common::user::User;
use crate::common::{need, wait};

/// How long one command of a client may take: a directory of many files while all of them move, on a busy machine.
const CLIENT_LIMIT: Duration = Duration::from_secs(300);

/// What clients send as password.
const PASSWORD: &str = "p4ss of a test";

/// The share definition that is installed.
pub(crate) fn definition() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/samba/tierfs.conf")
}

/// A directory under a name that clients know, with more lines of its own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Share<'a> {
    pub(crate) name: &'a str,
    pub(crate) path: &'a Path,
    pub(crate) lines: &'a str,
}

/// A server that serves until it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    /// The leader of a process group that holds every process of smbd.
    daemon: Child,
    home: TempDir,
}

impl Server {
    /// Serves these directories to these users by the installed definition. Reports a skip where Samba is missing.
    pub(crate) fn start(shares: &[Share<'_>], users: &[User]) -> Option<Server> {
        let [smbd, smbpasswd, ..] =
            need::programs(["smbd", "smbpasswd", "smbclient", "smbstatus", "ip", "unshare", "nsenter", need::PYTHON])?;
        let home = temp_dir();
        let conf = home.path().join("smb.conf");
        std::fs::write(&conf, configuration(home.path(), shares)).expect("smb.conf");
        for user in users {
            let mut add = Command::new(&smbpasswd);
            add.arg("-c").arg(&conf).args(["-L", "-a", "-s", &user.name]).stdin(Stdio::piped());
            let mut child = add.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("smbpasswd");
            let typed = format!("{PASSWORD}\n{PASSWORD}\n");
            child.stdin.take().expect("stdin").write_all(typed.as_bytes()).expect("password");
            assert!(child.wait().expect("smbpasswd").success(), "no account for {}", user.name);
        }
        let log = std::fs::File::create(home.path().join("output")).expect("log");
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", "ip link set lo up && exec \"$0\" \"$@\""]).arg(smbd);
        command.args(["--foreground", "--no-process-group", "-s"]).arg(&conf);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).process_group(0);
        let mut server = Server { daemon: command.spawn().expect("unshare"), home };
        let user = users.first().expect("a user");
        wait::until("smbd serves", || {
            let ended = server.daemon.try_wait().expect("wait");
            assert!(ended.is_none(), "smbd ended with {ended:?}: {}", server.log());
            let mut ask = server.inside("smbclient");
            ask.args(["//127.0.0.1/IPC$", "-U", &server.credentials(user), "-c", "exit"]);
            wait::output(&mut ask).status.success().then_some(())
        });
        Some(server)
    }

    /// A program of Samba in the server's network, with its configuration.
    pub(crate) fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.daemon.id())).arg(program);
        command.arg("-s").arg(self.conf()).env("HOME", self.home.path()).current_dir(self.home.path());
        command
    }

    pub(crate) fn conf(&self) -> PathBuf {
        self.home.path().join("smb.conf")
    }

    /// Where clients of a test find and put their files.
    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// For `-U`.
    pub(crate) fn credentials(&self, user: &User) -> String {
        format!("{}%{PASSWORD}", user.name)
    }

    /// Everything smbclient says to these commands; whether all went well.
    pub(crate) fn try_client(&self, user: &User, share: &str, commands: &str) -> (bool, String) {
        let mut client = self.inside("smbclient");
        // One answer has all of a huge directory in it. By itself a client waits for 20 s, then closes what it listed,
        // takes the answer that comes now for one to the close, and speaks of an invalid response.
        client.args(["-t", &CLIENT_LIMIT.as_secs().to_string()]);
        client.arg(format!("//127.0.0.1/{share}")).args(["-U", &self.credentials(user), "-c", commands]);
        let said = finished(&mut client);
        let text = [said.stdout, said.stderr].concat();
        (said.status.success(), String::from_utf8_lossy(&text).into_owned())
    }

    /// The same of commands that must go well.
    #[track_caller]
    pub(crate) fn client(&self, user: &User, share: &str, commands: &str) -> String {
        let (well, text) = self.try_client(user, share, commands);
        assert!(well && !text.contains("NT_STATUS"), "{commands}: {text}\n{}", self.log());
        text
    }

    /// A client that stays: see `client.py`.
    pub(crate) fn stay(&self, user: &User, share: &str, what: &str, path: &str) -> Staying {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samba/client.py");
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.daemon.id())).arg(need::PYTHON).arg(script);
        command.arg(self.conf()).args([share, &user.name, PASSWORD, what, path]);
        let piped = command.env("HOME", self.home.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = piped.spawn().expect("python3");
        let (tell, lines) = mpsc::channel();
        let output = BufReader::new(child.stdout.take().expect("stdout"));
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let _nobody_listens = tell.send(line);
            }
        });
        Staying { input: child.stdin.take(), child, lines }
    }

    /// What `smbstatus` says.
    pub(crate) fn status(&self, option: &str) -> String {
        let said = finished(self.inside("smbstatus").arg(option));
        String::from_utf8_lossy(&said.stdout).into_owned()
    }

    /// All that smbd has said.
    pub(crate) fn log(&self) -> String {
        ["output", "log"].map(|file| std::fs::read_to_string(self.home.path().join(file)).unwrap_or_default()).concat()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let group = nix::unistd::Pid::from_raw(self.daemon.id().cast_signed());
        let _gone = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
        let _ended = self.daemon.wait();
        end_helpers(&format!("--configfile={}", self.conf().display()));
        // Its children may hold the mount for a moment longer.
        let empty = || (nix::sys::signal::killpg(group, None) == Err(nix::errno::Errno::ESRCH)).then_some(());
        let _reported_by_the_unmount = wait::within(wait::PATIENCE, empty);
    }
}

/// Ends what smbd has started to go on without it (`samba-dcerpcd` and what that starts), by an argument.
fn end_helpers(argument: &str) {
    let processes = std::fs::read_dir("/proc").expect("/proc").filter_map(Result::ok);
    for process in processes {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let words = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        if words.split(|byte| *byte == 0).any(|word| word == argument.as_bytes()) {
            let _gone = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
    }
}

/// A client that keeps its connection.
#[derive(Debug)]
pub(crate) struct Staying {
    input: Option<ChildStdin>,
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Staying {
    /// The next line it prints.
    #[track_caller]
    pub(crate) fn line(&mut self) -> String {
        self.lines.recv_timeout(CLIENT_LIMIT).unwrap_or_else(|error| panic!("the client says nothing: {error}"))
    }

    /// The next line, if it comes at once.
    pub(crate) fn line_soon(&mut self) -> Option<String> {
        self.lines.recv_timeout(Duration::from_millis(200)).ok()
    }

    /// Tells it to do something, and returns what it says.
    #[track_caller]
    pub(crate) fn tell(&mut self, words: &str) -> String {
        let input = self.input.as_mut().expect("stdin");
        writeln!(input, "{words}").expect("the client listens");
        self.line()
    }
}

impl Drop for Staying {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

/// Runs a client's command to its end; one that hangs is killed.
pub(crate) fn finished(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
    let (done, ended) = mpsc::channel::<()>();
    let guard = std::thread::spawn(move || {
        if ended.recv_timeout(CLIENT_LIMIT) == Err(mpsc::RecvTimeoutError::Timeout) {
            let _gone = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
    });
    let output = child.wait_with_output().expect("output");
    drop(done);
    guard.join().expect("the guard ends");
    output
}

/// `smb.conf`: everything below `home`, no printers, no NetBIOS, loopback alone.
fn configuration(home: &Path, shares: &[Share<'_>]) -> String {
    let directories = ["private", "lock", "state", "cache", "pid", "ncalrpc", "binddns"];
    let mut text = String::from(
        "[global]\nworkgroup = TIERFS\nserver role = standalone server\nnetbios name = TIERFSTEST\ndisable netbios = yes\n\
         interfaces = lo\nbind interfaces only = yes\nsmb ports = 445\nload printers = no\nprinting = bsd\n\
         printcap name = /dev/null\ndisable spoolss = yes\nusershare path =\nserver multi channel support = no\n",
    );
    for name in directories {
        let dir = home.join(name);
        std::fs::create_dir(&dir).expect("directory");
        let word = if name == "ncalrpc" || name == "binddns" || name == "private" { "dir" } else { "directory" };
        text += &format!("{name} {word} = {}\n", dir.display());
    }
    text += &format!("passdb backend = tdbsam:{0}/passdb.tdb\nlog file = {0}/log\n", home.display());
    for share in shares {
        let (path, include) = (share.path.display(), definition());
        text += &format!("[{}]\npath = {path}\nread only = no\ninclude = {}\n", share.name, include.display());
        text += share.lines;
    }
    text
}

/// Moves everything down that can move. Files in use stay.
#[track_caller]
pub(crate) fn demote(mount: &TestMount) -> String {
    moved(mount.tierfs().args(["migrate", "--older-than", "0", "--json"]).arg(mount.root()))
}

/// Brings everything back.
#[track_caller]
pub(crate) fn promote(mount: &TestMount) -> String {
    moved(mount.tierfs().args(["recall", "-r", "--json"]).arg(mount.root()))
}

/// The summary of a run that went well.
#[track_caller]
fn moved(command: &mut Command) -> String {
    let output = command.output().expect("tierfs runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text.lines().last().unwrap_or_default().to_owned()
}

/// A mount of these tiers that two users share as `docs`.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Dropped first: smbd works in the mount.
    pub(crate) server: Server,
    pub(crate) mount: TestMount,
    pub(crate) users: [User; 2],
    tiers: [LoopFs; 2],
}

impl Shared {
    /// Two filesystems of that kind, with mount options.
    pub(crate) fn over(kind: &'static str, size_mib: u64, options: &[&str]) -> Option<Shared> {
        let users = User::two()?;
        let tiers = [LoopFs::new(kind, size_mib)?, LoopFs::new(kind, size_mib)?];
        let roots = [tiers[0].path().join("tier"), tiers[1].path().join("tier")];
        let setup = options.iter().fold(Setup::new().roots(&roots), |setup, option| setup.option(option));
        let mount = setup.mount()?;
        open_to_all(&mount.root());
        let root = mount.root();
        let shares = [Share { name: "docs", path: &root, lines: "" }];
        let server = Server::start(&shares, &users)?;
        Some(Shared { server, mount, users, tiers })
    }

    /// The filesystem of the primary.
    pub(crate) fn primary(&self) -> &LoopFs {
        &self.tiers[0]
    }

    /// What smbclient says to the first or second user.
    #[track_caller]
    pub(crate) fn client(&self, user: usize, commands: &str) -> String {
        self.server.client(&self.users[user], "docs", commands)
    }

    /// The same of commands that are to fail with `status`.
    #[track_caller]
    pub(crate) fn refused(&self, user: usize, commands: &str, status: &str) {
        let (_, text) = self.server.try_client(&self.users[user], "docs", commands);
        assert!(text.contains(status), "{commands}: {text}");
    }

    /// A file of the clients' own machine.
    pub(crate) fn local(&self, name: &str, contents: &[u8]) -> PathBuf {
        let path = self.server.home().join(name);
        std::fs::write(&path, contents).expect("local file");
        path
    }

    /// What that user gets of a file.
    #[track_caller]
    pub(crate) fn get(&self, user: usize, path: &str) -> Vec<u8> {
        let into = self.server.home().join("got");
        let _not_there = std::fs::remove_file(&into);
        self.client(user, &format!("get \"{path}\" {}", into.display()));
        std::fs::read(&into).expect("what was got")
    }

    /// Moves everything down until these files are there. Who has just closed one may have it open for a moment longer:
    /// the kernel tells of a close after it.
    #[track_caller]
    pub(crate) fn demote_all(&self, paths: &[&str]) {
        self.move_all(demote, paths, 1);
    }

    /// The same way up.
    #[track_caller]
    pub(crate) fn promote_all(&self, paths: &[&str]) {
        self.move_all(promote, paths, 0);
    }

    fn move_all(&self, run: fn(&TestMount) -> String, paths: &[&str], rank: usize) {
        wait::until(&format!("{paths:?} are on tier {rank}"), || {
            run(&self.mount);
            paths.iter().all(|path| self.rank(path) == Some(rank)).then_some(())
        });
    }

    /// The rank of the tier that holds a file.
    pub(crate) fn rank(&self, path: &str) -> Option<usize> {
        (0..2).find(|rank| self.mount.tier(*rank, path).exists())
    }
}

/// Lets every user make files in a directory.
pub(crate) fn open_to_all(dir: &Path) {
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o777)).expect("chmod");
}
