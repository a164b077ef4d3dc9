//! Opens a volume of ciphertext for a view of plaintext.

use std::path::PathBuf;
use std::sync::Arc;

use super::{CONFIG, Error, FAILED, Unlock, View, check_apart, directory, read_conf};
use crate::config::view::DecryptView;
use crate::crypt::Volume;
use crate::crypt::names::{CONF_NAME, REVERSE_CONF};
use crate::keys::verify::{self, Evidence};
use crate::tier::encrypted::EncryptedTier;
use crate::tier::shielded::ShieldedTier;

/// What is said where there is no configuration file.
const HINT: &str = "name the directory that it is in, or with --conf another place where it is";

/// Opens the volume and unlocks its key. Nothing is written into it, not even to mend what a crash has left.
///
/// # Errors
/// One line and an exit code: 78 if the key is not that of the files.
pub fn open(config: &DecryptView, unlock: Unlock<'_>) -> Result<View, Error> {
    let inner = directory(&config.volume, 0)?;
    check_apart(std::slice::from_ref(&config.volume), &config.mountpoint)?;
    let conf_path = match &config.encryption.conf {
        Some(path) => path.clone(),
        None => conf_in(&config.volume)?,
    };
    let conf = read_conf(&conf_path, HINT)?;
    let key = unlock(&conf, &conf_path)?;
    let volume = Volume::new(&key, conf.features);
    let volume = volume.map_err(|errno| Error::new(FAILED, format!("the view cannot be made: {errno}")))?;
    if verify::try_on(&volume, &config.volume) == Evidence::Refuses {
        let (conf, dir) = (conf_path.display(), config.volume.display());
        return Err(Error::new(
            CONFIG,
            format!("{conf} is not the configuration of what is in {dir}: nothing there opens with its key"),
        ));
    }
    let label = config.volume.clone();
    let tier = EncryptedTier::new(Arc::new(ShieldedTier::new(Arc::new(inner))), Arc::new(volume), label);
    Ok(View {
        tier: Arc::new(tier),
        mountpoint: config.mountpoint.clone(),
        options: config.options.clone(),
        source: config.volume.clone().into(),
        uncached: false,
    })
}

fn conf_in(volume: &std::path::Path) -> Result<PathBuf, Error> {
    let path = volume.join(CONF_NAME);
    let is_plain = !path.exists() && volume.join(REVERSE_CONF).exists();
    if is_plain {
        let shown = volume.display();
        return Err(Error::new(
            CONFIG,
            format!("{shown} holds plaintext: it is `tierfs encrypt-view` that shows its ciphertext"),
        ));
    }
    Ok(path)
}
