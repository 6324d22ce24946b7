import { GateClient } from '../src/gate/client.ts';
import { Entry } from '../src/gate/entry.ts';
import { loadGate } from '../src/gate/load.ts';
import type { GateHandles, OpName } from '../src/gate/ops.ts';
import { type BpfObject, possibleCpus } from '../src/kernel/index.ts';
import { ipBytes } from '../src/packet/address.ts';

export interface Endpoint {
  addr: string;
  port: number;
}

export interface FlowKey {
  family: 4 | 6;
  bytes: Uint8Array;
}

/** The gate's key of a connection (struct sl_key4, struct sl_key6) without VLANs. */
export function flowKey(proto: number, a: Endpoint, b: Endpoint): FlowKey {
  const side = ({ addr, port }: Endpoint): Buffer =>
    Buffer.concat([ipBytes(addr) ?? Buffer.alloc(4), Uint8Array.of(port >> 8, port & 0xff)]);
  const [low, high] = [side(a), side(b)].toSorted((x, y) => Buffer.compare(x, y)) as [Buffer, Buffer];
  const size = low.length - 2;
  const bytes = new Uint8Array(size === 4 ? 16 : 48);
  bytes.set(low.subarray(0, size), 0);
  bytes.set(high.subarray(0, size), size);
  bytes.set(low.subarray(size), 2 * size);
  bytes.set(high.subarray(size), 2 * size + 2);
  bytes[2 * size + 4] = proto;
  return { family: size === 4 ? 4 : 6, bytes };
}

/** `count` connections to one server, none of them like another; every sixth over IPv6. */
export function manyKeys(count: number): FlowKey[] {
  return Array.from({ length: count }, (_, n) => {
    const host = n >> 14;
    const port = 40_000 + (n & 0x3fff);
    return n % 6 === 5
      ? flowKey(6, { addr: `2001:db8:1::${host + 1}`, port }, { addr: '2001:db8::2', port: 443 })
      : flowKey(6, { addr: `10.9.${host >> 8}.${host & 255}`, port }, { addr: '192.0.2.2', port: 443 });
  });
}

const OPS = 1024;
/** The lease of all entries; longer than any measurement. */
const LEASE_SECONDS = 3600;

/** A gate of its own that is attached to nothing and pinned nowhere. */
export class GateTables {
  readonly object: BpfObject;
  readonly client: GateClient;
  readonly handles: GateHandles;
  readonly entry = new Entry();

  /**
   * `path`: a build of bpf/gate.bpf.c or bpf/filter.bpf.c; `notes`: room beside the tables, which only newer ones have; `more`:
   * sizes of further maps.
   */
  constructor(
    path: string,
    max4: number,
    max6: number,
    constants: Record<string, number | Uint8Array> = {},
    notes?: number,
    more: Record<string, number> = {},
  ) {
    this.object = loadGate(path, {
      constants,
      mapSizes: {
        flows4: max4,
        flows6: max6,
        ledger: possibleCpus(),
        ops: OPS,
        ...(notes === undefined ? {} : { side: notes }),
        ...more,
      },
    });
    const fd = (name: string): number => this.object.map(name).fd;
    this.handles = {
      flows4: fd('flows4'),
      flows6: fd('flows6'),
      // An older build has no such table.
      side: (this.object.maps.get('side') ?? this.object.map('flows4')).fd,
      leases: fd('leases'),
      ops: fd('ops'),
      opsProgram: this.object.program('sluice_ops').fd,
      firstOp: 0,
      opCount: OPS,
      owner: 1,
    };
    this.client = new GateClient(this.handles, LEASE_SECONDS);
    this.client.lease.renew();
  }

  /** One kind of change for all keys, in batches; how many of them failed. */
  change(name: OpName, keys: readonly FlowKey[], idleMs = 0): number {
    const { ops, owner } = this.client;
    let failed = 0;
    for (let from = 0; from < keys.length; from += OPS) {
      ops.clear();
      const part = Math.min(OPS, keys.length - from);
      for (let i = 0; i < part; i++) {
        const key = keys[from + i];
        ops.push(name, key.family, key.bytes, owner, idleMs, from + i, [0, 0], [0, 0]);
      }
      ops.run();
      for (let row = 0; row < part; row++) if (ops.result(row) !== 0) failed++;
    }
    return failed;
  }

  /** Arms and flips; an idle limit as the sensor sets one. */
  shunt(keys: readonly FlowKey[]): void {
    const failed = this.change('arm', keys, 300_000) + this.change('flip', keys);
    if (failed > 0) throw new Error(`${failed} of ${keys.length} shunts failed`);
  }

  /** Packets that an entry counted, by side. */
  counted(key: FlowKey): [number, number] {
    this.client.read(key.family, key.bytes, true, this.entry);
    return [this.entry.dirs[0].pkts, this.entry.dirs[1].pkts];
  }

  /** Entries of both families. */
  entries(): number {
    let total = 0;
    for (const map of [this.object.map('flows4'), this.object.map('flows6')]) {
      const key = new Uint8Array(map.keySize);
      for (let more = map.nextKey(undefined, key); more; more = map.nextKey(key.slice(), key)) total++;
    }
    return total;
  }

  close(): void {
    this.client.close();
    this.object.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
