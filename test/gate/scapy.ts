import { spawnSync } from 'node:child_process';
import { expect, type TestContext } from 'vitest';
import type { Verdict } from '../../src/gate/layout.ts';
import { gateKey, TestGate } from './support.ts';

const SCRIPT = new URL('./fixtures/oracle.py', import.meta.url).pathname;

/** What scapy says of a frame, see oracle.py. */
interface Opinion {
  frame: string;
  tags: number[];
  kind: 'flow' | 'fragment' | 'other' | 'notip' | 'parse';
  src: string;
  dst: string;
  proto: number;
  sport: number;
  dport: number;
  ipBytes: number;
  payload: number;
  seq: number;
  flags: string;
}

const PASSED: Readonly<Record<string, Verdict>> = {
  fragment: 'passFragment',
  other: 'passOther',
  notip: 'passNotIp',
  parse: 'passParse',
};

/** A Python that has scapy: Debian's own goes first, as its packages are seen by no other. */
function python(): string | undefined {
  return ['/usr/bin/python3', 'python3'].find(
    (command) => spawnSync(command, ['-c', 'import scapy.layers.inet6']).status === 0,
  );
}

function opinions(context: TestContext, seed: number, frames: number): Opinion[] {
  const command = python();
  if (command === undefined) {
    if (process.env['CI'] !== undefined) throw new Error('scapy is missing: scripts/setup.sh installs it');
    context.skip('scapy is missing (Debian: python3-scapy)');
  }
  const { status, stdout, stderr } = spawnSync(command, [SCRIPT, `${seed}`, `${frames}`], {
    encoding: 'utf8',
    maxBuffer: 1 << 26,
  });
  expect(status, stderr).toBe(0);
  return stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Opinion);
}

/** Packets that scapy has built and dissected: the gate finds the same tuple, tags, lengths and sequence numbers. */
export function compareWithScapy(context: TestContext, vlanKey: boolean, seed: number, frames: number): void {
  using gate = new TestGate({ vlanKey });
  const kinds = new Map<string, number>();
  for (const [number, seen] of opinions(context, seed, frames).entries()) {
    const frame = new Uint8Array(Buffer.from(seen.frame, 'hex'));
    const what = `seed ${seed}, frame ${number}: ${JSON.stringify(seen)}`;
    kinds.set(seen.kind, (kinds.get(seen.kind) ?? 0) + 1);
    if (seen.kind !== 'flow') {
      expect(gate.run(frame).verdict, what).toBe(PASSED[seen.kind]);
      continue;
    }
    const [outer = 0, inner = 0] = vlanKey ? seen.tags.filter((id) => id !== 0) : [];
    const from = { addr: seen.src, port: seen.sport };
    const to = { addr: seen.dst, port: seen.dport };
    const key = gateKey(seen.proto, from, to, outer, inner);
    gate.shunt(key, key.tcp ? { seq: [seen.seq, seen.seq] } : {});
    const closes = /[SFR]/.test(seen.flags);
    expect(gate.run(frame).verdict, what).toBe(closes ? 'passClose' : 'shunted');
    const dirs = gate.read(key)?.dirs ?? [];
    const counted = dirs.find(({ pkts }) => pkts > 0);
    if (closes) expect(counted, what).toBeUndefined();
    else {
      expect(counted, what).toMatchObject({
        pkts: 1,
        ipBytes: seen.ipBytes,
        ...(key.tcp ? { seq: (seen.seq + seen.payload) >>> 0 } : { payloadBytes: seen.payload }),
      });
    }
    gate.client.remove(key.family, key.bytes);
  }
  for (const kind of ['flow', ...Object.keys(PASSED)])
    expect(kinds.get(kind), kind).toBeGreaterThan(frames / 100);
}
