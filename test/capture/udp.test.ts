import { describe, expect, it } from 'vitest';
import type { SourceCounts } from '../../src/capture/source.ts';
import { type DatagramReceiver, UdpSource } from '../../src/capture/udp.ts';
import { UdpReceiver } from '../../src/kernel/index.ts';
import { eth, PacketBuilder } from '../../src/packet/build.ts';
import { DecapReason } from '../../src/packet/encap/index.ts';
import type { Packet } from '../../src/packet/packet.ts';
import { kernelTest, ownNetns, until } from '../support/kernel.ts';
import { addListener, DatagramSender, KINDS, LISTENER, noise, randomNumbers } from './udp-support.ts';

ownNetns();
addListener();

const VXLAN = { kind: 'vxlan', skip: 0, linkType: 1 } as const;
const FRAME = new PacketBuilder()
  .vxlan({ vni: 9 })
  .payload(eth().ipv4().udp().payload('abc').bytes())
  .bytes();

/** A socket of the imagination: a queue, and two clocks of which one can be set. Times are nanoseconds. */
class Imagined implements DatagramReceiver {
  readonly memory = new ArrayBuffer(4096);
  readonly bufferBytes: number;
  readonly rows: number;
  readonly offsets: Uint32Array;
  readonly captured: Uint32Array;
  readonly lengths: Uint32Array;
  readonly dropped: Uint32Array;
  readonly times: Float64Array;
  readonly since: Float64Array;
  empty = false;
  now = 0;
  clockOffset = 0;
  /** How far CLOCK_REALTIME is ahead. */
  ahead = 0;
  #monotonic = 0;
  readonly #queue: number[] = [];
  /** Datagrams that have come, and those shown. */
  came = 0;
  shown = 0;

  constructor(bufferBytes: number, rows: number) {
    this.bufferBytes = bufferBytes;
    this.rows = rows;
    new Uint8Array(this.memory).set(FRAME);
    this.offsets = new Uint32Array(rows);
    this.captured = new Uint32Array(rows).fill(FRAME.length);
    this.lengths = new Uint32Array(rows).fill(FRAME.length);
    this.dropped = new Uint32Array(rows);
    this.times = new Float64Array(rows);
    this.since = new Float64Array(rows);
  }

  pass(nanoseconds: number): void {
    this.#monotonic += nanoseconds;
  }

  /** False: no room. */
  arrive(): boolean {
    if (this.#queue.length * 256 > 2 * this.bufferBytes) return false;
    this.#queue.push(this.#monotonic + this.ahead);
    this.came++;
    return true;
  }

  receive(): number {
    this.readClocks();
    this.pass(100);
    const rows = Math.min(this.rows, this.#queue.length);
    for (let row = 0; row < rows; row++) this.since[row] = this.#queue.shift() ?? 0;
    this.empty = rows < this.rows;
    return rows;
  }

  readClocks(): void {
    this.now = this.#monotonic;
    this.clockOffset = this.ahead;
    this.pass(10);
  }

  onReadable(): void {}
  drops(): number {
    return 0;
  }
  stopReceiving(): void {}
  close(): void {}
}

describe('how far it has come', () => {
  it('nothing that had come before a moment is behind it, whatever the clock is set to, and every moment passes', () => {
    const random = randomNumbers(11);
    let steps = 0;
    for (let run = 0; run < 40; run++) {
      const receiver = new Imagined(8192, 4);
      const source = new UdpSource(receiver, VXLAN, 'imagined');
      const waiting: { position: number; came: number; block: boolean; turns: number }[] = [];
      let shown = 0;
      const check = (inTurn: boolean): void => {
        for (const [at, wait] of waiting.entries()) {
          const passed = wait.block ? source.sequence > wait.position : source.position >= wait.position;
          if (!passed) continue;
          // Of the datagram that is shown now, its own turn counts for positions, and the turn of all for blocks.
          expect(shown).toBeGreaterThanOrEqual(wait.came);
          if (!inTurn) waiting.splice(at, 1);
          return;
        }
      };
      for (let turn = 0; turn < 400; turn++) {
        const step = random(12);
        for (let n = random(6); n > 0; n--) {
          receiver.pass(random(2000));
          receiver.arrive();
          if (n === step) {
            receiver.ahead += (random(2) === 0 ? -1 : 1) * random(1e9);
            steps++;
          }
        }
        if (random(3) === 0) {
          const block = random(2) === 0;
          waiting.push({
            position: block ? source.openBlock() : source.received(),
            came: receiver.came,
            block,
            turns: 0,
          });
        }
        source.drain(() => {
          shown++;
          check(true);
        }, 1);
        for (let left = waiting.length; left > 0; left--) check(false);
        // A socket that never runs empty hands out its room twice over, and then knows.
        for (const wait of waiting) expect(wait.turns++).toBeLessThan(200);
      }
    }
    expect(steps).toBeGreaterThan(500);
  });

  it('an empty socket is asked once for each moment: looking at it is no progress', () => {
    const receiver = new Imagined(8192, 4);
    const source = new UdpSource(receiver, VXLAN, 'imagined');
    source.drain(() => {}, 1);
    const before = source.sequence;
    source.drain(() => {}, 1);
    expect(source.sequence).toBe(before);
    const block = source.openBlock();
    source.drain(() => {}, 1);
    expect(source.sequence).toBeGreaterThan(block);
    const after = source.sequence;
    source.drain(() => {}, 1);
    expect(source.sequence).toBe(after);
    const received = source.received();
    source.drain(() => {}, 1);
    expect(source.position).toBeGreaterThanOrEqual(received);
  });

  it('a call of the sink may ask: its moment is later than the batch', () => {
    const receiver = new Imagined(8192, 4);
    const source = new UdpSource(receiver, VXLAN, 'imagined');
    receiver.arrive();
    let block = -1;
    source.drain(() => {
      receiver.arrive();
      block = source.openBlock();
    }, 1);
    expect(source.sequence).toBeLessThanOrEqual(block);
    let shown = 0;
    source.drain(() => shown++, 1);
    expect(shown).toBe(1);
    expect(source.sequence).toBeGreaterThan(block);
  });
});

interface Shown {
  bytes: string;
  ts: number;
  wirelen: number;
  linkType: number;
  vni: number;
}

const shownBy = (list: Shown[]) => (p: Packet) => {
  list.push({
    bytes: Buffer.from(p.u8.buffer, p.u8.byteOffset + p.offset, p.caplen).toString('latin1'),
    ts: p.ts,
    wirelen: p.wirelen,
    linkType: p.linkType,
    vni: p.vni,
  });
};

describe.each(['recvmmsg', 'io_uring'] as const)('over %s', (implementation) => {
  const open = (
    encapsulation = KINDS[0]?.encapsulation ?? VXLAN,
    options: { bufferBytes?: number; slotBytes?: number } = {},
  ) => {
    const receiver = new UdpReceiver({ address: LISTENER, port: 0, implementation, ...options });
    return { receiver, source: new UdpSource(receiver, encapsulation, 'mirror') };
  };

  kernelTest('the frames of a mirror, and the datagrams without one by reason', [], async () => {
    const { receiver, source } = open();
    try {
      using sender = new DatagramSender(receiver.port);
      const frame = eth().ipv4().tcp({ flags: 'S' }).bytes();
      const vxlan = (vni: number, flags = 8) =>
        new PacketBuilder().vxlan({ vni, flags }).payload(frame).bytes();
      sender.send(
        [vxlan(1), vxlan(2, 0), new Uint8Array(0), Uint8Array.of(8, 0, 0), vxlan(3), FRAME.subarray(0, 8)],
        (n) => 1000 + n,
      );
      const shown: Shown[] = [];
      await until(() => {
        source.drain(shownBy(shown), 100);
        return source.datagrams === 6;
      }, 'datagrams are missing');
      expect(shown.map(({ vni }) => vni)).toEqual([1, 3]);
      for (const { bytes, wirelen, linkType, ts } of shown) {
        expect(Buffer.from(bytes, 'latin1')).toEqual(Buffer.from(frame));
        expect({ wirelen, linkType }).toEqual({ wirelen: frame.length, linkType: 1 });
        expect(Math.abs(ts - Date.now() / 1000)).toBeLessThan(10);
      }
      expect(source).toMatchObject({ packets: 2, bytes: 2 * frame.length, truncated: 0 });
      expect(source.datagramBytes).toBe(2 * (frame.length + 8) + (frame.length + 8) + 3 + 8);
      expect(source.reasons[DecapReason.frame]).toBe(2);
      expect(source.reasons[DecapReason.flags]).toBe(1);
      expect(source.reasons[DecapReason.empty]).toBe(2);
      expect(source.reasons[DecapReason.truncated]).toBe(1);
      expect(source.counts()).toEqual({ packets: 2, drops: 0, freezes: 0 } satisfies SourceCounts);
    } finally {
      source.close();
      source.close();
    }
    expect(source.drain(() => {}, 1)).toBe(false);
  });

  kernelTest('a datagram that was cut is counted, and what is there is looked at', [], async () => {
    const { receiver, source } = open(VXLAN, { slotBytes: 100 });
    try {
      using sender = new DatagramSender(receiver.port);
      const frame = eth().ipv4().udp().payload(500).bytes();
      sender.send([new PacketBuilder().vxlan().payload(frame).bytes()], () => 7);
      const shown: Shown[] = [];
      await until(() => source.drain(shownBy(shown), 1) && shown.length === 1, 'the datagram is missing');
      expect(source.truncated).toBe(1);
      expect(shown[0]).toMatchObject({ wirelen: frame.length });
      expect(shown[0]?.bytes.length).toBe(92);
    } finally {
      source.close();
    }
  });

  kernelTest(
    'a moment passes when all from before it was shown: with more behind it, and in silence',
    [],
    async () => {
      const { receiver, source } = open();
      try {
        using sender = new DatagramSender(receiver.port);
        let shown = 0;
        const many = (count: number) =>
          sender.send(
            Array.from({ length: count }, () => FRAME),
            () => 7,
          );
        many(1500);
        const barrier = source.received();
        const block = source.openBlock();
        many(1500);
        let passed = 0;
        const sink = () => {
          shown++;
          if (passed === 0 && source.position >= barrier) passed = shown;
        };
        await until(() => {
          source.drain(sink, 1);
          if (source.sequence > block) expect(shown).toBeGreaterThanOrEqual(1500);
          return shown === 3000;
        }, 'frames are missing');
        expect(passed).toBeGreaterThan(1500);
        expect(source.sequence).toBeGreaterThan(block);
        const silent = source.received();
        await until(() => source.drain(sink, 1) && source.position >= silent, 'the moment does not pass');
        expect(shown).toBe(3000);
      } finally {
        source.close();
      }
    },
  );

  kernelTest('at the end all that had come is handed out, and the sums are exact', [], async () => {
    const { receiver, source } = open(VXLAN, { bufferBytes: 100_000 });
    try {
      using sender = new DatagramSender(receiver.port);
      const frames = Array.from({ length: 2000 }, () => FRAME);
      sender.send(frames, () => 7);
      source.drain(() => {}, 300);
      sender.send(frames, () => 7);
      source.stopReceiving();
      sender.send(frames, () => 7);
      await until(() => {
        source.drain(() => {}, Number.MAX_SAFE_INTEGER);
        const { packets, drops } = source.counts();
        return source.packets >= packets - drops;
      }, 'frames are missing');
      const { packets, drops, freezes } = source.counts();
      expect(packets).toBe(4000);
      expect(drops).toBe(4000 - source.packets);
      expect(drops).toBeGreaterThan(0);
      expect(freezes).toBeGreaterThan(0);
      expect(source.packets).toBe(source.datagrams);
    } finally {
      source.close();
    }
  });

  kernelTest('random datagrams at full rate into every encapsulation: all counted', [], async () => {
    const random = randomNumbers(5);
    for (const kind of KINDS) {
      const { receiver, source } = open(kind.encapsulation);
      try {
        using sender = new DatagramSender(receiver.port);
        const datagrams = noise(kind, 600, random);
        let shown = 0;
        sender.send(datagrams, () => 1024 + random(60_000));
        await until(() => {
          source.drain((p) => {
            if (p.caplen > 0 && p.wirelen >= p.caplen) shown++;
          }, 10_000);
          return source.datagrams + source.counts().drops === datagrams.length;
        }, 'datagrams are missing');
        expect(source.packets).toBe(shown);
        expect(source.reasons[DecapReason.frame]).toBe(shown);
        expect(source.reasons.reduce((sum, count) => sum + count, 0)).toBe(source.datagrams);
        expect(shown).toBeGreaterThan(0);
      } finally {
        source.close();
      }
    }
  });
});
