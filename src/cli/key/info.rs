//! `tierfs key info`.

use clap::Args;
use serde_json::json;

use crate::cli::exit::{Exit, Outcome};
use crate::cli::key::PlaceArgs;
use crate::cli::{named, print, print_json};
use crate::crypt::NameMode;
use crate::crypt::conf::Conf;
use crate::keys::{self, Place};
use crate::types::shown;
use crate::types::units::show_size;

/// Shows what a volume is made with, as its configuration file says. Needs no passphrase.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes:
  0 shown   1 error   2 wrong usage   78 wrong configuration file")]
pub(super) struct Info {
    #[command(flatten)]
    place: PlaceArgs,
    /// As one JSON object
    #[arg(long)]
    json: bool,
}

impl Info {
    /// Shows it.
    ///
    /// # Errors
    /// Why the file cannot be read.
    pub(super) fn run(self) -> Outcome {
        let place = self.place.place()?;
        let conf = keys::read_conf(&place.conf)?;
        if self.json {
            print_json(&as_json(&place, &conf))?
        } else {
            print(&as_text(&place, &conf))?
        }
        Ok(Exit::Ok)
    }
}

fn names(conf: &Conf) -> &'static str {
    match conf.features.names {
        NameMode::Plain => "plain",
        NameMode::Encrypted { dir_iv: true } => "encrypted",
        NameMode::Encrypted { dir_iv: false } => "encrypted, deterministic",
    }
}

fn as_text(place: &Place, conf: &Conf) -> String {
    let plain = conf.features.names == NameMode::Plain;
    let cost = conf.cost;
    let mut lines = vec![
        ("file", shown::escape(place.conf.as_os_str().as_encoded_bytes())),
        ("cipher", conf.features.cipher.name().to_owned()),
        ("names", names(conf).to_owned()),
    ];
    if !plain {
        lines.push(("hashed above", format!("{} bytes of encrypted name", conf.features.long_max)));
    }
    let unlocked = if conf.fido2 { "FIDO2 token (only by gocryptfs, or the master key)" } else { "passphrase" };
    lines.extend([
        ("unlocked by", unlocked.to_owned()),
        (
            "cost of a try",
            format!("{} of memory (scrypt 2^{}, {}, {})", show_size(cost.memory()), cost.log_n, cost.r, cost.p),
        ),
        ("made by", shown::escape(conf.creator.as_bytes())),
        ("flags", conf.flags().join(" ")),
    ]);
    lines.iter().map(|(key, value)| format!("{key:<14} {value}\n")).collect()
}

fn as_json(place: &Place, conf: &Conf) -> serde_json::Value {
    let mut object = named("conf", place.conf.as_os_str().as_encoded_bytes());
    object["cipher"] = conf.features.cipher.name().into();
    object["names"] = match conf.features.names {
        NameMode::Plain => "plain".into(),
        NameMode::Encrypted { dir_iv } => json!(if dir_iv { "encrypted" } else { "deterministic" }),
    };
    object["long_name_max"] = conf.features.long_max.into();
    object["fido2"] = conf.fido2.into();
    object["scrypt"] =
        json!({ "log_n": conf.cost.log_n, "r": conf.cost.r, "p": conf.cost.p, "memory_bytes": conf.cost.memory() });
    object["creator"] = conf.creator.clone().into();
    object["flags"] = json!(conf.flags());
    object
}
