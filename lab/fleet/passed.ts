import type { Namespace } from '../namespace.ts';
import type { Sent } from './sender-protocol.ts';

/** Where what was counted goes: nobody is there. */
const SINK = 'sink';

/**
 * Counts what comes through a gate: by the source addresses that traffic.ts gives its frames, with filters of tc, which
 * stand behind XDP.
 */
export async function countPassed(namespace: Namespace, ifname: string): Promise<void> {
  // The word before the network header: half of the source address, and the EtherType.
  const match = (pref: number, half: string): string =>
    `filter add dev ${ifname} ingress pref ${pref} protocol all u32 match u32 ${half} 0xffff0000 at -4 action mirred egress redirect dev ${SINK}`;
  await namespace.ip([
    `link add ${SINK} type veth peer name ${SINK}1`,
    `link set ${SINK} addrgenmode none up`,
    `link set ${SINK}1 addrgenmode none up`,
  ]);
  await namespace.exec(['tc', '-batch', '-'], {
    input: [`qdisc add dev ${ifname} clsact`, match(1, '0x000a0000'), match(2, '0x000c0000'), ''].join('\n'),
  });
}

interface Filter {
  options?: { actions?: { stats?: { packets?: number } }[] };
}

/** Packets so far. */
export async function passed(namespace: Namespace, ifname: string): Promise<Sent> {
  const { stdout } = await namespace.exec(['tc', '-s', '-j', 'filter', 'show', 'dev', ifname, 'ingress']);
  const counts = (JSON.parse(stdout) as Filter[]).flatMap(({ options }) => {
    const packets = options?.actions?.[0]?.stats?.packets;
    return packets === undefined ? [] : [packets];
  });
  return { attack: counts[0] ?? 0, usual: counts[1] ?? 0 };
}
