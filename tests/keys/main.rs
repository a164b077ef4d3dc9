//! `tierfs key`: volumes that the stock gocryptfs opens and the other way round, every source of a
//! passphrase, what is refused, and what a crash leaves.

#[path = "../common/mod.rs"]
mod common;
#[allow(dead_code, reason = "the crash tests use the rest")]
#[path = "../crash/strace.rs"]
mod strace;

mod crash;
mod init;
mod interop;
mod master;
mod secrets;
mod sources;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::ran::Ran;
use common::volume::Volume;
use common::{fs, mount, wait};

impl Ran {
    /// Asserts that it is done and gives what it printed.
    #[track_caller]
    fn done(self) -> String {
        assert_eq!(self.code, Some(0), "{}{}", self.out, self.err);
        self.out
    }
}

/// A directory for a volume, and files with passphrases beside it.
struct Home {
    dir: tempfile::TempDir,
}

impl Home {
    fn new() -> Home {
        let home = Home { dir: mount::temp_dir() };
        std::fs::create_dir(home.volume()).expect("directory");
        home.secret("old", "correct horse\n");
        home.secret("new", "battery staple\n");
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn volume(&self) -> PathBuf {
        self.path("volume")
    }

    /// A file that only its owner can use.
    fn secret(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::put(&path, text);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("mode");
        path
    }

    /// `tierfs key` with these arguments, in which `OLD`, `NEW`, `VOLUME` and `@name` stand for paths.
    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(mount::program());
        command.arg("key").current_dir(self.dir.path());
        for word in arguments.split_whitespace() {
            match word {
                "OLD" => command.arg(self.path("old")),
                "NEW" => command.arg(self.path("new")),
                "VOLUME" => command.arg(self.volume()),
                word => match word.strip_prefix('@') {
                    Some(name) => command.arg(self.path(name)),
                    None => command.arg(word),
                },
            };
        }
        command
    }

    fn key(&self, arguments: &str) -> Ran {
        Ran::of(&wait::output(&mut self.command(arguments)))
    }

    /// The volume for the stock program, with the passphrase in `passfile`.
    fn stock(&self, passfile: &str) -> Volume {
        Volume::at(&self.volume(), &self.path(passfile))
    }

    /// A volume whose passphrase is the old one.
    fn with_volume() -> Home {
        let home = Home::new();
        home.key("init --scrypt-cost 10 --passfile OLD VOLUME").done();
        home
    }

    /// The master key, as text.
    fn master(&self, passfile: &str) -> String {
        let out = self.key(&format!("test --print-master-key --passfile @{passfile} VOLUME")).done();
        out.lines().skip(1).map(str::trim).collect()
    }
}

fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}
