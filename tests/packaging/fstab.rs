//! `mount(8)`, `umount(8)` and `/etc/fstab`: the program as `mount.tierfs`.

use crate::machine::Machine;

const FSTAB: &str = "\
none /srv/docs tierfs config=/etc/tierfs/docs.yaml,noauto,nofail,_netdev,x-systemd.requires-mounts-for=/disks,x-systemd.before=smbd.service 0 0
/disks/gone/fast:/disks/gone/slow /srv/gone tierfs nofail,x-systemd.device-timeout=1s 0 0
/disks/own/fast:/disks/own/slow /srv/own tierfs user,noauto 0 0
/disks/a\\040b/fast:/disks/a\\040b/s\\134:low /srv/a\\040b tierfs noauto,ro,fsname=a\\134\\054b 0 0
";

/// systemd makes a unit of the line, which is started when it serves; a line whose tiers are not there
/// holds up nothing, and says why.
#[test]
fn a_line_of_fstab_is_a_unit() {
    let Some(machine) = Machine::with_package(FSTAB) else { return };
    machine.configure("docs", "");
    machine.sh("systemctl start srv-docs.mount; findmnt -n -t fuse.tierfs /srv/docs; echo x >/srv/docs/file");
    let unit =
        machine.sh("systemctl show -P Before srv-docs.mount; systemctl show -P RequiresMountsFor srv-docs.mount");
    assert!(unit.contains("smbd.service") && unit.contains("/disks"), "{unit}");
    machine.sh("systemctl stop srv-docs.mount");
    machine.sh("! findmnt /srv/docs");
    machine.until("! pgrep -x tierfs");

    machine.sh("mount /srv/docs; grep x /srv/docs/file; umount /srv/docs");
    machine.sh("! findmnt /srv/docs");
    let ran = machine.try_sh("systemctl start srv-gone.mount");
    assert_eq!(ran.code, Some(1), "{ran:?}");
    machine.until("journalctl -u srv-gone.mount -o cat | grep -q 'tierfs: /disks/gone/fast cannot be opened'");
    assert_eq!(machine.sh("systemctl is-active machine.target local-fs.target"), "active\nactive");
}

/// What `tierfs init` says to do next can be done as it is said: each line by itself mounts.
#[test]
fn what_init_says_to_do_works() {
    let Some(machine) = Machine::with_package("") else { return };
    let said = machine.try_sh(
        "mkdir -p /disks/new/fast /disks/new/slow /srv/new
         tierfs init --mountpoint /srv/new --write-config /etc/tierfs/new.yaml /disks/new/fast:/disks/new/slow",
    );
    assert_eq!((said.code, said.out.as_str()), (Some(0), ""), "{said:?}");
    let line_of = |start: &str| said.err.lines().map(str::trim).find(|line| line.starts_with(start)).expect(start);
    let command = |start: &str| line_of(start).split("  ").next().expect("a command");
    machine.sh(&format!(
        "{}; {}",
        command("systemctl enable --now tierfs@"),
        command("systemctl enable --now tierfs-m")
    ));
    machine.sh("findmnt -t fuse.tierfs /srv/new; systemctl is-active tierfs@new tierfs-migrate@new.timer");
    machine.sh("systemctl disable --now tierfs@new; ! findmnt /srv/new");
    machine.sh(&format!(
        "echo '{}' >>/etc/fstab; systemctl daemon-reload; systemctl start srv-new.mount",
        line_of("none ")
    ));
    machine.sh(
        "findmnt -t fuse.tierfs /srv/new; systemctl show -P RequiresMountsFor srv-new.mount | grep /disks/new/slow",
    );
}

/// A user mounts and unmounts what the line lets him, over directories that are his.
#[test]
fn a_user_mounts_what_fstab_lets_him() {
    let Some(machine) = Machine::with_package(FSTAB) else { return };
    machine.sh("mkdir -p /disks/own/fast /disks/own/slow /srv/own; chown -R games /disks/own /srv/own
         runuser -u games -- mount /srv/own; runuser -u games -- sh -c 'echo x >/srv/own/file'
         [ $(stat -c %U /disks/own/fast/file) = games ]; ! ls /srv/own 2>/dev/null
         runuser -u games -- umount /srv/own; ! findmnt /srv/own");
}

/// Spaces, colons and commas reach the program as they are meant.
#[test]
fn escapes_of_fstab_are_understood() {
    let Some(machine) = Machine::with_package(FSTAB) else { return };
    machine.sh(
        "mkdir -p '/disks/a b/fast' '/disks/a b/s:low' '/srv/a b'; tierfs init '/disks/a b/fast:/disks/a b/s\\:low'",
    );
    machine.sh("echo x >'/disks/a b/s:low/file'; mount '/srv/a b'; grep x '/srv/a b/file'; umount '/srv/a b'");
}

/// What the kernel can change under a mount changes; the rest is one line; `mount -a` and a second
/// mount do no harm.
#[test]
fn a_remount_changes_what_it_can() {
    let Some(machine) = Machine::with_package(FSTAB) else { return };
    machine.configure("docs", "");
    machine.sh("mount /srv/docs; mount -o remount,ro /srv/docs");
    let ran = machine.try_sh("echo x >/srv/docs/file");
    assert!(ran.err.contains("Read-only file system"), "{ran:?}");
    machine.sh("mount -o remount,rw,noexec /srv/docs; echo x >/srv/docs/file");
    let options = "findmnt -n -o VFS-OPTIONS,FS-OPTIONS /srv/docs";
    let shown = machine.sh(options);
    assert!(shown.starts_with("rw,nosuid,nodev,noexec,relatime rw,"), "{shown}");
    machine.sh("tierfs mount -o remount,exec /srv/docs");
    let shown = machine.sh(options);
    assert!(shown.starts_with("rw,nosuid,nodev,relatime rw,"), "{shown}");

    let ran = machine.try_sh("mount -o remount,min_free=10% /srv/docs");
    let line = "tierfs: -o min_free=10%: cannot be changed while it is mounted: unmount, then mount again\n";
    assert_eq!((ran.code, ran.err.as_str()), (Some(2), line));
    let ran = machine.try_sh("exec 3>/srv/docs/file; mount -o remount,ro /srv/docs");
    assert_eq!(ran.code, Some(75));
    assert!(ran.err.contains("files are open for writing"), "{ran:?}");
    let ran = machine.try_sh("mount /srv/docs");
    assert!(ran.code == Some(75) && ran.err.contains("/srv/docs: is mounted already: "), "{ran:?}");
    machine.sh("umount /srv/docs");
    machine.until("! pgrep -x tierfs");
    machine.sh("mount -o ro /srv/docs; findmnt -n -O ro /srv/docs");
    let ran = machine.try_sh("mount -o remount,rw /srv/docs");
    assert!(ran.code == Some(1) && ran.err.contains("was mounted with ro"), "{ran:?}");
    machine.sh("findmnt -n -O ro /srv/docs; umount /srv/docs");
}
