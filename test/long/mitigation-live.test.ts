import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { type Attacking, attackOf } from '../../bench/attack-traffic.ts';
import { usualTraffic } from '../../bench/usual-traffic.ts';
import type { RuleRow } from '../../src/gate/control-protocol.ts';
import { PacketSender } from '../../src/kernel/index.ts';
import { eventually, UpGate } from '../gate/daemon-support.ts';
import { sluice } from '../support/command.ts';
import { kernelTest, ownNetns } from '../support/kernel.ts';

ownNetns();

interface Line {
  event: string;
  ts: number;
  [field: string]: unknown;
}

const lines = (gate: UpGate): Line[] =>
  readFileSync(join(gate.logDir, 'mitigation.log'), 'utf8')
    .split('\n')
    .filter((text) => text !== '')
    .map((text) => JSON.parse(text) as Line);

/** Sends usual traffic at a rate, and an attack beside it for as long as it is told to. */
class Traffic {
  readonly #sender: PacketSender;
  readonly #usual = usualTraffic(5, '198.51.100');
  readonly #attack: Attacking;
  readonly #timer: NodeJS.Timeout;
  /** Frames of the attack, made once. */
  readonly #frames: Uint8Array[];
  attacking = false;
  #last = performance.now();

  constructor(gate: UpGate, kind: string, seed: number) {
    this.#sender = new PacketSender(gate.peer);
    this.#attack = attackOf(kind, seed, this.server);
    this.#frames = Array.from({ length: 4000 }, (_, i) => this.#attack.packet(i));
    this.#timer = setInterval(() => this.#send(), 10);
  }

  get server(): string {
    return this.#usual.servers[0];
  }

  #send(): void {
    const now = performance.now();
    const seconds = Math.min(0.1, (now - this.#last) / 1000);
    this.#last = now;
    const frames = Array.from({ length: Math.ceil(500 * seconds) }, () => this.#usual.packet(0));
    if (this.attacking)
      for (let i = Math.ceil(20_000 * seconds); i > 0; i--)
        frames.push(this.#frames[Math.floor(Math.random() * this.#frames.length)]);
    const offsets = new Uint32Array(frames.length + 1);
    for (const [at, frame] of frames.entries()) offsets[at + 1] = offsets[at] + frame.length;
    this.#sender.send(Buffer.concat(frames), offsets);
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    this.#sender.close();
  }
}

const rules = async (gate: UpGate): Promise<RuleRow[]> =>
  JSON.parse((await sluice('rule', 'ls', '-i', gate.ifname, '--json')).stdout) as RuleRow[];

kernelTest(
  'an attack is found in samples, dropped by a rule, and the rule can be taken out',
  ['xdpFrags', 'syscallProgram'],
  async () => {
    await using gate = await UpGate.up('--mitigate', '--min-pps', '2000', '--veto', 'tcp/22');
    using traffic = new Traffic(gate, 'memcached-amplification', 12);
    // What is usual has to be learned first.
    await new Promise((resolve) => setTimeout(resolve, 8000));
    expect(lines(gate)).toEqual([]);
    traffic.attacking = true;
    const dropping = await eventually(
      async () => (await rules(gate)).find(({ dropped }) => dropped.pkts > 1000),
      'no rule drops',
      30,
    );
    expect(dropping.expr).toContain(`dst host ${traffic.server}`);
    expect(dropping.expr).toContain('udp src port 11211');
    expect(dropping.expr).toContain('not ((tcp and port 22))');
    expect(dropping.expires).not.toBeNull();
    const [began] = lines(gate);
    expect(began).toMatchObject({ event: 'began', kind: 'memcached-amplification', target: traffic.server });
    const status = await gate.status();
    expect(status.ruleDropped.pkts).toBeGreaterThan(1000);

    // Under mitigation it stays visible.
    const [row] = JSON.parse((await sluice('attack', 'ls', '-i', gate.ifname, '--json')).stdout) as {
      id: string;
      attack: boolean;
    }[];
    expect(row.attack).toBe(true);
    const reverted = await sluice('attack', 'revert', row.id, '-i', gate.ifname);
    expect(reverted.code).toBe(0);
    await eventually(
      async () => (lines(gate).some(({ event }) => event === 'reverted') ? true : undefined),
      'nothing says that it was reverted',
      60,
    );
    expect(await rules(gate)).toEqual([]);
    traffic.attacking = false;
    await eventually(
      async () => (lines(gate).some(({ event }) => event === 'ended') ? true : undefined),
      'the attack does not end',
      60,
    );
  },
);

kernelTest('a dry run tells, and does nothing', ['xdpFrags', 'syscallProgram'], async () => {
  await using gate = await UpGate.up('--mitigate-dry-run', '--min-pps', '2000');
  using traffic = new Traffic(gate, 'ntp-amplification', 4);
  await new Promise((resolve) => setTimeout(resolve, 8000));
  traffic.attacking = true;
  const told = await eventually(
    async () => lines(gate).find(({ event }) => event === 'began'),
    'nothing is found',
    30,
  );
  expect(told).toMatchObject({ kind: 'ntp-amplification', dryRun: true });
  expect((told['rules'] as unknown[]).length).toBeGreaterThan(0);
  expect(await rules(gate)).toEqual([]);
});

kernelTest('without --mitigate there are no attacks to tell of', ['xdpFrags', 'syscallProgram'], async () => {
  await using gate = await UpGate.up();
  const { code, stderr } = await sluice('attack', 'ls', '-i', gate.ifname);
  expect(code).toBe(1);
  expect(stderr).toContain('--mitigate does');
});
