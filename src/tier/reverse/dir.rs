//! A directory of the view.

use std::ffi::CStr;
use std::sync::Arc;

use super::file::{Held, Place};
use super::fixed::{Conf, Fixed};
use super::long::{Gathering, LongNames};
use super::{Settings, number, seed, xattrs};
use crate::crypt::names::{CONF_NAME, DIRIV_NAME, LONG_PREFIX, NAME_SUFFIX, REVERSE_CONF};
use crate::crypt::{DirIv, Stored, derive};
use crate::tier::read_only::unchangeable_dir;
use crate::tier::shielded::only_reads;
use crate::tier::{Dir, File, Listed, Open};
use crate::types::attr::{Body, Kind, Stat};
use crate::types::errno::{Errno, Result};
use crate::types::name::Name;
use crate::types::path::UnionPath;

/// What the numbers of `gocryptfs.diriv`, of the file with a long name and of the configuration file
/// follow from, besides the path.
const DIR_IV_NUMBER: &str = "tierfs:diriv";
const FULL_NAME_NUMBER: &str = "tierfs:name";
const CONF_NUMBER: &str = "tierfs:conf";

/// One directory, opened.
#[derive(Debug)]
pub(super) struct ReverseDir {
    settings: Arc<Settings>,
    inner: Arc<dyn Dir>,
    /// Where it is in the view: encrypted names joined by slashes, empty for the root.
    path: Vec<u8>,
    /// Where it is in the source.
    plain: UnionPath,
    iv: DirIv,
    long: LongNames,
}

/// What a name of the view stands for.
enum Meaning {
    /// Something of the source, under this name there; it need not be there.
    Real(Name),
    /// `gocryptfs.diriv`.
    DirIv,
    /// `gocryptfs.conf`.
    Conf,
    /// The whole encrypted name, `full`, of what is called `plain`.
    FullName { plain: Name, full: Vec<u8> },
}

impl ReverseDir {
    pub(super) fn root(inner: Arc<dyn Dir>, settings: Arc<Settings>) -> ReverseDir {
        ReverseDir::at(inner, settings, Vec::new(), UnionPath::root())
    }

    fn at(inner: Arc<dyn Dir>, settings: Arc<Settings>, path: Vec<u8>, plain: UnionPath) -> ReverseDir {
        let iv = if settings.names().has_dir_ivs() { derive::dir_iv(&path) } else { DirIv::ZERO };
        ReverseDir { settings, inner, path, plain, iv, long: LongNames::default() }
    }

    fn is_root(&self) -> bool {
        self.plain.is_root()
    }

    /// The path in the view of an entry.
    fn below(&self, entry: &[u8]) -> Vec<u8> {
        if self.path.is_empty() { entry.to_vec() } else { [&self.path, b"/".as_slice(), entry].concat() }
    }

    /// Nothing for a name that stands for nothing.
    fn meaning(&self, name: &Name) -> Result<Option<Meaning>> {
        let (names, raw) = (self.settings.names(), name.as_bytes());
        if self.is_root() && raw == CONF_NAME.as_bytes() {
            return Ok(Some(Meaning::Conf));
        }
        if names.is_plain() {
            return Ok(Some(Meaning::Real(name.clone())));
        }
        if names.has_dir_ivs() && raw == DIRIV_NAME.as_bytes() {
            return Ok(Some(Meaning::DirIv));
        }
        if !raw.starts_with(LONG_PREFIX.as_bytes()) {
            let plain = names.decode(&self.iv, raw).ok().filter(|plain| plain.len() <= names.short_max());
            return plain.map(|plain| Name::new(&plain).map(Meaning::Real)).transpose();
        }
        let side = raw.strip_suffix(NAME_SUFFIX.as_bytes());
        let found = self.long.find(&self.settings, self.inner.as_ref(), &self.iv, side.unwrap_or(raw))?;
        let Some(plain) = found else { return Ok(None) };
        if side.is_none() {
            return Ok(Some(Meaning::Real(plain)));
        }
        match names.encode(&self.iv, plain.as_bytes())? {
            Stored::Long { full, .. } => Ok(Some(Meaning::FullName { plain, full })),
            Stored::Short(_) => Ok(None),
        }
    }

    /// Whether something of the source is in the view at all.
    fn shows(&self, plain: &[u8], kind: Kind) -> bool {
        let is_conf = self.is_root() && self.settings.conf.inside && plain == REVERSE_CONF.as_bytes();
        let is_shadowed = self.is_root() && self.settings.names().is_plain() && plain == CONF_NAME.as_bytes();
        let rules = &self.settings.rules;
        !is_conf && !is_shadowed && (rules.is_empty() || rules.shows(&self.plain.join(plain), kind == Kind::Dir))
    }

    /// Attributes of something of the source, if it is there and shown.
    fn look(&self, plain: &Name) -> Result<Option<Stat>> {
        let found = self.inner.stat(Some(plain))?;
        Ok(found.filter(|stat| self.shows(plain.as_bytes(), stat.kind())))
    }

    /// Attributes as the view shows them, of what is called `plain`.
    fn shown(&self, plain: &Name, mut stat: Stat) -> Result<Stat> {
        if stat.kind() == Kind::Symlink && stat.size == 0 {
            // Some filesystems do not tell.
            stat.size = self.inner.readlink(plain)?.len() as u64;
        }
        Ok(self.settings.shown(stat))
    }

    fn dir_iv_file(&self) -> Result<Fixed> {
        let own = self.inner.stat(None)?.ok_or(Errno::ESTALE)?;
        Ok(Fixed::new(self.iv.0.to_vec(), number(&self.path, DIR_IV_NUMBER), &own))
    }

    fn full_name_file(&self, name: &Name, plain: &Name, full: Vec<u8>) -> Result<Option<Fixed>> {
        let beside = self.look(plain)?;
        Ok(beside.map(|stat| Fixed::new(full, number(&self.below(name.as_bytes()), FULL_NAME_NUMBER), &stat)))
    }

    fn conf_number() -> Body {
        number(b"", CONF_NUMBER)
    }

    /// The name in the source of something that is shown.
    fn real(&self, name: &Name, kind: Kind) -> Result<Name> {
        match self.meaning(name)? {
            Some(Meaning::Real(plain)) if self.shows(plain.as_bytes(), kind) => Ok(plain),
            Some(Meaning::DirIv | Meaning::Conf | Meaning::FullName { .. }) if kind != Kind::Symlink => {
                Err(Errno::ENOTDIR)
            }
            Some(Meaning::DirIv | Meaning::Conf | Meaning::FullName { .. }) => Err(Errno::EINVAL),
            Some(Meaning::Real(_)) | None => Err(Errno::ENOENT),
        }
    }

    /// Lists what is in the source, and gives the entries that the view has besides.
    fn list_real(&self, each: &mut dyn FnMut(Listed<'_>)) -> Result<Vec<(Vec<u8>, Body)>> {
        let names = self.settings.names();
        let mut gathering = Gathering::start(self.inner.as_ref())?;
        let mut besides = Vec::new();
        let mut untold = Vec::new();
        let mut one = |name: &[u8], kind: Option<Kind>, body: Body| match names.encode(&self.iv, name) {
            Ok(Stored::Short(entry)) => each(Listed { name: &entry, kind, body }),
            Ok(Stored::Long { entry, .. }) => {
                each(Listed { name: &entry, kind, body });
                gathering.add(&entry, name);
                let side = [&entry, NAME_SUFFIX.as_bytes()].concat();
                let body = number(&self.below(&side), FULL_NAME_NUMBER);
                besides.push((side, body));
            }
            Err(errno) => tracing::warn!(dir = %self.plain, "a name is not in the view: {errno}"),
        };
        self.inner.list(&mut |found| match found.kind {
            None if !self.settings.rules.is_empty() => untold.push((found.name.to_vec(), found.body)),
            kind if self.shows(found.name, kind.unwrap_or(Kind::File)) => one(found.name, kind, found.body),
            _ => {}
        })?;
        // Whether a rule shows an entry depends on its type, which here only a look tells. An entry that
        // cannot be looked at is listed: whoever asks for it is told why.
        for (name, body) in untold {
            let kind = Name::new(&name).and_then(|name| self.inner.stat(Some(&name))).ok().flatten();
            let kind = kind.map(|stat| stat.kind());
            if self.shows(&name, kind.unwrap_or(Kind::Dir)) {
                one(&name, kind, body);
            }
        }
        self.long.keep(gathering);
        Ok(besides)
    }
}

impl Dir for ReverseDir {
    fn stat(&self, name: Option<&Name>) -> Result<Option<Stat>> {
        let Some(name) = name else { return self.inner.stat(None) };
        match self.meaning(name)? {
            None => Ok(None),
            Some(Meaning::Real(plain)) => self.look(&plain)?.map(|stat| self.shown(&plain, stat)).transpose(),
            Some(Meaning::DirIv) => self.dir_iv_file().map(|file| Some(file.attributes())),
            Some(Meaning::Conf) => {
                let conf = &self.settings.conf;
                Ok(conf.dir.stat(Some(&conf.name))?.map(|stat| Conf::shown(stat, ReverseDir::conf_number())))
            }
            Some(Meaning::FullName { plain, full }) => {
                Ok(self.full_name_file(name, &plain, full)?.map(|file| file.attributes()))
            }
        }
    }

    fn open_dir(&self, name: &Name) -> Result<Arc<dyn Dir>> {
        let plain = self.real(name, Kind::Dir)?;
        let inner = self.inner.open_dir(&plain)?;
        let (path, plain) = (self.below(name.as_bytes()), self.plain.join(plain.as_bytes()));
        Ok(Arc::new(ReverseDir::at(inner, Arc::clone(&self.settings), path, plain)))
    }

    fn open(&self, name: &Name, how: Open) -> Result<Box<dyn File>> {
        only_reads(how)?;
        match self.meaning(name)? {
            None => Err(Errno::ENOENT),
            Some(Meaning::DirIv) => Ok(Box::new(self.dir_iv_file()?)),
            Some(Meaning::Conf) => {
                let conf = &self.settings.conf;
                Ok(Box::new(Conf::new(conf.dir.open(&conf.name, how)?, ReverseDir::conf_number())))
            }
            Some(Meaning::FullName { plain, full }) => {
                let file = self.full_name_file(name, &plain, full)?;
                file.map(|file| Box::new(file) as Box<dyn File>).ok_or(Errno::ENOENT)
            }
            Some(Meaning::Real(plain)) => {
                let held = self.inner.open(&plain, Open::Hold)?;
                if !self.shows(plain.as_bytes(), held.stat()?.kind()) {
                    return Err(Errno::ENOENT);
                }
                let place = Place { path: self.below(name.as_bytes()), plain: self.plain.join(plain.as_bytes()) };
                let held = Held::new(Arc::clone(&self.settings), held, Arc::new(place));
                if how == Open::Hold { Ok(Box::new(held)) } else { held.reopen(how) }
            }
        }
    }

    fn readlink(&self, name: &Name) -> Result<Vec<u8>> {
        let plain = self.real(name, Kind::Symlink)?;
        let target = self.inner.readlink(&plain)?;
        if self.settings.names().is_plain() || target.is_empty() {
            return Ok(target);
        }
        let path = self.below(name.as_bytes());
        let stat = self.inner.stat(Some(&plain))?.ok_or(Errno::ENOENT)?;
        let nonce = derive::symlink_nonce(&seed::of(&path, &stat));
        let sealed = self.settings.volume.content().seal_value_with(&nonce, &target)?;
        let text = self.settings.names().encode_target(&sealed);
        if text.len() > TARGET_LEN_MAX {
            let link = self.plain.join(plain.as_bytes());
            tracing::warn!(%link, "a symbolic link is too long to be encrypted: {} bytes", target.len());
            return Err(Errno::ENAMETOOLONG);
        }
        Ok(text)
    }

    fn list(&self, each: &mut dyn FnMut(Listed<'_>)) -> Result<()> {
        for (name, body) in self.list_real(each)? {
            each(Listed { name: &name, kind: Some(Kind::File), body });
        }
        if self.settings.names().has_dir_ivs() {
            let body = number(&self.path, DIR_IV_NUMBER);
            each(Listed { name: DIRIV_NAME.as_bytes(), kind: Some(Kind::File), body });
        }
        if self.is_root() {
            let body = ReverseDir::conf_number();
            each(Listed { name: CONF_NAME.as_bytes(), kind: Some(Kind::File), body });
        }
        Ok(())
    }

    fn get_xattr(&self, name: Option<&Name>, key: &CStr) -> Result<Vec<u8>> {
        match name {
            None => {
                let inner = |key: &CStr| self.inner.get_xattr(None, key);
                xattrs::get(&self.settings, key, || Ok(self.path.clone()), inner)
            }
            Some(name) => self.open(name, Open::Hold)?.get_xattr(key),
        }
    }

    fn list_xattr(&self, name: Option<&Name>) -> Result<Vec<u8>> {
        match name {
            None => Ok(xattrs::list(&self.settings, Kind::Dir, &self.inner.list_xattr(None)?)),
            Some(name) => self.open(name, Open::Hold)?.list_xattr(),
        }
    }

    unchangeable_dir!();
}

/// The longest target a program can read (`PATH_MAX` of `linux/limits.h` counts a NUL), in bytes.
const TARGET_LEN_MAX: usize = 4095;
