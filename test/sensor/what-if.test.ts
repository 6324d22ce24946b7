import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'vitest';
import { conversation } from '../../src/packet/conversation.ts';
import { pcapFile } from '../../src/packet/pcap.ts';
import type { WhatIfResult } from '../../src/sensor/what-if.ts';
import { sluice } from '../support/command.ts';
import { kernelTest, ownNetns, vethPair } from '../support/kernel.ts';
import { documentOf, Feed, LogDir, mixed, runOn } from './run.ts';

ownNetns();

const RATE = 8000;
const CONNECTIONS = 8;

/** Downloads of 2 MB, and short ones beside them. */
function conversations() {
  return Array.from({ length: CONNECTIONS * 3 }, (_, i) =>
    conversation({
      client: { address: `10.1.0.${i + 1}`, port: 20_000 + i },
      server: { address: '10.2.0.1', port: 80 },
      mss: 1400,
      turns: [
        { from: 'client', data: 300 },
        { from: 'server', data: i % 3 === 0 ? 2_000_000 : 5000 },
      ],
      close: i % 2 === 0 ? 'server-fin' : 'client-rst',
      seed: i,
      start: 1_700_000_000,
      gap: 0.001,
    }),
  );
}

kernelTest(
  'what if agrees with a run through the gate on the same packets',
  ['xdpFrags', 'xdpNativeVeth', 'syscallProgram', 'packetRing'],
  async () => {
    const directory = mkdtempSync(join(tmpdir(), 'sluice-test-'));
    const frames = mixed(conversations());
    const trace = join(directory, 'trace.pcap');
    writeFileSync(trace, pcapFile(frames.map((bytes, i) => ({ bytes, ts: 1_700_000_000 + i / RATE }))));
    const policy = ['--policy', 'bulk=500kB'];
    const whatIf = async (delay: string) => {
      const args = [
        'read',
        trace,
        '--log-dir',
        directory,
        '--json',
        '--what-if',
        '--what-if-delay',
        delay,
        ...policy,
      ];
      return (JSON.parse((await sluice(...args)).stdout) as { whatIf: WhatIfResult }).whatIf.scenarios[0];
    };
    const { a, b, remove } = vethPair();
    using logs = new LogDir();
    try {
      await using run = await runOn(a, logs, ...policy).ready();
      // At half of them all that is long is long enough.
      await new Feed(b, frames, RATE, {
        from: frames.length >> 1,
        to: Math.floor(frames.length * 0.6),
        until: () => logs.shunts('start') >= CONNECTIONS,
        what: 'not all are shunted',
      }).done;
      const ended = await run.stop();
      expect(ended).toMatchObject({ code: 0 });
      const { policies, timeToDrop, shuntedConnections } = documentOf(ended);
      // Nobody is quicker than at once; and nobody was slower than this.
      const most = await whatIf('0');
      const least = await whatIf(`${Math.ceil(50 + 5000 * (timeToDrop?.p99 ?? 0))}ms`);
      expect(shuntedConnections).toBe(CONNECTIONS);
      expect(most.connections).toBe(CONNECTIONS);
      expect(policies['bulk'].pkts).toBeLessThanOrEqual(most.packets);
      expect(policies['bulk'].pkts).toBeGreaterThanOrEqual(least.packets);
      expect(policies['bulk'].bytes / most.bytes).toBeGreaterThan(0.3);
    } finally {
      remove();
      rmSync(directory, { recursive: true });
    }
  },
);
