//! `tierfs@NAME.service` and `tierfs-migrate@NAME.service` under the real systemd.

use std::io::{Read, Seek};

use crate::machine::Machine;

/// A service that holds a file of the mount open until something is written into `/run/let-go`, and
/// then writes to it.
const HOLDER: &str = "\
mkfifo /run/let-go
systemd-run --unit=holder sh -c 'exec 3>>/srv/docs/held; touch /run/holds; read -r _ </run/let-go; echo late >&3'";

/// A machine in which `tierfs@docs` serves.
fn serving() -> Option<Machine> {
    let machine = Machine::with_package("")?;
    machine.configure("docs", "  allow_other: true\n");
    machine.sh("systemctl start tierfs@docs");
    Some(machine)
}

fn main_pid(machine: &Machine) -> String {
    machine.sh("systemctl show -P MainPID tierfs@docs")
}

/// Started means that it serves; `systemctl status` says what; the units are without a fault; the
/// journal has what it says; systemd knows which mounts the tiers need.
#[test]
fn a_service_is_started_once_it_serves() {
    let Some(machine) = serving() else { return };
    assert_eq!(machine.sh("findmnt -n -o FSTYPE /srv/docs; stat -f -c %T /srv/docs"), "fuse.tierfs\nfuseblk");
    let status = machine.sh("systemctl show -P StatusText tierfs@docs");
    assert_eq!(status, "serving /srv/docs from /disks/docs/fast:/disks/docs/slow");
    machine.until("journalctl -u tierfs@docs -o cat | grep -q '^serving mountpoint=/srv/docs'");
    let needs = machine.sh("systemctl show -P RequiresMountsFor tierfs@docs");
    let mut needs: Vec<&str> = needs.split(' ').collect();
    needs.sort_unstable();
    assert_eq!(needs, ["/disks/docs/fast", "/disks/docs/slow", "/srv"]);
    let verified = "systemd-analyze verify tierfs@docs.service tierfs-migrate@docs.service tierfs-migrate@docs.timer";
    let ran = machine.try_sh(verified);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    // Its own socket is found by commands, as outside of a service.
    machine.sh("echo x >/srv/docs/file; tierfs where /srv/docs/file | grep -q ': primary '");
}

/// What a wrong configuration says is the reason of the failure, and it is not tried again and again.
#[test]
fn a_wrong_configuration_is_told_once() {
    let Some(machine) = Machine::with_package("") else { return };
    machine.configure("docs", "  alow_other: true\n");
    let ran = machine.try_sh("systemctl start tierfs@docs");
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert_eq!(
        machine.sh("systemctl show -P ExecMainStatus tierfs@docs; systemctl show -P NRestarts tierfs@docs"),
        "78\n0"
    );
    let told = "journalctl -u tierfs@docs -o cat | grep 'tierfs: /etc/tierfs/docs.yaml:.*did you mean'";
    machine.until(told);
    assert_eq!(machine.sh(&format!("{told} | wc -l")), "1");
}

/// A daemon that is killed comes again by itself; without a restart its dead mount is gone as well; one
/// that somebody else has left is no hindrance.
#[test]
fn a_killed_daemon_leaves_no_dead_mount() {
    let Some(machine) = serving() else { return };
    let old = main_pid(&machine);
    machine.sh(&format!("echo before >/srv/docs/file; kill -9 {old}"));
    machine.until(&format!(
        "[ \"$(systemctl show -P MainPID tierfs@docs)\" != {old} ] && systemctl -q is-active tierfs@docs
         grep -q before /srv/docs/file"
    ));
    assert_eq!(machine.sh("findmnt -n -o TARGET | grep -c docs"), "1");

    machine.put("/etc/systemd/system/tierfs@docs.service.d/once.conf", "[Service]\nRestart=no\n");
    machine.sh("systemctl daemon-reload");
    let old = main_pid(&machine);
    machine.sh(&format!("kill -9 {old}"));
    machine.until("[ \"$(systemctl is-active tierfs@docs)\" = failed ] && ! findmnt /srv/docs");

    machine.sh("tierfs mount --config /etc/tierfs/docs.yaml; kill -9 $(pgrep -x tierfs)");
    machine.until("findmnt /srv/docs && ! stat -f /srv/docs 2>/dev/null");
    machine.sh("systemctl start tierfs@docs; grep before /srv/docs/file");
}

/// A stop with a file open: the mount is gone at once, the program goes on with its file, and the
/// service ends when it is closed.
#[test]
fn a_stop_lets_open_files_be_written_to_their_end() {
    let Some(machine) = serving() else { return };
    machine.sh(HOLDER);
    machine.until("[ -e /run/holds ]");
    machine.sh("systemctl stop --no-block tierfs@docs");
    machine.until("! findmnt /srv/docs");
    assert_eq!(machine.try_sh("systemctl is-active tierfs@docs").out, "deactivating\n");
    machine.until("systemctl show -P StatusText tierfs@docs | grep -q waiting");
    machine.sh("echo >/run/let-go");
    machine.until("[ \"$(systemctl is-active tierfs@docs)\" = inactive ]");
    assert_eq!(machine.sh("cat /disks/docs/fast/held; systemctl show -P Result tierfs@docs"), "late\nsuccess");
}

/// One that holds on longer than the service may take to stop is cut off: nothing is left mounted, what it wrote is
/// there, and the next start works.
#[test]
fn a_stop_does_not_wait_for_ever() {
    let Some(machine) = serving() else { return };
    machine.put("/etc/systemd/system/tierfs@docs.service.d/soon.conf", "[Service]\nTimeoutStopSec=2s\n");
    machine.sh("systemctl daemon-reload");
    machine.sh(HOLDER);
    machine.until("[ -e /run/holds ]");
    machine.sh("echo early >>/srv/docs/held; systemctl stop tierfs@docs");
    machine.sh("! findmnt /srv/docs");
    assert_eq!(machine.sh("systemctl show -P Result tierfs@docs"), "timeout");
    // On a machine that is busy the killed process can still have the tiers' locks: the unit then tries again.
    let _started_or_will_be = machine.try_sh("systemctl start tierfs@docs");
    machine.until("systemctl -q is-active tierfs@docs && grep early /srv/docs/held");
    machine.sh("echo >/run/let-go");
}

/// Enabled, it comes at boot before the file server, and at the end of the machine the server stops
/// first, then the mount, then what the tiers are on.
#[test]
fn boot_and_shutdown_are_in_order() {
    let fstab = "tmpfs /disks/docs tmpfs x-systemd.mkdir,X-mount.mkdir 0 0\n";
    let Some(mut machine) = Machine::with_package(fstab) else { return };
    machine.sh("mkdir -p /var/told; touch /var/told/order");
    let tell = |what: &str| {
        format!(
            "/bin/sh -c 'echo \"{what}: $$(findmnt -l -n -o TARGET -t fuse.tierfs,tmpfs | grep docs | xargs)\" >>/var/told/order'"
        )
    };
    let server = format!(
        "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart={}\nExecStop={}\n[Install]\nWantedBy=multi-user.target\n",
        tell("server starts"),
        tell("server stops")
    );
    machine.put("/etc/systemd/system/smbd.service", &server);
    let after = format!("[Service]\nExecStopPost={}\n", tell("mount stopped"));
    machine.put("/etc/systemd/system/tierfs@docs.service.d/tell.conf", &after);
    machine.configure("docs", "");
    machine.sh("systemctl enable tierfs@docs smbd; systemctl start multi-user.target; echo x >/srv/docs/file");
    machine.until("systemctl is-active smbd tierfs@docs");
    // The file is read by its descriptor when the machine that it is in has gone.
    let mut told = std::fs::File::open(machine.path("/var/told/order")).expect("open");
    machine.power_off();
    let mut text = String::new();
    told.rewind().and_then(|()| told.read_to_string(&mut text)).expect("read");
    let expected =
        "server starts: /disks/docs /srv/docs\nserver stops: /disks/docs /srv/docs\nmount stopped: /disks/docs\n";
    assert_eq!(text, expected);
}

/// What the unit closes to the daemon is nothing that a filesystem needs: owners, devices, set-id bits,
/// attributes of every kind, and moves that keep them; nor do credentials hide the mount.
#[test]
fn a_hardened_service_does_all_that_a_filesystem_does() {
    let Some(machine) = Machine::with_package("") else { return };
    machine.put("/etc/secret", "word");
    machine.put("/etc/systemd/system/tierfs@docs.service.d/key.conf", "[Service]\nLoadCredential=key:/etc/secret\n");
    machine.configure("docs", "  allow_other: true\n  dev: true\n  suid: true\n");
    machine.sh("systemctl start tierfs@docs; findmnt /srv/docs");
    machine.sh("cd /srv/docs; mkdir d; chmod 777 .
         runuser -u games -- sh -c 'echo mine >owned; setfacl -m u:mail:r owned'
         echo x >plain; chown news:mail plain; chmod 6755 plain; touch -d 2001-02-03 plain
         setfattr -n user.a -v b plain; setfattr -n trusted.c -v d plain
         echo x >able; setcap cap_net_raw+ep able
         mknod d/node c 1 3; mkfifo d/pipe; ln -s owned d/link; ln plain d/hard
         mv d e; chattr +A owned; echo big >>owned");
    let facts = "cd /srv/docs
        stat -c '%n %U %G %a %h %i %s %Y' plain owned able e/node e/pipe e/link e/hard | sort
        getfattr -d -m - plain able owned | sort; getfacl owned; getcap able; lsattr owned; cat owned";
    let before = machine.sh(facts);
    assert!(before.contains("plain news mail 6755 2"), "{before}");
    assert!(before.contains("owned games games") && before.contains("user:mail:r--"), "{before}");
    assert!(before.contains("cap_net_raw=ep") && before.contains("trusted.c="), "{before}");
    // The kernel tells of a close a moment after it: until then the file is in use.
    machine.until(
        "tierfs migrate --older-than 0 /srv/docs
         [ \"$(tierfs where /srv/docs/owned /srv/docs/able | grep -c ': secondary ')\" = 2 ]",
    );
    assert_eq!(machine.sh(facts), before);
    let escape = machine.sh("cat /proc/$(systemctl show -P MainPID tierfs@docs)/status");
    assert!(escape.contains("NoNewPrivs:\t1") && escape.contains("Seccomp:\t2"), "{escape}");
}

/// The passphrase of an encrypted tier reaches a confined service as a credential and from root's
/// keyring; a wrong one is not tried again.
#[test]
fn an_encrypted_tier_is_unlocked_for_the_service() {
    let Some(machine) = Machine::with_package("") else { return };
    let configure = |source: &str| {
        let tiers = format!("[{{path: /disks/fast}}, {{path: /disks/slow, encryption: {{{source}}}}}]");
        machine.put("/etc/tierfs/docs.yaml", &format!("version: 1\nmountpoint: /srv/docs\ntiers: {tiers}\n"));
    };
    machine.sh("mkdir -p /disks/fast /disks/slow /srv/docs; (umask 77; echo word >/etc/secret; echo wrong >/etc/wrong)
         tierfs key init --scrypt-cost 10 --passfile /etc/secret /disks/slow");
    machine.put("/etc/systemd/system/tierfs@docs.service.d/key.conf", "[Service]\nLoadCredential=docs:/etc/secret\n");
    configure("credential: docs");
    machine.sh("systemctl daemon-reload; systemctl start tierfs@docs; echo cold >/srv/docs/file");
    machine.until("tierfs migrate --older-than 0 /srv/docs; ! grep -rq cold /disks");
    machine.sh("grep cold /srv/docs/file");

    // Keyrings belong to users and not to machines: this one is root's everywhere.
    let name = format!("tierfs-test-{}", std::process::id());
    configure(&format!("keyring: {name}"));
    machine.sh(&format!("keyctl timeout $(keyctl add user {name} word @u) 60"));
    let ran = machine.try_sh("systemctl restart tierfs@docs; grep cold /srv/docs/file");
    machine.sh(&format!("keyctl unlink $(keyctl search @u user {name}) @u"));
    assert_eq!(ran.code, Some(0), "{ran:?}");

    configure("passfile: /etc/wrong");
    assert_eq!(machine.try_sh("systemctl restart tierfs@docs").code, Some(1));
    assert_eq!(
        machine.sh("systemctl show -P ExecMainStatus tierfs@docs; systemctl show -P NRestarts tierfs@docs"),
        "77\n0"
    );
}

/// The nightly run: by the words in /etc/default/tierfs or by the policy, with and without a mount.
#[test]
fn a_migration_runs_as_a_service_and_by_its_timer() {
    let Some(machine) = serving() else { return };
    machine.put("/etc/default/tierfs", "TIERFS_MIGRATE_OPTIONS=--older-than 1y\n");
    machine.sh("echo x >/srv/docs/old; touch -d '2 years ago' /srv/docs/old; echo x >/srv/docs/new");
    // It begins more often here than systemd lets a unit.
    let often = "[Unit]\nStartLimitIntervalSec=0\n";
    machine.put("/etc/systemd/system/tierfs-migrate@docs.service.d/often.conf", often);
    machine.sh("systemctl daemon-reload");
    machine.until("systemctl start tierfs-migrate@docs; [ -e /disks/docs/slow/old ]");
    assert_eq!(machine.sh("ls /disks/docs/slow; ls /disks/docs/fast"), "old\nnew");
    machine.sh("systemctl start tierfs-migrate@docs");

    machine.sh("systemctl stop tierfs@docs; echo >/etc/default/tierfs; touch -d '2 years ago' /disks/docs/fast/new");
    assert_eq!(machine.try_sh("systemctl start tierfs-migrate@docs").code, Some(1), "no policy and no words");
    machine.put("/etc/tierfs/old.yaml", "version: 1\nrules:\n  - {older_than: 1y, action: demote}\n");
    machine.sh("echo 'policy: old.yaml' >>/etc/tierfs/docs.yaml; systemctl start tierfs-migrate@docs");
    assert_eq!(machine.sh("ls /disks/docs/slow"), "new\nold");

    machine.sh("systemctl enable --now tierfs-migrate@docs.timer");
    let next = machine.sh("systemctl show -P NextElapseUSecRealtime tierfs-migrate@docs.timer");
    assert!(next.contains(" 01:") || next.contains(" 02:00"), "{next}");
    let how = machine
        .sh("systemctl show -P IOSchedulingClass tierfs-migrate@docs; systemctl show -P Nice tierfs-migrate@docs");
    assert_eq!(how, "3\n19");

    machine.sh("echo x >/disks/docs/fast/late; touch -d '2 years ago' /disks/docs/fast/late");
    let soon = "[Timer]\nOnCalendar=\nOnCalendar=*-*-* *:*:*\nRandomizedDelaySec=0\nAccuracySec=1us\n";
    machine.put("/etc/systemd/system/tierfs-migrate@docs.timer.d/soon.conf", soon);
    machine.sh("systemctl daemon-reload; systemctl restart tierfs-migrate@docs.timer");
    machine.until("[ -e /disks/docs/slow/late ] && [ ! -e /disks/docs/fast/late ]");
}
