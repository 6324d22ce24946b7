import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import type { RuleRow } from '../../src/gate/control-protocol.ts';
import { eventually, UpGate } from '../gate/daemon-support.ts';
import { LogDir, type Run, runOn } from '../sensor/run.ts';
import { AttackTraffic, learned } from '../support/attack-traffic.ts';
import { sluice } from '../support/command.ts';
import { kernelTest, ownNetns, vethPair } from '../support/kernel.ts';

ownNetns();

interface Line {
  event: string;
  ts: number;
  [field: string]: unknown;
}

const linesOf = (directory: string, log = 'mitigation'): Line[] => {
  const path = join(directory, `${log}.log`);
  if (!existsSync(path)) return [];
  // Whole lines: the last one may be on its way.
  return readFileSync(path, 'utf8')
    .split('\n')
    .slice(0, -1)
    .map((text) => JSON.parse(text) as Line);
};

/** Seconds for what takes one or two when the machine is quiet. */
const PATIENCE = 120;

const untilTold = (
  directory: string,
  what: (line: Line) => boolean,
  name: string,
  log = 'mitigation',
): Promise<Line> =>
  eventually(async () => linesOf(directory, log).find(what), `nothing says: ${name}`, PATIENCE);

const rules = async (ifname: string): Promise<RuleRow[]> =>
  JSON.parse((await sluice('rule', 'ls', '-i', ifname, '--json')).stdout) as RuleRow[];

const dropping = (ifname: string): Promise<RuleRow> =>
  eventually(
    async () => (await rules(ifname)).find(({ dropped }) => dropped.pkts > 1000),
    'no rule drops',
    PATIENCE,
  );

kernelTest(
  'an attack is found in samples, dropped by a rule, and the rule can be taken out',
  ['xdpFrags', 'syscallProgram'],
  async () => {
    await using gate = await UpGate.up('--mitigate', '--min-pps', '2000', '--veto', 'tcp/22');
    using traffic = new AttackTraffic(gate.peer, 'memcached-amplification', 12);
    await learned(gate.ifname, traffic);
    expect(linesOf(gate.logDir).filter(({ attack }) => attack === true)).toEqual([]);
    traffic.attacking = true;
    const rule = await dropping(gate.ifname);
    expect(rule.expr).toContain(`dst host ${traffic.server}`);
    expect(rule.expr).toContain('udp src port 11211');
    expect(rule.expr).toContain('not ((tcp and port 22))');
    expect(rule.expires).not.toBeNull();
    const began = await untilTold(gate.logDir, ({ event }) => event === 'began', 'began');
    expect(began).toMatchObject({ kind: 'memcached-amplification', target: traffic.server });
    const notice = await untilTold(gate.logDir, () => true, 'a notice', 'notice');
    expect(notice).toMatchObject({ note: 'Sluice::Attack' });
    expect(notice['msg']).toContain(`memcached-amplification on ${traffic.server}`);
    const status = await gate.status();
    expect(status.ruleDropped.pkts).toBeGreaterThan(1000);
    expect(status.sampled.bytes).toBeGreaterThan(64 * status.sampled.pkts);
    expect(status.sampleLost.pkts).toBeGreaterThanOrEqual(0);

    // Under mitigation it stays visible.
    const [row] = JSON.parse((await sluice('attack', 'ls', '-i', gate.ifname, '--json')).stdout) as {
      id: string;
      attack: boolean;
    }[];
    expect(row.attack).toBe(true);
    const reverted = await sluice('attack', 'revert', row.id, '-i', gate.ifname);
    expect(reverted.code).toBe(0);
    await untilTold(gate.logDir, ({ event }) => event === 'reverted', 'reverted');
    expect(await rules(gate.ifname)).toEqual([]);
    traffic.attacking = false;
    await untilTold(gate.logDir, ({ event }) => event === 'ended', 'ended');
  },
);

kernelTest('a dry run tells, and does nothing', ['xdpFrags', 'syscallProgram'], async () => {
  await using gate = await UpGate.up('--mitigate-dry-run', '--min-pps', '2000');
  using traffic = new AttackTraffic(gate.peer, 'ntp-amplification', 4);
  await learned(gate.ifname, traffic);
  traffic.attacking = true;
  const told = await untilTold(
    gate.logDir,
    ({ event, attack }) => event === 'began' && attack === true,
    'began',
  );
  expect(told).toMatchObject({ kind: 'ntp-amplification', dryRun: true });
  expect((told['rules'] as unknown[]).length).toBeGreaterThan(0);
  expect(await rules(gate.ifname)).toEqual([]);
});

kernelTest(
  'sluice run does it too, and its rules are there after a restart',
  ['xdpFrags', 'xdpNativeVeth', 'syscallProgram', 'packetRing'],
  async () => {
    const pair = vethPair();
    using logs = new LogDir();
    const store = join(logs.path, 'store');
    const start = (): Run =>
      runOn(
        pair.a,
        logs,
        '--mitigate',
        '--min-pps',
        '2000',
        '--rule-store',
        store,
        '--veto',
        '192.0.2.1,tcp/22',
      );
    await using first = await start().ready();
    using traffic = new AttackTraffic(pair.b, 'ntp-amplification', 4);
    await learned(pair.a, traffic);
    traffic.attacking = true;
    const { id, expr, dropped } = await dropping(pair.a);
    expect(expr).toContain('udp src port 123');
    expect(expr).toContain('not ((tcp and host 192.0.2.1 and port 22))');
    await untilTold(logs.path, ({ note }) => note === 'Sluice::Attack', 'the attack', 'notice');
    // What comes now is not what this is about.
    traffic.attacking = false;
    // What is usual has been written down beside the rules, and is no secret of everybody.
    const baseline = join(store, `${pair.a}.baseline`);
    await eventually(
      async () => (existsSync(baseline) ? true : undefined),
      'what is usual is not kept',
      PATIENCE,
    );
    expect(statSync(baseline).mode & 0o777).toBe(0o600);
    const kept = await sluice('rule', 'add', 'udp port 9', '--id', 'by-hand', '-i', pair.a);
    expect(kept.code, kept.stderr).toBe(0);
    const ended = await first.stop();
    expect(ended.code).toBe(0);

    await using second = await start().ready();
    const again = await rules(pair.a);
    expect(again.map((rule) => rule.id)).toContain('by-hand');
    // As long as its time is not over, which a slow machine may take.
    const same = again.find((rule) => rule.id === id);
    if (same !== undefined) expect(same.dropped.pkts).toBeGreaterThanOrEqual(dropped.pkts);
    const inherited = await untilTold(logs.path, ({ event }) => event === 'inherited', 'inherited');
    expect(inherited['targets']).toBeGreaterThan(0);

    // After a sudden end as well.
    await second.stop('SIGKILL');
    await using third = await start().ready();
    expect((await rules(pair.a)).map((rule) => rule.id)).toContain('by-hand');
    await third.stop();
  },
);

kernelTest('without --mitigate there are no attacks to tell of', ['xdpFrags', 'syscallProgram'], async () => {
  await using gate = await UpGate.up();
  const { code, stderr } = await sluice('attack', 'ls', '-i', gate.ifname);
  expect(code).toBe(1);
  expect(stderr).toContain('--mitigate does');
});
