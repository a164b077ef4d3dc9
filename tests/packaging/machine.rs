//! A machine that is booted for one test: the real systemd over a copy of this one, in namespaces.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

use crate::common::{need, wait};
use crate::packages;

/// Where systemd keeps its groups of processes: the old hierarchy, or the one for everything.
const CONTROL_GROUPS: [&str; 2] = ["/sys/fs/cgroup/systemd", "/sys/fs/cgroup"];

/// The machine; it ends, with all that runs in it and is mounted in it, when this is dropped.
#[derive(Debug)]
pub(crate) struct Machine {
    home: TempDir,
    group: PathBuf,
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
    ///
    /// Only where TIERFS_TEST_MACHINE is 1, by hand: two of ten runs of these tests failed so far, and a
    /// machine holds on to the mounts of tests that run beside it.
    pub(crate) fn boot(fstab: &str) -> Option<Machine> {
        if std::env::var_os("TIERFS_TEST_MACHINE").is_none_or(|set| set != "1") {
            eprintln!("not run: needs a machine: TIERFS_TEST_MACHINE=1");
            return None;
        }
        if !need::root() {
            return None;
        }
        need::programs(["unshare", "nsenter", "setpriv", "chroot", "systemctl", "dpkg"])?;
        // What the lines of shell in the tests call, in the machine.
        need::programs(["fusermount3", "setfacl", "setfattr", "getcap", "lsattr", "pgrep", "keyctl", "man"])?;
        if !Path::new("/lib/systemd/systemd").exists() {
            need::skip("needs the program /lib/systemd/systemd");
            return None;
        }
        let home = tempfile::Builder::new().prefix("tierfs-machine-").tempdir().expect("temporary directory");
        let root = home.path().join("machine");
        std::fs::create_dir(&root).expect("mkdir");
        std::fs::write(home.path().join("machine.fstab"), fstab).expect("fstab");
        let group = CONTROL_GROUPS.iter().map(Path::new).find(|path| path.join("cgroup.procs").exists());
        let name = home.path().file_name().expect("a name");
        let group = group.expect("control groups").join(name);
        std::fs::create_dir(&group).expect("a control group");
        // Whatever ends this thread ends the machine. A group of its own is the root of what the machine
        // sees, and can be removed with all below it.
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg(
                "echo $$ >\"$1/cgroup.procs\"
                 exec setpriv --pdeathsig KILL unshare -m -p -f -C -u -i -n --kill-child sh -c \"$2\" sh \"$3\"",
            )
            .arg("sh")
            .args([group.as_path(), Path::new(include_str!("boot.sh")), &root])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(home.path().join("log")).expect("log"));
        let unshare = command.spawn().expect("unshare starts");
        let mut machine = Machine { home, group, unshare, init: 0 };
        machine.init = wait::until("the machine has a first process", || machine.first_process());
        wait::until("the machine is up", || {
            let log = std::fs::read_to_string(machine.home.path().join("log")).unwrap_or_default();
            assert!(machine.unshare.try_wait().expect("wait").is_none(), "the machine did not boot: {log}");
            let entered = machine.enter("systemctl").args(["is-active", "machine.target"]).output().expect("nsenter");
            entered.status.success().then_some(())
        });
        Some(machine)
    }

    /// The same with the package of this program in it.
    pub(crate) fn with_package(fstab: &str) -> Option<Machine> {
        let package = packages::deb("1")?;
        let machine = Machine::boot(fstab)?;
        machine.install(&package);
        Some(machine)
    }

    fn first_process(&mut self) -> Option<u32> {
        let pid = self.unshare.id();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        children.split_whitespace().next()?.parse().ok()
    }

    /// Whether its first process has ended, and everything in it with that.
    pub(crate) fn has_ended(&mut self) -> bool {
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
        Ran::of(&wait::output(self.enter("sh").args(["-euc", line])))
    }

    /// Runs a line of shell in the machine; it must succeed. What it printed, without the last line end.
    #[track_caller]
    pub(crate) fn sh(&self, line: &str) -> String {
        let ran = self.try_sh(line);
        assert_eq!(ran.code, Some(0), "{line}: {}{}\n{}", ran.out, ran.err, self.journal());
        ran.out.trim_end().to_owned()
    }

    /// What the services have said.
    pub(crate) fn journal(&self) -> String {
        // What a service has said in its last moment is still on its way.
        let _synchronized = self.enter("journalctl").arg("--sync").output();
        let output = self.enter("journalctl").args(["--no-pager", "-o", "cat"]).output().expect("journalctl");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Waits until a line of shell in the machine succeeds.
    #[track_caller]
    pub(crate) fn until(&self, line: &str) {
        let shown = || format!("{line}\n{}", self.journal());
        if wait::within(wait::PATIENCE, || (self.try_sh(line).code == Some(0)).then_some(())).is_none() {
            panic!("waited in vain: {}", shown());
        }
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
            eprintln!("--- the machine's journal\n{}---", self.journal());
        }
        // `--kill-child` and the end of the first process end every other; their mounts go with them.
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
        if self.init != 0 {
            let init = PathBuf::from(format!("/proc/{}", self.init));
            wait::within(wait::PATIENCE, || (!init.exists()).then_some(()));
        }
        let gone = wait::within(wait::PATIENCE, || remove_group(&self.group).is_ok().then_some(()));
        if gone.is_none() {
            eprintln!("{} is left over", self.group.display());
        }
    }
}

/// Removes a control group and all below it. Their files go with them.
fn remove_group(group: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(group)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_group(&entry.path())?;
        }
    }
    std::fs::remove_dir(group)
}
