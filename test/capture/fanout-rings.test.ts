import { describe, expect } from 'vitest';
import {
  back,
  fragmentsOf,
  numbered,
  numberOf,
  packetOf,
  randomEnds,
  randomOf,
  TUNNELS,
  WRAPPERS,
} from '../../bench/fanout-frames.ts';
import { FLOWS_WHOLE, Rings, sendAll } from '../../bench/fanout-rings.ts';
import type { FanoutWish } from '../../src/capture/fanout.ts';
import { Fanout, FanoutPlace, interfaceInfo, openPacketRing } from '../../src/kernel/index.ts';
import { ip, kernelTest, ownNetns, until, vethPair } from '../support/kernel.ts';

ownNetns();

const FLOWS = 120;

/** Frames of so many flows, each with its number, both directions and by turns. */
function traffic(make: (flow: number, random: (below: number) => number) => Uint8Array[]): Uint8Array[] {
  const random = randomOf(42);
  const flows = Array.from({ length: FLOWS }, (_, flow) => make(flow, random));
  const longest = Math.max(...flows.map((frames) => frames.length));
  const out: Uint8Array[] = [];
  for (let i = 0; i < longest; i++) for (const frames of flows) if (i < frames.length) out.push(frames[i]);
  return out;
}

const bothWays = (flow: number, random: (below: number) => number, only: (at: number) => boolean) => {
  const ends = randomEnds(random);
  const { wrap } = WRAPPERS.filter((_, at) => only(at))[flow % WRAPPERS.filter((_, at) => only(at)).length];
  return [ends, back(ends), ends, back(ends)].map((way) => packetOf(wrap(numbered(flow)), way).bytes());
};

/** What the kernel's own hash looks into as well: untagged, one and two tags. */
const plain = traffic((flow, random) => bothWays(flow, random, (at) => at < 4));

const everything = traffic((flow, random) => {
  const ends = { ...randomEnds(random), protocol: 'udp' as const };
  const before = WRAPPERS[flow % WRAPPERS.length].wrap(numbered(flow));
  return [
    packetOf(before, ends).bytes(),
    ...fragmentsOf(before, back(ends), flow, 1300),
    ...fragmentsOf(before, ends, flow + 1000, 1300),
    packetOf(before, back(ends)).bytes(),
  ];
});

const tunnelled = traffic((flow, random) => {
  const ends = { ...randomEnds(random), protocol: 'udp' as const };
  const { enter } = TUNNELS[flow % TUNNELS.length];
  const there = enter(numbered(flow), true, flow);
  const here = enter(numbered(flow), false, flow);
  return [
    packetOf(there, ends).bytes(),
    packetOf(here, back(ends)).bytes(),
    ...fragmentsOf(there, ends, flow, 1300),
  ];
});

/** No further than the rings have come: the queue on the way to them is a short one, and drops what it has no room for. */
function keepUp(group: Rings, sent: number): void {
  const end = performance.now() + 20_000;
  while (group.counts().packets < sent && performance.now() < end);
}

/** Sends frames to the rings; which rings each flow was in, and that nothing is missing. */
async function shared(
  rings: number,
  wish: Partial<FanoutWish>,
  frames: readonly Uint8Array[],
): Promise<{ split: number; shares: number[] }> {
  const { a, b, remove } = vethPair();
  try {
    using group = new Rings(b, rings, { ...FLOWS_WHOLE, ...wish });
    const seen = Array.from({ length: FLOWS }, () => new Set<number>());
    const shares = Array.from({ length: rings }, () => 0);
    const drain = (): void =>
      group.drain(({ u8, offset }, ring) => {
        seen[numberOf(u8, offset)].add(ring);
        shares[ring]++;
      });
    sendAll(a, frames, {
      between: (sent) => {
        drain();
        keepUp(group, sent);
      },
    });
    await until(
      () => {
        drain();
        return group.received + group.counts().drops === frames.length;
      },
      `of ${frames.length} frames are missing: ${JSON.stringify([group.received, group.counts()])}`,
    );
    expect(group.counts()).toEqual({ packets: frames.length, drops: 0, freezes: 0 });
    return { split: seen.filter((each) => each.size !== 1).length, shares };
  } finally {
    remove();
  }
}

describe.each([1, 2, 4])('%i rings', (rings) => {
  kernelTest('hash: no flow is split that has no fragments, and all have some', ['packetRing'], async () => {
    const { split, shares } = await shared(rings, { mode: 'hash' }, plain);
    expect(split).toBe(0);
    for (const share of shares) expect(share).toBeGreaterThan((0.4 * plain.length) / rings);
  });

  kernelTest(
    'our program: none is split, with fragments, tags, labels and sessions',
    ['packetRing'],
    async () => {
      const { split, shares } = await shared(rings, {}, everything);
      expect(split).toBe(0);
      for (const share of shares) expect(share).toBeGreaterThan((0.4 * everything.length) / rings);
    },
  );

  kernelTest('our program, inner flows: none is split in tunnels', ['packetRing'], async () => {
    const { split, shares } = await shared(rings, { inner: true }, tunnelled);
    expect(split).toBe(0);
    for (const share of shares) expect(share).toBeGreaterThan((0.4 * tunnelled.length) / rings);
  });
});

kernelTest(
  'by pair of addresses none is split whatever order fragments come in',
  ['packetRing'],
  async () => {
    expect((await shared(4, { key: 'pair' }, everything.toReversed())).split).toBe(0);
  },
);

kernelTest(
  'outer flows, and the hash of the kernel, do split what these tests are about',
  ['packetRing'],
  async () => {
    // Else the tests above would show nothing.
    expect((await shared(4, { mode: 'hash' }, everything)).split).toBeGreaterThan(FLOWS / 4);
    expect((await shared(4, {}, tunnelled)).split).toBeGreaterThan(FLOWS / 8);
  },
);

kernelTest(
  'rings that are full: what they took and what they dropped is what was sent',
  ['packetRing'],
  async () => {
    const { a, b, remove } = vethPair();
    try {
      using group = new Rings(b, 2, FLOWS_WHOLE, { blocks: 2, blockSize: 1 << 14 });
      const frames = [...plain, ...plain, ...plain];
      sendAll(a, frames, { between: (sent) => keepUp(group, sent) });
      await until(() => group.counts().packets === frames.length, 'frames are missing');
      await until(() => {
        group.drain(() => {});
        return group.received + group.counts().drops === frames.length;
      }, 'the count does not add up');
      expect(group.counts().drops).toBeGreaterThan(0);
      expect(group.counts().freezes).toBeGreaterThan(0);
    } finally {
      remove();
    }
  },
);

kernelTest('rollover keeps what one ring has no room for', ['packetRing'], async () => {
  const { a, b, remove } = vethPair();
  try {
    // One flow, of twice as many bytes as its ring holds.
    const ends = randomEnds(randomOf(1));
    const frames = Array.from({ length: 80 }, () => packetOf(numbered(0), ends, 800).bytes());
    for (const rollover of [false, true]) {
      using group = new Rings(b, 2, { ...FLOWS_WHOLE, rollover }, { blocks: 2, blockSize: 1 << 14 });
      sendAll(a, frames);
      await until(() => {
        const { packets, drops } = group.counts();
        return packets >= frames.length && (drops > 0 || rollover);
      }, 'frames are missing');
      const rings = new Set<number>();
      await until(() => {
        group.drain((_, ring) => rings.add(ring));
        return group.received + group.counts().drops >= frames.length;
      }, 'the count does not add up');
      expect(rings.size).toBe(rollover ? 2 : 1);
    }
  } finally {
    remove();
  }
});

kernelTest('a group is of its own: another with the same interface never gets its id', ['packetRing'], () => {
  const { b, remove } = vethPair();
  try {
    const { index } = interfaceInfo(b);
    const places = Array.from(
      { length: 20 },
      () => new FanoutPlace({ ifindex: index, mode: Fanout.hash, members: 3 }),
    );
    expect(new Set(places.map(({ id }) => id)).size).toBe(20);
    // Who comes with another mode does not get in by chance, nor one too many.
    const ring = (mode: number) =>
      openPacketRing({ interface: index, blocks: 2, blockSize: 4096, fanout: { id: places[0].id, mode } });
    expect(() => ring(Fanout.cpu)).toThrow(/EINVAL/);
    const rings = [ring(Fanout.hash), ring(Fanout.hash)];
    expect(() => ring(Fanout.hash)).toThrow(/ENOSPC/);
    for (const each of [...rings, ...places]) each.close();
  } finally {
    remove();
  }
});

kernelTest('an interface that is down can have a group', ['packetRing'], () => {
  const { b, remove } = vethPair();
  try {
    ip(`link set ${b} down`);
    using group = new Rings(b, 2, FLOWS_WHOLE);
    expect(group.sources).toHaveLength(2);
  } finally {
    remove();
  }
});
