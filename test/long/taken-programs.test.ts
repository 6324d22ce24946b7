import { array, assert, asyncProperty, integer, oneof, tuple } from 'fast-check';
import { expect } from 'vitest';
import { SlPacket } from '../../src/gate/layout.gen.ts';
import { eth } from '../../src/packet/build.ts';
import type { PlacedHere } from '../../src/rules/live-rules.ts';
import { compileSet, programHash, readSet, type SetRule } from '../../src/rules/taken/program-set.ts';
import { RuleGate, rule } from '../rules/support.ts';
import { kernelTest, ownNetns } from '../support/kernel.ts';

ownNetns();

const FRAME_LENGTH = SlPacket.members.frame_len;

const takenOf = (rules: readonly PlacedHere[], programSize?: number) => {
  const set: SetRule[] = rules.map(({ rule: it }) => ({ ...it, revision: 1 }));
  const bytes = compileSet(set, FRAME_LENGTH, programSize);
  return { hash: programHash(bytes.program), bytes };
};
const programsOf = ({ bytes }: ReturnType<typeof takenOf>): number => {
  const set = readSet(bytes, FRAME_LENGTH);
  if (typeof set === 'string') throw new Error(set);
  return set.programs.length;
};

const udp = (host: number, dport: number, sport = 5000, src = 1) =>
  eth()
    .ipv4({ src: `10.9.0.${src}`, dst: `10.9.0.${host}` })
    .udp({ sport, dport })
    .payload('x'.repeat(100));
const PACKETS = [2, 3, 4, 5, 6].flatMap((host) =>
  [53, 80, 123, 1001, 1002, 1003, 1004].flatMap((port) =>
    [1, 7, 8, 7, 8].map((src) => udp(host, port, 123, src).bytes()),
  ),
);

/** What a gate does with packets, and what each rule says of it. */
async function outcome(gate: RuleGate, rules: readonly PlacedHere[]): Promise<unknown> {
  const verdicts = PACKETS.map((packet) => gate.run(packet));
  await gate.live.apply(rules);
  return { verdicts, counts: rules.map(({ rule: { id } }) => gate.live.counts(id)) };
}

kernelTest('a set that was taken does what one that was compiled here does', [], async () => {
  const rules = [
    rule('drop', 'dst host 10.9.0.2 and udp dst port 53', 'drop'),
    rule('first', 'dst host 10.9.0.2 and udp dst port 80', 'drop', { priority: 5 }),
    rule('second', 'udp dst port 80', 'count', { priority: 9 }),
    rule('limited', 'dst host 10.9.0.3 and udp dst port 123', 'limit=0.001pps'),
    rule('each', 'dst host 10.9.0.4 and udp dst port 123', 'limit=0.001pps,per=source/32'),
    rule('sampled', 'dst host 10.9.0.5', 'sample=1,size=64B'),
    rule('length', 'dst host 10.9.0.6 and greater 100', 'drop'),
    rule('over', 'udp dst port 1001', 'drop', { expires: 1 }),
    ...[1002, 1003, 1004].map((port) => rule(`p${port}`, `udp dst port ${port}`, 'drop')),
    rule('dns', 'udp dst port 53', 'count', { lang: 'tcpdump' }),
  ];
  const off = rules.map((one) => (one.rule.id === 'p1003' ? { ...one, on: false } : one));
  await using here = new RuleGate();
  await using there = new RuleGate();
  // In the set are also rules that are not for this gate, and one that says something else there.
  const more = [rule('far', 'udp dst port 80', 'drop'), rule('other', 'udp', 'drop')];
  there.live.take(takenOf([more[0], ...rules, more[1]]));
  const own = rule('other', 'udp dst port 1004 and src host 10.9.0.8', 'count');
  for (const set of [rules, off, off.slice(3), [...rules, own], [own, rules[0]], rules]) {
    const compiled = await here.live.apply(set);
    const taken = await there.live.apply(set);
    expect(compiled.taken).toBe(0);
    expect(taken).toMatchObject({ taken: set.includes(own) ? set.length - 1 : set.length, whyNot: null });
    expect(await outcome(there, set)).toEqual(await outcome(here, set));
  }
  expect(here.live.counts('drop')?.dropped.pkts).toBeGreaterThan(0);
  expect(here.live.counts('p1003')?.matched.pkts).toBeGreaterThan(0);
  expect(here.live.counts('over')?.matched.pkts).toBe(0);
});

const pick = <T>(from: readonly T[]) => integer({ min: 0, max: from.length - 1 }).map((n) => from[n]);
const expression = oneof(
  tuple(pick([2, 3, 4]), pick([53, 80, 123])).map(([h, p]) => `dst host 10.9.0.${h} and udp dst port ${p}`),
  tuple(pick([1, 7, 8]), pick([53, 1001, 1002])).map(([h, p]) => `src host 10.9.0.${h} or udp dst port ${p}`),
  pick([1001, 1002, 1003, 1004, 80]).map((port) => `udp dst port ${port} and greater 100`),
  pick(['10.9.0.0/29', '10.9.0.4/30']).map((net) => `dst net ${net} and udp src port 123`),
  pick(['udp', 'ip[8] < 100', 'ip6', 'not port 53', 'vlan 7', 'tcp[tcpflags] == tcp-syn', 'less 80']),
);
const randomRules = array(tuple(expression, pick(['drop', 'count', 'limit=0.001pps'])), {
  minLength: 2,
  maxLength: 24,
}).map((all) => all.map(([expr, action], n) => rule(`r${n}`, expr, action)));

kernelTest('any rules, split over programs, some of them from a desk and some not', [], async () => {
  let chains = 0;
  await using here = new RuleGate();
  await using there = new RuleGate();
  await assert(
    asyncProperty(
      randomRules,
      integer({ min: 1, max: 23 }),
      integer({ min: 150, max: 800 }),
      async (all, from, size) => {
        const known = all.slice(0, from);
        const set = takenOf(known, size);
        // There is room for 28, with those of the gate itself.
        if (programsOf(set) > 20) return;
        if (programsOf(set) > 1) chains++;
        there.live.take(set);
        // Twice: in either half of the slots.
        for (const rules of [all, all.slice(1)]) {
          await here.live.apply(rules);
          const { taken, whyNot } = await there.live.apply(rules);
          expect(whyNot).toBeNull();
          expect(taken).toBe(rules.filter((one) => known.includes(one)).length);
          expect(await outcome(there, rules)).toEqual(await outcome(here, rules));
        }
      },
    ),
    { numRuns: 20 },
  );
  expect(chains).toBeGreaterThan(0);
});

kernelTest('a program that was changed and is still taken does nothing that rules do not', [], async () => {
  const rules = [
    ...[2, 3, 4].map((host) => rule(`h${host}`, `dst host 10.9.0.${host} and udp dst port 53`, 'count')),
    ...[1001, 1002, 1003].map((port) => rule(`p${port}`, `udp dst port ${port}`, 'drop')),
    rule('long', 'dst host 10.9.0.6 and greater 100', 'drop'),
  ];
  // Of this gate: rules that no packet meets. A program from elsewhere must not bring them to drop anything.
  const own = ['a', 'b', 'c'].map((id, n) => rule(id, `src host 192.0.2.${n + 1}`, 'drop'));
  const { bytes } = takenOf(rules);
  await using gate = new RuleGate();
  const dataOut = new Uint8Array(2048);
  let loaded = 0;
  await assert(
    asyncProperty(
      integer({ min: 0, max: bytes.program.length - 1 }),
      integer({ min: 1, max: 255 }),
      async (at, by) => {
        const program = bytes.program.slice();
        program[at] ^= by;
        const changed = { ...bytes, program };
        if (typeof readSet(changed, FRAME_LENGTH) === 'string') return;
        gate.live.take({ hash: programHash(program), bytes: changed });
        const { taken } = await gate.live.apply([...own, ...rules]);
        if (taken === 0) return;
        loaded++;
        for (const data of PACKETS.slice(0, 40)) {
          const { retval } = gate.object.program('sluice_gate').testRun({ data, dataOut });
          expect([1, 2]).toContain(retval);
          expect(Buffer.compare(dataOut.subarray(0, data.length), data)).toBe(0);
        }
        for (const { rule: it } of own) expect(gate.live.counts(it.id)?.matched.pkts).toBe(0);
      },
    ),
    { numRuns: 600 },
  );
  expect(loaded).toBeGreaterThan(0);
});
