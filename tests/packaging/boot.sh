# Boots systemd over a copy of this machine that vanishes with it. Runs as the first process of new mount, process,
# network, IPC, UTS and control-group namespaces; $1 is a directory, on which the copy is laid out.
set -eu

mount --make-rprivate /
mount -t tmpfs -o mode=755 tierfs-machine "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
root=$1/root
# What follows deletes and writes in the copy: it must be one.
[ "$(stat -f -c %T "$root")" = overlayfs ]

# Nothing of the machine's own starts, nor reaches its kernel: no services, no sysctl, no udev, no timers.
rm -rf "$root"/lib/systemd/system/*.wants "$root"/etc/systemd/system "$root"/etc/fstab "$root"/etc/machine-id
mkdir "$root/etc/systemd/system"
: >"$root/etc/machine-id"
# What the packages of the test install is not there yet.
rm -rf "$root"/etc/tierfs "$root"/usr/bin/tierfs "$root"/usr/local/bin/tierfs "$root"/usr/sbin/mount.*tierfs
# Else every installation would index the pages of the whole machine.
rm -f "$root/var/lib/man-db/auto-update"
cat >"$root/etc/fstab" <"$1.fstab"
cat >"$root/etc/systemd/system/machine.target" <<'END'
[Unit]
Description=What the tests need
Requires=basic.target
After=basic.target
Wants=systemd-journald.service
AllowIsolate=yes
END

mount -t proc proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs -o ro sysfs "$root/sys"
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
else
    mount -t tmpfs -o mode=755 tmpfs "$root/sys/fs/cgroup"
    mkdir "$root/sys/fs/cgroup/systemd"
    mount -t cgroup -o none,name=systemd cgroup "$root/sys/fs/cgroup/systemd"
fi
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for node in null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0 fuse:10:229; do
    IFS=: read -r name major minor <<END
$node
END
    mknod -m 666 "$root/dev/$name" c "$major" "$minor"
done
ln -s /proc/self/fd "$root/dev/fd"
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=666 devpts "$root/dev/pts"
mount -t tmpfs tmpfs "$root/dev/shm"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
# Tiers are on a filesystem of their own: not every overlay can be one.
mkdir -p "$root/disks"
mount -t tmpfs tmpfs "$root/disks"

# As systemd finds it on a machine that is none of a container's: what one service mounts, others see.
mount --make-rshared "$root"

cd "$root"
exec chroot . /usr/bin/env -i container=tierfs-test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --unit=machine.target --show-status=no --log-target=null
