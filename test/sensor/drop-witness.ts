import { readdirSync, readFileSync } from 'node:fs';
import { BpfMap, type BpfObject, loadObject, MapType, XdpAction } from '../../src/kernel/index.ts';
import { ipBytes } from '../../src/packet/address.ts';
import { bpfObject } from '../support/kernel.ts';
import type { ConnLine } from './compare.ts';

/** Offsets in `struct flow` and `struct drop` of bpf/test_drops.bpf.c. */
const FLOW = { destination: 16, sourcePort: 32, destinationPort: 34, protocol: 36, size: 40 } as const;
const DROP = { count: 0, ns: 1, coarse: 2, behind: 3, words: 4 } as const;
const PROTOCOLS: Readonly<Record<string, number>> = { tcp: 6, udp: 17 };

const text = (value: unknown): string => (typeof value === 'string' ? value : '');

/** CLOCK_MONOTONIC seconds. */
export interface LastDrop {
  /** When the last packet of either direction was dropped. */
  seconds: number;
  /** How far the kernel's coarse clock, which the gate reads, was behind then. */
  behind: number;
}

/**
 * An observer of its own in the gate of a running sensor: it sits in the slot that the gate calls in place of dropping
 * (the hook of xdpcap), and notes when each flow's last packet was dropped by the clock that has no ticks.
 */
export class DropWitness {
  readonly #object: BpfObject;

  /**
   * @param pid of a sensor that is ready and has a gate
   * @param slow lets some packets that the gate passes take a millisecond longer to the ring
   * @param tunnel bytes in front of a frame in a tunnel, which is of two flows then
   */
  constructor(pid: number, slow: boolean, tunnel = 0) {
    const id = hookOf(pid);
    if (id === undefined) throw new Error(`process ${pid} has no gate with a hook`);
    this.#object = loadObject(bpfObject('test_drops'), { constants: { cfg_tunnel: tunnel } });
    using hook = BpfMap.fromId(id);
    const put = (action: number, names: readonly string[]): void => {
      const key = new Uint8Array(new Uint32Array([action]).buffer);
      // One is for XDP, one for sockets: the kernel takes the kind that the gate is of.
      const taken = names.some((name) => {
        const fd = new Uint32Array([this.#object.program(name).fd]);
        return hook.trySet(key, new Uint8Array(fd.buffer)) === 0;
      });
      if (!taken) throw new Error(`the hook takes none of ${names.join(', ')}`);
    };
    put(XdpAction.drop, ['test_drops', 'test_filtered']);
    if (slow) put(XdpAction.pass, ['test_slow', 'test_slow_filter']);
  }

  /**
   * Packets seen dropped, of all flows; when the last of them was: CLOCK_MONOTONIC seconds, 0 for none; and seconds that the
   * kernel's coarse clock was behind at most, which is more than a tick where the kernel's timer interrupt came late.
   */
  get all(): { packets: number; last: number; behind: number } {
    const map = this.#object.map('drops');
    let packets = 0;
    let last = 0;
    let behind = 0;
    const key = new Uint8Array(FLOW.size);
    const value = new BigUint64Array(DROP.words);
    for (let more = map.nextKey(undefined, key); more; more = map.nextKey(Uint8Array.from(key), key)) {
      if (!map.get(key, new Uint8Array(value.buffer))) continue;
      packets += Number(value[DROP.count]);
      last = Math.max(last, Number(value[DROP.ns]) / 1e9);
      behind = Math.max(behind, Number(value[DROP.behind]) / 1e9);
    }
    return { packets, last, behind };
  }

  /** Of a connection; undefined when none of its packets was dropped. */
  last(record: ConnLine): LastDrop | undefined {
    const forth = this.#read(record, 'orig', 'resp');
    const back = this.#read(record, 'resp', 'orig');
    if (forth === undefined || back === undefined) return forth ?? back;
    return forth.seconds > back.seconds ? forth : back;
  }

  #read(record: ConnLine, from: 'orig' | 'resp', to: 'orig' | 'resp'): LastDrop | undefined {
    const key = new Uint8Array(FLOW.size);
    const view = new DataView(key.buffer);
    key.set(ipBytes(text(record[`id.${from}_h`])) ?? []);
    key.set(ipBytes(text(record[`id.${to}_h`])) ?? [], FLOW.destination);
    view.setUint16(FLOW.sourcePort, Number(record[`id.${from}_p`]));
    view.setUint16(FLOW.destinationPort, Number(record[`id.${to}_p`]));
    view.setUint32(FLOW.protocol, PROTOCOLS[text(record['proto'])] ?? 0, true);
    const value = new BigUint64Array(DROP.words);
    if (!this.#object.map('drops').get(key, new Uint8Array(value.buffer))) return undefined;
    const [ns, coarse] = [value[DROP.ns], value[DROP.coarse]];
    return { seconds: Number(ns) / 1e9, behind: Number(ns - coarse) / 1e9 };
  }

  [Symbol.dispose](): void {
    this.#object.close();
  }
}

/** The one map of programs that this process holds. */
function hookOf(pid: number): number | undefined {
  const directory = `/proc/${pid}/fdinfo`;
  for (const fd of readdirSync(directory)) {
    let info: string;
    try {
      info = readFileSync(`${directory}/${fd}`, 'utf8');
    } catch {
      continue;
    }
    if (Number(/^map_type:\s*(\d+)/m.exec(info)?.[1]) === MapType.progArray)
      return Number(/^map_id:\s*(\d+)/m.exec(info)?.[1]);
  }
  return undefined;
}
