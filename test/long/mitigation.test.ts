import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ATTACK_KINDS, attackOf } from '../../bench/attack-traffic.ts';
import { simulate } from '../../bench/mitigation-run.ts';
import { likeUsual, SURPRISES, surpriseOf, usualTraffic } from '../../bench/usual-traffic.ts';
import { pcapFile } from '../../src/packet/pcap.ts';
import { corpusRoot, readCases } from '../flow/support/corpus.ts';
import { sluice } from '../support/command.ts';

const SEEDS = [20_011, 31_033];
const common = { usualPps: 4000, attackPps: 20_000, every: 40, before: 10, during: 6 } as const;

describe.each(SEEDS)('parameters of seed %i', (seed) => {
  const usual = () => usualTraffic(seed, '198.51.100');
  const [server] = usual().servers;

  it.each(ATTACK_KINDS)('%s is held back', (kind) => {
    const attack = attackOf(kind, seed + ATTACK_KINDS.indexOf(kind), server);
    const result = simulate({ ...common, usual: usual().packet, attack: attack.packet, seed });
    expect(result.records.filter(({ judgement }) => judgement.attack).map((record) => record.kind)).toContain(
      attack.kind,
    );
    expect(result.firstDrop).toBeLessThan(2);
    expect(result.droppedAfter).toBeGreaterThan(0.99);
    expect(result.usualDropped).toBeLessThanOrEqual(0.001);
  });

  it.each(SURPRISES)('%s is let through', (kind) => {
    const result = simulate({
      ...common,
      usual: usual().packet,
      attack: surpriseOf(kind, seed, server),
      seed,
    });
    expect(result.droppedAll).toBe(0);
  });
});

/** SYNs that are like the usual ones, of so many hosts. */
const against = (hosts: number) => {
  const usual = usualTraffic(5, '198.51.100');
  return simulate({
    usual: usual.packet,
    attack: likeUsual(77, usual.servers[0], hosts),
    usualPps: 1500,
    attackPps: 5000,
    every: 1,
    before: 7,
    during: 4,
    seed: 3,
    detector: { minPps: 500 },
  });
};

describe('an attack that is like the usual in every field', () => {
  it.each([40, 200])('of %i hosts is limited for each, which spares the usual', (hosts) => {
    const { records, droppedAfter, usualDropped } = against(hosts);
    const rules = records.filter(({ kind }) => kind === 'syn-flood').flatMap((record) => record.rules);
    expect(rules.map(({ action }) => action)).toContainEqual(
      expect.objectContaining({ kind: 'limit', per: 'source' }),
    );
    expect(droppedAfter).toBeGreaterThan(0.8);
    expect(usualDropped).toBeLessThan(0.001);
  });

  it('of made-up addresses is limited as a whole, and that is told', () => {
    const { records, droppedAfter } = against(0);
    const rules = records.filter(({ kind }) => kind === 'syn-flood').flatMap((record) => record.rules);
    expect(rules.map(({ action }) => action)).toContainEqual(
      expect.objectContaining({ kind: 'limit', per: 'rule' }),
    );
    const why = rules.find(({ action }) => action.kind === 'limit')?.why;
    expect(why).toMatch(/usual packets (to it|anywhere) look like it/);
    expect(droppedAfter).toBeGreaterThan(0.8);
  });
});

it('a flash crowd of which one direction is seen is one', () => {
  const usual = usualTraffic(5, '198.51.100');
  const both = surpriseOf('flash-crowd', 31, usual.servers[0]);
  const server = usual.servers[0];
  // Bytes 30 to 33: where an IPv4 packet goes.
  const inward = (at: number): Uint8Array => {
    for (;;) {
      const frame = both(at);
      if (frame.subarray(30, 34).join('.') === server) return frame;
    }
  };
  const result = simulate({ ...common, usual: usual.packet, attack: inward, seed: 4 });
  expect(result.droppedAll).toBe(0);
});

describe('sluice detect', () => {
  let dir: string;
  beforeAll(() => {
    dir = mkdtempSync(join(tmpdir(), 'sluice-detect-'));
  });
  afterAll(() => rmSync(dir, { recursive: true }));

  it('tells attacks and rules of a capture', async () => {
    const usual = usualTraffic(8, '198.51.100');
    const attack = attackOf('memcached-amplification', 3, usual.servers[0]);
    const frames: { ts: number; bytes: Uint8Array }[] = [];
    for (let i = 0; i < 16_000; i++) frames.push({ ts: 1e9 + i / 1000, bytes: usual.packet(0) });
    for (let i = 0; i < 20_000; i++) frames.push({ ts: 1e9 + 12 + i / 5000, bytes: attack.packet(i) });
    frames.sort((a, b) => a.ts - b.ts);
    const file = join(dir, 'attack.pcap');
    writeFileSync(file, pcapFile(frames));
    const { code, stdout } = await sluice('detect', file, '--json', '--veto', 'tcp/22');
    expect(code).toBe(0);
    const report = JSON.parse(stdout) as {
      packets: number;
      attacks: {
        kind: string;
        target: string;
        attack: boolean;
        uncovered: number;
        rules: { expr: string; action: string }[];
      }[];
    };
    expect(report.packets).toBe(36_000);
    expect(report.attacks).toHaveLength(1);
    expect(report.attacks[0]).toMatchObject({
      kind: 'memcached-amplification',
      target: usual.servers[0],
      attack: true,
      uncovered: 0,
    });
    const [rule] = report.attacks[0].rules;
    expect(rule.action).toBe('drop');
    expect(rule.expr).toContain('udp src port 11211');
    expect(rule.expr).toContain('not ((tcp and port 22))');
    const text = await sluice('detect', file, '--veto', 'tcp/22');
    expect(text.stdout).toContain(rule.expr);
    expect(text.stderr).toContain('1 attacks');
  });

  it('refuses what is no veto', async () => {
    const { code, stderr } = await sluice('detect', '/dev/null', '--veto', 'tcp/0');
    expect(code).toBe(2);
    expect(stderr).toContain("'tcp/0' is no address, prefix or service");
  });

  const root = corpusRoot();
  it.skipIf(root === undefined)('finds no attack in the corpus', async () => {
    const files = readCases(root ?? '')
      .filter(({ format, packets }) => format === 'pcap' && packets > 400)
      .map(({ name }) => join(root ?? '', name, 'trace.pcap'));
    expect(files.length).toBeGreaterThan(3);
    for (const file of files.slice(0, 12)) {
      const { stdout } = await sluice('detect', file, '--json', '--learning', '0');
      expect(
        (JSON.parse(stdout) as { attacks: { attack: boolean }[] }).attacks.filter(({ attack }) => attack),
        file,
      ).toEqual([]);
    }
  });
});
