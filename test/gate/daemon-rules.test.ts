import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { RuleRow } from '../../src/gate/control-protocol.ts';
import { eth } from '../../src/packet/build.ts';
import { pcapFile } from '../../src/packet/pcap.ts';
import { type Outcome, sluice } from '../support/command.ts';
import { kernelTest, ownNetns } from '../support/kernel.ts';
import { eventually, UpGate } from './daemon-support.ts';

ownNetns();

const A = '10.9.0.1';
const B = '10.9.0.2';
const udp = (dport: number) =>
  eth().ipv4({ src: A, dst: B }).udp({ sport: 5000, dport }).payload('x'.repeat(100));
const FRAME = udp(1).bytes().length;

const rule = (gate: UpGate, name: string, ...args: string[]): Promise<Outcome> =>
  sluice('rule', name, '-i', gate.ifname, '--json', ...args);
const errorOf = ({ stdout }: Outcome) =>
  (JSON.parse(stdout) as { error: { code: string; message: string } }).error;

/** Waits until the gate has seen so many frames; what it did with them. */
const seen = (gate: UpGate, pkts: number) =>
  eventually(async () => {
    const status = await gate.status();
    return status.seen.pkts >= pkts ? status : undefined;
  }, `${pkts} frames`);

kernelTest('rules from the command line: add, list, off, on, remove; the ledger', [], async () => {
  await using gate = await UpGate.up();
  const added = await rule(
    gate,
    'add',
    `dst host ${B} and udp dst port 53`,
    '--id',
    'dns',
    '--note',
    'a test',
  );
  expect(added).toMatchObject({ code: 0, stderr: '' });
  expect(JSON.parse(added.stdout)).toMatchObject({
    added: ['dns'],
    programs: { count: 1, tailCalls: 0, stackBytes: 8 },
    offload: [],
  });
  await rule(gate, 'add', 'udp', '--id', 'all', '--action', 'count', '--priority', '5');
  gate.send(udp(53), 10);
  gate.send(udp(54), 3);
  const status = await seen(gate, 13);
  expect(status).toMatchObject({
    ruleDropped: { pkts: 10, bytes: 10 * FRAME },
    passed: { pkts: 3 },
    shunted: { pkts: 0 },
  });
  expect(await gate.rules()).toEqual([
    expect.objectContaining({
      id: 'dns',
      expr: `dst host ${B} and udp dst port 53`,
      lang: 'tcpdump',
      action: 'drop',
      enabled: true,
      inScope: true,
      expires: null,
      note: 'a test',
      matched: { pkts: 10, bytes: 10 * FRAME },
      dropped: { pkts: 10, bytes: 10 * FRAME },
    }),
    expect.objectContaining({
      id: 'all',
      action: 'count',
      priority: 5,
      matched: { pkts: 13, bytes: 13 * FRAME },
    }),
  ]);

  expect((await rule(gate, 'off', 'dns')).code).toBe(0);
  gate.send(udp(53), 4);
  expect(await seen(gate, 17)).toMatchObject({ ruleDropped: { pkts: 10 }, passed: { pkts: 7 } });
  expect((await rule(gate, 'on', 'dns')).code).toBe(0);
  gate.send(udp(53), 2);
  expect(await seen(gate, 19)).toMatchObject({ ruleDropped: { pkts: 12 } });
  const removed = JSON.parse((await rule(gate, 'rm', 'dns')).stdout) as RuleRow[];
  expect(removed).toEqual([expect.objectContaining({ id: 'dns', dropped: { pkts: 12, bytes: 12 * FRAME } })]);
  gate.send(udp(53), 1);
  expect(await seen(gate, 20)).toMatchObject({ ruleDropped: { pkts: 12 }, passed: { pkts: 8 } });
  expect(
    gate
      .audit()
      .filter(({ op }) => op.startsWith('rule.'))
      .map(({ op, key }) => `${op} ${String(key)}`),
  ).toEqual(['rule.add dns', 'rule.add all', 'rule.switch dns', 'rule.switch dns', 'rule.remove dns']);
});

kernelTest('what is refused is named, and what is in force stays', [], async () => {
  await using gate = await UpGate.up();
  await rule(gate, 'add', 'udp dst port 53', '--id', 'dns');
  const wrong = await rule(gate, 'add', 'udp dst prt 53', '--id', 'typo');
  expect(errorOf(wrong).code).toBe('FILTER_INVALID');
  expect(errorOf(await rule(gate, 'add', 'udp', '--id', 'dns')).code).toBe('EXISTS');
  expect(errorOf(await rule(gate, 'rm', 'none')).code).toBe('NOT_FOUND');
  expect(errorOf(await rule(gate, 'add', 'udp', '--action', 'limit=1')).code).toBe('USAGE');
  const directory = mkdtempSync(join(tmpdir(), 'sluice-rules-'));
  try {
    const file = join(directory, 'rules.yaml');
    const packet = Buffer.from(udp(54).bytes()).toString('hex');
    writeFileSync(
      file,
      `- {id: good, expr: udp dst port 54, action: drop, tests: {match: ['${packet}']}}\n- {id: bad, expr: tcp, action: drop, tests: {match: ['${packet}']}}\n`,
    );
    const refused = await rule(gate, 'add', '--file', file);
    expect(errorOf(refused)).toMatchObject({
      code: 'RULE',
      message: expect.stringContaining('bad') as string,
    });
  } finally {
    rmSync(directory, { recursive: true });
  }
  gate.send(udp(53), 2);
  gate.send(udp(54), 2);
  expect(await seen(gate, 4)).toMatchObject({ ruleDropped: { pkts: 2 }, passed: { pkts: 2 } });
  expect((await gate.rules()).map(({ id }) => id)).toEqual(['dns']);
  const nobody = await rule(gate, 'add', 'udp', '--ttl', '0');
  expect(nobody.code).toBe(2);
});

const make = (round: number) => [
  { id: 'drop', expr: 'udp dst port 53', action: { kind: 'drop' }, priority: round },
  { id: `count-${round}`, expr: `udp dst port 54 and len > ${round}`, action: { kind: 'count' } },
];

kernelTest('sets exchanged under traffic: each frame has a verdict, and no count is lost', [], async () => {
  await using gate = await UpGate.up();
  using client = await gate.connect();
  let sent = 0;
  const stop = new AbortController();
  const traffic = (async () => {
    while (!stop.signal.aborted) {
      gate.send(udp(53), 200);
      gate.send(udp(54), 100);
      sent += 300;
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
  })();
  await client.ask('rule.add', { rules: make(0) });
  const before = sent;
  for (let round = 1; round <= 30; round++)
    await client.ask('rule.add', { rules: make(round), replace: true });
  stop.abort();
  await traffic;
  expect(sent).toBeGreaterThan(before);
  const { ruleDropped, passed, seen: all, aborted } = await seen(gate, sent);
  expect(all.pkts).toBe(sent);
  expect(ruleDropped.pkts + passed.pkts).toBe(sent);
  expect(aborted.pkts).toBe(0);
  const [drop] = (await gate.rules()).filter(({ id }) => id === 'drop');
  expect(drop.dropped.pkts).toBe(ruleDropped.pkts);
  expect(drop.matched.pkts).toBe(ruleDropped.pkts);
});

kernelTest(
  'rules outlive a killed daemon, and the next one goes on with them and their counts',
  [],
  async () => {
    await using gate = await UpGate.up();
    await rule(gate, 'add', 'udp dst port 53', '--id', 'dns');
    gate.send(udp(53), 5);
    const { daemon } = await seen(gate, 5);
    process.kill(daemon.pid as number, 'SIGKILL');
    await eventually(
      async () => ((await gate.status()).daemon.alive ? undefined : true),
      'the daemon to die',
    );
    gate.send(udp(53), 7);
    const again = await gate.start();
    expect(again.code, again.stdout + again.stderr).toBe(0);
    gate.send(udp(53), 2);
    expect(await seen(gate, 14)).toMatchObject({ ruleDropped: { pkts: 14 } });
    expect(await gate.rules()).toEqual([
      expect.objectContaining({ id: 'dns', dropped: { pkts: 14, bytes: 14 * FRAME } }),
    ]);
  },
);

kernelTest('a rule for the NIC stays in XDP where there is none, says so, and drops', [], async () => {
  await using gate = await UpGate.up();
  const expr = `dst host ${B} and udp dst port 53`;
  const added = await rule(gate, 'add', expr, '--id', 'dns', '--offload', 'nic');
  expect(added.code).toBe(0);
  expect(added.stderr).toMatch(/rule dns stays in XDP: the NIC refuses it: .*EOPNOTSUPP/);
  const state = {
    wanted: 'nic',
    state: 'xdp',
    reason: expect.stringContaining('EOPNOTSUPP') as string,
  };
  expect(JSON.parse(added.stdout)).toMatchObject({ offload: [{ id: 'dns', ...state }] });
  const long = await rule(gate, 'add', 'udp and greater 400', '--id', 'long', '--offload', 'nic');
  expect(long.stderr).toMatch(/rule long stays in XDP: .*equalities/);
  gate.send(udp(53), 3);
  expect(await seen(gate, 3)).toMatchObject({ ruleDropped: { pkts: 3 } });
  expect(await gate.rules()).toEqual([
    expect.objectContaining({ id: 'dns', offload: state, dropped: { pkts: 3, bytes: 3 * FRAME } }),
    expect.objectContaining({ id: 'long', offload: expect.objectContaining({ state: 'xdp' }) as object }),
  ]);
});

const drop = (id: string, dport: number, scope: object) => ({
  id,
  expr: `udp dst port ${dport}`,
  action: { kind: 'drop' },
  scope,
});

kernelTest('rules for sites and roles hold where the gate is one of them', [], async () => {
  await using gate = await UpGate.up('--site', 'fra1', '--role', 'edge', '--role', 'dns');
  using client = await gate.connect();
  await client.ask('rule.add', {
    rules: [
      drop('here', 53, { sites: ['ams1', 'fra1'], roles: ['dns'] }),
      drop('elsewhere', 54, { sites: ['ams1'], roles: ['dns'] }),
      drop('other', 55, { roles: ['core'] }),
    ],
  });
  for (const port of [53, 54, 55]) gate.send(udp(port), 2);
  expect(await seen(gate, 6)).toMatchObject({ ruleDropped: { pkts: 2 }, passed: { pkts: 4 } });
  const dropped = (await gate.rules()).map((row) => [row.id, row.inScope, row.dropped.pkts]);
  expect(dropped).toEqual([
    ['here', true, 2],
    ['elsewhere', false, 0],
    ['other', false, 0],
  ]);
  const wrong = await sluice('gate', 'up', '-i', gate.ifname, '--json', '--role', 'a b');
  expect(wrong.code).toBe(2);
});

kernelTest('a rule ends with its time', [], async () => {
  await using gate = await UpGate.up();
  await rule(gate, 'add', 'udp dst port 53', '--id', 'short', '--ttl', '6s');
  expect((await gate.rules())[0].expires).toBeGreaterThan(Date.now() / 1000);
  await eventually(async () => ((await gate.rules()).length === 0 ? true : undefined), 'the rule to end');
  gate.send(udp(53), 2);
  expect(await seen(gate, 2)).toMatchObject({ ruleDropped: { pkts: 0 }, passed: { pkts: 2 } });
  expect(gate.audit().at(-1)).toMatchObject({ op: 'rule.end', key: 'short', reason: 'expired' });
});

kernelTest('samples: one packet in so many, with its rule', [], async () => {
  await using gate = await UpGate.up();
  await rule(gate, 'add', 'udp dst port 53', '--id', 'dns', '--action', 'sample=1,size=64B');
  const directory = mkdtempSync(join(tmpdir(), 'sluice-rules-'));
  try {
    const file = join(directory, 'samples.pcapng');
    const reading = rule(gate, 'samples', '-w', file, '--count', '5');
    gate.send(udp(53), 5);
    gate.send(udp(54), 5);
    expect(await reading).toMatchObject({ code: 0, stdout: '{"samples":5}\n' });
    expect(readFileSync(file).toString('latin1').split('rule dns')).toHaveLength(6);
    const read = await sluice('read', file, '--log-dir', directory, '--json');
    expect(JSON.parse(read.stdout)).toMatchObject({ packets: 5 });
    expect(await seen(gate, 10)).toMatchObject({ passed: { pkts: 10 }, ruleDropped: { pkts: 0 } });
    const busy = await rule(gate, 'samples', '-w', join(directory, 'none', 'x'));
    expect(errorOf(busy).code).toBe('FILE');
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test('rule test says what rules would match in a file, without a gate', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'sluice-rules-'));
  try {
    const pcap = join(directory, 'some.pcap');
    writeFileSync(pcap, pcapFile([53, 53, 80].map((port) => ({ ts: 1, bytes: udp(port).bytes() }))));
    const one = await sluice('rule', 'test', 'udp dst port 53', '--id', 'x', '--pcap', pcap, '--json');
    expect(one.code).toBe(2);
    const { stdout } = await sluice('rule', 'test', 'udp dst port 53', '--pcap', pcap, '--json');
    expect(JSON.parse(stdout)).toMatchObject({
      packets: 3,
      others: 0,
      rules: [{ expr: 'udp dst port 53', lang: 'tcpdump', matched: { pkts: 2, bytes: 2 * FRAME } }],
    });
    const rules = join(directory, 'rules.yaml');
    writeFileSync(
      rules,
      '- {id: a, expr: udp dst port 80, action: drop}\n- {id: b, expr: tcp, action: count}\n',
    );
    const both = await sluice('rule', 'test', '--file', rules, '--pcap', pcap, '--json');
    expect(JSON.parse(both.stdout)).toMatchObject({
      rules: [
        { id: 'a', matched: { pkts: 1 } },
        { id: 'b', matched: { pkts: 0 } },
      ],
    });
    writeFileSync(rules, '{');
    expect(errorOf(await sluice('rule', 'test', '--file', rules, '--pcap', pcap, '--json')).code).toBe(
      'FILE_FORMAT',
    );
  } finally {
    rmSync(directory, { recursive: true });
  }
});
