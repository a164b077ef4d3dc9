//! PostgreSQL: a cluster with checksums, made, loaded, stopped, killed and proved while its files move.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::mount::TestMount;
use crate::common::need;
use crate::common::user::User;
use crate::moving::{Moves, all_down, all_up, ends_clean, on_disks, run, while_moving};

/// Where Debian keeps the programs of the newest version.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let found = versions.map(|version| version.path().join("bin")).filter(|bin| bin.join("pg_amcheck").exists()).max();
    if found.is_none() {
        need::skip("needs PostgreSQL");
    }
    found
}

/// A cluster that belongs to an ordinary user.
struct Cluster {
    bin: PathBuf,
    user: User,
    data: PathBuf,
    /// Of sockets and the log: no file of these can be on the mount.
    beside: PathBuf,
}

impl Cluster {
    fn make(mount: &TestMount, bin: PathBuf, user: User) -> Cluster {
        let (data, beside) = (mount.path("data"), mount.home().join("sockets"));
        for folder in [&data, &beside] {
            std::fs::create_dir(folder).expect("mkdir");
            std::os::unix::fs::chown(folder, Some(user.uid), Some(user.gid)).expect("chown");
        }
        let cluster = Cluster { bin, user, data, beside };
        let words = ["--auth=trust", "--username=tester", "--data-checksums", "--encoding=UTF8", "--locale=C"];
        cluster.does("initdb", |command| command.args(words).args(["--no-instructions", "-D"]).arg(&cluster.data));
        cluster
    }

    fn command(&self, program: &str) -> Command {
        let mut command = self.user.command(self.bin.join(program));
        command.env("PGHOST", &self.beside).env("PGUSER", "tester").env("PGDATABASE", "postgres");
        command
    }

    #[track_caller]
    fn does(&self, program: &str, more: impl FnOnce(&mut Command) -> &mut Command) -> String {
        let mut command = self.command(program);
        more(&mut command);
        run(&mut command)
    }

    /// `pg_ctl`, which says nothing: the server would keep its pipe.
    #[track_caller]
    fn control(&self, words: &[&str]) {
        let mut command = self.command("pg_ctl");
        command
            .arg("-D")
            .arg(&self.data)
            .args(["-w", "-s", "-t", "100", "-l"])
            .arg(self.beside.join("log"))
            .args(words);
        let status = command.status().expect("pg_ctl runs");
        let log = || std::fs::read_to_string(self.beside.join("log")).unwrap_or_default();
        assert!(status.success(), "pg_ctl {words:?}: {status}\n{}", log());
    }

    fn start(&self) {
        let options = format!(
            "-c listen_addresses='' -c unix_socket_directories='{}' -c autovacuum_naptime=1s -c checkpoint_timeout=30s",
            self.beside.display()
        );
        self.control(&["-o", &options, "start"]);
    }

    fn stop(&self, how: &str) {
        self.control(&["-m", how, "stop"]);
    }

    fn ask(&self, question: &str) -> String {
        self.does("psql", |command| command.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", question]))
    }

    /// Transactions that were acknowledged. Each has a connection of its own, so files are closed.
    fn bench(&self, transactions: usize) -> usize {
        let each = (transactions / 2).to_string();
        let said = self.does("pgbench", |command| command.args(["-n", "-C", "-c", "2", "-t", &each]));
        let line = said.lines().find(|line| line.contains("actually processed")).unwrap_or_else(|| panic!("{said}"));
        let count = line.split([' ', '/']).find_map(|word| word.parse().ok());
        count.unwrap_or_else(|| panic!("{said}"))
    }

    /// Every acknowledged transaction is in all four tables.
    #[track_caller]
    fn holds(&self, transactions: usize, when: &str) {
        let sums = self.ask(
            "select (select sum(abalance) from pgbench_accounts), (select sum(tbalance) from pgbench_tellers), \
             (select sum(bbalance) from pgbench_branches), coalesce(sum(delta), 0), count(*) from pgbench_history",
        );
        let sums: Vec<i64> = sums.trim().split('|').map(|word| word.parse().expect("a number")).collect();
        assert!(sums[..4].iter().all(|sum| *sum == sums[0]), "{when}: {sums:?}");
        assert_eq!(sums[4], transactions as i64, "{when}");
    }

    /// Indexes match their tables, and each page its checksum.
    fn prove(&self, transactions: usize, when: &str) {
        self.holds(transactions, when);
        self.does("pg_amcheck", |command| command.args(["--install-missing", "--heapallindexed", "postgres"]));
    }

    fn checksums(&self) {
        self.does("pg_checksums", |command| command.args(["--check", "-D"]).arg(&self.data));
    }
}

/// Loads the database under moves, with a stop and a crash between; returns what was acknowledged.
fn load(cluster: &Cluster, moves: &Moves) -> usize {
    cluster.start();
    cluster.does("pgbench", |command| command.args(["-i", "-q", "-s", "1"]));
    let mut done = 0;
    moves.rounds(2, 50, |round| {
        done += cluster.bench(40);
        cluster.ask("checkpoint");
        cluster.holds(done, "while files move");
        cluster.stop(if round % 2 == 0 { "fast" } else { "immediate" });
        moves.rest();
        cluster.start();
        cluster.holds(done, "after a start");
    });
    cluster.stop("fast");
    done
}

struct Stopped<'a>(&'a Cluster);

impl Drop for Stopped<'_> {
    /// A server that a failed test leaves would live on.
    fn drop(&mut self) {
        if Path::new(&self.0.data).join("postmaster.pid").exists() {
            let mut command = self.0.command("pg_ctl");
            let _ended_or_not = command.arg("-D").arg(&self.0.data).args(["-s", "-m", "immediate", "stop"]).status();
        }
    }
}

#[test]
fn postgresql_keeps_every_transaction_and_checksum() {
    let Some(bin) = programs() else { return };
    let Some([user, _]) = User::two() else { return };
    let Some((_tiers, mount)) = on_disks(1024, &[]) else { return };
    let cluster = Cluster::make(&mount, bin, user);
    {
        let _stopped = Stopped(&cluster);
        let done = while_moving(&mount, |moves| load(&cluster, moves));
        for when in ["down", "up"] {
            if when == "down" {
                all_down(&mount)
            } else {
                all_up(&mount)
            }
            cluster.checksums();
            cluster.start();
            cluster.prove(done, when);
            cluster.stop("fast");
        }
    }
    ends_clean(mount);
}
