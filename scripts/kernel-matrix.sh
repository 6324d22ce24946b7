#!/usr/bin/env bash
# Tries this build on other kernels: boots each in an emulated machine over a copy-on-write view of this one, and runs
# scripts/kernel-matrix/smoke.sh there. After `make all`. A kernel takes about ten minutes on two CPUs; with KVM=1 less, where
# /dev/kvm works.
#
#   scripts/kernel-matrix.sh [PACKAGE...]     Debian's kernel packages; default: that of this release, and that of its backports
#
# exit 0 all of them do, 77 something that it needs is not there, else failed. Needs qemu-system-x86, busybox-static, cpio, kmod.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'kernels: %s\n' "$*"; }
cannot() { printf 'kernels: skipped: %s\n' "$*"; exit 77; }

[ "$(uname -m)" = x86_64 ] || cannot 'for x86_64 only'
for tool in qemu-system-x86_64:qemu-system-x86 busybox:busybox-static cpio:cpio modprobe:kmod xz:xz-utils; do
  command -v "${tool%:*}" >/dev/null || cannot "${tool%:*} is not installed (apt-get install ${tool#*:})"
done
[ -f build/bpf/gate.bpf.o ] && [ -d dist/src ] || cannot 'nothing is built (make all)'

packages=("$@")
if [ $# = 0 ]; then
  # This release's own, and what its backports have.
  mapfile -t packages < <(apt-cache depends linux-image-amd64 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-[^ ]*\)$/\1/p'
    apt-cache pkgnames linux-image-6 2>/dev/null | grep -E '\+deb12-amd64$' | sort -V | tail -n 1)
  [ ${#packages[@]} -gt 0 ] || cannot 'no kernel packages are known (apt-get update)'
fi

accel=tcg,thread=multi cpu=max
if [ -n "${KVM:-}" ]; then accel=kvm cpu=host; fi
work=$(mktemp -d /var/tmp/sluice-kernels.XXXXXX)
trap 'rm -rf --one-file-system "$work"' EXIT
node=$(readlink -f "$(command -v node)")

# image DIRECTORY: an initramfs with what is needed to see the host's files
image() {
  local modules version file n=0
  modules=$(find "$1" -path '*/lib/modules/*' -prune -name '[0-9]*' | head -n 1)
  version=${modules##*/}
  depmod -b "${modules%/lib/modules/*}" "$version"
  mkdir -p "$1"/i/{bin,proc,sys,dev,host,mnt,tmp,mods}
  cp "$(command -v busybox)" "$1/i/bin/busybox"
  for module in virtio_pci 9p 9pnet_virtio overlay veth; do
    modprobe -d "${modules%/lib/modules/*}" -S "$version" --show-depends "$module" 2>/dev/null
  done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' >"$1/list"
  while read -r file; do
    cp "$file" "$1/i/mods/$(printf %02d $n)-${file##*/}"
    n=$((n + 1))
  done <"$1/list"
  find "$1/i/mods" -name '*.xz' -exec xz -d {} +
  cp scripts/kernel-matrix/init "$1/i/init"
  chmod +x "$1/i/init"
  (cd "$1/i" && find . | cpio -o -H newc --quiet | gzip -1) >"$1/initrd"
}

failed=0
for package in "${packages[@]}"; do
  place=$work/$package
  mkdir -p "$place/shared"
  (cd "$place" && apt-get -q download "$package" >log 2>&1 && dpkg -x linux-image-*.deb root) ||
    cannot "$package: $(tail -n 1 "$place/log")"
  image "$place"
  printf 'TREE=%q\nNODE=%q\n' "$PWD" "$node" >"$place/shared/where"
  cp scripts/kernel-matrix/smoke.sh "$place/shared"
  say "$package boots"
  timeout "${SECONDS_EACH:-1800}" qemu-system-x86_64 -accel "$accel" -cpu "$cpu" -m 3072 -smp 2 -nographic -no-reboot \
    -kernel "$place"/root/boot/vmlinuz-* -initrd "$place/initrd" \
    -fsdev local,id=host,path=/,security_model=none,readonly=on,multidevs=remap -device virtio-9p-pci,fsdev=host,mount_tag=host \
    -fsdev local,id=shared,path="$place/shared",security_model=none -device virtio-9p-pci,fsdev=shared,mount_tag=shared \
    -append 'console=ttyS0 panic=-1 quiet loglevel=3' >"$place/console" 2>&1 </dev/null || true
  if [ "$(cat "$place/shared/result" 2>/dev/null)" = 0 ]; then
    sed 's/^/  /' "$place/shared/table"
    say "$package: all of it"
  else
    failed=1
    tail -n 20 "$place/console" >&2
    tail -n 60 "$place/shared/out" >&2 || true
    say "$package: failed" >&2
  fi
done
exit $failed
