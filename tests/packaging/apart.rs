//! Machines, and what runs beside them, leave each other alone: the other tests can be relied upon only then.

use crate::common::mount::Setup;
use crate::machine::Machine;

/// A machine sees no mount of the one it runs on, and keeps none alive: a daemon outside ends when it is unmounted.
#[test]
fn a_machine_holds_no_mount_of_another() {
    let Some(outside) = Setup::new().mount() else { return };
    let Some(machine) = Machine::boot("") else { return };
    machine.sh("! grep -e fuse.tierfs -e tierfs-test /proc/self/mounts");
    outside.unmount();
    assert_eq!(machine.sh("systemctl is-active machine.target"), "active");
}

/// Two machines run a service of the same name; each is stopped and killed for itself.
#[test]
fn machines_do_not_share_services() {
    let (Some(one), Some(other)) = (Machine::boot(""), Machine::boot("")) else { return };
    for machine in [&one, &other] {
        machine
            .sh("systemd-run --unit=same sh -c 'trap \"\" TERM; echo ready >/run/ready; while :; do sleep 1000; done'");
        machine.until("[ -e /run/ready ]");
    }
    one.sh("systemctl kill --signal=KILL same; systemctl stop same");
    assert_eq!(one.sh("cat /sys/fs/cgroup/system.slice/same.service/cgroup.procs 2>/dev/null || echo gone"), "gone");
    other.until("systemctl -q is-active same; [ $(wc -l </sys/fs/cgroup/system.slice/same.service/cgroup.procs) = 2 ]");
}
