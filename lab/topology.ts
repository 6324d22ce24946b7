import type { Namespace } from './namespace.ts';
import { objectPath } from './objects.ts';
import { type NamespaceName, type ResolvedOptions, type TapName, TUNNEL_ROOM } from './options.ts';

export type Namespaces = Record<NamespaceName, Namespace>;

/** Endpoints: their addresses, and the hub's port to them. */
export const endpoints = {
  client: { port: 'c0', mac: '02:00:00:00:00:01', ipv4: '10.9.0.1', ipv6: 'fd00:9::1' },
  server: { port: 's0', mac: '02:00:00:00:00:02', ipv4: '10.9.0.2', ipv6: 'fd00:9::2' },
} as const;

/** Taps: their namespace, the interface in it, and the hub's mirror port to it. */
export const taps = {
  a: { namespace: 'tapA', ifname: 'tapA', port: 'ma' },
  b: { namespace: 'tapB', ifname: 'tapB', port: 'mb' },
} as const satisfies Record<TapName, { namespace: NamespaceName; ifname: string; port: string }>;

/** Side links for frames held back: one per direction, named after the port that they return to. */
export const sides = {
  client: { out: 'cside', back: 'cback' },
  server: { out: 'sside', back: 'sback' },
} as const;

export const replayPort = { port: 'r0', ifname: 'eth0' } as const;

/** The namespace that a tap's interface is in. */
export const tapNamespace = (name: TapName, options: ResolvedOptions): NamespaceName =>
  options.oneStamp ? 'hub' : taps[name].namespace;

const tapNames = ['a', 'b'] as const;
const endpointNames = ['client', 'server'] as const;

/** Room for two VLAN tags on a full frame, or for a tunnel. */
const room = ({ tunnel }: ResolvedOptions): number => (tunnel === undefined ? 8 : TUNNEL_ROOM);

/**
 * Builds the network: client — hub — server, where the hub is a bridge that learns nothing and so floods every
 * frame to both mirror ports too; and a replay port whose frames are copied to both mirror ports as they are, past
 * the bridge, which would refuse some (odd source addresses, link-local groups). Nothing but what the endpoints and
 * replays send ever appears on a tap: no IPv6, ARP or multicast of the lab's own.
 */
export async function build(ns: Namespaces, options: ResolvedOptions): Promise<void> {
  const tapMtu = options.mtu + room(options);
  const queues = `numtxqueues ${options.queues} numrxqueues ${options.queues}`;
  for (const quiet of [ns.hub, ns.tapA, ns.tapB, ns.replay]) {
    await sysctl(quiet, ['net.ipv6.conf.all.disable_ipv6=1', 'net.ipv6.conf.default.disable_ipv6=1']);
  }
  await ns.hub.ip([
    'link add hub type bridge ageing_time 0 stp_state 0 mcast_snooping 0 forward_delay 0',
    ...endpointNames.map(
      (name) => `link add ${endpoints[name].port} type veth peer name eth0 netns ${ns[name].pid}`,
    ),
    ...tapNames.map((name) => {
      const { port, ifname } = taps[name];
      const namespace = tapNamespace(name, options);
      return `link add name ${port} ${queues} type veth peer name ${ifname} ${queues} netns ${ns[namespace].pid}`;
    }),
    `link add ${replayPort.port} type veth peer name ${replayPort.ifname} netns ${ns.replay.pid}`,
  ]);
  await Promise.all([
    ...tapNames.map((name) => buildTap(ns, name, tapMtu, ns[tapNamespace(name, options)])),
    ...endpointNames.map((name) => buildEndpoint(ns[name], name, options)),
    buildReplayPort(ns, tapMtu),
  ]);
  await ns.hub.ip([
    ...endpointNames.map((name) => `link set dev ${endpoints[name].port} mtu ${options.mtu} arp off up`),
    `link set dev hub mtu ${options.mtu} up`,
  ]);
  if (options.hubCpu !== 'any') await gatherOn(ns.hub, options.hubCpu);
  for (const name of endpointNames) await multicastSilent(ns[name]);
  await ns.hub.ip([
    ...tapNames.map((name) => `link set dev ${taps[name].port} master hub`),
    ...endpointNames.map((name) => `link set dev ${endpoints[name].port} master hub`),
  ]);
  for (const port of [
    ...tapNames.map((name) => taps[name].port),
    ...endpointNames.map((name) => endpoints[name].port),
  ]) {
    await ns.hub.exec(['bridge', 'link', 'set', 'dev', port, 'learning', 'off']);
  }
  await ns.hub.exec(['tc', '-batch', '-'], {
    input: [
      // A queue in front of each receiver: what it cannot take at once waits here instead of being lost.
      ...tapNames.map((name) => `qdisc add dev ${taps[name].port} root pfifo limit 200000`),
      ...endpointNames.map((name) => `qdisc add dev ${endpoints[name].port} root pfifo limit 20000`),
      `qdisc add dev ${replayPort.port} clsact`,
      `filter add dev ${replayPort.port} ingress protocol all u32 match u32 0 0 action mirred egress mirror dev ${taps.a.port} pipe action mirred egress redirect dev ${taps.b.port}`,
      '',
    ].join('\n'),
  });
}

/** The interface at the tap sends nothing: no address, no ARP, no IPv6, no group. */
async function buildTap(ns: Namespaces, name: TapName, mtu: number, inside: Namespace): Promise<void> {
  const { ifname, port } = taps[name];
  // A mirror port finishes frames as a wire would carry them: summed, tagged in band, one frame per frame.
  const off = ['tx', 'off', 'tso', 'off', 'gso', 'off', 'txvlan', 'off', 'tx-vlan-stag-hw-insert', 'off'];
  await ns.hub.exec(['ethtool', '-K', port, ...off]);
  await ns.hub.ip([`link set dev ${port} mtu ${mtu} arp off up`]);
  await inside.ip([`link set dev ${ifname} mtu ${mtu} arp off multicast off up`]);
}

async function buildEndpoint(
  ns: Namespace,
  name: 'client' | 'server',
  options: ResolvedOptions,
): Promise<void> {
  const self = endpoints[name];
  const peer = endpoints[name === 'client' ? 'server' : 'client'];
  await sysctl(ns, [
    'net.ipv6.conf.eth0.accept_ra=0',
    'net.ipv6.conf.eth0.router_solicitations=0',
    // What the stack reports about groups of its own is over within milliseconds, before it reaches the hub.
    'net.ipv6.conf.eth0.mldv2_unsolicited_report_interval=1',
    'net.ipv4.ip_local_port_range=20000 60999',
    'net.ipv4.ping_group_range=0 2147483647',
  ]);
  await ns.ip([
    'link set dev lo up',
    `link set dev eth0 address ${self.mac} mtu ${options.mtu} addrgenmode none`,
    `address add ${self.ipv4}/24 dev eth0`,
    `address add ${self.ipv6}/64 dev eth0 nodad`,
    'link set dev eth0 up',
    `neighbour add ${peer.ipv4} lladdr ${peer.mac} dev eth0 nud permanent`,
    `neighbour add ${peer.ipv6} lladdr ${peer.mac} dev eth0 nud permanent`,
  ]);
  // Frames leave in their real size; merging on receipt is the endpoint's own affair and spares it work.
  await ns.exec(['ethtool', '-K', 'eth0', 'tso', 'off', 'gro', 'on']);
  if (options.mbps > 0) {
    const rate = ['rate', `${options.mbps}mbit`, 'burst', '128k', 'limit', '4m'];
    await ns.exec(['tc', 'qdisc', 'add', 'dev', 'eth0', 'root', 'tbf', ...rate]);
  }
}

async function buildReplayPort(ns: Namespaces, mtu: number): Promise<void> {
  const { port, ifname } = replayPort;
  await ns.replay.ip([`link set dev ${ifname} mtu ${mtu} arp off multicast off up`]);
  await ns.replay.exec(['tc', 'qdisc', 'add', 'dev', ifname, 'root', 'pfifo', 'limit', '20000']);
  await ns.hub.ip([
    `link set dev ${port} mtu ${mtu} arp off up`,
    `link set dev ${port} xdpdrv obj ${objectPath('lab_pass')} sec xdp.frags`,
  ]);
}

/** Lets one CPU process all that the endpoints send, in one queue. */
async function gatherOn(hub: Namespace, cpu: number): Promise<void> {
  const words = Array.from({ length: (cpu >> 5) + 1 }, () => '0');
  words[0] = (2 ** (cpu & 31)).toString(16);
  // The queues' settings are files of a sysfs that belongs to the namespace; a mount of our own shows it.
  const files = endpointNames.map((name) => `/sys/class/net/${endpoints[name].port}/queues/rx-0/rps_cpus`);
  const script = `mount -t sysfs none /sys && for f in ${files.join(' ')}; do echo ${words.join(',')} > $f || exit 1; done`;
  await hub.exec(['unshare', '-m', 'sh', '-c', script]);
}

/** Waits until the stack has sent its own group reports, which nobody sees yet. */
async function multicastSilent(ns: Namespace): Promise<void> {
  for (let before = -1, quiet = 0; quiet < 3; ) {
    const links = JSON.parse((await ns.exec(['ip', '-s', '-j', 'link', 'show', 'eth0'])).stdout) as {
      stats64: { tx: { packets: number } };
    }[];
    const sent = links[0]?.stats64.tx.packets ?? 0;
    quiet = sent === before ? quiet + 1 : 0;
    before = sent;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

async function sysctl(ns: Namespace, settings: readonly string[]): Promise<void> {
  await ns.exec(['sysctl', '-q', '-w', ...settings]);
}
