//! Facts about unions: which there are, and what is known of each.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::child::{self, PATIENCE};
use super::probe::{LOCKED, PLAIN};
use super::{boot, machine};
use crate::cli::exit::{Exit, Failure};
use crate::cli::{absolute, fstab, run};
use crate::config::{Draft, MountConfig, TierConfig, check, load, spec};
use crate::control::place;
use crate::daemon::runs;
use crate::doctor::facts::{Asked, Facts, Ground, Markers, Mount, Names, Rights, Served, Tier, Union};
use crate::sys::{local, mountinfo};
use crate::types::errno::Errno;
use crate::types::passphrase::Source;
use crate::{policy, yaml};

/// Where configurations are looked for.
pub(crate) const DIRECTORY: &str = "/etc/tierfs";

/// Names looked at, and seconds for it, unless all are wanted.
const SCAN: (u64, u64) = (50_000, 3);

/// The same where all are wanted: for ever, nearly.
const SCAN_DEEP: (u64, u64) = (u64::MAX, 24 * 3600);

/// What one word of the command line means.
enum Named {
    Config(PathBuf),
    Mount(mountinfo::Mount),
    Tiers(MountConfig),
    Line(fstab::Line),
}

/// Gathers everything about what is named, or about all there is.
///
/// # Errors
/// A name that means nothing.
pub(crate) fn gather(named: &[OsString], deep: bool) -> Result<Facts, Failure> {
    let mounts = mountinfo::read().map_err(|errno| Failure::error(format!("/proc/self/mountinfo: {errno}")))?;
    let mut meant = named.iter().map(|word| meaning(word, &mounts)).collect::<Result<Vec<_>, _>>()?;
    if named.is_empty() {
        meant.extend(configured().into_iter().map(Named::Config));
        meant.extend(fstab::lines(&fstab::text()).filter(fstab::Line::is_tierfs).map(Named::Line));
        meant.extend(mounts.iter().filter(|mount| mount.is_tierfs()).cloned().map(Named::Mount));
    }
    let mut facts = Facts { machine: machine::look(), ..Facts::default() };
    for one in meant {
        let (union, mount) = match one {
            Named::Config(path) => match of_file(&path, facts.machine.uid) {
                Some(union) => {
                    let point = union.config.as_ref().map(|config| config.mountpoint.clone());
                    (Some(union), point.and_then(|point| mounted_at(&mounts, &point)))
                }
                None if named.is_empty() => continue,
                None => {
                    let says = "is no configuration of a union that this user may read: a policy, or the configuration \
                                of a view, is checked by `tierfs config check`";
                    return Err(Failure::new(Exit::Usage, format!("{}: {says}", path.display())));
                }
            },
            // What a configuration has told already is not told twice.
            Named::Line(line) if facts.unions.iter().any(|known| is_at(known, &line.point)) => continue,
            Named::Line(line) => {
                let mount = mounted_at(&mounts, &line.point);
                (Some(of_line(&line, facts.machine.uid)), mount)
            }
            Named::Mount(mount) => (None, Some(mount)),
            Named::Tiers(config) => {
                let name =
                    config.tiers.iter().map(|tier| tier.path.display().to_string()).collect::<Vec<_>>().join(":");
                (Some(Union { name, config: Some(config), ..Union::default() }), None)
            }
        };
        add(&mut facts, union, mount);
    }
    facts.shares = machine::shares();
    for union in &mut facts.unions {
        let point = union.config.as_ref().map(|config| &config.mountpoint).filter(|point| point.is_absolute());
        union.shared = point.is_some_and(|point| facts.shares.iter().any(|share| share.path.starts_with(point)));
    }
    std::thread::scope(|scope| {
        for union in &mut facts.unions {
            scope.spawn(move || ask_about(union, deep));
        }
    });
    facts.stale_sockets = stale_sockets();
    facts.exports = machine::exports();
    Ok(facts)
}

fn meaning(word: &OsStr, mounts: &[mountinfo::Mount]) -> Result<Named, Failure> {
    let path = absolute(Path::new(word))?;
    // By the table of mounts first: asking the filesystem about a dead mount could hang.
    let above = mounts.iter().filter(|mount| path.starts_with(&mount.point));
    let above = above.max_by_key(|mount| mount.point.as_os_str().len());
    if let Some(mount) = above.filter(|mount| mount.is_tierfs()) {
        return Ok(Named::Mount(mount.clone()));
    }
    if let Some(line) = fstab::line_at(&fstab::text(), &path).filter(fstab::Line::is_tierfs) {
        return Ok(Named::Line(line));
    }
    let bytes = word.as_bytes();
    let in_directory = Path::new(DIRECTORY).join(word).with_extension("yaml");
    if bytes.ends_with(b".yaml") || bytes.ends_with(b".yml") {
        Ok(Named::Config(path))
    } else if !bytes.contains(&b'/') && in_directory.exists() {
        Ok(Named::Config(in_directory))
    } else if bytes.contains(&b':') {
        let tier = |path: PathBuf| absolute(&path).map(TierConfig::at);
        let tiers = spec::parse(word)?.into_iter().map(tier).collect::<Result<Vec<_>, Failure>>()?;
        Ok(Named::Tiers(check::finish_unmounted(Draft { tiers, ..Draft::default() })?))
    } else {
        let says = "is no mount of tierfs, no configuration file (*.yaml), no name of one in /etc/tierfs, and no \
                    PRIMARY:SECONDARY";
        Err(Failure::new(Exit::Usage, format!("{} {says}", path.display())))
    }
}

/// The configurations of this machine.
fn configured() -> Vec<PathBuf> {
    let entries = fs::read_dir(DIRECTORY).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    files.retain(|file| file.extension() == Some(OsStr::new("yaml")));
    files.sort();
    files
}

fn is_at(union: &Union, point: &Path) -> bool {
    union.config.as_ref().is_some_and(|config| config.mountpoint == point)
}

/// What a line of fstab mounts, by a file that it names or by itself.
fn of_line(line: &fstab::Line, uid: u32) -> Union {
    let named = line.config_file().and_then(|file| of_file(&file, uid));
    let mut union = named.unwrap_or_else(|| Union { name: line.point.display().to_string(), ..Union::default() });
    match line.configuration() {
        Ok(config) => {
            union.boot = boot::look(config.file.as_deref(), &config);
            union.beside = boot::beside(&config);
            union.config = Some(config);
        }
        Err(failure) => union.problem = Some(format!("the line of {} in /etc/fstab: {}", union.name, failure.line)),
    }
    union
}

fn mounted_at(mounts: &[mountinfo::Mount], point: &Path) -> Option<mountinfo::Mount> {
    mountinfo::at(mounts, point).filter(|mount| mount.is_tierfs()).cloned()
}

/// Adds a union with its mount, or a mount of which a union may be known.
fn add(facts: &mut Facts, union: Option<Union>, mount: Option<mountinfo::Mount>) {
    let known = mount.as_ref().is_some_and(|mount| facts.mounts.iter().any(|other| other.point == mount.point));
    if known && union.is_none() {
        return;
    }
    let state = mount.as_ref().map(|mount| child::ask::<Served>("mount", &[&mount.point], PATIENCE));
    match (union, &mount) {
        (Some(union), _) => facts.unions.push(Union { mounted: mount.is_some(), ..union }),
        (None, Some(mount)) => facts.unions.extend(seen_from_outside(mount, state.as_ref())),
        (None, None) => {}
    }
    if let Some(mount) = mount.filter(|_| !known) {
        let words = |text: &OsStr| text.to_string_lossy().split(',').map(str::to_owned).collect::<Vec<_>>();
        facts.mounts.push(Mount {
            point: mount.point,
            source: mount.source.to_string_lossy().into_owned(),
            user: mount.user,
            options: [words(&mount.flags), words(&mount.options)].concat(),
            state,
        });
    }
}

/// A mount without a configuration file: what can be seen of it.
fn seen_from_outside(mount: &mountinfo::Mount, state: Option<&Asked<Served>>) -> Option<Union> {
    // Another user's mount may name any directory as a tier, for root to try things in.
    mount.user.filter(|user| *user == 0 || *user == local::own_uid())?;
    let served = state.and_then(Asked::told).filter(|served| !served.dead && !served.tiers.is_empty())?;
    let tiers = served.tiers.iter().cloned().map(TierConfig::at).collect();
    let draft =
        Draft { tiers, mountpoint: Some(mount.point.clone()), policy: served.policy.clone(), ..Draft::default() };
    let config = check::finish(draft).ok()?;
    let policy = config.policy.as_ref().map(|path| (path.clone(), policy_of(path)));
    let name = mount.point.display().to_string();
    Some(Union { name, config: Some(config), guessed: true, policy, mounted: true, ..Union::default() })
}

fn policy_of(path: &Path) -> Result<policy::Policy, String> {
    let what = run::policy_file(path).map_err(|failure| failure.line)?;
    runs::policy(&what, None).map_err(|problem| problem.line)
}

/// A configuration file; none where it is that of something else, or not this user's to read.
fn of_file(path: &Path, uid: u32) -> Option<Union> {
    let mut union = Union { name: path.display().to_string(), ..Union::default() };
    union.file = rights(path).ok();
    union.above = path.parent().and_then(|above| rights(above).ok());
    let text = match load::read(path) {
        Ok(text) => text,
        Err(why) if uid != 0 && fs::File::open(path).is_err_and(|error| Errno::of(&error) == Errno::EACCES) => {
            tracing::debug!("{}: {why}", path.display());
            return None;
        }
        Err(why) => {
            union.problem = Some(format!("{}: {why}", path.display()));
            return Some(union);
        }
    };
    let keys = yaml::keys(&text);
    if policy::load::is_policy(&keys) || keys.iter().any(|key| key == "sources") {
        return None;
    }
    match load::load(path).and_then(check::finish_unmounted) {
        Ok(config) => union.config = Some(config),
        Err(error) => {
            union.problem = Some(error.to_string());
            return Some(union);
        }
    }
    if let Some(config) = &union.config {
        union.policy = config.policy.as_ref().map(|path| (path.clone(), policy_of(path)));
        if let (Some((path, Ok(policy))), Ok(count)) = (&union.policy, u8::try_from(config.tiers.len()))
            && let Err(line) = policy.check_tiers(count)
        {
            union.policy = Some((path.clone(), Err(format!("{}: {line}", path.display()))));
        }
        union.secrets = config.tiers.iter().filter_map(secret).collect();
        union.boot = boot::look(Some(path), config);
        union.beside = boot::beside(config);
    }
    Some(union)
}

fn rights(path: &Path) -> Result<Rights, String> {
    match fs::metadata(path) {
        Ok(found) => Ok(Rights { path: path.to_path_buf(), uid: found.uid(), mode: found.mode() & 0o7777 }),
        Err(error) => Err(format!("{}: {}", path.display(), Errno::of(&error))),
    }
}

/// The file of a tier's passphrase. Its contents are nobody's business.
fn secret(tier: &TierConfig) -> Option<Result<Rights, String>> {
    match &tier.encryption.as_ref()?.source {
        Source::PassFile(path) | Source::KeyFile(path) => Some(rights(path)),
        Source::Prompt | Source::Command(_) | Source::Credential(_) | Source::Keyring(_) => None,
    }
}

/// Asks the tiers of a union, all at once.
fn ask_about(union: &mut Union, deep: bool) {
    let Some(config) = &union.config else { return };
    let mut tiers = Vec::new();
    let (mut whole, mut names) = (None, None);
    std::thread::scope(|scope| {
        let asked: Vec<_> = config.tiers.iter().map(|tier| scope.spawn(|| ask_tier(tier))).collect();
        let both = scope.spawn(|| {
            let words = config.tiers.iter().map(marked);
            let words: Vec<OsString> = std::iter::once(config.mountpoint.clone().into()).chain(words).collect();
            child::ask::<(Option<String>, Markers, Ground)>("union", &words, PATIENCE)
        });
        let folded = scope.spawn(|| ask_names(config, union.mounted, deep));
        tiers = asked.into_iter().filter_map(|thread| thread.join().ok()).collect();
        whole = both.join().ok();
        names = folded.join().ok().flatten();
    });
    if let Some(Asked::Told((overlap, markers, ground))) = whole {
        union.overlap = overlap;
        union.ground = ground;
        // A mount has looked at them, and says itself what is missing.
        union.markers = if union.mounted { Markers::Good } else { markers };
    }
    union.tiers = tiers;
    union.names = names;
}

fn marked(tier: &TierConfig) -> OsString {
    let mark = if tier.encryption.is_some() { LOCKED } else { PLAIN };
    OsStr::from_bytes(&[&[mark], tier.path.as_os_str().as_bytes()].concat()).to_owned()
}

fn ask_tier(tier: &TierConfig) -> Asked<Tier> {
    match child::ask::<Tier>("tier", &[&tier.path], PATIENCE) {
        Asked::Told(mut found) => {
            found.tried = match child::ask("try", &[&tier.path], PATIENCE) {
                Asked::Told(tried) => tried,
                Asked::Refused(why) => Asked::Refused(why),
                Asked::Silent => Asked::Silent,
            };
            if tier.encryption.is_some() {
                // What is called so there is not ours.
                found.own = None;
            }
            // Before the first mount there is no place for it.
            found.renames = found.own.is_some().then(|| child::ask("rename", &[&tier.path], PATIENCE));
            Asked::Told(found)
        }
        other => other,
    }
}

/// In the mount, where there is one; else on the tiers, as far as they are in clear.
fn ask_names(config: &MountConfig, mounted: bool, deep: bool) -> Option<Asked<Names>> {
    let (most, seconds) = if deep { SCAN_DEEP } else { SCAN };
    let roots: Vec<&Path> = if mounted {
        vec![&config.mountpoint]
    } else {
        config.tiers.iter().filter(|tier| tier.encryption.is_none()).map(|tier| tier.path.as_path()).collect()
    };
    let limits = [most, seconds].map(|number| OsString::from(number.to_string()));
    let words: Vec<OsString> = limits.into_iter().chain(roots.iter().map(|root| root.as_os_str().to_owned())).collect();
    (!roots.is_empty()).then(|| child::ask("names", &words, Duration::from_secs(seconds) + PATIENCE))
}

/// Sockets of this user's mounts that nobody listens on any more.
fn stale_sockets() -> Vec<PathBuf> {
    let entries = fs::read_dir(place::directory()).into_iter().flatten().flatten().map(|entry| entry.path());
    let sockets = entries.filter(|path| path.extension().is_some_and(|word| word == "sock"));
    let refused = std::io::ErrorKind::ConnectionRefused;
    let is_stale = |path: &PathBuf| local::try_connect(path).is_err_and(|error| error.kind() == refused);
    sockets.filter(is_stale).collect()
}
