import {
  type ConnRecord,
  createFlowEngine,
  type FlowEngine,
  type FlowEngineOptions,
  type FlowHooks,
  type Side,
  type SideDelta,
} from '../../../src/flow/index.ts';
import { eth, type PacketBuilder } from '../../../src/packet/build.ts';
import type { TcpOptions } from '../../../src/packet/layers-transport.ts';
import { type Checksum, Packet } from '../../../src/packet/packet.ts';

export interface FrameOptions {
  wirelen?: number;
  caplen?: number;
  vlanTci?: number;
  linkType?: number;
  checksum?: Checksum;
}

/** A cursor over one frame, which does not begin at the start of its memory. */
export function packetOf(bytes: Uint8Array, ts = 0, options: FrameOptions = {}): Packet {
  const packet = new Packet();
  const memory = new Uint8Array(bytes.length + 6);
  memory.set(bytes, 3);
  packet.u8 = memory;
  packet.offset = 3;
  packet.caplen = options.caplen ?? bytes.length;
  packet.wirelen = options.wirelen ?? bytes.length;
  packet.ts = ts;
  packet.linkType = options.linkType ?? 1;
  packet.vlanTci = options.vlanTci ?? -1;
  packet.checksum = options.checksum ?? 0;
  return packet;
}

/** An engine whose records are collected as flows end. */
export class Harness {
  readonly engine: FlowEngine;
  readonly records: ConnRecord[] = [];
  readonly hooks: FlowHooks;

  constructor(options: FlowEngineOptions = {}, hooks: Partial<FlowHooks> = {}) {
    this.hooks = {
      beforePacket: () => undefined,
      mayExpire: () => true,
      ...hooks,
      closed: (slot) => {
        hooks.closed?.(slot);
        this.records.push(this.engine.record(slot));
      },
    };
    this.engine = createFlowEngine({ seed: 7, maxFlows: 1024, ...options }, this.hooks);
  }

  feed(frame: PacketBuilder | Uint8Array, ts: number, options: FrameOptions = {}): number {
    return this.engine.process(packetOf(frame instanceof Uint8Array ? frame : frame.bytes(), ts, options));
  }

  /** Ends all flows; every record so far. */
  finish(): ConnRecord[] {
    this.engine.finish();
    return this.records;
  }

  /** The only record there is. */
  only(): ConnRecord {
    const [record, ...rest] = this.finish();
    if (record === undefined || rest.length > 0) throw new Error(`${this.records.length} records`);
    return record;
  }
}

/** What of a record is compared: everything but the uid. */
export function comparable(record: ConnRecord): Omit<ConnRecord, 'uid'> {
  const { uid, ...rest } = record;
  if (!/^C[0-9A-Za-z]{2,17}$/.test(uid)) throw new Error(`not a uid: ${uid}`);
  return rest;
}

const CLIENT = { address: '10.0.0.1', port: 40_000 };
const SERVER = { address: '192.0.2.1', port: 8443 };

/** A TCP segment between 10.0.0.1:40000 (client) and 192.0.2.1:8443. */
export function segment(
  from: 'client' | 'server',
  flags: string,
  seq: number,
  ack: number,
  bytes = 0,
  more: TcpOptions = {},
): PacketBuilder {
  const [a, b] = from === 'client' ? [CLIENT, SERVER] : [SERVER, CLIENT];
  return eth()
    .ipv4({ src: a.address, dst: b.address })
    .tcp({ sport: a.port, dport: b.port, flags, seq: seq >>> 0, ack: ack >>> 0, ...more })
    .payload(bytes);
}

/** Handshake of the two above: initial sequence numbers 1000 and 5000. */
export function handshake(harness: Harness, ts: number): number {
  harness.feed(segment('client', 'S', 1000, 0), ts);
  harness.feed(segment('server', 'SA', 5000, 1001), ts + 0.01);
  return harness.feed(segment('client', 'A', 1001, 5001), ts + 0.02);
}

/** The side of the key that the client of `segment` is: 10.0.0.1 comes before 192.0.2.1. */
export const CLIENT_SIDE: Side = 0;

export function noDelta(): SideDelta {
  return {
    pkts: 0,
    ipBytes: 0,
    payloadBytes: 0,
    seq: -1,
    ack: -1,
    edge: -1,
    seqWraps: 0,
    retransmits: 0,
    zeroWindows: 0,
    last: 0,
  };
}
