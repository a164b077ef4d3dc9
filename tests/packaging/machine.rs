//! A machine that is booted for one test: the real systemd over a copy of this one, in namespaces.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::common::{need, wait};
use crate::packages;

/// Enters a control group of its own, $2, and boots. The group is the root of those that the machine sees, and can be
/// removed with all below it. The hierarchy is mounted on $1, wherever it is otherwise, and be it nowhere.
const JOIN: &str = "\
mount -t cgroup2 cgroup2 \"$1\" && mkdir \"$1/$2\" && echo $$ >\"$1/$2/cgroup.procs\" && umount \"$1\" || exit
exec unshare -p -f -C -u -i -n --kill-child sh -c \"$3\" sh \"$1\" \"$4\"";

/// Removes that group and all below it, once nothing runs in them.
const LEAVE: &str = "\
mount -t cgroup2 cgroup2 \"$1\" || exit
[ ! -e \"$1/$2\" ] || find \"$1/$2\" -depth -type d -exec rmdir {} +";

/// How long anything in a machine may take: many processes work for it, on a computer that may be busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// The time between two looks at something awaited: each is several processes.
const PAUSE: Duration = Duration::from_millis(50);

/// The machine; it ends, with all that runs in it and is mounted in it, when this is dropped.
#[derive(Debug)]
pub(crate) struct Machine {
    home: TempDir,
    unshare: Child,
    init: u32,
}

/// How one command in the machine ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    pub(crate) fn of(output: &Output) -> Ran {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let code = output.status.code().or(output.status.signal().map(|signal| 128 + signal));
        Ran { code, out: text(&output.stdout), err: text(&output.stderr) }
    }
}

impl Machine {
    /// Boots with these lines in `/etc/fstab`. `None`, and a skip is reported, where the machine below cannot.
    pub(crate) fn boot(fstab: &str) -> Option<Machine> {
        if !need::root() {
            return None;
        }
        need::programs(["unshare", "nsenter", "setpriv", "pivot_root", "systemctl", "dpkg"])?;
        // What the lines of shell in the tests call, in the machine.
        need::programs(["fusermount3", "setfacl", "setfattr", "getcap", "lsattr", "pgrep", "keyctl", "man"])?;
        if !Path::new("/lib/systemd/systemd").exists() {
            need::skip("needs the program /lib/systemd/systemd");
            return None;
        }
        let home = tempfile::Builder::new().prefix("tierfs-machine-").tempdir().expect("temporary directory");
        let root = home.path().join("machine");
        std::fs::create_dir(&root).expect("mkdir");
        // Whatever ends this thread ends the machine.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "unshare", "-m", "sh", "-c", JOIN, "sh"])
            .args([&root, Path::new(home.path().file_name().expect("a name")), Path::new(include_str!("boot.sh"))])
            .arg(fstab)
            // A directory in use would hold the filesystem that it is on.
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(home.path().join("log")).expect("log"));
        let unshare = command.spawn().expect("unshare starts");
        let mut machine = Machine { home, unshare, init: 0 };
        machine.wait_for("the machine has a first process", |machine| {
            machine.init = machine.first_process()?;
            Some(())
        });
        machine.wait_for("the machine is up", |machine| {
            machine.try_sh("systemctl is-active machine.target").code.filter(|code| *code == 0).map(drop)
        });
        Some(machine)
    }

    /// Waits for a step of the boot; if the machine does not take it, what it has said is told.
    fn wait_for(&mut self, step: &str, look: impl Fn(&mut Machine) -> Option<()>) {
        let came = wait::within_steps(PATIENCE, PAUSE, || {
            if look(self).is_some() {
                return Some(true);
            }
            self.has_ended().then_some(false)
        });
        let log = std::fs::read_to_string(self.home.path().join("log")).unwrap_or_default();
        assert_eq!(came, Some(true), "{step}: in vain\n{log}");
    }

    /// The same with the package of this program in it.
    pub(crate) fn with_package(fstab: &str) -> Option<Machine> {
        let package = packages::deb("1")?;
        let machine = Machine::boot(fstab)?;
        machine.install(&package);
        Some(machine)
    }

    /// The process that is the first of its namespace; others come and go before there is one.
    fn first_process(&mut self) -> Option<u32> {
        let pid = self.unshare.id();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        let is_first = |child: &&str| {
            let status = std::fs::read_to_string(format!("/proc/{child}/status")).unwrap_or_default();
            let names = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
            names.is_some_and(|names| names.split_whitespace().skip(1).last() == Some("1"))
        };
        children.split_whitespace().find(is_first)?.parse().ok()
    }

    /// Turns it off as an administrator does, and waits until it is.
    pub(crate) fn power_off(&mut self) {
        // It may end itself before it has said that it does.
        let _done_or_killed = self.try_sh("systemctl poweroff --no-block");
        let off = wait::within_steps(PATIENCE, PAUSE, || self.has_ended().then_some(()));
        assert!(off.is_some(), "the machine is not off");
    }

    /// Whether its first process has ended, and everything in it with that.
    fn has_ended(&mut self) -> bool {
        self.unshare.try_wait().expect("wait").is_some()
    }

    /// A command that will run in the machine.
    pub(crate) fn enter(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.init.to_string(), "-m", "-p", "-C", "-u", "-i", "-n", "-r", "-w", "--"]);
        command.args(["/usr/bin/env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8"]).arg(program);
        command
    }

    /// Runs a line of shell in the machine, however it ends.
    pub(crate) fn try_sh(&self, line: &str) -> Ran {
        Ran::of(&wait::output_within(PATIENCE, self.enter("sh").args(["-euc", line])))
    }

    /// Runs a line of shell in the machine; it must succeed. What it printed, without the last line end.
    #[track_caller]
    pub(crate) fn sh(&self, line: &str) -> String {
        let ran = self.try_sh(line);
        assert_eq!(ran.code, Some(0), "{line}: {}{}", ran.out, ran.err);
        ran.out.trim_end().to_owned()
    }

    /// All there is to know about a test that has failed.
    fn story(&self) -> String {
        // What a service has said in its last moment is still on its way, hence `--sync`.
        let look = "journalctl --sync; journalctl --no-pager -o short-precise
             systemctl --no-pager --failed; systemctl --no-pager list-jobs; ps -e -o pid,ppid,stat,wchan:30,args
             cat /proc/self/mounts";
        let mut command = self.enter("timeout");
        let ran = command.args(["--signal=KILL", "20", "sh", "-c", look]).output().expect("nsenter");
        Ran::of(&ran).out
    }

    /// Waits until a line of shell in the machine succeeds.
    #[track_caller]
    pub(crate) fn until(&self, line: &str) {
        let mut last = None;
        let came = wait::within_steps(PATIENCE, PAUSE, || {
            let ran = self.try_sh(line);
            let came = (ran.code == Some(0)).then_some(());
            last = Some(ran);
            came
        });
        assert!(came.is_some(), "waited in vain: {line}\n{last:?}");
    }

    /// A place in the machine as this one reaches it.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.init))
    }

    /// Writes a file in the machine.
    pub(crate) fn put(&self, path: &str, text: &str) {
        let file = self.path(path);
        std::fs::create_dir_all(file.parent().expect("a parent")).expect("mkdir");
        std::fs::write(file, text).expect("write");
    }

    /// Installs a package file. What was printed.
    #[track_caller]
    pub(crate) fn install(&self, package: &Path) -> String {
        let name = package.file_name().expect("a name").to_str().expect("UTF-8");
        std::fs::copy(package, self.path("/tmp").join(name)).expect("copy");
        self.sh(&format!("dpkg --install --force-confold /tmp/{name}"))
    }

    /// Makes `/etc/tierfs/NAME.yaml`: two tiers in `/disks/NAME`, seen at `/srv/NAME`.
    #[track_caller]
    pub(crate) fn configure(&self, name: &str, more: &str) {
        self.sh(&format!(
            "mkdir -p /disks/{name}/fast /disks/{name}/slow /srv/{name}
             tierfs init --mountpoint /srv/{name} --write-config /etc/tierfs/{name}.yaml \
                 /disks/{name}/fast:/disks/{name}/slow
             printf '%s' '{more}' >>/etc/tierfs/{name}.yaml
             systemctl daemon-reload"
        ));
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() && self.init != 0 {
            eprintln!("--- the machine\n{}---", self.story());
        }
        // `--kill-child` and the end of the first process end every other; their mounts go with them.
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
        if self.init != 0 {
            let init = PathBuf::from(format!("/proc/{}", self.init));
            wait::within(PATIENCE, || (!init.exists()).then_some(()));
        }
        let name = self.home.path().file_name().unwrap_or_default();
        let mut leave = Command::new("unshare");
        leave.args(["-m", "sh", "-c", LEAVE, "sh"]).arg(self.home.path().join("machine")).arg(name);
        let gone =
            wait::within_steps(PATIENCE, PAUSE, || leave.status().is_ok_and(|left| left.success()).then_some(()));
        if gone.is_none() {
            eprintln!("the control group {} is left over", name.display());
        }
    }
}
