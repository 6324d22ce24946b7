import { describe, expect, test } from 'vitest';
import {
  compileFilter,
  Fanout,
  interfaceCounters,
  interfaceInfo,
  interfaces,
  openPacketRing,
  type PacketRing,
  PacketSender,
  runClassicFilter,
  TPacket3,
} from '../../src/kernel/index.ts';
import { ip, kernelTest, ownNetns, until, vethPair } from '../support/kernel.ts';

ownNetns();

interface Frame {
  wire: number;
  bytes: Uint8Array;
  packetType: number;
}

/** A plain walk of the ring, as the kernel's documentation describes it. */
class Walker {
  readonly frames: Frame[] = [];
  #next = 0;
  readonly #ring: PacketRing;

  constructor(ring: PacketRing) {
    this.#ring = ring;
    ring.onReadable(() => this.walk());
  }

  walk(): void {
    const { memory, blockSize, blockCount } = this.#ring;
    const words = new Int32Array(memory);
    const view = new DataView(memory);
    for (;;) {
      const block = this.#next * blockSize;
      const status = (block + TPacket3.blockStatus) >> 2;
      if ((Atomics.load(words, status) & TPacket3.statusUser) === 0) return;
      let at = block + view.getUint32(block + TPacket3.blockFirst, true);
      for (let left = view.getUint32(block + TPacket3.blockPackets, true); left > 0; left--) {
        const start = at + view.getUint16(at + TPacket3.macOffset, true);
        const length = view.getUint32(at + TPacket3.capturedLength, true);
        this.frames.push({
          wire: view.getUint32(at + TPacket3.wireLength, true),
          bytes: new Uint8Array(memory.slice(start, start + length)),
          packetType: view.getUint8(at + TPacket3.packetType),
        });
        at += view.getUint32(at + TPacket3.next, true);
      }
      Atomics.store(words, status, TPacket3.statusKernel);
      this.#next = (this.#next + 1) % blockCount;
    }
  }
}

/** Frames with a broadcast address and their number in bytes 14 to 17. */
function numbered(count: number, size = 100): { frames: Uint8Array; offsets: Uint32Array } {
  const frames = new Uint8Array(count * size);
  const view = new DataView(frames.buffer);
  for (let i = 0; i < count; i++) {
    frames.fill(0xff, i * size, i * size + 6);
    view.setUint16(i * size + 12, 0x88b5); // local experimental EtherType
    view.setUint32(i * size + 14, i);
  }
  return { frames, offsets: Uint32Array.from({ length: count + 1 }, (_, i) => i * size) };
}

function numbers(frames: Frame[]): number[] {
  return frames.map(({ bytes }) => new DataView(bytes.buffer).getUint32(14));
}

describe('packet ring', () => {
  kernelTest('every frame arrives once, in order, with its bytes', ['packetRing'], async () => {
    const pair = vethPair();
    using ring = openPacketRing({ interface: pair.b, blockSize: 1 << 16, blocks: 16 });
    const walker = new Walker(ring);
    using sender = new PacketSender(pair.a, { qdiscBypass: true });
    const count = 20_000;
    const { frames, offsets } = numbered(count);
    for (let sent = 0; sent < count; ) {
      sent += sender.send(frames, offsets, sent, Math.min(500, count - sent));
      await new Promise((resolve) => setImmediate(resolve));
    }
    await until(() => walker.frames.length >= count, 'frames are missing');
    expect(numbers(walker.frames)).toEqual(Array.from({ length: count }, (_, i) => i));
    expect(walker.frames.every((frame) => frame.wire === 100 && frame.bytes.length === 100)).toBe(true);
    expect(walker.frames[0]?.packetType).toBe(TPacket3.packetBroadcast);
    expect(ring.stats()).toEqual({ packets: count, drops: 0, freezes: 0 });
    expect(ring.stats().packets).toBe(count);
    expect(interfaceCounters(pair.b).rxPackets).toBe(count);
    pair.remove();
  });

  kernelTest('what does not fit is counted: received + dropped = sent', ['packetRing'], async () => {
    const pair = vethPair();
    const ring = openPacketRing({ interface: pair.b, blockSize: 1 << 14, blocks: 2 });
    using sender = new PacketSender(pair.a, { qdiscBypass: true });
    const { frames, offsets } = numbered(2000, 200);
    expect(sender.send(frames, offsets)).toBe(2000);
    const walker = new Walker(ring);
    await until(() => walker.frames.length > 0, 'nothing arrived');
    await until(() => ring.stats().packets === 2000, 'frames are missing');
    // The last block is handed over by its timer.
    await until(() => {
      walker.walk();
      return walker.frames.length + ring.stats().drops === 2000;
    }, 'the count does not add up');
    expect(ring.stats().drops).toBeGreaterThan(0);
    expect(ring.stats().freezes).toBeGreaterThan(0);
    ring.close();
    expect(ring.stats().packets).toBe(2000);
    pair.remove();
  });

  kernelTest('sent frames are left out unless asked for', ['packetRing'], async () => {
    const pair = vethPair();
    using without = openPacketRing({ interface: pair.a, blockSize: 1 << 16, blocks: 2 });
    using with_ = openPacketRing({ interface: pair.a, blockSize: 1 << 16, blocks: 2, ignoreOutgoing: false });
    const silent = new Walker(without);
    const walker = new Walker(with_);
    using sender = new PacketSender(pair.a);
    const { frames, offsets } = numbered(10);
    sender.send(frames, offsets);
    await until(() => walker.frames.length === 10, 'frames are missing');
    expect(walker.frames.every((frame) => frame.packetType === TPacket3.packetOutgoing)).toBe(true);
    expect(silent.frames).toEqual([]);
    expect(without.stats().packets).toBe(0);
    pair.remove();
  });

  kernelTest('a filter leaves frames out, and cuts them to its return value', ['packetRing'], async () => {
    const pair = vethPair();
    using ring = openPacketRing({
      interface: pair.b,
      blockSize: 1 << 16,
      blocks: 2,
      filter: compileFilter('ether[14:4] & 1 = 1', 1, 40),
    });
    using cut = openPacketRing({ interface: pair.b, blockSize: 1 << 16, blocks: 2, snaplen: 30 });
    const walker = new Walker(ring);
    const whole = new Walker(cut);
    using sender = new PacketSender(pair.a);
    const { frames, offsets } = numbered(100);
    sender.send(frames, offsets);
    await until(() => walker.frames.length >= 50 && whole.frames.length >= 100, 'frames are missing');
    expect(numbers(walker.frames)).toEqual(Array.from({ length: 50 }, (_, i) => 2 * i + 1));
    expect(walker.frames.every((frame) => frame.wire === 100 && frame.bytes.length === 40)).toBe(true);
    expect(whole.frames.every((frame) => frame.wire === 100 && frame.bytes.length === 30)).toBe(true);
    pair.remove();
  });

  kernelTest('two rings of a fanout group share the frames', ['packetRing'], async () => {
    const pair = vethPair();
    const options = {
      interface: pair.b,
      blockSize: 1 << 16,
      blocks: 4,
      fanout: { id: 77, mode: Fanout.loadBalance },
    };
    using first = openPacketRing(options);
    using second = openPacketRing(options);
    const walkers = [new Walker(first), new Walker(second)];
    using sender = new PacketSender(pair.a);
    const { frames, offsets } = numbered(200);
    sender.send(frames, offsets);
    await until(() => walkers.reduce((sum, w) => sum + w.frames.length, 0) === 200, 'frames are missing');
    expect(walkers.map((w) => w.frames.length)).toEqual([100, 100]);
    pair.remove();
  });

  kernelTest(
    'a ring says that its interface went down, and goes on when it is back',
    ['packetRing'],
    async () => {
      const pair = vethPair();
      using ring = openPacketRing({ interface: pair.b, blockSize: 1 << 16, blocks: 2 });
      const errors: number[] = [];
      const walker = new Walker(ring);
      ring.onReadable((error) => {
        if (error !== 0) errors.push(error);
        walker.walk();
      });
      ip(`link set ${pair.b} down`);
      await until(() => errors.includes(-100), 'ENETDOWN is missing');
      ip(`link set ${pair.b} up`);
      using sender = new PacketSender(pair.a);
      const { frames, offsets } = numbered(10);
      // The kernel wakes the other end's queue up to a second later; what is sent before is dropped there.
      await until(() => {
        sender.send(frames, offsets);
        return walker.frames.length >= 10;
      }, 'frames are missing');
      pair.remove();
      await until(() => errors.length >= 2, 'the end of the interface was not told');
    },
  );

  kernelTest('close detaches the memory, twice is fine, and using it is CLOSED', ['packetRing'], () => {
    const ring = openPacketRing({ interface: 'lo', blockSize: 4096, blocks: 2 });
    const view = new Uint8Array(ring.memory);
    ring.onReadable(() => {});
    ring.close();
    ring.close();
    expect(view.length).toBe(0);
    expect(ring.memory.byteLength).toBe(0);
    expect(() => ring.fd).toThrow(/closed/);
    expect(() => ring.onReadable(() => {})).toThrow(/closed/);
  });

  kernelTest('bad options are refused before or by the kernel', ['packetRing'], () => {
    expect(() => openPacketRing({ interface: 'lo', blockSize: 5000 })).toThrow(RangeError);
    expect(() => openPacketRing({ interface: 'lo', filter: new Uint8Array(7) })).toThrow(RangeError);
    expect(() => openPacketRing({ interface: 'nowhere0' })).toThrow(/nowhere0/);
    expect(() => openPacketRing({ interface: 4242, blocks: 1 })).toThrow(/ENODEV/);
    expect(() =>
      openPacketRing({ interface: 'lo', blocks: 1, filter: new Uint8Array(8).fill(0xff) }),
    ).toThrow(/EINVAL/);
  });

  test('the kernel is never asked for a ring that does not fit 32 bits', () => {
    expect(() => openPacketRing({ interface: 1, blockSize: 1 << 20, blocks: 4096 })).toThrow(RangeError);
  });
});

describe('sender', () => {
  kernelTest('offsets outside of the frames are refused', [], () => {
    const pair = vethPair();
    using sender = new PacketSender(pair.a);
    const { frames, offsets } = numbered(3);
    expect(() => sender.send(frames, Uint32Array.of(0, 1000))).toThrow(/EINVAL/);
    expect(() => sender.send(frames, Uint32Array.of(100, 50))).toThrow(/EINVAL/);
    expect(() => sender.send(frames, offsets, 2, 5)).toThrow(/EINVAL/);
    expect(sender.send(frames, offsets, 1)).toBe(2);
    ip(`link set ${pair.a} down`);
    expect(() => sender.send(frames, offsets)).toThrow(/ENETDOWN/);
    sender.close();
    expect(() => sender.send(frames, offsets)).toThrow(/closed/);
    pair.remove();
  });
});

describe('interfaces', () => {
  kernelTest('those of this namespace, with kind, master, addresses and routes', [], () => {
    const pair = vethPair();
    ip('link add tbr type bridge');
    ip(`link set ${pair.b} master tbr`);
    ip(`addr add 10.9.8.7/24 dev ${pair.a}`);
    ip(`addr add 2001:db8::7/64 dev ${pair.a} nodad`);
    ip(`route add 192.0.2.0/25 via 10.9.8.1 dev ${pair.a}`);
    const all = interfaces();
    expect(all.map((each) => each.name).sort()).toEqual(['lo', pair.a, pair.b, 'tbr'].sort());
    const a = interfaceInfo(pair.a);
    expect(a).toMatchObject({ kind: 'veth', up: true, loopback: false, master: 0, mtu: 1500 });
    expect(a.mac).toMatch(/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/);
    expect(a.addresses).toContainEqual({ family: 4, address: '10.9.8.7', prefix: 24 });
    expect(a.addresses).toContainEqual({ family: 6, address: '2001:db8::7', prefix: 64 });
    expect(a.routes).toContainEqual({ family: 4, destination: '192.0.2.0', prefix: 25, gateway: '10.9.8.1' });
    expect(a.routes).toContainEqual({ family: 4, destination: '10.9.8.0', prefix: 24, gateway: '' });
    expect(a.routes).toContainEqual({ family: 6, destination: '2001:db8::', prefix: 64, gateway: '' });
    const b = interfaceInfo(pair.b);
    expect(b.master).toBe(interfaceInfo('tbr').index);
    // Up and with an IPv6 stack, but with nothing beyond link-local and multicast: a tap.
    expect([b.addresses, b.routes]).toEqual([[], []]);
    ip('link del tbr');
    pair.remove();
  });
});

describe('classic filters', () => {
  test('compile, run, and libpcap says what is wrong', () => {
    const filter = compileFilter('udp port 53 or ip6');
    expect(filter.length % 8).toBe(0);
    const frame = new Uint8Array(60);
    expect(runClassicFilter(filter, frame)).toBe(0);
    frame.set([0x86, 0xdd], 12);
    expect(runClassicFilter(filter, frame)).toBe(262144);
    expect(() => compileFilter('tcp prot 80')).toThrow(expect.objectContaining({ code: 'USAGE', exit: 2 }));
    expect(() => compileFilter('host 1.2.3.4.5')).toThrow(/not valid/);
    expect(() => runClassicFilter(new Uint8Array(8).fill(255), frame)).toThrow(
      expect.objectContaining({ code: 'USAGE' }),
    );
    expect(() => runClassicFilter(new Uint8Array(0), frame)).toThrow();
    expect(runClassicFilter(compileFilter('less 10'), new Uint8Array(0))).toBe(262144);
  });
});
