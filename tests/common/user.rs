//! Ordinary users: the accounts every distribution has, entered by one thread or one program.

use std::process::Command;

use rustix::process::{Gid, Uid};

use super::need;

/// An account without rights.
#[derive(Debug, Clone)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Supplementary groups.
    pub(crate) groups: Vec<u32>,
}

/// Accounts that Debian, Fedora and others ship, each with a group of its own name.
const CANDIDATES: [&str; 6] = ["games", "news", "mail", "lp", "uucp", "man"];

impl User {
    /// Two different accounts; reports a skip where there are none or the tests are not root.
    pub(crate) fn two() -> Option<[User; 2]> {
        if !need::root() {
            return None;
        }
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let group = std::fs::read_to_string("/etc/group").unwrap_or_default();
        let mut found = CANDIDATES.iter().filter_map(|name| account(&passwd, &group, name));
        let pair = found.next().zip(found.next());
        if pair.is_none() {
            need::skip("needs two ordinary accounts such as games and news");
        }
        pair.map(|(first, second)| [first, second])
    }

    /// The same account as a member of `group` also.
    pub(crate) fn member_of(mut self, group: u32) -> User {
        self.groups.push(group);
        self
    }

    /// Runs `act` in a thread of its own with this account's ids, no capabilities, umask 022.
    ///
    /// Credentials belong to threads in Linux, and the kernel tells FUSE the thread's: so the
    /// daemon sees a caller as if a program of this user had called.
    pub(crate) fn run<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        let outcome = std::thread::scope(|scope| {
            let body = || {
                self.enter();
                act()
            };
            std::thread::Builder::new()
                .name(format!("{} as {}", std::thread::current().name().unwrap_or("?"), self.name))
                .spawn_scoped(scope, body)
                .expect("a thread")
                .join()
        });
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Makes the calling thread this user's for good.
    fn enter(&self) {
        own_umask(0o022);
        let groups: Vec<Gid> = self.groups.iter().map(|raw| Gid::from_raw(*raw)).collect();
        rustix::thread::set_thread_groups(&groups).expect("setgroups");
        let gid = Gid::from_raw(self.gid);
        rustix::thread::set_thread_res_gid(gid, gid, gid).expect("setresgid");
        let uid = Uid::from_raw(self.uid);
        rustix::thread::set_thread_res_uid(uid, uid, uid).expect("setresuid");
    }

    /// A command that runs `program` as this user.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", &self.uid.to_string(), "--regid", &self.gid.to_string()]);
        if self.groups.is_empty() {
            command.arg("--clear-groups");
        } else {
            let groups: Vec<String> = self.groups.iter().map(u32::to_string).collect();
            command.args(["--groups", &groups.join(",")]);
        }
        command.arg("--").arg(program).env("HOME", "/tmp").current_dir("/");
        command
    }
}

/// Gives the calling thread a umask of its own, so that other tests keep theirs.
pub(crate) fn own_umask(mask: u32) {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS).expect("a umask of our own");
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(mask));
}

/// Runs `act` in a thread with its own umask.
pub(crate) fn with_umask<T: Send>(mask: u32, act: impl FnOnce() -> T + Send) -> T {
    let outcome = std::thread::scope(|scope| {
        let body = || {
            own_umask(mask);
            act()
        };
        scope.spawn(body).join()
    });
    outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// The account `name` of `passwd`, if the group of its gid has the same name.
fn account(passwd: &str, group: &str, name: &str) -> Option<User> {
    let fields = |text: &str| -> Option<Vec<String>> {
        let line = text.lines().find(|line| line.split(':').next() == Some(name))?;
        Some(line.split(':').map(str::to_owned).collect())
    };
    let user = fields(passwd)?;
    let gid: u32 = user.get(3)?.parse().ok()?;
    let own: u32 = fields(group)?.get(2)?.parse().ok()?;
    let uid = user.get(2)?.parse().ok()?;
    (gid == own).then(|| User { name: name.to_owned(), uid, gid, groups: Vec::new() })
}
