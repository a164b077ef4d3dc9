//! Opens directories of plaintext for a view of ciphertext.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{CONFIG, Error, FAILED, Unlock, View, check_apart, directory, read_conf};
use crate::config::view::{EncryptView, Source};
use crate::crypt::names::REVERSE_CONF;
use crate::crypt::{Cipher, Volume};
use crate::tier::Tier;
use crate::tier::reverse::{ConfFile, ReverseTier, Settings};
use crate::tier::source::{RootAttr, SourceTier, seed_of};
use crate::types::errno::Errno;
use crate::types::name::Name;

/// What is said where there is no configuration file.
const HINT: &str = "make one with `tierfs key init --reverse`, or name one with --conf";

/// Opens what is to be shown, and unlocks its key.
///
/// # Errors
/// One line and an exit code: 78 for what cannot be a source, or a mount point within one.
pub fn open(config: &EncryptView, unlock: Unlock<'_>) -> Result<View, Error> {
    let paths: Vec<PathBuf> = config.sources.iter().map(|source| source.path.clone()).collect();
    let tiers = open_sources(&config.sources)?;
    check_apart(&paths, &config.mountpoint)?;
    let (conf_path, inside) = match (&config.encryption.conf, config.sources.as_slice()) {
        (Some(path), _) => (path.clone(), false),
        (None, [only]) if !config.labelled => (only.path.join(REVERSE_CONF), true),
        (None, _) => return Err(Error::new(CONFIG, "several directories need one key: name its file with --conf")),
    };
    let conf = read_conf(&conf_path, HINT)?;
    if conf.features.cipher != Cipher::Siv {
        let says = "is that of a volume with other encryption than AES-SIV, which a view of ciphertext needs";
        return Err(Error::new(CONFIG, format!("{} {says}: {HINT}", conf_path.display())));
    }
    let key = unlock(&conf, &conf_path)?;
    let broken = |errno: Errno| Error::new(FAILED, format!("the view cannot be made: {errno}"));
    let volume = Arc::new(Volume::new(&key, conf.features).map_err(broken)?);
    let conf_file = conf_file(&conf_path, inside)?;
    let inner = join(config, tiers, &conf_file)?;
    let settings = Settings { volume, rules: config.rules.clone(), on_change: config.on_change, conf: conf_file };
    let tier = Arc::new(ReverseTier::new(inner, settings).map_err(broken)?);
    let source = paths.iter().map(|path| path.as_os_str()).collect::<Vec<_>>().join(OsStr::new(":"));
    let (mountpoint, options) = (config.mountpoint.clone(), config.options.clone());
    Ok(View { tier, mountpoint, options, source, uncached: true })
}

fn open_sources(sources: &[Source]) -> Result<Vec<(Name, Arc<dyn Tier>)>, Error> {
    let open = |source: &Source| {
        let tier = directory(&source.path, seed_of(&source.label))?;
        let mut entries = 0_usize;
        let listed = tier.root().list(&mut |_| entries += 1);
        listed.map_err(|errno| Error::new(FAILED, format!("{}: {errno}", source.path.display())))?;
        if entries == 0 {
            let path = source.path.display();
            tracing::warn!(%path, "nothing is in this directory: if a disk belongs there, it is not mounted");
        }
        Ok((source.label.clone(), Arc::new(tier) as Arc<dyn Tier>))
    };
    sources.iter().map(open).collect()
}

/// One directory as the root, or several under their labels.
fn join(config: &EncryptView, mut tiers: Vec<(Name, Arc<dyn Tier>)>, conf: &ConfFile) -> Result<Arc<dyn Tier>, Error> {
    if !config.labelled && tiers.len() == 1 {
        return tiers.pop().map(|(_, tier)| tier).ok_or_else(|| Error::new(CONFIG, "there is no directory to show"));
    }
    // The root has the owner and times of the file that everything in it follows from.
    let stat = conf.dir.stat(Some(&conf.name)).ok().flatten();
    let stat = stat.ok_or_else(|| Error::new(FAILED, "the configuration file has gone meanwhile"))?;
    Ok(Arc::new(SourceTier::new(tiers, RootAttr { uid: stat.uid, gid: stat.gid, time: stat.mtime })))
}

fn conf_file(path: &Path, inside: bool) -> Result<ConfFile, Error> {
    let broken = |errno: Errno| Error::new(FAILED, format!("{}: {errno}", path.display()));
    // A link to it is the administrator's, and is followed.
    let path = std::fs::canonicalize(path).map_err(|error| broken(Errno::of(&error)))?;
    let parent = path.parent().unwrap_or(Path::new("/"));
    let name = path.file_name().map_or(Err(Errno::EISDIR), |name| Name::new(name.as_bytes())).map_err(broken)?;
    Ok(ConfFile { dir: directory(parent, 0)?.root(), name, inside })
}
