import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect } from 'vitest';
import { AfPacketSource } from '../../src/capture/afpacket.ts';
import { FileSource } from '../../src/capture/file.ts';
import { MirroredSource } from '../../src/capture/mirrored.ts';
import type { PacketSource } from '../../src/capture/source.ts';
import { UdpSource } from '../../src/capture/udp.ts';
import { openPacketRing, PacketSender, UdpReceiver } from '../../src/kernel/index.ts';
import { eth, PacketBuilder } from '../../src/packet/build.ts';
import { parseEncap } from '../../src/packet/encap/index.ts';
import type { Packet } from '../../src/packet/packet.ts';
import { pcapFile } from '../../src/packet/pcap.ts';
import { kernelTest, ownNetns, until, vethPair } from '../support/kernel.ts';
import { addListener, DatagramSender, LISTENER } from './udp-support.ts';

ownNetns();
addListener();

const TOTAL = 2000;
const FRAMES = Array.from({ length: TOTAL }, (_, n) =>
  eth()
    .ipv4({ src: '198.51.100.1', dst: '198.51.100.2' })
    .udp({ sport: 1000 + n, dport: 9 })
    .payload(n % 50)
    .bytes(),
);
const vxlan = (frame: Uint8Array): Uint8Array => new PacketBuilder().vxlan({ vni: 3 }).payload(frame).bytes();

interface Made extends Disposable {
  source: PacketSource;
}

function withFile(frames: readonly Uint8Array[], open: (path: string) => PacketSource): Made {
  const dir = mkdtempSync(join(tmpdir(), 'sluice-source-'));
  const path = join(dir, 'x.pcap');
  writeFileSync(path, pcapFile(frames.map((bytes, n) => ({ ts: 1_700_000_000 + n * 0.001, bytes }))));
  return { source: open(path), [Symbol.dispose]: () => rmSync(dir, { recursive: true }) };
}

function ring(): Made {
  const { a, b, remove } = vethPair();
  const source = new AfPacketSource(
    openPacketRing({ interface: a, blockSize: 1 << 16, blocks: 64, retireMs: 1 }),
    a,
  );
  using sender = new PacketSender(b);
  const bytes = Buffer.concat(FRAMES);
  const offsets = new Uint32Array(TOTAL + 1);
  for (const [n, frame] of FRAMES.entries()) offsets[n + 1] = offsets[n] + frame.length;
  for (let sent = 0; sent < TOTAL; ) sent += sender.send(bytes, offsets, sent, Math.min(50, TOTAL - sent));
  return { source, [Symbol.dispose]: remove };
}

function mirror(implementation: 'recvmmsg' | 'io_uring'): Made {
  const receiver = new UdpReceiver({ address: LISTENER, port: 0, implementation });
  const source = new UdpSource(receiver, { kind: 'vxlan', skip: 0, linkType: 1 }, 'a mirror');
  using sender = new DatagramSender(receiver.port);
  sender.send(FRAMES.map(vxlan), (n) => 2000 + n);
  return { source, [Symbol.dispose]: () => {} };
}

const around = (frame: Uint8Array): Uint8Array =>
  eth().ipv4().udp({ dport: 4789 }).vxlan({ vni: 3 }).payload(frame).bytes();

const SOURCES: Record<string, () => Made> = {
  'a file': () => withFile(FRAMES, (path) => FileSource.open(path)),
  'a recorded mirror': () =>
    withFile(
      FRAMES.map(around),
      (path) => new MirroredSource(FileSource.open(path), parseEncap('vxlan'), true),
    ),
  'a ring': ring,
  'a mirror over UDP': () => mirror('recvmmsg'),
  'a mirror over io_uring': () => mirror('io_uring'),
};

/** Of the payload, the port. */
const numberOf = (p: Packet): number => ((p.u8[p.offset + 34] << 8) | p.u8[p.offset + 35]) - 1000;
const isOurs = (p: Packet): boolean => p.u8[p.offset + 26] === 198 && p.caplen >= 42;

describe.each(Object.entries(SOURCES))('%s is a packet source', (_, make) => {
  kernelTest('that shows each packet once, where it lies, as it is asked for', [], async () => {
    using made = make();
    const { source } = made;
    const seen: number[] = [];
    const cursors = new Set<Packet>();
    const memories = new Set<ArrayBufferLike>();
    let shown = 0;
    let most = 0;
    const sink = (p: Packet): void => {
      shown++;
      cursors.add(p);
      memories.add(p.u8.buffer);
      // What an interface says of itself when it comes up is not ours.
      if (isOurs(p)) seen.push(numberOf(p));
    };
    await until(() => {
      const before = shown;
      source.drain(sink, 100);
      most = Math.max(most, shown - before);
      return seen.length >= TOTAL;
    }, 'packets are missing');
    // The sender may have moved to another processor meanwhile, and overtaken itself.
    expect(seen.toSorted((one, other) => one - other)).toEqual(FRAMES.map((_frame, n) => n));
    expect(source.packets).toBe(shown);
    expect(source.problem).toBeUndefined();
    // A few cursors, over memory that is not made for a packet, and no more than was asked for and what came with it.
    expect(cursors.size).toBeLessThanOrEqual(64);
    expect(memories.size).toBeLessThanOrEqual(8);
    expect(most).toBeLessThan(TOTAL);
    source.close();
    source.close();
    expect(source.drain(sink, 100)).toBe(false);
    expect(shown).toBe(source.packets);
  });
});
