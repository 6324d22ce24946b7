#!/usr/bin/env bash
# Of systemd-check.sh, as a service of the systemd that is checked with.
set -uo pipefail

exec >>/opt/report 2>&1
umount -l /run/old
step=''
at() {
  step=$*
  echo "-- $step"
}
finish() {
  if [ "$1" != 0 ]; then
    echo "failed: $step"
    systemctl --no-pager --full status 'sluice*@eth1'
    journalctl --no-pager -n 60 -u sluice@eth1 -u sluice-gate@eth1
  fi
  systemctl exit "$1"
  exit
}
must() {
  "$@" && return
  echo "not so: $*"
  finish 1
}
prop() { systemctl show --value -p "$2" "$1"; }
# until_true SECONDS COMMAND...
until_true() {
  for _ in $(seq $(($1 * 2))); do
    "${@:2}" >/dev/null 2>&1 && return
    sleep 0.5
  done
  return 1
}
is() { [ "$(prop "$1" "$2")" = "$3" ]; }
differs() { [ "$(prop "$1" "$2")" != "$3" ]; }
fed() {
  local before
  before=$(prop "$1" WatchdogTimestampMonotonic)
  until_true 30 differs "$1" WatchdogTimestampMonotonic "$before"
}
ended_well() { [ "$(prop "$1" Result)" = success ] && [ "$(prop "$1" ExecMainStatus)" = 0 ]; }
holds() { grep -qs -e "$2" "$1"; }
ping_it() { ip netns exec far ping -c 3 -i 0.2 -W 2 10.77.0.1 >/dev/null; }
silent() { ! ip netns exec far ping -c 2 -i 0.2 -W 1 10.77.0.1 >/dev/null; }

interface() {
  must ip link add eth1 type veth peer name eth2 netns far
  must ip addr add 10.77.0.1/24 dev eth1
  must ip link set eth1 up
  must ip -n far addr add 10.77.0.2/24 dev eth2
  must ip -n far link set eth2 up
  must udevadm trigger --action=add --settle /sys/class/net/eth1
  # Where a systemd like this one is not told of devices: it looks anew.
  must systemctl daemon-reload
  must until_true 30 is sys-subsystem-net-devices-eth1.device ActiveState active
}

at 'an interface'
must ip netns add far
interface
must systemd-sysusers
must until_true 30 ping_it

u=sluice@eth1
at "$u starts, and is ready when it says so"
must systemctl start "$u"
must is "$u" ActiveState active
[ "$(ps -o user= -p "$(prop "$u" MainPID)" | tr -d ' ')" = sluice ] || finish 1
at "$u gives signs of life"
must fed "$u"
at "$u has pinned its tables"
must ls /sys/fs/bpf/sluice/*
must ping_it
at "$u reloads"
must systemctl reload "$u"
must until_true 30 is "$u" SubState running
must fed "$u"
at "$u stops, and its logs are written"
must systemctl stop "$u"
must ended_well "$u"
must holds /var/log/sluice/eth1/conn.log '10.77.0.2'
[ "$(stat -c %U:%a /var/log/sluice/eth1)" = sluice:750 ] || finish 1

g=sluice-gate@eth1
at "$g starts"
must systemctl start "$g"
must is "$g" ActiveState active
must fed "$g"
at "$g takes rules"
must sluice rule add -i eth1 icmp --action drop --ttl 1h
must silent
at "$g is killed, and the next one has its rules"
pid=$(prop "$g" MainPID)
must systemctl kill -s KILL "$g"
must until_true 60 differs "$g" NRestarts 0
must until_true 60 is "$g" ActiveState active
[ "$(prop "$g" MainPID)" != "$pid" ] || finish 1
must silent
at "$g stops, and takes the gate with it"
must systemctl stop "$g"
must ended_well "$g"
must ping_it
at "$g has the rules of a file with each start, and lets a group in"
mkdir -p "/etc/systemd/system/$g.service.d"
printf '[Service]\nExecStartPost=-sluice rule add -i %%i --file /etc/sluice/rules.yaml --replace\nSupplementaryGroups=games\n' >"/etc/systemd/system/$g.service.d/more.conf"
printf 'OPTIONS=--tap --pin-group games\n' >/etc/sluice/gate-eth1.env
printf -- '- { id: silence, expr: icmp, action: drop }\n' >/etc/sluice/rules.yaml
must systemctl enable "$g"
must systemctl start "$g"
must silent
must setpriv --reuid=nobody --regid=games --clear-groups sluice shunt add -i eth1 --flow 'udp 192.0.2.1:5000 192.0.2.2:6000' --quiet
at "root takes the gate of $g down"
must sluice gate down -i eth1
must until_true 60 is "$g" ActiveState inactive
must ended_well "$g"
must ping_it
at "$g stops with its interface, and starts with it"
must systemctl start "$g"
must ip link del eth1
must systemctl daemon-reload
must until_true 60 is "$g" ActiveState inactive
interface
must until_true 60 is "$g" ActiveState active
must silent
finish 0
