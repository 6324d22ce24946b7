import { describe, expect, it } from 'vitest';
import { dnsQuery, Random } from '../../bench/attack-traffic.ts';
import { type Baseline, Detector, readBaseline, restore, snapshot } from '../../src/mitigation/index.ts';
import { eth } from '../../src/packet/build.ts';
import { columnsOf } from './samples.ts';

const NOW = 1_700_000_010;
const random = new Random(3);
const source = (): string => `203.0.113.${random.int(1, 254)}`;
const port = (): number => random.int(1024, 65_535);
const busy = (): Uint8Array =>
  eth().ipv4({ src: source(), dst: '192.0.2.1' }).udp({ sport: port(), dport: 4500 }).payload(80).bytes();
const six = (): Uint8Array =>
  eth()
    .ipv6({ src: '2001:db8:1::1', dst: '2001:db8::7' })
    .udp({ sport: port(), dport: 4500 })
    .payload(80)
    .bytes();
const named = (): Uint8Array => {
  const label = Array.from({ length: 6 }, () => random.int(97, 122));
  const name = [6, ...label, 7, ...Buffer.from('example'), 3, ...Buffer.from('com')];
  return eth()
    .ipv4({ src: source(), dst: '192.0.2.53' })
    .udp({ sport: port(), dport: 53 })
    .payload(dnsQuery(random, name))
    .bytes();
};

const other = (): Uint8Array =>
  eth().ipv4({ src: source(), dst: '198.51.100.9' }).udp({ sport: port(), dport: 7 }).payload(9).bytes();

interface Watched {
  readonly detector: Detector;
  /** Kind and place of what has begun. */
  readonly began: string[];
}

function watched(): Watched {
  const began: string[] = [];
  const detector = new Detector(
    { began: ({ track }) => began.push(String(track.kind)), lasts: () => {}, ended: () => {} },
    { minPps: 500 },
  );
  return { detector, began };
}

/** So many packets a second for so long, from that second on. */
function run(
  { detector }: Watched,
  begin: number,
  seconds: number,
  pps: number,
  ...of: (() => Uint8Array)[]
): void {
  const columns = columnsOf(Array.from({ length: seconds * pps }, (_, at) => of[at % of.length]()));
  for (let row = 0; row < columns.count; row++) columns.time[row] = (begin + row / pps) * 1e9;
  detector.add(columns);
  detector.advance((begin + seconds) * 1e9);
}

/** One that has learned that 192.0.2.1 gets 2,000 datagrams a second, and the others 200 packets. */
function learned(): Baseline {
  const one = watched();
  run(one, NOW - 10, 10, 2400, busy, busy, busy, busy, busy, busy, busy, busy, busy, busy, six, named);
  expect(one.began).toEqual([]);
  return snapshot(one.detector, NOW);
}

const byPlace = (one: Baseline) =>
  new Map(one.targets.map(([kind, place, ...rest]) => [`${kind} ${place}`, rest]));

describe('what a detector has learned', () => {
  const baseline = learned();

  it('is gone on with by the next one, which does not begin anew', () => {
    const again = readBaseline(JSON.stringify(baseline), NOW + 5) as Baseline;
    const next = watched();
    restore(next.detector, again);
    // Three times the least rate, and no more than is usual there: nothing; the same to somebody else at once.
    run(next, NOW + 5, 1, 2400, busy, busy, busy, busy, busy, busy, busy, busy, busy, busy, six, named);
    expect(next.began).toEqual([]);
    run(next, NOW + 6, 1, 4400, busy, other);
    expect(next.began.length).toBeGreaterThan(0);
    // Who knows nothing takes that for usual.
    const fresh = watched();
    run(fresh, NOW + 6, 1, 4400, busy, other);
    expect(fresh.began).toEqual([]);
  });

  it('comes back as it was: targets, prefixes and names of both families, and usual packets', () => {
    const next = watched();
    restore(next.detector, baseline);
    const again = snapshot(next.detector, NOW);
    expect(byPlace(again)).toEqual(byPlace(baseline));
    const places = baseline.targets.map(([, place]) => place);
    expect(places).toEqual(
      expect.arrayContaining(['192.0.2.1/32', '192.0.0.0/16', '2001:db8::7/128', '2001:db8::/32']),
    );
    expect(places.some((place) => place.startsWith('name 4 '))).toBe(true);
    expect(again.samples).toEqual(baseline.samples);
    expect(again.samples.length).toBeGreaterThan(200);
    expect(JSON.stringify(again).length).toBeLessThan(256 << 10);
  });

  it('is bounded by what is asked for', () => {
    const one = watched();
    restore(one.detector, baseline);
    const small = snapshot(one.detector, NOW, { targets: 2, samples: 10 });
    expect(small.targets.map(([, , mean]) => mean)).toEqual(
      baseline.targets
        .map(([, , mean]) => mean)
        .toSorted((a, b) => b - a)
        .slice(0, 2),
    );
    expect(small.samples).toHaveLength(10);
  });

  it.each([
    ['nothing', ''],
    ['no JSON', '{"version":1'],
    ['another version', JSON.stringify({ ...baseline, version: 2 })],
    ['too old', JSON.stringify({ ...baseline, written: NOW - 3700 })],
    ['of the future', JSON.stringify({ ...baseline, written: NOW + 3600 })],
    [
      'rates that are none',
      JSON.stringify({ ...baseline, targets: [['udp-flood', '192.0.2.1/32', -1, 0, 1]] }),
    ],
    [
      'more than there may be',
      JSON.stringify({ ...baseline, samples: Array.from({ length: 5000 }, () => [1, 60, 'AAAA']) }),
    ],
    ['a text of many megabytes', ' '.repeat(5 << 20)],
  ])('is refused when it is %s', (_, text) => {
    expect(readBaseline(text, NOW)).toBeUndefined();
  });

  it('may have parts that make no sense: these are left out', () => {
    const strange: Baseline = {
      ...baseline,
      targets: [
        ['no-such-flood', '192.0.2.1/32', 1, 1, 1],
        ['udp-flood', '192.0.2.1/31', 1, 1, 1],
        ['udp-flood', '192.0.2.300/32', 1, 1, 1],
        ['udp-flood', 'name 5 0 0', 1, 1, 1],
        ['udp-flood', '', 1, 1, 1],
        ['udp-flood', '192.0.2.77/24', 5, 1, 1],
      ],
      samples: [
        [1, 60, '!!!'],
        [1, 1 << 20, ''],
        [1, 60, Buffer.alloc(129, 0x45).toString('base64')],
      ],
    };
    const next = watched();
    restore(next.detector, strange);
    expect(snapshot(next.detector, NOW)).toMatchObject({
      targets: [['udp-flood', '192.0.2.0/24', 5, 1, 1]],
      samples: [],
    });
  });
});
