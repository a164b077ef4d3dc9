//! From the configuration to tiers that can be read: passphrases are read and volumes unlocked.
//!
//! It comes before a mount goes to the background, since somebody may have to type at the terminal. One scrypt
//! takes a seventh of a second and 64 MiB, so each volume is unlocked once, and several at a time; tiers that
//! carry the same configuration are one volume.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{CONFIG, DENIED, Error, FAILED, INTERRUPTED};
use crate::config::{Encryption, MountConfig, TierConfig};
use crate::crypt::conf::Conf;
use crate::crypt::names::{CONF_NAME, DIRIV_NAME};
use crate::crypt::volume::Volume;
use crate::keys;
use crate::sys::secret::{self, Secret};
use crate::tier::place::{Form, Place};
use crate::types::passphrase::Source;

/// A volume to be unlocked.
struct Wanted<'a> {
    conf: Conf,
    /// What messages call it.
    path: &'a Path,
    source: &'a Source,
}

/// Where the tiers are, with the volumes of those that are encrypted, fastest first. A tier that is not there,
/// or holds no volume, stays locked.
///
/// # Errors
/// One line and an exit code: 77 for a wrong passphrase.
pub fn places(config: &MountConfig) -> Result<Vec<Place>, Error> {
    if config.tiers.iter().all(|tier| tier.encryption.is_none()) {
        return Ok(config.tiers.iter().map(|tier| Place::plain(tier.path.clone())).collect());
    }
    secret::protect_process()
        .map_err(|errno| Error::new(FAILED, format!("core dumps cannot be forbidden: {errno}")))?;
    let confs: Vec<Option<Wanted<'_>>> = config.tiers.iter().map(wanted).collect::<Result<_, _>>()?;
    let mut distinct: Vec<&Wanted<'_>> = Vec::new();
    for wanted in confs.iter().flatten() {
        if distinct.iter().all(|known| known.conf != wanted.conf) {
            distinct.push(wanted);
        }
    }
    let volumes = unlock(&distinct)?;
    let volume_of = |conf: &Conf| {
        let at = distinct.iter().position(|known| known.conf == *conf);
        at.and_then(|at| volumes.get(at)).map(Arc::clone)
    };
    let place = |(tier, wanted): (&TierConfig, &Option<Wanted<'_>>)| {
        let form = match (&tier.encryption, wanted) {
            (None, _) => Form::Plain,
            (Some(_), wanted) => {
                let volume = wanted.as_ref().and_then(|wanted| volume_of(&wanted.conf));
                volume.map_or(Form::Locked, Form::Encrypted)
            }
        };
        Place { path: tier.path.clone(), form }
    };
    Ok(config.tiers.iter().zip(&confs).map(place).collect())
}

/// The tiers as they are known without any key.
pub fn locked(config: &MountConfig) -> Vec<Place> {
    let form = |tier: &TierConfig| if tier.encryption.is_some() { Form::Locked } else { Form::Plain };
    config.tiers.iter().map(|tier| Place { path: tier.path.clone(), form: form(tier) }).collect()
}

/// What is careless or wrong about the sources of passphrases, as far as it shows without reading a passphrase.
///
/// # Errors
/// One line.
pub fn check(config: &MountConfig) -> Result<Vec<String>, Error> {
    let mut careless = Vec::new();
    for tier in &config.tiers {
        let Some(encryption) = &tier.encryption else { continue };
        if let Source::PassFile(file) | Source::KeyFile(file) = &encryption.source {
            let opened = std::fs::File::open(file);
            opened.map_err(|error| {
                Error::new(CONFIG, format!("{}: {}", file.display(), crate::types::errno::Errno::of(&error)))
            })?;
        }
        careless.extend(keys::careless(&encryption.source));
        wanted(tier)?;
    }
    Ok(careless)
}

fn wanted(tier: &TierConfig) -> Result<Option<Wanted<'_>>, Error> {
    let Some(encryption) = &tier.encryption else { return Ok(None) };
    let Some(file) = conf_file(tier, encryption)? else { return Ok(None) };
    let conf = keys::read_conf(&file).map_err(of_keys)?;
    Ok(Some(Wanted { conf, path: &tier.path, source: &encryption.source }))
}

/// The volume's configuration; `None` where there is no volume: whether its disk is missing or it was never made
/// is told by the markers.
fn conf_file(tier: &TierConfig, encryption: &Encryption) -> Result<Option<PathBuf>, Error> {
    if let Some(file) = &encryption.conf {
        return Ok(Some(file.clone()));
    }
    let file = tier.path.join(CONF_NAME);
    if file.symlink_metadata().is_ok() {
        return Ok(Some(file));
    }
    if tier.path.join(DIRIV_NAME).symlink_metadata().is_ok() {
        let line = "has lost its gocryptfs.conf: put a copy back, or make it again from the master \
                    key with `tierfs key restore`; or name it with `conf:` if it is elsewhere";
        return Err(Error::new(CONFIG, format!("{} {line}", tier.path.display())));
    }
    Ok(None)
}

/// Reads the passphrases, one after the other, and unlocks the volumes, all at once.
fn unlock(wanted: &[&Wanted<'_>]) -> Result<Vec<Arc<Volume>>, Error> {
    let mut passphrases: Vec<Secret> = Vec::new();
    for volume in wanted {
        if let Some(careless) = keys::careless(volume.source) {
            tracing::warn!("{careless}");
        }
        passphrases.push(keys::passphrase(volume.source, volume.path).map_err(of_keys)?);
    }
    std::thread::scope(|scope| {
        let tries: Vec<_> = wanted
            .iter()
            .zip(&passphrases)
            .map(|(volume, passphrase)| scope.spawn(move || unlock_one(volume, passphrase)))
            .collect();
        let broken = || Error::new(FAILED, "unlocking was cut short");
        tries.into_iter().map(|done| done.join().unwrap_or_else(|_| Err(broken()))).collect()
    })
}

fn unlock_one(volume: &Wanted<'_>, passphrase: &Secret) -> Result<Arc<Volume>, Error> {
    let master = volume.conf.unlock(passphrase).map_err(|why| of_keys(keys::refused(&why, volume.path)))?;
    let made = Volume::new(&master, volume.conf.features);
    made.map(Arc::new).map_err(|errno| Error::new(FAILED, format!("{}: {errno}", volume.path.display())))
}

fn of_keys(error: keys::Error) -> Error {
    let code = match error.kind {
        keys::Kind::Wrong => DENIED,
        keys::Kind::Conf | keys::Kind::Usage => CONFIG,
        keys::Kind::Failed => FAILED,
        keys::Kind::Interrupted => INTERRUPTED,
    };
    Error::new(code, error.line)
}
