import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Kvm } from '@nats-io/kv';
import { afterAll, expect } from 'vitest';
import type { AttackDocument } from '../../src/detect/attack-book.ts';
import { keysById, readTrustedKeys } from '../../src/fleet/keys.ts';
import { connectOnce, natsPlace } from '../../src/fleet/nats-place.ts';
import { type Statement, verifyStatement } from '../../src/fleet/statement.ts';
import { eth } from '../../src/packet/build.ts';
import { Detector, PARTITIONS, PATIENCE, shared } from '../detect/detector-process.ts';
import { SimulatedEdge } from '../detect/simulated-edge.ts';
import { eventually, UpGate } from '../gate/daemon-support.ts';
import { sluice } from '../support/command.ts';
import { kernelTest, ownNetns } from '../support/kernel.ts';
import { NatsServer } from '../support/nats-server.ts';

ownNetns();

const directory = mkdtempSync(join(tmpdir(), 'sluice-detectors-'));
afterAll(() => rmSync(directory, { recursive: true, force: true, maxRetries: 20 }));

/** Follows the rules of a fleet as an edge does. */
class Rules {
  /** By id, verified. */
  readonly live = new Map<string, Statement>();
  readonly refused: string[] = [];
  /** Moments at which there was no rule though there had been one. */
  bare = 0;
  readonly #end: () => Promise<void>;

  private constructor(end: () => Promise<void>) {
    this.#end = end;
  }

  static async follow(url: string, trust: string): Promise<Rules> {
    const keys = keysById(readTrustedKeys(readFileSync(trust, 'utf8'), trust));
    const place = natsPlace(url);
    const connection = await connectOnce(place);
    const watch = await (await new Kvm(connection).create(place.rules)).watch();
    const rules = new Rules(async () => {
      watch.stop();
      await reading;
      await connection.close();
    });
    const reading = (async () => {
      for await (const entry of watch) {
        const read = verifyStatement(entry.string(), keys, Date.now() / 1000);
        if ('refused' in read) rules.refused.push(read.why);
        else if (read.statement.rule !== null) rules.live.set(read.statement.id, read.statement);
        else if (rules.live.delete(read.statement.id) && rules.live.size === 0) rules.bare++;
      }
    })();
    return rules;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#end();
  }
}

const attacks = async (url: string): Promise<AttackDocument[]> => {
  const { stdout } = await sluice('attack', 'ls', '--from', url, '--json');
  return (JSON.parse(stdout) as AttackDocument[]).filter(({ attack }) => attack);
};

/** It is told of beside its rule, by the same detector. */
const firstAttack = (url: string): Promise<AttackDocument> =>
  eventually(async () => (await attacks(url))[0], 'no attack is told of', PATIENCE);

kernelTest(
  'a detector is killed in the middle of an attack: another takes over, and the rule stays in force',
  [],
  async () => {
    await using server = new NatsServer(directory);
    await server.start();
    const url = server.url('flood');
    const desk = join(directory, 'desk');
    expect((await sluice('rule', 'keygen', desk)).code).toBe(0);
    await using first = new Detector(directory, url, `${desk}.key`);
    await shared([first]);
    await using second = new Detector(directory, url, `${desk}.key`);
    await shared([first, second]);
    await using rules = await Rules.follow(url, `${desk}.pub`);
    const edges = [1, 2, 3].map(
      (seed) =>
        new SimulatedEdge({
          url,
          seed,
          kind: 'ntp-amplification',
          every: 20,
          usualPps: 1000,
          attackPps: 10_000,
        }),
    );
    try {
      await eventually(
        async () => (edges.every(({ sender }) => sender.status().sent > 300) ? true : undefined),
        'edges do not send',
        PATIENCE,
      );
      expect(rules.live.size).toBe(0);
      for (const edge of edges) edge.attacking = true;
      await eventually(async () => (rules.live.size > 0 ? true : undefined), 'no rule', PATIENCE);
      const [{ id, revision, rule, author }] = [...rules.live.values()];
      expect(id).toMatch(/^auto-ntp-amplification-/);
      expect(rule?.expr).toContain('udp src port 123');
      expect(author).toContain('detector@');
      const attack = await firstAttack(url);
      expect(attack).toMatchObject({ kind: 'ntp-amplification', target: edges[0].target, ended: null });

      const { partition } = attack;
      const [holder, other] = first.held.includes(partition) ? [first, second] : [second, first];
      await eventually(
        async () => (holder.notes().includes('Sluice::Attack') ? true : undefined),
        'no notice of the attack',
        PATIENCE,
      );
      holder.kill('SIGKILL');
      await holder.outcome;
      await other.until(
        ({ event, partition: name }) => event === 'held' && name === partition,
        'the partition of the attack is taken over',
      );
      await shared([other]);
      const taken = await other.until(
        ({ event, rule: name }) => (event === 'renewed' || event === 'live') && name === id,
        'the rule is gone on with',
      );
      expect(taken).toBeDefined();
      await eventually(
        async () => ((rules.live.get(id)?.revision ?? 0) > revision ? true : undefined),
        'the rule is not renewed',
        PATIENCE,
      );
      expect(rules.bare).toBe(0);

      for (const edge of edges) edge.attacking = false;
      await eventually(async () => (rules.live.size === 0 ? true : undefined), 'rules stay', PATIENCE);
      await eventually(
        async () => ((await attacks(url)).every(({ ended }) => ended !== null) ? true : undefined),
        'attacks stay',
        PATIENCE,
      );
      expect(rules.refused).toEqual([]);
      other.kill('SIGTERM');
      expect(await other.outcome).toMatchObject({ code: 0, stderr: expect.not.stringMatching(/error/i) });
      expect(other.notes()).toContain('Sluice::Attack_Ended');
    } finally {
      await Promise.all(edges.map((edge) => edge.close()));
    }
  },
);

kernelTest(
  "a gate's samples bring a rule into its own force, and whoever has the key takes it out",
  ['xdpFrags', 'syscallProgram'],
  async () => {
    await using server = new NatsServer(directory);
    await server.start();
    const url = server.url('loop');
    const desk = join(directory, 'loop');
    expect((await sluice('rule', 'keygen', desk)).code).toBe(0);
    const both = await sluice('gate', 'up', '-i', 'lo', '--tap', '--mitigate', '--samples-to', url);
    expect(both).toMatchObject({ code: 2, stderr: expect.stringContaining('--mitigate') });
    await using detector = new Detector(directory, url, `${desk}.key`, '--min-pps', '500');
    const store = join(directory, 'loop-store.json');
    const follows = ['--rules-from', url, '--trust', `${desk}.pub`, '--rules-store', store];
    await using gate = await UpGate.up('--samples-to', url, ...follows);
    await eventually(
      async () => ((await gate.status()).samples?.connected === true ? true : undefined),
      'the gate does not send samples',
      PATIENCE,
    );
    const answer = eth()
      .ipv4({ src: '203.0.113.5', dst: '10.9.0.2' })
      .udp({ sport: 123, dport: 40_000 })
      .payload('x'.repeat(440));
    const flood = setInterval(() => gate.send(answer, 100), 10);
    try {
      const dropping = await eventually(
        async () => (await gate.rules()).find(({ dropped }) => dropped.pkts > 1000),
        'no rule drops',
        PATIENCE,
      );
      expect(dropping.id).toMatch(/^fleet-auto-ntp-amplification-10\.9\.0\.2-1$/);
      const { samples } = await gate.status();
      expect(samples).toMatchObject({ partitions: PARTITIONS, problem: null });
      expect(samples?.sent).toBeGreaterThan(0);
      const { stdout: text } = await sluice('gate', 'status', '-i', gate.ifname);
      expect(text).toMatch(/samples to +nats:\/\/127.*4 partitions; [\d,]+ sent/);

      const id = dropping.id.slice('fleet-'.length);
      const { id: attack } = await firstAttack(url);
      const shown = await sluice('attack', 'show', attack, '--from', url, '--json');
      expect(JSON.parse(shown.stdout)).toMatchObject({ kind: 'ntp-amplification', rules: [{ id }] });
      const withdrawal = join(directory, 'withdrawal.jsonl');
      const { stdout: line } = await sluice('rule', 'withdraw', id, '--key', `${desk}.key`);
      writeFileSync(withdrawal, line);
      expect((await sluice('rule', 'publish', withdrawal, '--to', url)).code).toBe(0);
      await detector.until(({ event, rule }) => event === 'reverted' && rule === id, 'reverted');
      await eventually(
        async () => ((await gate.rules()).length === 0 ? true : undefined),
        'the rule stays',
        PATIENCE,
      );
    } finally {
      clearInterval(flood);
    }
    await detector.until(({ event, attack }) => event === 'ended' && attack === true, 'the attack is over');
    expect(detector.lines().filter(({ event }) => event === 'live')).toHaveLength(1);
    const result = await detector.until(({ event }) => event === 'result', 'what edges say of the rules');
    expect(result).toMatchObject({ rules: [{ id: expect.stringMatching(/^auto-ntp-/) }] });
  },
);
