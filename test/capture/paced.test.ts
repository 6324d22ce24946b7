import { expect, test } from 'vitest';
import { PacedSource } from '../../src/capture/paced.ts';
import type { StoredSource } from '../../src/capture/source.ts';
import { type BatchSink, Packet, type PacketSink } from '../../src/packet/packet.ts';

/** Packets of these times, each one byte and two bytes of options before it, all in the same memory. */
class Times implements StoredSource {
  readonly name = 'times';
  packets = 0;
  readonly problem = undefined;
  readonly readBytes = 0;
  starved = false;
  closed = false;
  readonly #times: readonly number[];
  readonly #packet = new Packet();

  constructor(times: readonly number[]) {
    this.#times = times;
  }

  drain(sink: PacketSink, maxPackets: number): boolean {
    for (let n = 0; n < maxPackets; n++) {
      if (this.packets === this.#times.length) return false;
      const ts = this.#times[this.packets++];
      const u8 = Uint8Array.of(9, 7, 7, this.packets);
      Object.assign(this.#packet, {
        ts,
        u8,
        offset: 3,
        caplen: 1,
        wirelen: 5,
        optionsAt: 1,
        optionsBytes: 2,
        vni: 3,
      });
      sink(this.#packet);
      u8.fill(0);
    }
    return true;
  }

  drainBatches(sink: BatchSink, maxPackets: number): boolean {
    return this.drain((packet) => sink([packet], 1), maxPackets);
  }

  wait(): Promise<void> {
    return Promise.resolve();
  }

  close(): void {
    this.closed = true;
  }
}

/** How many packets are there at each of these times of the clock. */
function heard(speed: number, times: readonly number[], clock: readonly number[]): number[][] {
  let now = clock[0];
  const source = new PacedSource(new Times(times), speed, () => now);
  return clock.map((time) => {
    now = time;
    const out: number[] = [];
    const more = source.drain((packet) => out.push(packet.u8[packet.offset]), 100);
    expect(more).toBe(source.packets < times.length);
    return out;
  });
}

test('each packet comes when it is due, from the first one on', () => {
  const times = [1_000_000, 1_000_001, 1_000_001.5, 1_000_004];
  expect(heard(1, times, [50, 50.9, 51, 51.5, 53.9, 54])).toEqual([[1], [], [2], [3], [], [4]]);
  expect(heard(2, times, [50, 50.4, 50.5, 52])).toEqual([[1], [], [2], [3, 4]]);
  expect(heard(0.5, times, [50, 51, 52, 53, 58])).toEqual([[1], [], [2], [3], [4]]);
});

test('a packet that is late, or older than the one before, comes at once', () => {
  expect(heard(1, [100, 99, 101, 100.5, 102], [10, 12])).toEqual([
    [1, 2],
    [3, 4, 5],
  ]);
});

test('what is held is a copy, with the options that came with it', async () => {
  let now = 0;
  const inside = new Times([1, 2]);
  const source = new PacedSource(inside, 1, () => now);
  const shown: number[][] = [];
  const sink = ({ u8, offset, caplen, wirelen, optionsAt, optionsBytes, vni }: Packet) =>
    shown.push([
      ...u8.subarray(offset, offset + caplen),
      wirelen,
      ...u8.subarray(optionsAt, optionsAt + optionsBytes),
      vni,
    ]);
  expect(source.drain(sink, 100)).toBe(true);
  expect(source.starved).toBe(true);
  now = 1;
  expect(source.starved).toBe(false);
  await source.wait();
  expect(source.drain(sink, 100)).toBe(false);
  expect(shown).toEqual([
    [1, 5, 7, 7, 3],
    [2, 5, 7, 7, 3],
  ]);
});

test('a sleep ends when the source is closed', async () => {
  const inside = new Times([0, 1e9]);
  const source = new PacedSource(inside, 1, () => 0);
  source.drain(() => undefined, 10);
  const waiting = source.wait();
  source.close();
  await waiting;
  expect(inside.closed).toBe(true);
});
