//! What the tiers of a test are: directories, or directories of ciphertext.
//!
//! In the second setting the paths that a test calls its tiers are mounts of the stock gocryptfs over
//! the ciphertext that tierfs works on: what a test puts into a tier is encrypted by the stock
//! program, and what it finds there was decrypted by it.

use std::ffi::OsString;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use super::mount::{Setup, spec};
use super::user::User;
use super::volume::{Flavour, Stock, Volume, write_passphrase};

/// Of one union.
#[derive(Debug, Default)]
pub(crate) struct Encrypted {
    /// Which tiers; `None`: all of them.
    ranks: Option<Vec<usize>>,
    flavour: Option<Flavour>,
    /// Mounts of the stock program that stand now.
    views: Vec<Stock>,
    /// None is to stand: the filesystems below will lose their power.
    hidden: bool,
    /// The passphrase is written once: a test may take it away.
    made: bool,
}

/// Whether the tests of this program run on encrypted tiers if they do not say otherwise: those of
/// the program `encrypted` do, and with `TIERFS_TEST_ENCRYPTED=1` all.
pub(crate) fn all_encrypted() -> bool {
    env!("CARGO_CRATE_NAME") == "encrypted" || std::env::var_os("TIERFS_TEST_ENCRYPTED").is_some_and(|set| set == "1")
}

/// Says that a test, or the rest of it, does not apply to encrypted tiers, and why.
pub(crate) fn only_plain(why: &str) -> bool {
    let encrypted = all_encrypted();
    if encrypted {
        let test = std::thread::current().name().unwrap_or("?").to_owned();
        eprintln!("not on encrypted tiers: {test}: {why}");
    }
    encrypted
}

/// The ciphertext of the tier that a test knows as `root`.
pub(crate) fn cipher_of(root: &Path) -> PathBuf {
    let mut name = root.file_name().expect("a tier has a name").to_owned();
    name.push(".cipher");
    root.with_file_name(name)
}

impl Encrypted {
    pub(crate) fn all() -> Encrypted {
        Encrypted::default()
    }

    pub(crate) fn only(ranks: &[usize]) -> Encrypted {
        Encrypted { ranks: Some(ranks.to_vec()), ..Encrypted::default() }
    }

    pub(crate) fn flavour(mut self, flavour: Flavour) -> Encrypted {
        self.flavour = Some(flavour);
        self
    }

    pub(crate) fn has(&self, rank: usize) -> bool {
        self.ranks.as_ref().is_none_or(|ranks| ranks.contains(&rank))
    }

    /// Where tierfs finds the tier.
    pub(crate) fn place(&self, rank: usize, root: &Path) -> PathBuf {
        if self.has(rank) { cipher_of(root) } else { root.to_owned() }
    }

    /// Makes volumes that are not there. `None` where the stock program is missing.
    pub(crate) fn make(&mut self, home: &Path, roots: &[PathBuf], user: Option<&User>) -> Option<()> {
        let passfile = home.join("passphrase");
        if !passfile.exists() && !self.made {
            write_passphrase(&passfile);
            self.made = true;
        }
        for root in roots.iter().enumerate().filter(|(rank, _)| self.has(*rank)).map(|(_, root)| root) {
            let cipher = cipher_of(root);
            if !cipher.join("gocryptfs.conf").exists() {
                Volume::init(&cipher, &passfile, self.flavour.unwrap_or(Flavour::DEFAULT))?;
            }
            let conf = cipher.join("gocryptfs.conf");
            if let Some(user) = user {
                for path in [&cipher, &conf, &cipher.join("gocryptfs.diriv"), &passfile] {
                    let owned = chown(path, Some(user.uid), Some(user.gid));
                    assert!(owned.is_ok() || !path.exists(), "{path:?}: {owned:?}");
                }
            }
        }
        Some(())
    }

    /// Mounts what the tests know as tiers.
    pub(crate) fn show(&mut self, home: &Path, roots: &[PathBuf]) {
        if self.hidden {
            return;
        }
        let passfile = home.join("passphrase");
        for (rank, root) in roots.iter().enumerate() {
            if self.has(rank) && !self.views.iter().any(|view| view.root() == root) {
                self.views.push(Volume::at(&cipher_of(root), &passfile).mount(root));
            }
        }
    }

    /// Takes them down.
    pub(crate) fn hide(&mut self) {
        self.hidden = true;
        self.views.clear();
    }

    /// The configuration file of a union.
    pub(crate) fn config(&self, home: &Path, roots: &[PathBuf], mountpoint: &Path) -> String {
        let quoted = |path: &Path| serde_json::Value::from(path.to_str().expect("UTF-8")).to_string();
        let mut text = format!("version: 1\nmountpoint: {}\ntiers:\n", quoted(mountpoint));
        for (rank, root) in roots.iter().enumerate() {
            text.push_str(&format!("  - path: {}\n", quoted(&self.place(rank, root))));
            if self.has(rank) {
                text.push_str(&format!("    encryption:\n      passfile: {}\n", quoted(&home.join("passphrase"))));
            }
        }
        text
    }
}

/// The one word that names a union to a command: its configuration file.
pub(crate) fn config_file(home: &Path) -> OsString {
    home.join("union.yaml").into_os_string()
}

impl Setup {
    /// Some or all tiers hold ciphertext; see `setting`.
    pub(crate) fn encrypted(mut self, encrypted: Encrypted) -> Setup {
        self.encrypted = Some(encrypted);
        self
    }

    /// No tier holds ciphertext, in whatever setting.
    pub(crate) fn plain(mut self) -> Setup {
        self.encrypted = None;
        self
    }

    /// Makes the volumes of encrypted tiers, shows them, and writes the configuration. `false`, and a skip
    /// is reported, where the machine cannot.
    pub(crate) fn ready(&mut self) -> bool {
        let (mountpoint, home) = (self.mountpoint(), self.home().to_owned());
        let Some(encrypted) = &mut self.encrypted else { return true };
        if encrypted.make(&home, &self.roots, self.user.as_ref()).is_none() {
            return false;
        }
        let config = encrypted.config(&home, &self.roots, &mountpoint);
        std::fs::write(config_file(&home), config).expect("configuration");
        encrypted.show(&home, &self.roots);
        true
    }

    /// Takes the stock program's mounts of encrypted tiers down, until `reveal`.
    pub(crate) fn hide(&mut self) {
        if let Some(encrypted) = &mut self.encrypted {
            encrypted.hide();
        }
    }

    /// Mounts them again.
    pub(crate) fn reveal(&mut self) {
        if let Some(encrypted) = &mut self.encrypted {
            encrypted.hidden = false;
        }
        assert!(self.ready(), "gocryptfs is missing");
    }

    /// Where tierfs finds the tier of that rank.
    pub(crate) fn place(&self, rank: usize) -> PathBuf {
        let root = &self.roots[rank];
        self.encrypted.as_ref().map_or_else(|| root.clone(), |encrypted| encrypted.place(rank, root))
    }

    /// The one word that names the union to a command.
    pub(crate) fn union(&self) -> std::ffi::OsString {
        match &self.roots[..] {
            _ if self.encrypted.is_some() => config_file(self.home()),
            // On a command line a single tier is taken for a slip.
            [one] => {
                let file = self.home().join("one.yaml");
                let point = self.mountpoint();
                let text =
                    format!("version: 1\nmountpoint: {}\ntiers: [{{path: {}}}]\n", point.display(), one.display());
                std::fs::write(&file, text).expect("configuration");
                file.into()
            }
            roots => spec(roots),
        }
    }
}
