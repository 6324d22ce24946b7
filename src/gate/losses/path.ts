import { readdirSync, readFileSync } from 'node:fs';
import {
  driverCounters,
  driverInfo,
  type InterfaceInfo,
  interfaces,
  snmp,
  snmp6,
  softnet,
} from '../../kernel/index.ts';
import type { Gate } from '../gate.ts';
import { adder, type CounterReading, GAUGE, growth, OURS } from './ledger.ts';
import { nicCounters } from './nic-counters.ts';

/** Reads a file as text; undefined where there is none, or it may not be read. */
export type ReadText = (path: string) => string | undefined;

export const readText: ReadText = (path) => {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
};

/** Devices whose packets come through the backlog of a CPU: their drivers call netif_rx. */
const BY_BACKLOG: ReadonlySet<string> = new Set([
  'veth',
  'tun',
  'ipip',
  'sit',
  'ip6tnl',
  'gre',
  'ip6gre',
  'vti',
  'bareudp',
]);

/** Whether packets of an interface wait in a backlog on their way: with RPS, on a veth without native XDP, in the kernel's tunnels. */
export function hasBacklog(
  { name, index, kind, loopback }: Pick<InterfaceInfo, 'name' | 'index' | 'kind' | 'loopback'>,
  mode: string,
  read: ReadText = readText,
  list: (path: string) => string[] = listOf,
): boolean {
  if (loopback) return true;
  // With native XDP a veth has a ring and NAPI of its own.
  if (BY_BACKLOG.has(kind) && !(kind === 'veth' && mode === 'native')) return true;
  const dir = `/sys/class/net/${name}`;
  // Sysfs shows the namespace that it was mounted in.
  if (Number(read(`${dir}/ifindex`)) !== index) return false;
  return list(`${dir}/queues`).some((queue) =>
    /[1-9a-f]/.test(read(`${dir}/queues/${queue}/rps_cpus`) ?? ''),
  );
}

function listOf(path: string): string[] {
  try {
    return readdirSync(path).filter((name) => name.startsWith('rx-'));
  } catch {
    return [];
  }
}

/** The counters of softnet, added up over CPUs, each of which wraps by itself. */
class SoftnetSum {
  readonly #last = new Map<number, { dropped: number; squeezed: number; processed: number }>();
  readonly sum = { dropped: 0, squeezed: 0, processed: 0 };

  take(text: string): void {
    for (const { cpu, ...now } of softnet(text)) {
      const before = this.#last.get(cpu) ?? now;
      for (const name of ['dropped', 'squeezed', 'processed'] as const)
        this.sum[name] += growth(before[name], now[name], 32);
      this.#last.set(cpu, now);
    }
  }
}

/** A card of which counters are read. */
export interface LossPoint {
  ifname: string;
  /** How a gate is attached there; `none` without one. */
  mode: string;
  /** Packets are taken by AF_XDP. */
  sockets: boolean;
}

/** Reads what the kernel counts before packets reach a capture: of cards, of softnet, of UDP. */
export class PathReader {
  readonly #softnet = new SoftnetSum();
  readonly #drivers = new Map<string, string>();

  /** `udp`: packets are taken from UDP sockets too. */
  read(points: readonly LossPoint[], udp: boolean, out: CounterReading[]): void {
    const all = interfaces();
    const at = new Map(points.map((point) => [point.ifname, point]));
    const backlog = all.some((info) => {
      const point = at.get(info.name);
      return (point !== undefined || (udp && info.up)) && hasBacklog(info, point?.mode ?? 'none');
    });
    for (const info of all) {
      const point = at.get(info.name);
      if (point !== undefined) this.#nic(info, point.sockets, out);
    }
    this.#softnetOf(backlog, out);
    if (udp) udpReadings(out);
  }

  #nic({ name, kind, counters: link }: InterfaceInfo, sockets: boolean, out: CounterReading[]): void {
    let driver = this.#drivers.get(name);
    if (driver === undefined) {
      driver = driverInfo(name)?.driver ?? kind;
      this.#drivers.set(name, driver);
    }
    const put = adder(out, 'nic', name);
    put('received', 'count', 'packets', link.rxPackets);
    const counters = driverCounters(name) ?? {};
    for (const { name: counter, value, loss } of nicCounters(driver, counters, link, sockets))
      if (loss === undefined) put(counter, 'warning', 'events', value);
      else put(`${loss}.${counter}`, 'loss', 'packets', value);
  }

  /** Of the whole machine, and no concern of ours without a backlog in the way: which interface they came from the kernel does not say. */
  #softnetOf(backlog: boolean, out: CounterReading[]): void {
    this.#softnet.take(readText('/proc/net/softnet_stat') ?? '');
    const { dropped, squeezed, processed } = this.#softnet.sum;
    const put = adder(out, 'softnet', '');
    put('processed', 'count', 'packets', processed, OURS);
    put('dropped', backlog ? 'loss' : 'count', 'packets', dropped, OURS);
    put('squeezed', 'warning', 'events', squeezed, OURS);
  }
}

/** Of all sockets of the namespace; what ours have lost they tell themselves, so that these enter no sum. */
function udpReadings(out: CounterReading[]): void {
  const udp = snmp(readText('/proc/net/snmp') ?? '', 'Udp');
  const udp6 = snmp6(readText('/proc/net/snmp6') ?? '', 'Udp6');
  const put = adder(out, 'udp', '');
  const sum = (name: string): number => (udp[name] ?? 0) + (udp6[name] ?? 0);
  for (const name of ['InErrors', 'RcvbufErrors', 'InCsumErrors', 'MemErrors'])
    put(name, 'warning', 'packets', sum(name));
  // A mirror that comes to another port than the one that is listened on, or what anybody tries.
  put('NoPorts', 'count', 'packets', sum('NoPorts'));
}

/** Every verdict of a gate, samples, and what steering lost. */
export function gateReadings(gate: Gate, out: CounterReading[]): void {
  const put = adder(out, 'gate', gate.ifname);
  const { reasons, ...verdicts } = gate.ledger();
  put('seen', 'count', 'packets', verdicts.seen.pkts, OURS);
  // A foreign program in the slot of rules has left no verdict: they pass.
  put('aborted', 'warning', 'packets', verdicts.aborted.pkts, OURS);
  for (const name of ['shunted', 'ruleDropped', 'rateLimited'] as const)
    put(name, 'wanted', 'packets', verdicts[name].pkts, OURS);
  put('passed', 'count', 'packets', verdicts.passed.pkts, OURS);
  put('steered', 'count', 'packets', verdicts.steered.pkts, OURS);
  for (const [reason, { pkts }] of Object.entries(reasons))
    put(`reason.${reason}`, 'count', 'packets', pkts, OURS);
  // Those on their way at this moment are among them.
  const steering = gate.steering();
  if (steering !== undefined) put('steerLost', 'loss', 'packets', steering.lost, GAUGE);
  put('sampleLost', 'warning', 'packets', gate.sampled().sampleLost.pkts, OURS);
}
