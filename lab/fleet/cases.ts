import { SluiceError } from '../../src/base/errors.ts';
import { eth } from '../../src/packet/build.ts';
import type { Signed } from './author.ts';
import type { EdgePlace, EdgeState } from './edge.ts';
import { LONG, OFFSETS, SITES, SKEWED, type Stand } from './stand.ts';
import { until } from './until.ts';

/** What one case has shown. */
export interface CaseResult {
  readonly name: string;
  readonly seconds: number;
  /** In words, with figures. */
  readonly shown: string;
}

/** A case fails by an error that says what was not as it should be. */
export interface FleetCase {
  readonly name: string;
  readonly run: (stand: Stand) => Promise<string>;
}

const DROP = { kind: 'drop' } as const;
const rule = (expr: string) => ({ expr, action: DROP });
const rightClock = ({ offset }: EdgePlace): boolean => offset === 0;
/** Its clock is not so wrong that rules of an hour would not count. */
const hears = ({ offset }: EdgePlace): boolean => offset > OFFSETS.farBehind && offset < OFFSETS.farAhead;
/** Seconds that a rule lives. */
const SHORT = 8;

const seconds = (value: number): string => `${value.toFixed(1)} s`;

function must(good: boolean, what: string): void {
  if (!good) throw new SluiceError('LAB', what);
}

/** Waits until all of some edges are so. */
async function all(
  stand: Stand,
  only: (edge: EdgePlace) => boolean,
  good: (state: EdgeState) => boolean,
  what: string,
): Promise<void> {
  const names = new Set(stand.edges.filter(only).map(({ name }) => name));
  let others: string[] = [];
  await until(
    async () => {
      others = (await stand.states())
        .filter((state) => names.has(state.edge) && !good(state))
        .map(({ edge }) => edge);
      return others.length === 0 || undefined;
    },
    () => `${what} at ${others.slice(0, 5).join(', ')}`,
    LONG,
  );
}

/** Waits until the desk is told something by each of the real edges. */
async function toldAtDesk(stand: Stand, id: string, state: string): Promise<void> {
  const real = stand.edges.filter((edge) => edge.real).map(({ name }) => name);
  await until(
    async () => {
      const results = await stand.results();
      const telling = results.filter(({ rules, refused }) =>
        [
          ...rules.map((row) => `${row.id} ${row.state}`),
          ...refused.map((row) => `${row.id} ${row.refused}`),
        ].includes(`${id} ${state}`),
      );
      return real.every((name) => telling.some((row) => row.interface === name)) || undefined;
    },
    `the desk is not told that ${id} is ${state}`,
    LONG,
  );
}

/** Revisions of one rule put into the bucket in any order, again and again, under its key and others; then keys are deleted. */
async function mixedUp(stand: Stand): Promise<string> {
  const made: Signed[] = [];
  for (let n = 0; n < 4; n++)
    for (let revision = 1; revision <= 5; revision++)
      made.push(
        stand.author.sign(`order${n}`, rule(`udp dst port ${20_000 + revision}`), {
          revision: 1000 + revision,
        }),
      );
  const puts = [...made, ...made, ...made].map((one, at) => ({ one, at: (at * 7919) % 61 }));
  puts.sort((a, b) => a.at - b.at);
  await stand.meddle(async (bucket) => {
    for (const [at, { one }] of puts.entries())
      await bucket.put(at % 3 === 0 ? `other${at}` : one.id, one.line);
    for (let n = 0; n < 4; n++) await bucket.delete(`order${n}`);
  });
  stand.author.published(...made);
  const took = await stand.settled();
  return `${puts.length} messages of 20 statements, repeated, out of order, 4 keys deleted: the highest revision of each in force everywhere, ${seconds(took)}`;
}

async function forged(stand: Stand): Promise<string> {
  const good = stand.author.sign('truly', rule('udp dst port 20100'));
  const changed = stand.author.sign('forged', rule('udp dst port 20101')).line.replace('20101', '7');
  await stand.meddle(async (bucket) => {
    await bucket.put('forged', changed);
    await bucket.put('stranger', stand.author.stranger('stranger', rule('udp')));
    await bucket.put('broken', '{"signed":');
  });
  await stand.publish(good);
  await all(
    stand,
    () => true,
    ({ refused }) =>
      ['forged forged', 'stranger unknown key', ' malformed'].every((line) => refused.includes(line)),
    'the forged rules are not named',
  );
  await toldAtDesk(stand, 'forged', 'forged');
  await stand.settled();
  return 'one changed after it was signed, one by a stranger, one that is none: each refused and named by all edges, told at the desk';
}

/** One that is no expression, one that the kernel says does not match its own packet, one in place of a good one. */
async function bad(stand: Stand): Promise<string> {
  const { author } = stand;
  await stand.publish(author.sign('kept', rule('udp dst port 20200')));
  const frame = eth().ipv4({ src: '192.0.2.1', dst: '192.0.2.2' }).udp({ sport: 1, dport: 2 }).bytes();
  const tests = { match: [Buffer.from(frame).toString('hex')], noMatch: [] };
  await stand.settled();
  await stand.publish(
    author.sign('nonsense', rule('no such thing'), { bad: true }),
    author.sign('untrue', { ...rule('udp dst port 20201'), tests }, { bad: true }),
    author.sign('kept', rule('neither this'), { bad: true }),
    author.sign('beside', rule('udp dst port 20202')),
  );
  const names = ['nonsense', 'untrue', 'kept'];
  await all(
    stand,
    hears,
    (state) => names.every((id) => state.bad.includes(id)),
    'the bad rules are not named',
  );
  for (const id of names) await toldAtDesk(stand, id, 'refused');
  await stand.settled();
  return 'no expression; one that fails its packet in the kernel; a bad revision of a good rule: named at the desk by each edge, the revision before and the rules beside in force';
}

async function over(stand: Stand): Promise<string> {
  const { author } = stand;
  const short = author.sign('short', rule('udp dst port 20300'), { ttl: SHORT });
  await stand.publish(short, author.sign('gone', rule('udp dst port 20301')));
  // On a machine that is slow enough it may be over before it comes.
  await all(
    stand,
    rightClock,
    ({ edge, refused }) =>
      refused.includes('short expired') ||
      stand.landings().some((landing) => landing.edge === edge && landing.id === 'short'),
    'the short rule has not come',
  );
  await stand.publish(author.sign('gone', null));
  const old = author.sign('late', rule('udp dst port 20302'), { issued: short.issued - 100, ttl: 50 });
  await stand.meddle(async (bucket) => void (await bucket.put('late', old.line)));
  stand.author.published(old);
  await all(
    stand,
    ({ offset }) => offset >= 0,
    ({ refused }) => refused.includes('late expired'),
    'the expired rule is not named',
  );
  // Where the clock is behind it has some time left, as the truth of that edge has.
  await all(
    stand,
    ({ offset }) => offset >= 0,
    ({ inForce }) => !inForce.has('short'),
    'the short rule stays',
  );
  await stand.settled();
  return `one of ${SHORT} s came and went by the clock of each edge, one withdrawn, one that was over before it came: refused and named`;
}

/** The groups whose clocks are wrong have been there all the time: what has become of them so far. */
async function skewed(stand: Stand): Promise<string> {
  await stand.publish(stand.author.sign('day', rule('udp dst port 20400'), { ttl: 86_400 }));
  await stand.settled();
  const places = new Map(stand.edges.map((edge) => [edge.name, edge]));
  for (const { edge, inForce, refused } of await stand.states()) {
    const offset = places.get(edge)?.offset;
    if (offset === OFFSETS.farAhead)
      must(
        inForce.has('day') && refused.some((line) => line.endsWith(' expired')),
        `${edge} does not see rules expire early`,
      );
    if (offset === OFFSETS.farBehind)
      must(
        inForce.size === 0 && refused.some((line) => line.endsWith(' from the future')),
        `${edge} takes rules from the future`,
      );
    if (offset === OFFSETS.ahead || offset === OFFSETS.behind)
      must(inForce.has('day') && inForce.has('truly'), `${edge} lacks rules`);
  }
  return `${SKEWED} simulated edges and a gate: 30 and 120 s ahead and 200 s behind change nothing; 2 h ahead rules of an hour are refused as expired; 15 min behind nothing new counts, and it is said why`;
}

async function partition(stand: Stand): Promise<string> {
  const { author } = stand;
  await stand.publish(
    author.sign('before', rule('udp dst port 20500')),
    author.sign('fades', rule('udp dst port 20501'), { ttl: 20 }),
  );
  await stand.settled();
  const cut = stand.edges.filter(({ cuttable }) => cuttable);
  const before = new Map((await stand.states()).map((state) => [state.edge, state]));
  stand.proxy.cut();
  for (const edge of stand.real) if (edge.edges[0].cuttable) await edge.link(false);
  const began = performance.now();
  await stand.publish(
    author.sign('before', null),
    author.sign('meanwhile', rule('udp dst port 20502')),
    author.sign('truly', rule('udp dst port 20503')),
  );
  const others = await stand.settled(({ cuttable }) => !cuttable);
  await all(
    stand,
    ({ cuttable }) => cuttable,
    ({ connected, inForce }) => !connected && !inForce.has('fades'),
    'the partition is not noticed, or a rule that is over is in force',
  );
  const noticed = (performance.now() - began) / 1000;
  for (const { edge, inForce, age } of await stand.states()) {
    if (!cut.some(({ name }) => name === edge)) continue;
    const kept = [...(before.get(edge)?.inForce ?? [])].filter(([id]) => id !== 'fades');
    must(
      kept.length === inForce.size && kept.every(([id, revision]) => inForce.get(id) === revision),
      `${edge} has not kept its rules`,
    );
    must(age !== null && age > 1, `${edge} does not say how old what it runs is`);
  }
  stand.proxy.mend();
  for (const edge of stand.real) if (edge.edges[0].cuttable) await edge.link(true);
  const after = await stand.settled();
  return `${cut.length} edges cut off for ${seconds(noticed)}: the last good rules stayed, one expired on its own clock; the others had what is new in ${seconds(others)}; ${seconds(after)} after the mending all had`;
}

async function restart(stand: Stand): Promise<string> {
  const before = await stand.states();
  await stand.server.kill();
  await all(
    stand,
    () => true,
    ({ connected }) => !connected,
    'the death of the server is not noticed',
  );
  must(stand.wrong(await stand.states()).length === 0, 'rules were lost with the server');
  await stand.server.start();
  const began = performance.now();
  await all(
    stand,
    () => true,
    ({ connected }) => connected,
    'not all edges are back',
  );
  const back = (performance.now() - began) / 1000;
  await stand.publish(stand.author.sign('again', rule(`udp dst port ${20_600 + (before.length % 7)}`)));
  await stand.settled();
  return `killed and started again with its store: no rule lost, all ${before.length} edges back after ${seconds(back)}, the next rule everywhere`;
}

export const CASES: readonly FleetCase[] = [
  { name: 'repeated, out of order', run: mixedUp },
  { name: 'forged', run: forged },
  { name: 'bad', run: bad },
  { name: 'expired, withdrawn', run: over },
  { name: 'clocks', run: skewed },
  { name: 'partition', run: partition },
  { name: 'server restart', run: restart },
];

/** Rules for one attack after the other, as a desk has them: some for one site. Answers what was signed. */
export async function spread(stand: Stand, count: number, pauseMs: number): Promise<Signed[]> {
  const made: Signed[] = [];
  for (let n = 0; n < count; n++) {
    const scope = n % 5 === 4 ? { scope: { sites: [SITES[n % SITES.length]] } } : {};
    // The first is what the traffic of the real edges meets.
    const signed = stand.author.sign(`attack${n}`, {
      ...rule(n === 0 ? 'udp dst port 9' : `dst host 192.0.2.${n} and udp src port 123`),
      ...scope,
    });
    await stand.publish(signed);
    made.push(signed);
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
  }
  await stand.settled();
  return made;
}
