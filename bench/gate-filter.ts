import { bpfObjectPath } from '../src/gate/index.ts';
import { KINDS } from '../src/gate/kind.ts';
import type { BpfObject } from '../src/kernel/index.ts';
import { type Case, KEYS, packets } from './gate-case.ts';
import { GateTables, manyKeys } from './tables.ts';

/** A test run of a socket filter takes an Ethernet header off first: that of an unknown protocol. */
function shifted(frame: Uint8Array): Uint8Array {
  const data = new Uint8Array(14 + frame.length);
  data.set([0x88, 0xb5], 12);
  data.set(frame, 14);
  return data;
}

const DROP = 0;
const KEEP = 0x7fffffff;
const FLOOR = 'socket filter that keeps all';

/** Hit and miss of the gate as a socket filter, over one that keeps everything; what is made is the stack's. */
export function filterCases(bare: BpfObject, entries: number, stack: DisposableStack): Case[] {
  const { object, program: name, sizes } = KINDS.socket;
  const tables = stack.use(new GateTables(bpfObjectPath(object), 131_072, 16_384, {}, undefined, sizes()));
  tables.shunt(KEYS);
  tables.shunt(manyKeys(entries));
  const program = tables.object.program(name);
  const [hit, miss] = [packets(true), packets(false)];
  const of = (what: string, data: Uint8Array, action: number): Case => ({
    name: `socket filter, ${what}`,
    program,
    data: shifted(data),
    action,
    floor: FLOOR,
  });
  return [
    {
      name: FLOOR,
      program: bare.program('bench_keep'),
      data: shifted(miss.ack),
      action: KEEP,
      floor: undefined,
    },
    of('hit, IPv4 TCP', hit.ack, DROP),
    of('hit, IPv4 UDP', hit.udp, DROP),
    of('hit, IPv6 TCP', hit.ack6, DROP),
    of('miss, IPv4 TCP', miss.ack, KEEP),
    of('miss, IPv4 TCP, 1,400 bytes', miss.data, KEEP),
    of('miss, IPv6 TCP', miss.ack6, KEEP),
  ];
}
