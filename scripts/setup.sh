#!/usr/bin/env bash
# Makes a checkout ready: Debian packages, npm packages from the lock file, and what is out of date in the build.
# Called by `npm start` and (with --tests) `npm test`; quick when there is nothing to do. Asks nothing; says what it installs.
set -euo pipefail
cd "$(dirname "$0")/.."

# Two commands at once (npm start beside npm test) build one after the other.
if command -v flock >/dev/null 2>&1; then exec 9<scripts/setup.sh; flock 9; fi

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { printf 'error[SETUP]: %s\nhelp: %s\n' "$1" "$2" >&2; exit 3; }

# package:what proves that it is there (a command, or a file)
needs=(
  clang:clang llvm:llvm-strip g++:g++ make:make
  libbpf-dev:/usr/include/bpf/libbpf.h libpcap-dev:/usr/include/pcap/pcap.h
  libelf-dev:/usr/include/libelf.h zlib1g-dev:/usr/include/zlib.h
  linux-libc-dev:/usr/include/linux/bpf.h
  iproute2:ip ethtool:ethtool util-linux:nsenter procps:sysctl
  curl:curl iputils-ping:ping openssl:openssl tcpreplay:tcpreplay tcpdump:tcpdump python3:python3
)
# What tests compare with.
[ "${1:-}" != --tests ] || needs+=(
  argus-server:argus argus-client:ra nfdump:nfpcapd xdp-tools:xdp-loader
  p0f:p0f nats-server:nats-server tshark:tshark iptables:iptables clang-19:clang-19 mmdebstrap:mmdebstrap systemd:systemd-analyze python3-scapy:/usr/lib/python3/dist-packages/scapy/__init__.py
  chromium:chromium e2fsprogs:mkfs.ext4 btrfs-progs:btrfs
)
missing=()
for need in "${needs[@]}"; do
  proof=${need#*:}
  if [ "${proof:0:1}" = / ]; then [ -e "$proof" ] || missing+=("${need%%:*}")
  else PATH="$PATH:/usr/sbin:/sbin" command -v "$proof" >/dev/null 2>&1 || missing+=("${need%%:*}"); fi
done
if [ ${#missing[@]} -gt 0 ]; then
  say "installing Debian packages: ${missing[*]}"
  sudo=
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null 2>&1 || fail "missing Debian packages: ${missing[*]}" "as root: apt-get install ${missing[*]}"
    sudo=sudo
  fi
  command -v apt-get >/dev/null 2>&1 || fail "missing: ${missing[*]}, and this system has no apt-get" "install them with this system's own tools"
  log=$(mktemp)
  install() { $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" >"$log" 2>&1; }
  if ! install; then
    { $sudo apt-get update -q >>"$log" 2>&1 && install; } ||
      { tail -n 15 "$log" >&2; fail "could not install: ${missing[*]}" "see the lines above, or install them by hand"; }
  fi
  rm -f "$log"
  # Debian starts a package's service with it; the tests start what they need themselves.
  if [ -d /run/systemd/system ]; then
    for unit in nats-server:nats-server argus-server:argus nfdump:nfdump; do
      [[ " ${missing[*]} " != *" ${unit%%:*} "* ]] || $sudo systemctl disable --now -q "${unit#*:}" || true
    done
  fi
fi

if ! cmp -s package-lock.json node_modules/.sluice-lock 2>/dev/null; then
  command -v npm >/dev/null 2>&1 || fail "npm is missing" "install Node.js 20 or newer with npm (Debian: apt-get install nodejs npm)"
  say "installing npm packages from the lock file"
  npm ci --no-audit --no-fund --loglevel=error >&2
  cp package-lock.json node_modules/.sluice-lock
fi

make --no-print-directory -s -j"$(nproc)" all >&2
