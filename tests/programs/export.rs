//! An export by NFS: a server in user space, which keeps file handles and no file open, and a client in user
//! space, both in a network of their own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::common::fs::put;
use crate::common::mount::TestMount;
use crate::common::{need, trees, wait};
use crate::kit::{Ran, migrate, recall};
use crate::moving::{ends_clean, on_disks, run, while_moving};

const PORTS: [u16; 2] = [12_049, 12_050];

/// The server, until this is dropped.
struct Server {
    child: Child,
    root: PathBuf,
}

impl Server {
    /// NFSv3 over TCP by nfs-ganesha, which asks the kernel for handles. It wants a portmapper, and a `/run`.
    fn over(mount: &TestMount) -> Server {
        let (home, root) = (mount.home().join("server"), mount.root());
        let [config, log, recovery] = ["conf", "log", "recovery"].map(|name| home.join(name));
        std::fs::create_dir_all(&recovery).expect("mkdir");
        let text = format!(
            "NFS_CORE_PARAM {{ NFS_Port = {}; MNT_Port = {}; Protocols = 3; Enable_NLM = false; Enable_RQUOTA = false; }}\n\
             NFSv4 {{ Graceless = true; RecoveryRoot = {}; RecoveryBackend = fs; }}\n\
             EXPORT {{ Export_Id = 7; Path = {}; Pseudo = /m; Access_Type = RW; Squash = None; SecType = sys;\n\
             Filesystem_Id = 7.7; Protocols = 3; Transports = TCP; FSAL {{ Name = VFS; }} }}\n",
            PORTS[0],
            PORTS[1],
            recovery.display(),
            root.display()
        );
        put(&config, text);
        // Mounts of other tests must not live on in its namespace.
        let script = "grep -F tierfs /proc/self/mountinfo | cut -d' ' -f5 | grep -vxF \"$4\" | xargs -r umount -l; \
                      mount -t tmpfs none /run && ip link set lo up && { rpcbind -w -f & } && \
                      until rpcinfo -p 127.0.0.1 >\"$3\" 2>&1; do sleep 0.1; done && \
                      exec ganesha.nfsd -F -p \"$1/pid\" -f \"$2\" -L \"$3\"";
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--", "sh", "-c", script, "sh"]);
        command
            .arg(&home)
            .arg(&config)
            .arg(&log)
            .arg(&root)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut server = Server { child: command.spawn().expect("unshare runs"), root };
        let serves = wait::within(wait::PATIENCE, || {
            assert!(server.child.try_wait().expect("wait").is_none(), "the server ends: {}", read(&log));
            server.client("nfs-ls", &[&server.url("")]).output().expect("nfs-ls").status.success().then_some(())
        });
        assert!(serves.is_some(), "the server does not serve: {}", read(&log));
        server
    }

    fn url(&self, path: &str) -> String {
        format!("nfs://127.0.0.1{}/{path}?version=3&nfsport={}&mountport={}", self.root.display(), PORTS[0], PORTS[1])
    }

    /// A client in the server's network; one that hangs is ended.
    fn client(&self, program: &str, words: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command.args(["120", "nsenter", "--net", "-t", &self.child.id().to_string(), program]).args(words);
        command
    }

    fn read(&self, path: &str) -> Vec<u8> {
        let output = self.client("nfs-cat", &[&self.url(path)]).output().expect("nfs-cat");
        assert!(output.status.success() && output.stderr.is_empty(), "{path}: {output:?}");
        output.stdout
    }

    fn write(&self, from: &Path, path: &str) {
        run(&mut self.client("nfs-cp", &[from.to_str().expect("UTF-8"), &self.url(path)]));
    }

    /// Modes, links, owners, sizes and names of everything in the tree.
    fn list(&self) -> Vec<String> {
        let said = run(&mut self.client("nfs-ls", &["-R", &self.url("tree")]));
        let mut lines: Vec<String> = said.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The others in its namespace end with the first of it, which only its parent can wait for.
        let pid = self.child.id();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        for child in children.split_whitespace().filter_map(|child| child.parse().ok()) {
            let _ended_before = nix::sys::signal::kill(nix::unistd::Pid::from_raw(child), nix::sys::signal::SIGKILL);
        }
        if children.is_empty() {
            let _ended_before = self.child.kill();
        }
        let _status = self.child.wait();
    }
}

fn read(log: &Path) -> String {
    std::fs::read_to_string(log).unwrap_or_default()
}

/// Everything as the client sees it; the contents are the ones that were written.
fn all_there(server: &Server, files: &[(String, Vec<u8>)], listed: &[String], when: &str) {
    assert_eq!(server.list(), listed, "{when}");
    for (path, content) in files {
        assert!(server.read(path) == *content, "{when}: {path} has other contents");
    }
}

#[test]
fn a_tree_exported_by_nfs_is_read_and_written_while_its_files_move() {
    let wanted = ["ganesha.nfsd", "rpcbind", "nfs-ls", "nfs-cat", "nfs-cp", "unshare", "nsenter", "ip", "timeout"];
    if need::programs(wanted).is_none() {
        return;
    }
    let Some((_tiers, mount)) = on_disks(512, &["remember=10000"]) else { return };
    let files: Vec<(String, Vec<u8>)> =
        (0..12).map(|at| (format!("tree/d{}/f{at}", at % 3), trees::bytes(at, 40_000 * at))).collect();
    files.iter().for_each(|(path, content)| put(mount.path(path), content));
    let server = Server::over(&mount);
    let listed = server.list();
    assert_eq!(listed.len(), files.len() + 3, "{listed:?}");
    let source = mount.home().join("source");
    let written = while_moving(&mount, |moves| {
        let mut written = Vec::new();
        moves.rounds(3, 20, |round| {
            all_there(&server, &files, &listed, "while files move");
            let (name, content) = (format!("new{round}"), trees::bytes(round, 100_000));
            put(&source, &content);
            server.write(&source, &name);
            assert!(server.read(&name) == content, "{name}");
            written.push((name, content));
            moves.rest();
        });
        written
    });
    for (when, move_all) in
        [("down", (|mount| migrate(mount, &[])) as fn(&TestMount) -> Ran), ("up", |mount| recall(mount, ""))]
    {
        // The server has handles of inodes that the kernel has forgotten. The files that it keeps open stay.
        std::fs::write("/proc/sys/vm/drop_caches", "2").expect("drop_caches");
        move_all(&mount).ends(0);
        std::fs::write("/proc/sys/vm/drop_caches", "2").expect("drop_caches");
        all_there(&server, &files, &listed, when);
        all_there(&server, &written, &listed, when);
    }
    for (path, content) in files.iter().chain(&written) {
        assert!(std::fs::read(mount.path(path)).expect("read") == *content, "{path}");
    }
    drop(server);
    ends_clean(mount);
}
