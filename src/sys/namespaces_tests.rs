//! Which mounts are opened.

use super::*;

const TABLE: &str = "\
20 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
21 20 8:2 / /a\\040b rw - xfs /dev/sdb rw
22 20 0:40 / /m rw shared:5 master:2 - fuse.tierfs tierfs rw
23 22 8:2 /sub /m/below rw - xfs /dev/sdb rw
";

#[test]
fn a_mount_below_a_served_one_is_not_walked_to() {
    let mut mounts = mountinfo::parse(TABLE.as_bytes());
    let safe = |mounts: &[Mount]| -> Vec<u64> {
        let by_id = mounts.iter().map(|m| (m.id, m)).collect();
        mounts.iter().filter(|m| is_safe(m, &by_id)).map(|m| m.id).collect()
    };
    assert_eq!(safe(&mounts), [20, 21]);
    mounts[0].parent = 21;
    assert_eq!(safe(&mounts), [] as [u64; 0], "a table torn into a loop");
}

#[test]
fn the_own_mounts_are_found_by_device() {
    let own = Namespace::own();
    let mounts = own.mounts().unwrap();
    let root = open("/dev/shm", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).unwrap();
    let id = mount_id(root.as_fd()).unwrap();
    let device = device_of(root.as_fd()).unwrap();
    let found = own.open(&mounts, |d| d == device);
    assert!(found.iter().any(|(mount, fd)| mount.id == id && mount_id(fd.as_fd()) == Ok(id)), "{found:?}");
    assert!(found.iter().all(|(mount, _)| mount.device == device));
}
