import { expect } from 'vitest';
import { LiveSender } from '../../bench/live-sender.ts';
import { Stand } from '../../bench/shunt-stand.ts';
import { type Mix, mixOf, tlsMix } from '../../bench/tls-mix.ts';
import { AfPacketSource } from '../../src/capture/afpacket.ts';
import { type BpfLink, openPacketRing } from '../../src/kernel/index.ts';
import { eth } from '../../src/packet/build.ts';
import { kernelTest, ownNetns, until, untilOperational } from '../support/kernel.ts';
import { shifted } from './shifted.ts';

ownNetns();

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/** Takes what arrives on a stand, which lets all pass. */
class Receiver {
  readonly #source: AfPacketSource;
  readonly #link: BpfLink;

  constructor(stand: Stand) {
    untilOperational(stand.tap);
    const ring = openPacketRing({ interface: stand.tap, blockSize: 1 << 18, blocks: 16, retireMs: 1 });
    this.#source = new AfPacketSource(ring, stand.tap);
    this.#link = stand.passAll();
  }

  /** All frames, once there are so many. */
  async take(count: number): Promise<string[]> {
    const arrived: string[] = [];
    await until(() => {
      this.#source.drain(({ u8, offset, caplen, wirelen }) => {
        arrived.push(hex(u8.subarray(offset, offset + caplen)));
        expect(wirelen).toBe(caplen);
      }, 1e6);
      return arrived.length >= count;
    }, 'frames are missing');
    return arrived;
  }

  [Symbol.dispose](): void {
    this.#link.close();
    this.#source.close();
  }
}

/** Frames of these turns, one after the other. */
const turns = (mix: Mix, all: readonly number[]): string[] =>
  all.flatMap((turn) => Array.from({ length: mix.packets }, (_, i) => hex(shifted(mix, turn, i))));

kernelTest('frames of a mix arrive byte for byte, turn after turn, from where they stopped', [], async () => {
  const mix = await tlsMix({ tls: [[3, 20_000]], http: [[2, 8000]], dns: 4 });
  const ends = { src: '10.20.0.0', dst: '198.51.100.0' };
  const longest = eth().ipv4(ends).udp({ sport: 1, dport: 2 }).payload(1472).bytes();
  const other = mixOf([{ tls: false, frames: [longest, longest.subarray(0, 34)] }]);
  const [sender, next] = [new LiveSender(mix), new LiveSender(other)];
  const stand = new Stand('tls', sender);
  using receiver = new Receiver(stand);
  try {
    // In two parts that end within a turn, with and without waits.
    expect(stand.send(mix.packets * 1.5, 1).packets).toBe(Math.round(mix.packets * 1.5));
    stand.send(1_000_000, (mix.packets * 2 - Math.round(mix.packets * 1.5)) / 1_000_000);
    stand.change(next);
    stand.send(4 * 50, 0.02);
    expect(await receiver.take(mix.packets * 2 + 4)).toEqual([
      ...turns(mix, [0, 1]),
      ...turns(other, [3, 4]),
    ]);
    expect(stand.dropped).toBe(0);
  } finally {
    stand.close();
    sender.close();
    next.close();
  }
});

kernelTest(
  'what is beyond the rate of one stream comes of others, at other places and with other addresses',
  [],
  async () => {
    const mix = await tlsMix({ tls: [[1, 2000]], http: [], dns: 20 });
    using sender = new LiveSender(mix);
    const stand = new Stand('tls', sender, 1000);
    using receiver = new Receiver(stand);
    try {
      expect(stand.send(2500, 0.008).packets).toBe(20);
      // Three streams, of sixteen that there may be.
      const begins = [0, 1, 2].map((i) => Math.floor((mix.packets * i) / 16));
      const wanted = Array.from({ length: 20 }, (_, n) =>
        hex(shifted(mix, (n % 3) * 32, begins[n % 3] + Math.floor(n / 3))),
      );
      expect(await receiver.take(20)).toEqual(wanted);
    } finally {
      stand.close();
    }
  },
);

kernelTest('frames for which a cable has no room are counted', [], async () => {
  const mix = await tlsMix({ tls: [[1, 2000]], http: [], dns: 100 });
  using sender = new LiveSender(mix);
  const stand = new Stand('tlr', sender);
  try {
    // Without a program at its end, nobody takes frames that are redirected into it.
    expect(stand.send(100_000, 0.1).packets).toBe(10_000);
    expect(stand.dropped).toBe(10_000);
    const link = stand.dropAll();
    // No more than there are places, so that none is lost however late they are taken.
    expect(stand.send(10_000, 0.02, 0.01).packets).toBe(200);
    await until(() => stand.dropped === 10_000, 'frames are missing');
    link.close();
  } finally {
    stand.close();
  }
});
