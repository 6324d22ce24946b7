#!/usr/bin/env bash
# Starts the units of systemd/ by a real systemd: one of its own, in namespaces of its own, over a copy-on-write view of this
# machine. Needs root, systemd, udev (else its package is fetched for the time), iproute2. Leaves nothing behind. After `make all`.
#
#   scripts/systemd-check.sh     exit 0 proven, 77 something that it needs is not there, else failed
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'systemd: %s\n' "$*"; }
cannot() { printf 'systemd: skipped: %s\n' "$*"; exit 77; }

[ "$(id -u)" = 0 ] || cannot 'not root'
for tool in unshare ip findmnt /lib/systemd/systemd systemd-sysusers; do
  command -v "$tool" >/dev/null || cannot "$tool is not installed (systemd, iproute2, util-linux)"
done

work=$(mktemp -d /var/tmp/sluice-systemd.XXXXXX)
group=$(findmnt -rno TARGET -t cgroup2 | head -n 1)
[ -n "$group" ] || cannot 'no cgroup2 is mounted'
group=$group/$(basename "$work")
mkdir "$group" || cannot "$group cannot be made"
clean() {
  # What is left is in this group, and nothing else is.
  if [ -e "$group/cgroup.kill" ]; then echo 1 >"$group/cgroup.kill"; fi
  for _ in $(seq 50); do
    find "$group" -depth -type d -exec rmdir {} + 2>/dev/null && break
    sleep 0.1
  done
  rm -rf --one-file-system "$work"
}
trap clean EXIT

# A device unit of the interface, which sluice-gate@ is bound to, comes from udev.
mkdir -p "$work/udev" "$work/deb"
if ! command -v udevadm >/dev/null; then
  (cd "$work" && apt-get -q download "udev=$(dpkg-query -W -f '${Version}' systemd)" >log 2>&1 && dpkg -x udev_*.deb deb) ||
    cannot 'udev is not installed, and its package cannot be had'
  # /lib is /usr/lib, and so on.
  mkdir "$work/udev/usr"
  mv "$work"/deb/usr/* "$work/udev/usr"
  for place in bin lib sbin; do
    if [ -d "$work/deb/$place" ]; then cp -a "$work/deb/$place" "$work/udev/usr"; fi
  done
fi

node=$(readlink -f "$(command -v node)")
mkdir "$work/rw" "$work/root"
touch "$work/report"
status=0
(
  echo "$BASHPID" >"$group/cgroup.procs"
  exec env container=other WORK="$work" TREE="$PWD" NODE="$node" \
    unshare --mount --pid --net --uts --ipc --cgroup --fork --kill-child --propagation private \
    bash scripts/systemd-check/enter.sh
) >"$work/out" 2>&1 </dev/null || status=$?
cat "$work/out" "$work/report"
[ "$status" = 0 ] || { say "failed ($status)" >&2; exit 1; }
say 'both units start, work, reload and stop as they should'
