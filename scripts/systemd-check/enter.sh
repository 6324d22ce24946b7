#!/usr/bin/env bash
# Of systemd-check.sh, in new namespaces: makes the root of a machine there, and becomes its systemd.
set -euo pipefail

root=$WORK/root
mount -t tmpfs tmpfs "$WORK/rw"
mkdir "$WORK/rw/upper" "$WORK/rw/work"
cp -a "$WORK/udev/." "$WORK/rw/upper"
mount -t overlay -o "lowerdir=/,upperdir=$WORK/rw/upper,workdir=$WORK/rw/work" overlay "$root"
mount -t proc proc "$root/proc"
# Nothing of it belongs to a namespace: not for this systemd to set.
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
# As systemd mounts it on a machine of its own.
mount -t bpf -o mode=0700 bpf "$root/sys/fs/bpf"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero full random urandom tty; do
  touch "$root/dev/$device"
  mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
for place in run tmp dev/shm; do mount -t tmpfs tmpfs "$root/$place"; done

# As installed: where the sandbox of a unit leaves it readable.
mkdir -p "$root/opt/sluice" "$root/usr/local/bin" "$root/etc/sluice" "$root/etc/sysusers.d"
mount --bind "$TREE" "$root/opt/sluice"
rm -f "$root/usr/local/bin/node" "$root/usr/local/bin/sluice"
touch "$root/usr/local/bin/node"
mount --bind "$NODE" "$root/usr/local/bin/node"
ln -s /opt/sluice/bin/sluice.js "$root/usr/local/bin/sluice"
touch "$root/opt/report"
mount --bind "$WORK/report" "$root/opt/report"
units=$root/etc/systemd/system
rm -rf "$units"
mkdir -p "$units"
cp "$TREE"/systemd/*.service "$units"
cp "$TREE/systemd/sluice.sysusers" "$root/etc/sysusers.d/sluice.conf"
printf 'interface: eth1\ntap: true\n' >"$root/etc/sluice/eth1.yaml"
printf 'OPTIONS=--tap\n' >"$root/etc/sluice/gate-eth1.env"

# Of the rest of a machine nothing, least of all what sets the kernel or looks for devices.
for unit in systemd-sysctl systemd-udev-trigger systemd-modules-load systemd-binfmt systemd-random-seed systemd-hwdb-update \
  systemd-networkd systemd-resolved systemd-timesyncd systemd-remount-fs systemd-firstboot; do
  ln -s /dev/null "$units/$unit.service"
done
cat >"$units/sluice-check.service" <<UNIT
[Unit]
Description=What is checked
After=basic.target systemd-udevd.service
Requires=basic.target systemd-udevd.service

[Service]
Type=oneshot
TimeoutStartSec=300
ExecStart=bash /opt/sluice/scripts/systemd-check/check.sh
UNIT

cd "$root"
mkdir -p run/old
pivot_root . run/old
exec chroot . /lib/systemd/systemd --system --unit=sluice-check.service --log-target=journal --show-status=no \
  <run/old/dev/null
