#!/usr/bin/env bash
# Of kernel-matrix.sh, in the machine: what users do first. Writes `table`, `out` and `result` beside itself.
set -uo pipefail

here=/run/shared
. "$here/where"
exec >"$here/out" 2>&1
export HOME=/root LANG=C.UTF-8 TMPDIR=/run
PATH=$(dirname "$NODE"):/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
mkdir -p /run/sluice /run/logs
cd "$TREE" || exit 1

failed=0
did() { # did WHAT COMMAND...
  local from=$SECONDS verdict=yes
  "${@:2}" || {
    verdict=no
    failed=1
  }
  printf '%-44s %3s  %4d s\n' "$1" "$verdict" $((SECONDS - from)) | tee -a "$here/table"
}
until_true() { # until_true SECONDS COMMAND...
  local end=$((SECONDS + $1))
  until "${@:2}" >/dev/null 2>&1; do
    [ $SECONDS -lt $end ] || return 1
    sleep 1
  done
}
sluice() { node bin/sluice.js "$@"; }
ping_it() { ip netns exec far ping -c 3 -i 0.3 -W 2 10.77.0.1; }
silent() { ! ping_it; }
up() {
  node bin/sluice.js gate up -i eth1 --tap --fragments follow --hold --log-dir /run/logs >/run/up 2>&1 &
  gate=$!
  until_true 400 grep -q '^ready' /run/up || { cat /run/up; return 1; }
}
down() { kill -TERM "$gate" && wait "$gate"; }
send() {
  ip netns exec far python3 -c "
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('10.77.0.2', 5000))
for i in range(20): s.sendto(b'x' * 50, ('10.77.0.9', 9))"
}
shunted() {
  send
  sluice gate status -i eth1 | grep -E '^shunted +20 packets'
}
run() {
  node bin/sluice.js run -i eth1 --tap --duration 60 --log-dir /run/run >/run/run.out 2>&1 &
  local job=$!
  while kill -0 $job 2>/dev/null; do ping_it >/dev/null; done
  wait $job || { cat /run/run.out; return 1; }
  grep -q '10\.77\.0\.2' /run/run/conn.log
}

uname -r >"$here/table"
ip netns add far
ip link add eth1 type veth peer name eth2 netns far
ip addr add 10.77.0.1/24 dev eth1
ip link set eth1 up
ip -n far addr add 10.77.0.2/24 dev eth2
ip -n far link set eth2 up
# Nobody: the host's own traffic is never shunted.
ip -n far neigh add 10.77.0.9 lladdr 02:00:00:00:00:09 dev eth2
until_true 60 ping_it

did 'gate up' up
did 'packets pass' ping_it
did 'rule add' sluice rule add -i eth1 icmp --action drop --ttl 1h --id ping
did 'its packets are dropped' silent
did 'shunt add' sluice shunt add -i eth1 --flow 'udp 10.77.0.9:9 10.77.0.2:5000'
did 'its packets are dropped and counted' shunted
did 'rule rm' sluice rule rm -i eth1 ping
did 'packets pass again' ping_it
did 'the gate goes down' down
did 'run, with gate and logs' run
did 'every program, every option' node scripts/kernel-matrix/programs.ts
echo $failed >"$here/result"
