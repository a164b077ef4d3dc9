//! What `tierfs init` says to do with the configuration that it has written.

use std::path::Path;

/// Where the units look for configurations.
const UNITS: &str = "/etc/tierfs";

/// The lines of shell and of fstab that mount the union of `file`, with what is to be set before.
#[must_use]
pub fn steps(file: &Path, mountpoint: Option<&Path>, tiers: &[&Path]) -> String {
    let shown = file.display();
    let Some(mountpoint) = mountpoint else {
        return format!("Next: set `mountpoint:` in {shown}, then\n  tierfs mount --config {shown}\n");
    };
    let Some(name) = unit_name(file) else {
        return format!("Next:\n  tierfs mount --config {shown}\n");
    };
    let mut text = format!(
        "Next: see what is to be set in {shown}: `allow_other: true` for Samba and other users, and a `policy:`. Then\n  \
         systemctl enable --now tierfs@{name}                  mounts it, now and at each boot\n  \
         systemctl enable --now tierfs-migrate@{name}.timer    moves cold files each night, by the policy\n"
    );
    if let Some(line) = fstab(file, mountpoint, tiers) {
        text.push_str("Instead of tierfs@, a line in /etc/fstab does as well (one of the two):\n  ");
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// NAME of tierfs@NAME, where the units find the file and systemd takes the name as it is.
fn unit_name(file: &Path) -> Option<&str> {
    let here = file.parent()? == Path::new(UNITS) && file.extension()? == "yaml";
    let name = file.file_stem()?.to_str()?;
    let simple = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    (here && simple).then_some(name)
}

/// `None` where fstab or a list of options would need escapes: mount.tierfs(8) has them.
fn fstab(file: &Path, mountpoint: &Path, tiers: &[&Path]) -> Option<String> {
    let word = |path: &Path| {
        let text = path.to_str()?.to_owned();
        let simple = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/_.-+@~".contains(&byte));
        simple.then_some(text)
    };
    let mut line = format!("none  {}  tierfs  config={},nofail", word(mountpoint)?, word(file)?);
    for tier in tiers {
        line.push_str(",x-systemd.requires-mounts-for=");
        line.push_str(&word(tier)?);
    }
    line.push_str("  0 0");
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIERS: [&str; 2] = ["/fast/docs", "/slow/docs"];

    fn of(file: &str, mountpoint: Option<&str>, tiers: [&str; 2]) -> String {
        steps(Path::new(file), mountpoint.map(Path::new), &tiers.map(Path::new))
    }

    #[test]
    fn a_file_that_the_units_find_is_started_by_them_or_by_fstab() {
        let text = of("/etc/tierfs/docs.yaml", Some("/srv/docs"), TIERS);
        assert!(text.contains("systemctl enable --now tierfs@docs "), "{text}");
        assert!(text.contains("systemctl enable --now tierfs-migrate@docs.timer "), "{text}");
        let line = "\n  none  /srv/docs  tierfs  config=/etc/tierfs/docs.yaml,nofail,\
                    x-systemd.requires-mounts-for=/fast/docs,x-systemd.requires-mounts-for=/slow/docs  0 0\n";
        assert!(text.contains(line), "{text}");
    }

    #[test]
    fn what_would_need_escapes_is_left_out() {
        let text = of("/etc/tierfs/docs.yaml", Some("/srv/my docs"), TIERS);
        assert!(text.contains("tierfs@docs") && !text.contains("fstab"), "{text}");
        let text = of("/etc/tierfs/docs.yaml", Some("/srv/docs"), ["/fast,docs", "/slow"]);
        assert!(!text.contains("fstab"), "{text}");
        let text = of("/etc/tierfs/a,b.yaml", Some("/srv/docs"), TIERS);
        assert_eq!(text, "Next:\n  tierfs mount --config /etc/tierfs/a,b.yaml\n");
    }

    #[test]
    fn elsewhere_it_is_mounted_by_hand() {
        let text = of("/home/ann/docs.yaml", Some("/home/ann/docs"), TIERS);
        assert_eq!(text, "Next:\n  tierfs mount --config /home/ann/docs.yaml\n");
        let text = of("/etc/tierfs/docs.yaml", None, TIERS);
        assert_eq!(
            text,
            "Next: set `mountpoint:` in /etc/tierfs/docs.yaml, then\n  tierfs mount --config /etc/tierfs/docs.yaml\n"
        );
    }
}
