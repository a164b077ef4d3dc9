//! The Debian package: what it puts where, and what it leaves alone when it is upgraded and purged.

use crate::machine::Machine;
use crate::packages;

/// Everything about every file of the tiers.
const TIERS: &str =
    "find /disks -printf '%p %y %m %U %G %s %T@ %i\\n' | sort; find /disks -type f -exec sha256sum {} + | sort";

/// The files of a package that is installed are whole, its pages are found, its conffiles are known.
#[test]
fn an_installed_package_is_whole() {
    let Some(machine) = Machine::with_package("") else { return };
    machine.sh("dpkg --verify tierfs; dpkg --audit tierfs; tierfs --version");
    assert_eq!(machine.sh("dpkg-query -W -f '${Status} ${Version}' tierfs"), "install ok installed 0.1.0-1");
    let conffiles = machine.sh("dpkg-query -W -f '${Conffiles}' tierfs");
    assert!(conffiles.contains("/etc/default/tierfs") && !conffiles.contains(".yaml"), "{conffiles}");
    machine
        .sh("man -w 1 tierfs; man -w 1 tierfs-migrate; man -w 5 tierfs.yaml; man -w 8 mount.tierfs mount.fuse.tierfs");
    machine.sh("systemctl cat tierfs@x.service tierfs-migrate@x.service tierfs-migrate@x.timer");
    machine.sh("for link in /sbin/mount.tierfs /sbin/mount.fuse.tierfs; do [ \"$(readlink -f $link)\" = /usr/bin/tierfs ]; done");
}

/// An upgrade leaves mounts as they are and says so, keeps what was changed in /etc, and its commands
/// still reach the daemon of the old program. A restart brings the new one.
#[test]
fn an_upgrade_leaves_mounts_alone() {
    let (Some(machine), Some(newer)) = (Machine::with_package(""), packages::deb("2")) else { return };
    machine.configure("docs", "");
    machine.sh("systemctl start tierfs@docs; echo x >/srv/docs/file; echo '# mine' >>/etc/default/tierfs");
    let pid = machine.sh("systemctl show -P MainPID tierfs@docs");
    let told = machine.install(&newer);
    assert!(told.contains(&format!("mounts of processes {pid} go on with the program from before")), "{told}");
    assert_eq!(machine.sh("dpkg-query -W -f '${Version}' tierfs"), "0.1.0-2");
    assert_eq!(machine.sh("systemctl show -P MainPID tierfs@docs"), pid);
    machine.sh("grep mine /etc/default/tierfs; tierfs migrate --older-than 0 /srv/docs; grep x /srv/docs/file");
    machine.sh("systemctl restart tierfs@docs; grep x /srv/docs/file");
    assert_ne!(machine.sh("systemctl show -P MainPID tierfs@docs"), pid);
    machine.sh("[ \"$(readlink /proc/$(systemctl show -P MainPID tierfs@docs)/exe)\" = /usr/bin/tierfs ]");
}

/// Removed and purged, it has unmounted what its units had mounted, left what somebody else had, and
/// touched no tier; configurations stay, its own files go.
#[test]
fn a_purge_touches_neither_tiers_nor_configurations() {
    let Some(machine) = Machine::with_package("") else { return };
    machine.configure("docs", "");
    machine.configure("hand", "");
    machine
        .sh("systemctl enable --now tierfs@docs tierfs-migrate@docs.timer; tierfs mount --config /etc/tierfs/hand.yaml
         for mount in docs hand; do mkdir /srv/$mount/dir; echo $mount >/srv/$mount/dir/file; done");
    // The kernel tells of a close a moment after it: until then the file is in use.
    machine.until("tierfs migrate --older-than 0 /srv/docs; [ -e /disks/docs/slow/dir/file ]");
    let before = machine.sh(TIERS);
    assert!(before.contains("/disks/docs/slow/dir/file"), "{before}");

    let told = machine.sh("dpkg --remove tierfs");
    assert!(told.contains("/srv/hand stays mounted"), "{told}");
    machine.sh("! findmnt /srv/docs; grep hand /srv/hand/dir/file; [ -e /etc/default/tierfs ]");
    let told = machine.sh("dpkg --purge tierfs");
    assert!(told.contains("/etc/tierfs keeps configurations that are yours"), "{told}");
    machine.sh("grep hand /srv/hand/dir/file; umount /srv/hand");
    assert_eq!(machine.sh(TIERS), before);
    assert_eq!(machine.sh("ls /etc/tierfs"), "docs.yaml\nhand.yaml");
    let left =
        machine.sh("find /etc /usr/bin /usr/lib /usr/sbin /usr/share /var/lib/systemd -name '*tierfs*' 2>/dev/null");
    assert_eq!(left, "/etc/tierfs");
}

/// Who has an index of names is told what to write into it.
#[test]
fn updatedb_is_mentioned_where_it_would_walk_the_tiers() {
    let (Some(machine), Some(package)) = (Machine::boot(""), packages::deb("1")) else { return };
    machine.put("/etc/updatedb.conf", "PRUNEFS = \"NFS fuse.sshfs\"\n");
    let told = machine.install(&package);
    assert!(told.contains("add fuse.tierfs to PRUNEFS"), "{told}");
    machine.put("/etc/updatedb.conf", "PRUNEFS = \"NFS fuse.tierfs\"\n");
    let told = machine.install(&package);
    assert!(!told.contains("PRUNEFS"), "{told}");
}
