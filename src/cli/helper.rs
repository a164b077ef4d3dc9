//! Being called under another name: by `mount(8)` as `mount.tierfs` or `mount.fuse.tierfs`, by systemd
//! as its generator. Their arguments become ours.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use crate::cli::exit::{Exit, Failure};

/// Names under which `mount(8)` finds the program (`mount(8)`, "external helpers").
const NAMES: [&str; 2] = ["mount.tierfs", "mount.fuse.tierfs"];

/// The name under which systemd calls it at every boot, with three directories, of which the first is
/// for what an administrator may override (`systemd.generator(7)`).
const GENERATOR: &str = "tierfs-generator";

/// The arguments to run, or `None` where `mount -f` wants nothing done. Arguments of a call under
/// another name come back as they are.
///
/// # Errors
/// An option that is not one of `mount(8)`'s.
pub fn translate(arguments: Vec<OsString>) -> Result<Option<Vec<OsString>>, Failure> {
    let name = arguments.first().and_then(|path| Path::new(path).file_name());
    if name == Some(OsStr::new(GENERATOR)) {
        let normal = arguments.get(1).cloned().unwrap_or_default();
        return Ok(Some(vec!["tierfs".into(), "generate".into(), "units".into(), "--".into(), normal]));
    }
    if !name.is_some_and(|name| NAMES.iter().any(|known| name == OsStr::new(known))) {
        return Ok(Some(arguments));
    }
    let mut ours: Vec<OsString> = vec!["tierfs".into(), "mount".into()];
    let mut places = vec![OsString::from("--")];
    let mut theirs = arguments.into_iter().skip(1);
    while let Some(word) = theirs.next() {
        match word.to_str() {
            Some("-o") => ours.extend([word, theirs.next().unwrap_or_default()]),
            Some("-v") => ours.push(word),
            Some("-f") => return Ok(None),
            // Sloppy, and not in /etc/mtab: both mean nothing here.
            Some("-s" | "-n") => {}
            // The type, which is known, and a namespace, which mount(8) has entered already.
            Some("-t" | "-N") => drop(theirs.next()),
            Some(other) if other.starts_with('-') => {
                let line = format!("{other} is not an option of a mount helper");
                return Err(Failure::new(Exit::Usage, line));
            }
            _ => places.push(word),
        }
    }
    ours.extend(places);
    Ok(Some(ours))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(line: &str) -> Option<String> {
        let arguments = line.split(' ').map(OsString::from).collect();
        let ours = translate(arguments).unwrap()?;
        Some(ours.join(OsStr::new(" ")).into_string().unwrap())
    }

    #[test]
    fn arguments_of_mount_become_ours() {
        for (theirs, ours) in [
            ("/sbin/mount.tierfs /a:/b /m -o rw,ro", "tierfs mount -o rw,ro -- /a:/b /m"),
            ("mount.fuse.tierfs /a:/b /m -s -o ro", "tierfs mount -o ro -- /a:/b /m"),
            ("mount.tierfs -t tierfs -s -n -v /a:/b /m", "tierfs mount -v -- /a:/b /m"),
            ("/usr/bin/tierfs mount -f /a /m", "/usr/bin/tierfs mount -f /a /m"),
            ("/lib/tierfs-generator /run/a /run/b /run/c", "tierfs generate units -- /run/a"),
        ] {
            assert_eq!(translated(theirs).as_deref(), Some(ours));
        }
        assert_eq!(translated("mount.tierfs -f /a:/b /m"), None);
        let wrong = translate(["mount.tierfs", "-x"].map(OsString::from).into());
        assert!(wrong.unwrap_err().line.contains("-x"));
    }
}
