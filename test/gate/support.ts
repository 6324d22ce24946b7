import type { Side } from '../../src/flow/types.ts';
import { GateClient } from '../../src/gate/client.ts';
import { Entry } from '../../src/gate/entry.ts';
import { Gate } from '../../src/gate/gate.ts';
import type { GateOptions } from '../../src/gate/gate-options.ts';
import type { Verdict } from '../../src/gate/layout.ts';
import type { Ledger } from '../../src/gate/ledger.ts';
import type { FlipLater, OpName, OpTunnels } from '../../src/gate/ops.ts';
import { ipBytes } from '../../src/packet/address.ts';
import type { PacketBuilder } from '../../src/packet/build.ts';

export interface Endpoint {
  addr: string;
  port: number;
}

export interface GateKey {
  family: 4 | 6;
  bytes: Uint8Array;
  tcp: boolean;
}

/** A gate key written down from its definition in bpf/gate.h, apart from the code under test. */
export function gateKey(proto: number, a: Endpoint, b: Endpoint, vlan = 0, innerVlan = 0): GateKey {
  const side = (e: Endpoint): Buffer => {
    const port = Buffer.alloc(2);
    port.writeUInt16BE(e.port);
    return Buffer.concat([ipBytes(e.addr) as Uint8Array, port]);
  };
  const [low, high] = [side(a), side(b)].sort((x, y) => Buffer.compare(x, y));
  const size = low.length - 2;
  const word = Buffer.alloc(4);
  word.writeUInt32LE((proto | (vlan << 8) | (innerVlan << 20)) >>> 0);
  const parts = [
    low.subarray(0, size),
    high.subarray(0, size),
    low.subarray(size),
    high.subarray(size),
    word,
  ];
  if (size === 16) parts.push(Buffer.alloc(8));
  return { family: size === 4 ? 4 : 6, bytes: new Uint8Array(Buffer.concat(parts)), tcp: proto === 6 };
}

export const XDP_DROP = 1;
export const XDP_PASS = 2;
/** Longer than any test, on however slow a machine. */
const LEASE_SECONDS = 600;

/** Without those by address pair and for other sensors, which are among the reasons. */
function shuntedByFlow({ shunted, reasons }: Ledger): number {
  return shunted.pkts - (reasons.shuntedPair?.pkts ?? 0) - (reasons.shuntedPeer?.pkts ?? 0);
}

/** A gate on the loopback interface that is loaded but attached to nothing: packets come by test-run. */
export class TestGate {
  readonly gate: Gate;
  readonly client: GateClient;
  readonly entry = new Entry();

  constructor(options: Partial<GateOptions> = {}) {
    this.gate = Gate.open({
      ifname: 'lo',
      ifindex: 1,
      maxShunts4: 1024,
      maxShunts6: 1024,
      vlanKey: false,
      workers: 1,
      ...options,
    });
    this.client = new GateClient(this.gate.handles(0), LEASE_SECONDS);
    this.client.lease.renew();
  }

  op(
    name: OpName,
    key: GateKey,
    options: {
      owner?: number;
      idleMs?: number;
      cookie?: number;
      first?: [number, number];
      second?: [number, number];
      tunnels?: OpTunnels | undefined;
      later?: FlipLater;
    } = {},
  ): number {
    const { owner = 1, idleMs = 0, cookie = 0, first = [0, 0], second = [0, 0], tunnels, later } = options;
    const { ops } = this.client;
    ops.clear();
    const row = ops.push(name, key.family, key.bytes, owner, idleMs, cookie, first, second, tunnels, later);
    ops.run();
    return ops.result(row);
  }

  /** Arms and flips; `seq` and `ack` are what each side has sent so far, `rexmits` its retransmissions. */
  shunt(
    key: GateKey,
    options: {
      owner?: number;
      idleMs?: number;
      cookie?: number;
      seq?: [number, number];
      ack?: [number, number];
      rexmits?: [number, number];
      tunnels?: OpTunnels;
    } = {},
  ): void {
    const { seq = [0, 0], ack = [0, 0], rexmits = [0, 0], ...rest } = options;
    const armed = this.op('arm', key, { ...rest, first: seq, second: ack });
    const flipped = this.op('flip', key, { first: rexmits, tunnels: options.tunnels });
    if (armed !== 0 || flipped !== 0) throw new Error(`arm ${armed}, flip ${flipped}`);
  }

  read(key: GateKey): Entry | undefined {
    return this.client.read(key.family, key.bytes, key.tcp, this.entry) ? this.entry : undefined;
  }

  /** Runs one frame through the program: what it returned, and the one ledger row that it was counted under. */
  run(packet: PacketBuilder | Uint8Array): { action: number; verdict: Verdict | 'several' } {
    const data = packet instanceof Uint8Array ? packet : packet.bytes();
    const before = this.gate.ledger();
    const action =
      this.gate.kind === 'socket' ? this.#filter(data) : this.gate.program.testRun({ data }).retval;
    return { action, verdict: this.verdictSince(before, data.length) };
  }

  /** A test run of a socket filter takes an Ethernet header off first: that of an unknown protocol. */
  #filter(frame: Uint8Array): number {
    const data = new Uint8Array(14 + frame.length);
    data.set([0x88, 0xb5], 12);
    data.set(frame, 14);
    return this.gate.program.testRun({ data }).retval === 0 ? XDP_DROP : XDP_PASS;
  }

  /** The one ledger row that a frame of so many bytes was counted under since `before`. */
  verdictSince(before: Ledger, bytes: number): Verdict | 'several' {
    const after = this.gate.ledger();
    const rows: Verdict[] = [];
    if (after.aborted.pkts > before.aborted.pkts) rows.push('aborted');
    for (const [name, count] of Object.entries(after.reasons)) {
      if (count.pkts > (before.reasons[name as Verdict]?.pkts ?? 0)) rows.push(name as Verdict);
    }
    if (shuntedByFlow(after) > shuntedByFlow(before)) rows.push('shunted');
    const one =
      rows.length === 1 &&
      after.seen.pkts === before.seen.pkts + 1 &&
      after.seen.bytes === before.seen.bytes + bytes;
    return one ? rows[0] : 'several';
  }

  [Symbol.dispose](): void {
    this.client.close();
    this.gate.close();
  }
}

export const other = (side: Side): Side => (side === 0 ? 1 : 0);
