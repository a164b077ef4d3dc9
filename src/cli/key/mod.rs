//! `tierfs key`: encrypted volumes and their passphrases.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};

use crate::cli::exit::{Exit, Failure, Outcome};
use crate::cli::{absolute, print_bytes};
use crate::crypt::conf::ScryptCost;
use crate::crypt::{Cipher, Features, MasterKey, Volume};
use crate::keys::create::Plan;
use crate::keys::verify::{self, Evidence};
use crate::keys::{self, Place, master};

mod info;
mod init;
mod passwd;
mod restore;
mod test;

/// Makes encrypted volumes and takes care of their passphrases. A volume is a directory of encrypted
/// files in the format of gocryptfs, which opens it too; it becomes a tier of a union by the section
/// `encryption:` of the configuration.
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "\
Examples:
  tierfs key init /slow/docs                      make /slow/docs an encrypted volume
  tierfs key passwd /slow/docs                    change its passphrase
  tierfs key passwd --master-key /slow/docs       set a new one where the old is lost
  tierfs key test --passfile FILE /slow/docs      see whether a file holds it
  tierfs key info /slow/docs

Exit codes:
  0 done   1 error   2 wrong usage   77 wrong passphrase   78 wrong configuration file"
)]
pub struct Key {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make an encrypted volume in an empty directory
    Init(init::Init),
    /// Change the passphrase, or set a new one by the master key
    Passwd(passwd::Passwd),
    /// Show what a volume is made with; needs no passphrase
    Info(info::Info),
    /// Try whether a passphrase or a master key is that of a volume
    Test(test::Test),
    /// Make a lost configuration file again, by the master key
    Restore(restore::Restore),
}

impl Key {
    /// Runs the command.
    ///
    /// # Errors
    /// Why it could not be done.
    pub fn run(self) -> Outcome {
        match self.command {
            Command::Init(command) => command.run(),
            Command::Passwd(command) => command.run(),
            Command::Info(command) => command.run(),
            Command::Test(command) => command.run(),
            Command::Restore(command) => command.run(),
        }
    }
}

/// Which volume.
#[derive(Debug, Args)]
struct PlaceArgs {
    /// The directory of the volume, or that of the plain files with a reverse view
    #[arg(value_name = "DIR", required_unless_present = "conf")]
    dir: Option<PathBuf>,
    /// The configuration file, where it is not in the directory
    #[arg(long, value_name = "FILE")]
    conf: Option<PathBuf>,
}

impl PlaceArgs {
    fn place(&self) -> Result<Place, Failure> {
        let dir = self.dir.as_deref().map(absolute).transpose()?;
        let conf = match (&self.conf, &dir) {
            (Some(conf), _) => absolute(conf)?,
            (None, Some(dir)) => keys::conf_in(dir)?,
            (None, None) => return Err(Failure::new(Exit::Usage, "name a directory, or a file with --conf")),
        };
        Ok(Place { dir, conf })
    }
}

/// The ciphers by the names of the option.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum CipherName {
    /// AES-256-GCM
    #[value(alias = "aes-256-gcm")]
    Gcm,
    /// XChaCha20-Poly1305, for processors without AES
    #[value(alias = "xchacha20-poly1305")]
    Xchacha,
    /// AES-SIV, which reverse views need
    #[value(alias = "aes-siv")]
    Siv,
}

/// What a volume is made with.
#[derive(Debug, Args)]
struct KindArgs {
    /// The directory that is to hold the encrypted files
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Put the configuration file elsewhere than into the directory
    #[arg(long, value_name = "FILE")]
    conf: Option<PathBuf>,
    /// Make a reverse view: DIR holds the plain files and stays as it is but for one small file
    #[arg(long)]
    reverse: bool,
    /// The cipher of the contents [default: gcm; siv with --reverse]
    #[arg(long, value_name = "CIPHER")]
    cipher: Option<CipherName>,
    /// Keep names and the targets of symbolic links in clear
    #[arg(long, conflicts_with_all = ["deterministic_names", "long_name_max"])]
    plaintext_names: bool,
    /// Give equal names the same encrypted name everywhere: for volumes that are synchronised
    #[arg(long)]
    deterministic_names: bool,
    /// Store encrypted names above this many bytes beside a hash, 62 to 255 [default: 255]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(62..=255))]
    long_name_max: Option<u16>,
    /// The cost of one try of a passphrase: 2^N, as memory in KiB; 10 to 28
    #[arg(long, value_name = "N", default_value_t = ScryptCost::DEFAULT.log_n, value_parser = clap::value_parser!(u8).range(10..=28))]
    scrypt_cost: u8,
}

impl KindArgs {
    fn plan(&self) -> Result<Plan, Failure> {
        let cipher = match (self.cipher, self.reverse) {
            (None | Some(CipherName::Siv), true) | (Some(CipherName::Siv), false) => Cipher::Siv,
            (Some(_), true) => {
                let line = "a reverse view repeats its nonces, which --cipher siv alone survives";
                return Err(Failure::new(Exit::Usage, line));
            }
            (None | Some(CipherName::Gcm), false) => Cipher::Gcm,
            (Some(CipherName::Xchacha), false) => Cipher::XChaCha,
        };
        let mut features = Features::new(cipher);
        if self.plaintext_names {
            features = features.with_plain_names();
        }
        if self.deterministic_names {
            features = features.with_deterministic_names();
        }
        features.long_max = self.long_name_max.unwrap_or(features.long_max);
        let cost = ScryptCost::with_log_n(self.scrypt_cost).map_err(|why| Failure::new(Exit::Usage, why))?;
        let conf = self.conf.as_deref().map(absolute).transpose()?;
        Ok(Plan { dir: absolute(&self.dir)?, conf, features, reverse: self.reverse, cost })
    }
}

/// What `master` opens in a volume with these features.
fn volume_of(master: &MasterKey, features: Features) -> Result<Volume, Failure> {
    Volume::new(master, features).map_err(|errno| Failure::error(format!("the cipher: {errno}")))
}

/// Refuses a master key that is not that of the volume, or that nothing there can tell.
fn check_master(master: &MasterKey, features: Features, dir: Option<&Path>, unchecked: bool) -> Result<(), Failure> {
    let volume = volume_of(master, features)?;
    match dir.map_or(Evidence::Nothing, |dir| verify::try_on(&volume, dir)) {
        Evidence::Opens => Ok(()),
        Evidence::Nothing if unchecked => Ok(()),
        Evidence::Refuses => {
            let dir = dir.unwrap_or(Path::new("")).display();
            Err(Failure::new(Exit::Denied, format!("{dir}: this is not the master key of these files")))
        }
        Evidence::Nothing => {
            Err(Failure::error("there are no encrypted files to try the master key on: --unchecked takes it as it is"))
        }
    }
}

/// Shows the master key, as text of two lines.
fn show_master(master: &MasterKey) -> Result<(), Failure> {
    let text = master::show(master);
    let (one, two) = text.as_slice().split_at(text.len().div_ceil(2));
    print_bytes(b"\n    ")?;
    print_bytes(one)?;
    print_bytes(b"\n    ")?;
    print_bytes(two)?;
    print_bytes(b"\n\n")
}

/// Whether somebody reads what is printed.
fn is_read() -> bool {
    std::io::stdout().is_terminal()
}
