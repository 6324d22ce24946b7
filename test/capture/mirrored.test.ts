import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, test } from 'vitest';
import { MirroredSource } from '../../src/capture/mirrored.ts';
import type { StoredSource } from '../../src/capture/source.ts';
import { type ConnRecord, createFlowEngine } from '../../src/flow/index.ts';
import { eth, ipv4, type PacketBuilder } from '../../src/packet/build.ts';
import { parseEncap } from '../../src/packet/encap/index.ts';
import { type BatchSink, Packet, type PacketSink } from '../../src/packet/packet.ts';
import { PcapReader } from '../../src/packet/pcap.ts';
import { PcapngReader } from '../../src/packet/pcapng.ts';
import { Read } from '../../src/packet/reader.ts';
import { corpusRoot, readCases } from '../flow/support/corpus.ts';
import {
  GWLB,
  MIRROR,
  type MirrorShape,
  MOST_INSIDE,
  SHAPES,
  VNI,
  wrapCut,
} from '../support/mirror-frames.ts';

interface Frame {
  ts: number;
  bytes: Uint8Array;
  wirelen: number;
  linkType: number;
}

/** Frames in memory as a source, in batches of 7, each in the same piece of memory as the one before. */
class Frames implements StoredSource {
  readonly name = 'frames';
  packets = 0;
  readonly problem = undefined;
  readonly readBytes = 0;
  readonly starved = false;
  readonly #frames: readonly Frame[];
  readonly #batch = Array.from({ length: 7 }, () => new Packet());

  constructor(frames: readonly Frame[]) {
    this.#frames = frames;
  }

  drain(sink: PacketSink, maxPackets: number): boolean {
    return this.drainBatches((packets, count) => packets.slice(0, count).forEach(sink), maxPackets);
  }

  drainBatches(sink: BatchSink, maxPackets: number): boolean {
    const frames = this.#frames.slice(this.packets, this.packets + Math.min(7, maxPackets));
    frames.forEach(({ ts, bytes, wirelen, linkType }, i) => {
      const u8 = new Uint8Array(bytes.length + 3);
      u8.set(bytes, 3);
      Object.assign(this.#batch[i], { ts, u8, offset: 3, caplen: bytes.length, wirelen, linkType });
    });
    this.packets += frames.length;
    if (frames.length > 0) sink(this.#batch, frames.length);
    for (const packet of this.#batch) packet.u8.fill(0xee);
    return this.packets < this.#frames.length;
  }

  wait(): Promise<void> {
    return Promise.resolve();
  }

  close(): void {}
}

function connections(source: StoredSource, checksums: boolean, tunnelInKey = false): ConnRecord[] {
  const records: ConnRecord[] = [];
  const engine = createFlowEngine(
    { checksums, tunnelInKey, maxFlows: 2048, seed: 7 },
    {
      beforePacket: () => undefined,
      mayExpire: () => true,
      closed: (slot) => records.push(engine.record(slot)),
    },
  );
  while (source.drainBatches((packets, count) => engine.processBatch(packets, count), 1000));
  engine.finish();
  return records;
}

function framesOf(file: Uint8Array, format: string): Frame[] {
  const reader = format === 'pcapng' ? new PcapngReader() : new PcapReader();
  reader.window(file, 0, file.length, 0);
  const frames: Frame[] = [];
  const packet = new Packet();
  while (reader.next(packet) === Read.packet) {
    const { ts, u8, offset, caplen, wirelen, linkType } = packet;
    frames.push({ ts, bytes: u8.slice(offset, offset + caplen), wirelen, linkType });
  }
  return frames;
}

function mirrorOf(shape: MirrorShape, frames: readonly Frame[]): Frame[] {
  return frames.map(({ ts, bytes, wirelen }) => ({ ts, linkType: 1, ...wrapCut(shape, bytes, wirelen) }));
}

const RAW = [12, 101, 228];
const PPP = [9, 50];
/** The option that a trace's link type needs; undefined: no mirror carries it. */
function dltOf(frames: readonly Frame[]): string | undefined {
  const { linkType } = frames[0];
  if (linkType === 1) return '';
  if (RAW.includes(linkType)) return ',dlt=raw';
  return PPP.includes(linkType) ? ',dlt=ppp' : undefined;
}

const isIp = ({ bytes }: Frame) => {
  const type = (bytes[12] << 8) | bytes[13];
  return type === 0x0800 || type === 0x86dd;
};
const isArp = ({ bytes }: Frame) => bytes[12] === 8 && bytes[13] === 6;

const root = corpusRoot();
const traces = (root === undefined ? [] : readCases(root))
  .map((entry) => ({
    name: entry.name,
    checksums: !entry.checksums_ignored,
    frames: framesOf(readFileSync(join(root as string, entry.name, `trace.${entry.format}`)), entry.format),
  }))
  .filter(({ frames }) => frames.length > 0 && frames.every(({ wirelen }) => wirelen <= MOST_INSIDE));

/** Connections of traces as they are: the same for all encapsulations. */
const plain = new Map<string, ConnRecord[]>();

describe.skipIf(root === undefined)('conn.log of a mirror is that of the plain file, with the VNI', () => {
  it.each(Object.entries(SHAPES))('%s', (_, shape) => {
    let compared = 0;
    let conns = 0;
    // Encapsulations that differ from another one by little: a third of the traces.
    const some = traces.filter((_trace, index) => index % 3 === 0 || shape.variant !== true);
    for (const { name, checksums, frames } of some) {
      const dlt = dltOf(frames);
      // GENEVE names what is inside by itself, of the three.
      if (dlt === undefined || (dlt !== '' && (shape.ipOnly === true || shape.encap === 'geneve'))) continue;
      const ip = frames.filter(isIp);
      if (shape.ipOnly === true && frames.some((frame) => !isIp(frame) && !isArp(frame))) continue;
      const sent = shape.ipOnly === true ? ip : frames;
      const key = `${name} ${sent.length}`;
      const expected = plain.get(key) ?? connections(new Frames(sent), checksums);
      plain.set(key, expected);
      const source = new MirroredSource(
        new Frames(mirrorOf(shape, sent)),
        parseEncap(`${shape.encap}${dlt}`),
        true,
      );
      const actual = connections(source, checksums, compared % 2 === 0);
      // Of tunnels inside of the mirror, the identifiers are their own.
      const withVni = expected.map((record) => ({
        ...record,
        vxlanVni: record.vxlanVni ?? shape.vnis.vxlanVni,
        geneveVni: record.geneveVni ?? shape.vnis.geneveVni,
        gwlb: shape.gwlb === true ? GWLB : undefined,
      }));
      expect(actual, name).toEqual(withVni);
      expect(source.counts(), name).toEqual({ packets: sent.length, frames: sent.length, left: {} });
      compared++;
      conns += expected.length;
    }
    // Of 116 traces, those with another link type or with frames larger than a datagram are left out.
    expect(compared).toBeGreaterThanOrEqual(shape.variant === true ? 30 : shape.ipOnly === true ? 60 : 90);
    expect(conns).toBeGreaterThan(shape.variant === true ? 60 : 200);
  });
});

const inner = eth().ipv4({ src: '10.0.0.1', dst: '10.0.0.2' }).udp({ sport: 1000, dport: 2000 }).payload(900);
const outer = eth().ipv4(MIRROR);

function opened(frames: readonly (PacketBuilder | Uint8Array)[], encap = 'vxlan', checksums = true) {
  const source = new MirroredSource(
    new Frames(
      frames.map((frame, i) => {
        const bytes = frame instanceof Uint8Array ? frame : frame.bytes();
        return { ts: 100 + i, bytes, wirelen: bytes.length, linkType: 1 };
      }),
    ),
    parseEncap(encap),
    checksums,
  );
  const shown: Partial<Packet>[] = [];
  while (
    source.drain(({ ts, caplen, wirelen, vni, u8, offset }) => {
      shown.push({ ts, caplen, wirelen, vni, u8: u8.slice(offset, offset + caplen) });
    }, 100)
  );
  return { shown, counts: source.counts(), packets: source.packets };
}

describe('a recorded mirror', () => {
  const datagram = outer.udp({ dport: 4789 }).vxlan({ vni: VNI }).payload(inner.bytes());

  test('what is no datagram of the mirror is counted by reason', () => {
    const bad = datagram.bytes();
    bad[60] ^= 1;
    const { shown, counts, packets } = opened([
      datagram,
      outer.tcp({ dport: 4789 }),
      outer.udp({ dport: 4790 }).vxlan().payload(inner.bytes()),
      eth({ type: 0x0806 }).payload(28),
      bad,
      outer.udp({ dport: 4789, length: 9000 }).vxlan().payload(20),
      outer.udp({ dport: 4789 }),
      outer.udp({ dport: 4789 }).vxlan({ flags: 0 }).payload(20),
      new Uint8Array(3),
    ]);
    expect(shown).toHaveLength(1);
    expect(packets).toBe(1);
    expect(counts).toEqual({
      packets: 9,
      frames: 1,
      left: { other: 4, checksum: 1, length: 1, empty: 1, flags: 1 },
    });
    // Without checksums the damaged one is taken as it is.
    expect(opened([bad], 'vxlan', false).counts).toEqual({ packets: 1, frames: 1, left: {} });
  });

  test('bytes behind the UDP datagram are not of the frame', () => {
    const { shown } = opened([ipTrailed(datagram.bytes())]);
    expect(shown[0]).toMatchObject({ caplen: inner.bytes().length, wirelen: inner.bytes().length });
  });

  test('a datagram in fragments is put together, whatever their order', () => {
    const whole = ipv4(MIRROR)
      .udp({ dport: 4789 })
      .vxlan({ vni: VNI })
      .payload(inner.bytes())
      .bytes()
      .subarray(20);
    const pieces = [0, 1, 2].map((i) =>
      eth()
        .ipv4({ ...MIRROR, id: 77, protocol: 17, fragment: { offset: i * 400, more: i < 2 } })
        .payload(whole.subarray(i * 400, Math.min((i + 1) * 400, whole.length))),
    );
    for (const order of [
      [0, 1, 2],
      [2, 0, 1],
    ]) {
      const { shown, counts } = opened(order.map((i) => pieces[i]));
      expect(shown).toHaveLength(1);
      expect(shown[0]).toMatchObject({ ts: 102, vni: VNI, caplen: inner.bytes().length });
      expect(Buffer.from(shown[0].u8 as Uint8Array).equals(inner.bytes())).toBe(true);
      expect(counts).toEqual({ packets: 3, frames: 1, left: { fragments: 2 } });
    }
    expect(opened(pieces.slice(0, 2)).counts.left).toEqual({ fragments: 2 });
  });

  test('two mirrors with equal tuples inside are two connections with tunnel-key, and one without', () => {
    const frames = [5, 6].flatMap((vni) =>
      [0, 1].map((i) => {
        const bytes = outer.udp({ dport: 4789 }).vxlan({ vni }).payload(inner.bytes()).bytes();
        return { ts: 100 + vni + i / 10, bytes, wirelen: bytes.length, linkType: 1 };
      }),
    );
    const read = (tunnelInKey: boolean) =>
      connections(new MirroredSource(new Frames(frames), parseEncap('vxlan'), true), true, tunnelInKey).map(
        ({ vxlanVni, origPkts }) => [vxlanVni, origPkts],
      );
    expect(read(true)).toEqual([
      [5, 2],
      [6, 2],
    ]);
    expect(read(false)).toEqual([[5, 4]]);
  });
});

/** The frame with four bytes behind its IP packet. */
function ipTrailed(frame: Uint8Array): Uint8Array {
  const out = new Uint8Array(frame.length + 4).fill(0xff);
  out.set(frame);
  return out;
}
