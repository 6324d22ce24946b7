import { expect, test } from 'vitest';
import { CanaryTrial, canaryOf, type Staged, stagesOf } from '../../src/fleet/canary.ts';
import { generateKeys, readSigningKey } from '../../src/fleet/keys.ts';
import type { EdgeResult } from '../../src/fleet/nats-desk.ts';
import { type StatementInput, signStatement } from '../../src/fleet/statement.ts';

const key = readSigningKey(generateKeys('desk').privatePem, 'desk.key');
const NOW = 1_800_000_000;
const statement = (over: Partial<StatementInput> = {}): StatementInput => ({
  version: 1,
  id: 'ntp',
  revision: 7,
  author: 'desk',
  issued: NOW,
  expires: NOW + 3600,
  rule: { expr: 'udp src port 123', action: { kind: 'drop' } },
  ...over,
});
const sign = (input: StatementInput): string => signStatement(input, key);
const rule = (expr: string, sites?: string[]): StatementInput['rule'] => ({
  expr,
  action: { kind: 'drop' },
  scope: sites === undefined ? {} : { sites },
});

test('a canary is the revision before of the same rule, for less', () => {
  const whole = statement({ revision: 8 });
  const canary = canaryOf(statement(), ['fra1']);
  const lines = [sign(statement({ id: 'other' })), sign(canary), sign(whole), 'no rule'];
  const { staged, plain } = stagesOf(lines);
  expect(staged).toEqual([{ id: 'ntp', revision: 7, sites: ['fra1'], canary: lines[1], whole: lines[2] }]);
  expect(plain).toEqual([lines[0], 'no rule']);
  // Two revisions of the same rule are none when anything else differs, or the second is not for more.
  for (const next of [
    statement({ revision: 9 }),
    statement({ revision: 8, id: 'dns' }),
    statement({ revision: 8, expires: NOW + 3601 }),
    statement({ revision: 8, rule: rule('udp src port 124') }),
    statement({ revision: 8, rule: rule('udp src port 123', ['fra1']) }),
    statement({ revision: 8, rule: rule('udp src port 123', ['ams1', 'lon1']) }),
    statement({ revision: 8, rule: null }),
  ])
    expect(stagesOf([lines[1], sign(next)]).staged).toEqual([]);
  expect(
    stagesOf([lines[1], sign(statement({ revision: 8, rule: rule('udp src port 123', ['ams1', 'fra1']) }))])
      .staged,
  ).toHaveLength(1);
});

test('a canary is for sites of its rule, and leaves some', () => {
  const scoped = statement({ rule: rule('udp', ['fra1', 'ams1']) });
  expect(canaryOf(scoped, ['ams1']).rule?.scope).toEqual({ sites: ['ams1'] });
  expect(() => canaryOf(scoped, ['lon1'])).toThrow(expect.objectContaining({ code: 'USAGE' }));
  expect(() => canaryOf(scoped, ['ams1', 'fra1'])).toThrow(expect.objectContaining({ code: 'USAGE' }));
  expect(() => canaryOf(statement({ rule: null }), ['ams1'])).toThrow(
    expect.objectContaining({ code: 'USAGE' }),
  );
});

type State = EdgeResult['rules'][number]['state'];
const staged: Staged = { id: 'ntp', revision: 7, sites: ['fra1', 'ams1'], canary: '', whole: '' };
const told = (
  site: string,
  state: State | undefined,
  { seen = 0, dropped = 0, revision = 7, node = site, refused = [] as EdgeResult['refused'] } = {},
): EdgeResult => ({
  node,
  interface: 'eth1',
  site,
  roles: [],
  programs: null,
  seen: { pkts: seen, bytes: 0 },
  ts: NOW,
  rules:
    state === undefined
      ? []
      : [
          {
            id: 'ntp',
            revision,
            state,
            why: state === 'refused' ? 'syntax' : null,
            matched: { pkts: 0, bytes: 0 },
            dropped: { pkts: dropped, bytes: 0 },
          },
        ],
  refused,
});

test('a canary is good when it is in force at each of its sites, and nothing speaks against it', () => {
  const trial = new CanaryTrial(staged, 0.1);
  expect(trial.look(told('fra1', 'waiting'))).toMatchObject({ state: 'waiting' });
  expect(trial.badInTheEnd).toContain('not in force at fra1');
  // Counts go on from those of the revision before, and from what has come already.
  expect(trial.look(told('fra1', 'in force', { seen: 50_000, dropped: 40_000 }))).toMatchObject({
    seen: 0,
    dropped: 0,
  });
  expect(trial.look(told('lon1', 'refused'))).toBeUndefined();
  expect(trial.look(told('ams1', 'in force', { revision: 6 }))).toBeUndefined();
  expect(trial.badInTheEnd).toBe('no edge of site ams1 has it');
  trial.look(
    told('ams1', undefined, {
      refused: [{ where: 'ntp', id: 'ntp', refused: 'unknown key', why: 'key x is not trusted here' }],
    }),
  );
  expect(trial.badInTheEnd).toContain('unknown key: key x');
  trial.look(told('ams1', 'in force'));
  expect(trial.look(told('fra1', 'in force', { seen: 60_000, dropped: 41_000 }))).toBeUndefined();
  expect(trial.badInTheEnd).toBeUndefined();
  expect(trial.edges).toMatchObject([
    { node: 'fra1', seen: 10_000, dropped: 1000 },
    { node: 'ams1', seen: 0, dropped: 0 },
  ]);
  trial.look(told('fra1', 'in force', { seen: 60_100, dropped: 41_100 }));
  expect(trial.bad).toBe('it drops 10.9 % of what comes at fra1 eth1 (fra1)');
});

test('an edge that refuses it, or at which somebody has taken it out, ends a canary', () => {
  for (const [state, text] of [
    ['refused', 'refused at fra1 eth1 (fra1): syntax'],
    ['removed here', 'somebody has taken it out at fra1'],
  ] as const) {
    const trial = new CanaryTrial(staged);
    trial.look(told('ams1', 'in force'));
    trial.look(told('fra1', 'in force'));
    expect(trial.bad).toBeUndefined();
    trial.look(told('fra1', state));
    expect(trial.bad).toContain(text);
  }
  // Of a few packets no share is made, and who does not tell how many came is not taken at their word.
  const trial = new CanaryTrial(staged, 0.01);
  for (const site of staged.sites) trial.look(told(site, 'in force'));
  trial.look(told('fra1', 'in force', { seen: 900, dropped: 900 }));
  expect(trial.badInTheEnd).toBeUndefined();
  trial.look({ ...told('ams1', 'in force'), seen: null });
  expect(trial.badInTheEnd).toContain('ams1 eth1 (ams1) does not tell how much comes there');
});
