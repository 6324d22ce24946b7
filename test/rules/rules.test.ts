import { once } from 'node:events';
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { type Arbitrary, array, assert, constantFrom, integer, oneof, property, record } from 'fast-check';
import { describe, expect, it } from 'vitest';
import { interpretCbpf } from '../../src/ebpf/index.ts';
import type { Language } from '../../src/filter/index.ts';
import { eth } from '../../src/packet/build.ts';
import type { TcpOption } from '../../src/packet/layers-transport.ts';
import { alternatives } from '../../src/rules/analysis/alternatives.ts';
import { specialize } from '../../src/rules/analysis/specialize.ts';
import type { RuleCounts } from '../../src/rules/rows.ts';
import { actionText, inScope, parseAction, parseRule } from '../../src/rules/spec.ts';
import { kernelTest } from '../support/kernel.ts';
import type { RateSetup } from './rate-worker.ts';
import { RuleGate, rule, tcpdump } from './support.ts';

const HOSTS = ['10.0.0.1', '10.0.0.2', '10.0.1.1', '10.1.0.1', '192.168.7.9'];
const HOSTS6 = ['2001:db8::1', '2001:db8::2', '2001:db8:1::1'];
const NETS = ['10.0.0.0/24', '10.0.0.0/16', '10.1.0.0/16', '0.0.0.0/0'];
const PORTS = [53, 80, 123, 443, 1000];

/** Expressions of the kinds that mitigation makes, over few enough addresses that many of them match. */
const expression: Arbitrary<string> = oneof(
  record({ dir: constantFrom('', 'src ', 'dst '), host: constantFrom(...HOSTS) }).map(
    ({ dir, host }) => `${dir}host ${host}`,
  ),
  record({
    dir: constantFrom('src', 'dst'),
    host: constantFrom(...HOSTS),
    proto: constantFrom('tcp', 'udp'),
    port: constantFrom(...PORTS),
  }).map(({ dir, host, proto, port }) => `${dir} host ${host} and ${proto} port ${port}`),
  record({ net: constantFrom(...NETS), port: constantFrom(...PORTS) }).map(
    ({ net, port }) => `dst net ${net} and dst port ${port}`,
  ),
  constantFrom(...HOSTS6).map((host) => `ip6 dst host ${host}`),
  constantFrom(...PORTS).map((port) => `udp src port ${port} and greater 100`),
  record({ host: constantFrom(...HOSTS), low: integer({ min: 0, max: 500 }) }).map(
    ({ host, low }) => `dst host ${host} and tcp dst portrange ${low}-${low + 400}`,
  ),
  constantFrom(
    'tcp[tcpflags] == tcp-syn',
    'tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn',
    'ip[8] < 64',
    'icmp',
    'arp',
    'vlan 7 and udp',
  ),
  record({ host: constantFrom(...HOSTS), not: constantFrom(...PORTS) }).map(
    ({ host, not }) => `host ${host} and not port ${not}`,
  ),
  record({ a: constantFrom(...HOSTS), b: constantFrom(...PORTS) }).map(
    ({ a, b }) => `src host ${a} or tcp dst port ${b}`,
  ),
);

const packet: Arbitrary<Uint8Array> = record({
  tags: constantFrom<number[]>([], [], [], [7], [9]),
  six: constantFrom(false, false, false, true),
  src: integer({ min: 0, max: 4 }),
  dst: integer({ min: 0, max: 4 }),
  sport: constantFrom(...PORTS, 40_000),
  dport: constantFrom(...PORTS, 40_000),
  kind: constantFrom('tcp', 'udp', 'icmp', 'fragment'),
  ttl: constantFrom(30, 64),
  options: constantFrom(0, 0, 4, 40),
  flags: constantFrom('S', 'SA', 'A', 'F'),
  size: integer({ min: 0, max: 200 }),
  cut: integer({ min: 14, max: 400 }),
}).map(({ tags, six, src, dst, sport, dport, kind, ttl, options, flags, size, cut }) => {
  let frame = eth();
  for (const id of tags) frame = frame.vlan(id);
  const ip = six
    ? frame.ipv6({ src: HOSTS6[src % 3], dst: HOSTS6[dst % 3] })
    : frame.ipv4({
        src: HOSTS[src],
        dst: HOSTS[dst],
        ttl,
        options: new Uint8Array(options).fill(1),
        ...(kind === 'fragment' ? { fragmentOffset: 1480 } : {}),
      });
  const whole =
    kind === 'udp' || kind === 'fragment'
      ? ip.udp({ sport, dport })
      : kind === 'tcp'
        ? ip.tcp({ sport, dport, flags })
        : ip.payload('');
  const bytes = whole.payload(new Uint8Array(size)).bytes();
  return bytes.subarray(0, Math.max(14, cut < 60 ? cut : bytes.length));
});

describe('what is known of an expression', () => {
  const programs = new Map<string, ReturnType<typeof tcpdump>>();
  const compiled = (text: string) => {
    const program = programs.get(text) ?? tcpdump(text);
    programs.set(text, program);
    return program;
  };

  it('every match is on one of the ways, and a program made for them gives the same result', () => {
    assert(
      property(expression, packet, (text, bytes) => {
        const program = compiled(text);
        const ways = alternatives(program);
        expect(ways).toBeDefined();
        const result = interpretCbpf(program, bytes);
        const holding = (ways ?? []).filter((way) =>
          [...way.values()].every(({ term, value }) => {
            const asked = specialize(program, new Map([[term.key, value]]));
            return interpretCbpf(asked, bytes) === result;
          }),
        );
        if (result !== 0) expect(holding.length).toBeGreaterThan(0);
      }),
      { numRuns: 2000 },
    );
  });
});

for (const [name, programs] of [
  ['merged', {}],
  ['one after the other', { chain: true }],
  ['split over many programs', { programSize: 250 }],
] as const) {
  kernelTest(`every rule counts what it would alone: ${name}`, [], async () => {
    await using gate = new RuleGate({ programs });
    const sets = array(expression, { minLength: 1, maxLength: 120 });
    let matches = 0;
    const packets: Uint8Array[] = [];
    assert(
      property(packet, (bytes) => void packets.push(bytes)),
      { numRuns: 300, seed: 5 },
    );
    const expressions: string[][] = [];
    assert(
      property(sets, (set) => void expressions.push(set)),
      { numRuns: 12, seed: 7 },
    );
    for (const set of expressions) {
      const rules = set.map((text, index) => rule(`r${expressions.indexOf(set)}-${index}`, text));
      await gate.live.apply(rules);
      for (const bytes of packets) expect(gate.run(bytes)).toBe(2);
      for (const {
        rule: { id, expr },
        program,
      } of rules) {
        const expected = packets.filter((bytes) => interpretCbpf(program, bytes) !== 0);
        const { matched, dropped } = gate.live.counts(id) as {
          matched: { pkts: number; bytes: number };
          dropped: { pkts: number };
        };
        expect({ expr, pkts: matched.pkts, bytes: matched.bytes, dropped: dropped.pkts }).toEqual({
          expr,
          pkts: expected.length,
          bytes: expected.reduce((sum, { length }) => sum + length, 0),
          dropped: 0,
        });
        matches += expected.length;
      }
    }
    expect(matches).toBeGreaterThan(500);
  });
}

/** A DNS query. */
function query(name: string): Uint8Array {
  const labels = name.split('.').flatMap((label) => [label.length, ...Buffer.from(label)]);
  return Uint8Array.from([0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, ...labels, 0, 0, 1, 0, 1]);
}

kernelTest('rules that begin alike: DNS names and p0f signatures among others', [], async () => {
  await using gate = new RuleGate();
  const names = Array.from({ length: 40 }, (_, n) => `${'n'.repeat(1 + (n % 9))}${n}.example.com`);
  const texts: [Language, string][] = [
    ...names.map((name): [Language, string] => ['dns', name]),
    ...names.slice(0, 10).map((name): [Language, string] => ['suffix', name]),
    ...names.slice(10, 20).map((name): [Language, string] => ['dns', `*.${name}`]),
    ...Array.from({ length: 20 }, (_, n): [Language, string] => [
      'p0f',
      `4:${64 + (n % 2) * 64}:0:${1400 + (n % 4)}:${n % 3 === 0 ? 'mss*' : ''}${4 + (n % 5)},${n % 8}:mss,nop,ws:df:0`,
    ]),
    ['tcpdump', 'udp'],
  ];
  const rules = texts.map(([lang, expr], index) => rule(`r${index}`, expr, 'count', { lang }));
  await gate.live.apply(rules);
  const packets: Uint8Array[] = [];
  for (const [n, name] of names.entries()) {
    const ends = { sport: 4000, dport: 53 };
    const start = n % 3 === 0 ? eth().vlan(5) : eth();
    for (const asked of [name, `a.${name}`, `a.b.${name}`, name.toUpperCase(), `${name}.org`]) {
      packets.push(start.ipv4({ src: HOSTS[0], dst: HOSTS[1] }).udp(ends).payload(query(asked)).bytes());
      packets.push(start.ipv6({ src: HOSTS6[0], dst: HOSTS6[1] }).udp(ends).payload(query(asked)).bytes());
    }
    packets.push(packets[packets.length - 1].slice(0, 70));
    const mss = 1400 + (n % 4);
    const options: TcpOption[] = [{ mss }, { nop: true }, { windowScale: n % 8 }];
    const window = n % 2 === 0 ? mss * (4 + (n % 5)) : 4 + (n % 5);
    const df = { dontFragment: true, id: 0, ttl: 64 - (n % 7) };
    packets.push(
      eth()
        .ipv4({ src: HOSTS[0], dst: HOSTS[1], ...df })
        .tcp({ sport: 1, dport: 2, flags: 'S', seq: 7, window, options })
        .bytes(),
    );
  }
  for (const bytes of packets) expect(gate.run(bytes)).toBe(2);
  const seen = new Map<string, number>();
  for (const {
    rule: { id, expr, lang },
    program,
  } of rules) {
    const expected = packets.filter((bytes) => interpretCbpf(program, bytes) !== 0).length;
    expect({ expr, pkts: gate.live.counts(id)?.matched.pkts }).toEqual({ expr, pkts: expected });
    seen.set(lang, (seen.get(lang) ?? 0) + expected);
  }
  for (const [lang, count] of seen) expect(count, lang).toBeGreaterThan(0);
});

const udp = (dst: string, dport = 53, src = '192.0.2.1') =>
  eth().ipv4({ src, dst }).udp({ sport: 999, dport }).payload('x'.repeat(80)).bytes();

kernelTest('the first drop by priority wins; all that match say so', [], async () => {
  await using gate = new RuleGate();
  await gate.live.apply([
    rule('late', 'udp', 'drop', { priority: 20 }),
    rule('first', 'dst host 10.0.0.1', 'drop', { priority: 10 }),
    rule('seen', 'udp port 53', 'count', { priority: 5 }),
  ]);
  expect(gate.run(udp('10.0.0.1'))).toBe(1);
  expect(gate.run(udp('10.0.0.2'))).toBe(1);
  const pkts = (id: string) => [gate.live.counts(id)?.matched.pkts, gate.live.counts(id)?.dropped.pkts];
  expect({ late: pkts('late'), first: pkts('first'), seen: pkts('seen') }).toEqual({
    late: [2, 1],
    first: [1, 1],
    seen: [2, 0],
  });
});

kernelTest('a changed set keeps the counts; a set that fails changes nothing', [], async () => {
  await using gate = new RuleGate();
  await gate.live.apply([rule('a', 'udp port 53', 'drop'), rule('b', 'tcp', 'drop')]);
  gate.run(udp('10.0.0.1'));
  await gate.live.apply([rule('a', 'udp port 53 or udp port 54', 'drop'), rule('c', 'icmp')]);
  gate.run(udp('10.0.0.1'));
  expect(gate.live.counts('a')?.dropped.pkts).toBe(2);
  expect(gate.live.counts('b')).toBeUndefined();
  await gate.live.apply([rule('a', 'udp port 53', 'count')]);
  gate.run(udp('10.0.0.1'));
  expect(gate.live.counts('a')).toMatchObject({ matched: { pkts: 3 }, dropped: { pkts: 2 } });
  const match = [Buffer.from(udp('10.0.0.1')).toString('hex')];
  await expect(
    gate.live.apply([rule('a', 'udp port 53', 'drop'), rule('wrong', 'tcp', 'drop', { tests: { match } })]),
  ).rejects.toMatchObject({ code: 'RULE', message: expect.stringContaining('wrong') });
  expect(gate.run(udp('10.0.0.1'))).toBe(2);
  expect(gate.live.counts('a')?.matched.pkts).toBe(4);
});

kernelTest('a rule that is off leaves no instruction in the translated program', [], async () => {
  await using gate = new RuleGate();
  const sizes = async (...rules: Parameters<typeof gate.live.apply>[0]) => {
    await gate.live.apply(rules);
    return gate.live.translated();
  };
  const none = await sizes(rule('a', 'dst host 10.0.0.1', 'drop', { enabled: false }));
  const one = await sizes(rule('a', 'dst host 10.0.0.1', 'drop'));
  const oneOfTwo = await sizes(
    rule('a', 'dst host 10.0.0.1', 'drop'),
    rule('b', 'udp', 'drop', { enabled: false }),
  );
  expect(gate.run(udp('10.0.0.1'))).toBe(1);
  expect(gate.run(udp('10.0.0.2'))).toBe(2);
  expect(one).toBeGreaterThan(none + 10);
  // What every rule stands between: the bounds of the packet, read anew.
  expect(oneOfTwo).toBe(one);
});

kernelTest('a rule for another site leaves none either', [], async () => {
  await using gate = new RuleGate();
  const here = { site: 'fra1', roles: ['edge'] };
  const scoped = (site: string) => {
    const placed = rule('b', 'udp', 'drop', { scope: { sites: [site], roles: ['edge', 'core'] } });
    return { ...placed, on: inScope(placed.rule.scope, here) };
  };
  const one = rule('a', 'dst host 10.0.0.1', 'count');
  await gate.live.apply([one]);
  const alone = gate.live.translated();
  await gate.live.apply([one, scoped('ams1')]);
  expect(gate.live.translated()).toBe(alone);
  expect(gate.run(udp('10.0.0.1'))).toBe(2);
  expect(gate.live.counts('b')?.matched.pkts).toBe(0);
  await gate.live.apply([one, scoped('fra1')]);
  expect(gate.live.translated()).toBeGreaterThan(alone + 10);
  expect(gate.run(udp('10.0.0.1'))).toBe(1);
});

kernelTest('the switch that works at once', [], async () => {
  await using gate = new RuleGate();
  await gate.live.apply([rule('a', 'udp', 'drop')]);
  expect(gate.run(udp('10.0.0.1'))).toBe(1);
  gate.live.setOff('a', true);
  expect(gate.run(udp('10.0.0.1'))).toBe(2);
  gate.live.setOff('a', false);
  expect(gate.run(udp('10.0.0.1'))).toBe(1);
  expect(gate.live.counts('a')?.matched.pkts).toBe(2);
});

kernelTest('rates: what is over is dropped, by rule, by source and by target prefix', [], async () => {
  await using gate = new RuleGate();
  const sent = (count: number, make: (index: number) => Uint8Array): number => {
    let passed = 0;
    for (let index = 0; index < count; index++) if (gate.run(make(index)) === 2) passed++;
    return passed;
  };
  // So slow that nothing comes back while the test runs: the burst is what passes.
  await gate.live.apply([rule('all', 'udp', 'limit=1pps,burst=20s')]);
  expect(sent(50, () => udp('10.0.0.1'))).toBe(20);
  expect(gate.live.counts('all')).toMatchObject({ matched: { pkts: 50 }, dropped: { pkts: 30 } });
  await gate.live.apply([rule('source', 'udp', 'limit=1pps,burst=5s,per=source/24')]);
  expect(sent(60, (i) => udp('10.0.0.1', 53, `192.0.${i % 3}.${i}`))).toBe(15);
  await gate.live.apply([rule('target', 'udp', 'limit=1pps,burst=5s,per=target/32')]);
  expect(sent(60, (i) => udp(`10.0.0.${i % 4}`, 53, `192.0.2.${i}`))).toBe(20);
  const { length } = udp('10.0.0.1');
  await gate.live.apply([rule('bits', 'udp', `limit=${8 * length}bit,burst=20.5s`)]);
  expect(sent(50, () => udp('10.0.0.1'))).toBe(20);
});

kernelTest('fields that are far away: nothing is there, and nothing else suffers', [], async () => {
  await using gate = new RuleGate();
  const far = [0, 1, 2, 3, 4, 5].flatMap((n) => [
    rule(`far${n}`, `ether[40000:2] == ${n}`, 'drop'),
    rule(`farther${n}`, `ip[60000] == ${n}`, 'drop'),
    rule(`near${n}`, `udp dst port ${n}`, 'drop'),
  ]);
  await gate.live.apply(far);
  expect(gate.run(udp('10.0.0.1', 3))).toBe(1);
  expect(gate.run(udp('10.0.0.1', 9))).toBe(2);
  expect(gate.live.counts('near3')?.dropped.pkts).toBe(1);
  expect(gate.live.counts('far0')?.matched.pkts).toBe(0);
});

kernelTest('two CPUs at one bucket: neither lets through what the other has used', [], async () => {
  await using gate = new RuleGate();
  const [burst, times] = [60_000, 200_000];
  await gate.live.apply([rule('shared', 'udp', 'limit=1000pps,burst=60s'), rule('own', 'udp', 'count')]);
  const program = gate.object.program('sluice_gate').fd;
  const began = performance.now();
  const frame = udp('10.0.0.1');
  const workers = [0, 1].map((index) => {
    const setup: RateSetup = { program, cpu: index % availableParallelism(), frame, times };
    return new Worker(new URL('./rate-worker.ts', import.meta.url), { workerData: setup });
  });
  await Promise.all(workers.map((worker) => once(worker, 'exit')));
  const seconds = (performance.now() - began) / 1000;
  const { matched, dropped } = gate.live.counts('shared') as RuleCounts;
  expect(matched.pkts).toBe(2 * times);
  expect(gate.live.counts('own')?.matched.pkts).toBe(2 * times);
  const passed = matched.pkts - dropped.pkts;
  expect(passed).toBeGreaterThanOrEqual(burst);
  // What comes back meanwhile, and one tick of the clock.
  expect(passed).toBeLessThanOrEqual(burst + 1000 * (seconds + 0.01) + 1);
});

kernelTest('a rule whose time is over matches no more', [], async () => {
  await using gate = new RuleGate({ now: () => 5 });
  // By a clock that stands at 5 s after boot: long ago for the kernel.
  await gate.live.apply([rule('a', 'udp', 'drop', { expires: Date.now() / 1000 + 1 })]);
  expect(gate.run(udp('10.0.0.1'))).toBe(2);
});

kernelTest('the length of the frame is that of all its buffers', [], async () => {
  await using gate = new RuleGate();
  await gate.live.apply([rule('long', 'greater 8000', 'drop')]);
  const long = eth()
    .ipv4({ src: '10.0.0.1', dst: '10.0.0.2' })
    .udp({ sport: 1, dport: 2 })
    .payload(new Uint8Array(8400))
    .bytes();
  expect(gate.run(long)).toBe(1);
  expect(gate.run(udp('10.0.0.2'))).toBe(2);
});

describe('rules as they are written', () => {
  it('actions read back as they are written', () => {
    for (const text of [
      'drop',
      'count',
      'limit=1000pps,burst=100ms',
      'limit=10mbit,per=source/24/56,burst=2s',
      'sample=100,size=128B',
      'sample',
    ]) {
      const parsed = parseAction(text);
      expect(parseAction(actionText(parsed))).toEqual(parsed);
    }
    expect(parseAction('limit=2.5kpps')).toMatchObject({ rate: 2500, unit: 'packets', per: 'rule' });
  });

  it.each([
    '',
    'pass',
    'drop=1',
    'limit',
    'limit=fast',
    'limit=1pps,per=port',
    'limit=1pps,burst=1ms',
    'limit=1pps,x=1',
    'sample=0',
    'limit=1pps,per=source/64',
  ])('refuses %j', (text) => {
    expect(() => parseAction(text)).toThrow(expect.objectContaining({ code: 'USAGE' }));
  });

  it('names the field that is wrong', () => {
    expect(() => parseRule({ id: 'a b', expr: 'udp', action: { kind: 'drop' } })).toThrow('id: ');
    expect(() => parseRule({ id: 'a', expr: 'udp', action: { kind: 'drop' }, colour: 1 })).toThrow('rule a');
    expect(() => parseRule(null)).toThrow('a rule: ');
  });
});
