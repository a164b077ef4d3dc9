//! `tierfs key init`.

use clap::Args;

use crate::cli::exit::{Exit, Failure, Outcome};
use crate::cli::key::{KindArgs, is_read, show_master};
use crate::cli::passphrase::{Passphrase, protect};
use crate::cli::{complain, print};
use crate::crypt::features::LONG_MAX;
use crate::crypt::{Cipher, MasterKey, NameMode};
use crate::keys;
use crate::keys::create::Plan;

/// Makes an encrypted volume in an empty directory. Its files are encrypted with a random master key;
/// the passphrase only unlocks that, so that it can be changed at any time. The master key is shown
/// once, at a terminal: with it the volume opens where the passphrase is forgotten or gocryptfs.conf
/// is lost.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tierfs key init /slow/docs
  tierfs key init --passfile /root/docs.pass --print-master-key /slow/docs > /media/stick/docs.key
  tierfs key init --reverse /home                 see /home encrypted, without changing it

Exit codes:
  0 done   1 refused, with the reason   2 wrong usage")]
pub(super) struct Init {
    #[command(flatten)]
    kind: KindArgs,
    #[command(flatten)]
    source: Passphrase,
    /// Print the master key also where the output is no terminal
    #[arg(long)]
    print_master_key: bool,
}

impl Init {
    /// Makes the volume.
    ///
    /// # Errors
    /// Why it cannot be made there.
    pub(super) fn run(self) -> Outcome {
        protect()?;
        let plan = self.kind.plan()?;
        plan.check()?;
        let passphrase = keys::new_passphrase(&self.source.source().unwrap_or_default(), &plan.dir)?;
        let master = MasterKey::random().map_err(|errno| Failure::error(format!("no random bytes: {errno}")))?;
        let conf = plan.make(&master, &passphrase)?;
        let what = if plan.reverse { "made a reverse view of" } else { "made an encrypted volume in" };
        print(&format!("{what} {} ({})\n", plan.dir.display(), conf.features))?;
        // What names the volume in a command.
        let dir = match &plan.conf {
            Some(conf) => format!("--conf {} {}", conf.display(), plan.dir.display()),
            None => plan.dir.display().to_string(),
        };
        if is_read() || self.print_master_key {
            print("Its master key:\n")?;
            show_master(&master)?;
            print(&format!(
                "Write it down and keep it away from this disk. Whoever has it can read the files; you need it\n\
                 where the passphrase is forgotten (`tierfs key passwd --master-key {dir}`)\n\
                 or the configuration file is lost (`tierfs key restore {dir}`).\n\
                 gocryptfs takes it with `-masterkey=stdin{}`.\n",
                stock_options(&plan)
            ))?;
        } else {
            complain(
                format!(
                    "the master key was not shown, as nobody reads this: \
                     `tierfs key test --print-master-key {dir}` shows it; keep it in a safe place"
                )
                .as_bytes(),
            );
        }
        Ok(Exit::Ok)
    }
}

/// What gocryptfs must be told where it has no configuration to read.
fn stock_options(plan: &Plan) -> String {
    let mut options = String::new();
    options.push_str(match plan.features.cipher {
        // In a reverse view it knows.
        Cipher::Siv if plan.reverse => " -reverse",
        Cipher::Siv => " -aessiv",
        Cipher::Gcm => "",
        Cipher::XChaCha => " -xchacha",
    });
    options.push_str(match plan.features.names {
        NameMode::Plain => " -plaintextnames",
        NameMode::Encrypted { dir_iv: true } => "",
        NameMode::Encrypted { dir_iv: false } => " -deterministic-names",
    });
    if plan.features.long_max != *LONG_MAX.end() {
        options.push_str(&format!(" -longnamemax {}", plan.features.long_max));
    }
    options
}
