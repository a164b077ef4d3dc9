# Boots systemd over a copy of this machine that vanishes with it. Runs as the first process of new mount, process,
# network, IPC, UTS and control-group namespaces; $1 is a directory, on which the copy is laid out, $2 its fstab.
set -eu

# A new mount namespace begins with a copy of every mount there is, and a filesystem lives as long as any copy of its
# mount: the FUSE daemons and loop devices of other tests would not end. So these are let go first of all.
mount --make-rprivate /
mount -t tmpfs -o mode=755 tierfs-machine "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
cd "$1/root"
mkdir below
pivot_root . below
mount -t proc proc /proc
umount -l /below
rmdir /below
# What follows deletes and writes in the copy: it must be one, and nothing else may be in reach.
[ "$(stat -f -c %T /)" = overlayfs ]
[ "$(wc -l </proc/self/mounts)" = 2 ]
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
mount -t sysfs -o ro sysfs /sys
# The new hierarchy alone, of which the namespace shows the machine's own group only: of the old ones systemd would
# use all there are, from their top, and so share its groups with every other machine.
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs /dev
for node in null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0 fuse:10:229; do
    IFS=: read -r name major minor <<END
$node
END
    mknod -m 666 "/dev/$name" c "$major" "$minor"
done
ln -s /proc/self/fd /dev/fd
mkdir /dev/pts /dev/shm
mount -t devpts -o newinstance,ptmxmode=666 devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=1777 tmpfs /tmp
# Tiers are on a filesystem of their own: not every overlay can be one.
mkdir -p /disks
mount -t tmpfs tmpfs /disks

# Nothing of the machine's own starts, nor reaches its kernel: no services, no sysctl, no udev, no timers.
rm -rf /lib/systemd/system/*.wants /etc/systemd/system /etc/machine-id
mkdir /etc/systemd/system
: >/etc/machine-id
rm -f /etc/fstab
printf %s "$2" >/etc/fstab
# What the packages of the test install is not there yet.
rm -rf /etc/tierfs /usr/bin/tierfs /usr/local/bin/tierfs /usr/sbin/mount.*tierfs
# Else every installation would index the pages of the whole machine.
rm -f /var/lib/man-db/auto-update
cat >/etc/systemd/system/machine.target <<'END'
[Unit]
Description=What the tests need
Requires=basic.target
After=basic.target
Wants=systemd-journald.service
AllowIsolate=yes
END

# As systemd finds it on a machine that is none of a container's: what one service mounts, others see.
mount --make-rshared /

exec env -i container=tierfs-test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --unit=machine.target --show-status=no --log-target=journal
