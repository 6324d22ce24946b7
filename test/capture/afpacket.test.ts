import { expect } from 'vitest';
import { AfPacketSource } from '../../src/capture/afpacket.ts';
import { openPacketRing, PacketSender } from '../../src/kernel/index.ts';
import { eth } from '../../src/packet/build.ts';
import { Decoded, Decoder } from '../../src/packet/decode.ts';
import { Packet } from '../../src/packet/packet.ts';
import { ip, kernelTest, ownNetns, until, vethPair } from '../support/kernel.ts';

ownNetns();

const frame = eth().ipv4({ src: '192.0.2.1', dst: '192.0.2.2' }).udp({ sport: 1, dport: 2 }).payload(900);

function send(sender: PacketSender, count: number): void {
  const bytes = frame.bytes();
  const all = Buffer.concat(Array.from({ length: count }, () => bytes));
  const offsets = Uint32Array.from({ length: count + 1 }, (_, i) => i * bytes.length);
  expect(sender.send(all, offsets)).toBe(count);
}

kernelTest('what has reached the ring is known before it is handed over', ['packetRing'], async () => {
  const { a, b, remove } = vethPair();
  const ring = openPacketRing({ interface: a, blockSize: 1 << 16, blocks: 4, retireMs: 500 });
  const source = new AfPacketSource(ring, a);
  try {
    using sender = new PacketSender(b);
    const drain = (): number => {
      source.drain(() => {}, 1e6);
      return source.packets;
    };
    send(sender, 10);
    await until(() => source.received() === 10, 'the frames are not counted');
    expect(source.packets).toBe(0);
    await until(() => drain() === 10, 'the block is not handed over');
    expect(source.received()).toBe(10);
    // More than fits: the rest is lost, and the ring stands still until blocks come back.
    for (let sent = 0; sent < 400; sent += 50) send(sender, 50);
    await until(() => ring.stats().packets === 410, 'frames are missing');
    const { drops } = ring.stats();
    expect(drops).toBeGreaterThan(0);
    expect(source.received()).toBe(410 - drops);
    await until(() => drain() === 410 - drops, 'blocks are not handed over');
    expect(source.received()).toBe(410 - drops);
  } finally {
    source.close();
    remove();
  }
});

function tags(packet: Packet): unknown {
  const decoder = new Decoder(true);
  return [decoder.decode(packet), decoder.vlan, decoder.innerVlan, decoder.sourcePort];
}

kernelTest('the tag that the kernel takes out is put back', ['packetRing'], async () => {
  const { a, b, remove } = vethPair();
  const ring = openPacketRing({ interface: a, blockSize: 1 << 16, blocks: 4, retireMs: 1 });
  const source = new AfPacketSource(ring, a);
  try {
    const ends = { src: '192.0.2.1', dst: '192.0.2.2' };
    const frames = [
      eth().vlan(7, { prio: 3 }),
      eth().qinq(100).vlan(7),
      eth().vlan(100, { tpid: 0x9100 }).vlan(7),
      eth().qinq(100).vlan(0).vlan(9).vlan(8),
      eth().vlan(0),
      eth(),
    ].map((start) => start.ipv4(ends).udp({ sport: 1, dport: 2 }).payload(100).bytes());
    const offsets = new Uint32Array(frames.length + 1);
    for (const [i, bytes] of frames.entries()) offsets[i + 1] = offsets[i] + bytes.length;
    using sender = new PacketSender(b);
    sender.send(Buffer.concat(frames), offsets);
    const found: unknown[] = [];
    await until(() => {
      source.drain((packet) => found.push(tags(packet)), 1e6);
      return found.length === frames.length;
    }, 'frames are missing');
    const expected = frames.map((bytes) => {
      const packet = new Packet();
      Object.assign(packet, { u8: bytes, caplen: bytes.length, wirelen: bytes.length });
      return tags(packet);
    });
    expect(found).toEqual(expected);
    expect(found.slice(0, 2)).toEqual([
      [Decoded.ok, 7, 0, 1],
      [Decoded.ok, 100, 7, 1],
    ]);
    expect(source.bytes).toBe(offsets[frames.length]);
  } finally {
    source.close();
    remove();
  }
});

kernelTest('promiscuous as long as a ring is open, and not a moment longer', ['packetRing'], () => {
  const { a, remove } = vethPair();
  try {
    const promiscuity = (): string | undefined => /promiscuity (\d+)/.exec(ip(`-d link show ${a}`))?.[1];
    expect(promiscuity()).toBe('0');
    const rings = [0, 1].map(() => openPacketRing({ interface: a, blockSize: 1 << 16, blocks: 2 }));
    expect(promiscuity()).toBe('2');
    using quiet = openPacketRing({ interface: a, blockSize: 1 << 16, blocks: 2, promiscuous: false });
    expect([promiscuity(), quiet.closed]).toEqual(['2', false]);
    for (const ring of rings) ring.close();
    expect(promiscuity()).toBe('0');
  } finally {
    remove();
  }
});

kernelTest('a ring that takes no more hands over all that it has counted', ['packetRing'], async () => {
  const { a, b, remove } = vethPair();
  const ring = openPacketRing({ interface: a, blockSize: 1 << 16, blocks: 4, retireMs: 100 });
  const source = new AfPacketSource(ring, a);
  try {
    using sender = new PacketSender(b);
    send(sender, 20);
    await until(() => source.received() === 20, 'the frames are not counted');
    ring.stopReceiving();
    send(sender, 20);
    await until(() => {
      source.drain(() => {}, 1e6);
      return source.packets === 20;
    }, 'the block is not handed over');
    await new Promise((resolve) => setTimeout(resolve, 150));
    source.drain(() => {}, 1e6);
    expect(source.packets).toBe(20);
    expect(ring.stats()).toMatchObject({ packets: 20, drops: 0 });
  } finally {
    source.close();
    remove();
  }
});
