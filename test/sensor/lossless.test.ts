import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'vitest';
import { conversation } from '../../src/packet/conversation.ts';
import { pcapFile } from '../../src/packet/pcap.ts';
import { kernelTest } from '../support/kernel.ts';
import { lossless } from './lossless.ts';

const FEATURES = ['xdpFrags', 'xdpNativeVeth', 'syscallProgram', 'packetRing', 'tcx'] as const;

/** Every way for a connection to be shunted and to end is among them. */
const KINDS = ['ssl', 'tcp'].flatMap((service) =>
  ['IPv4', 'IPv6'].flatMap((family) => ['fin', 'rst', 'idle'].map((end) => `${service} ${family} ${end}`)),
);

kernelTest(
  'records are the same with the gate and without, over 1,000 connections and more',
  [...FEATURES],
  async () => {
    const result = await lossless({});
    expect(Object.keys(result.kinds)).toEqual(expect.arrayContaining(KINDS));
    expect(result.shunted).toBeGreaterThan(100);
    expect(result.apart).toBe(0);
  },
);

kernelTest(
  'so they are when frames are lost, doubled and exchanged inside the shunted phase',
  [...FEATURES],
  async () => {
    const result = await lossless({ impair: { seed: 1234, drop: 0.005, duplicate: 0.004, reorder: 0.006 } });
    expect(result.shunted).toBeGreaterThan(100);
  },
);

const LONG = 60;
const SHORT = 960;

/**
 * Connections of 2.5 to 3.5 MB, and short ones among them, with and without tags, retransmissions and exchanged
 * segments, ended in every way.
 */
function trace(): Uint8Array {
  const closes = ['client-fin', 'server-fin', 'client-rst', 'server-rst', 'none'] as const;
  const frames = Array.from({ length: LONG + SHORT }, (_, i) => {
    const wide = i % 3 === 0;
    const long = i < LONG;
    const low = [(i + 16) >> 8, (i + 16) & 255] as const;
    const whole = conversation({
      client: {
        address: wide ? `2001:db8::${(i + 16).toString(16)}` : `10.1.${low.join('.')}`,
        port: 10_000 + i,
      },
      server: { address: wide ? '2001:db8::1' : '10.2.0.1', port: 80 },
      vlans: [[], [], [100], [200, 100]][i % 4],
      mss: 1400,
      turns: [
        { from: 'client', data: 300 },
        { from: 'server', data: long ? 2_500_000 : 9000 },
        { from: 'client', data: long && i % 2 === 1 ? 1_000_000 : 10 },
        { from: 'server', data: 3000 },
      ],
      close: closes[i % 5],
      retransmit: (i % 7) * 0.01,
      reorder: (i % 3) * 0.02,
      seed: i,
      // The long ones side by side, for as long as all of it takes: time for a busy machine to shunt them.
      start: 1_700_000_000 + (long ? i * 0.005 : (i - LONG) * 0.003),
      gap: long ? 0.001 : 0.0004,
    });
    // Every fifth was there before the sensor.
    return i % 5 === 2 ? whole.slice(7) : whole;
  });
  return pcapFile(frames.flat().sort((a, b) => a.ts - b.ts));
}

kernelTest('and when a recorded trace is replayed to both taps', [...FEATURES], async () => {
  const directory = mkdtempSync(join(tmpdir(), 'sluice-test-'));
  try {
    const file = join(directory, 'trace.pcap');
    writeFileSync(file, trace());
    const result = await lossless({}, { trace: file });
    expect(result.connections).toBe(LONG + SHORT);
    expect(result.shunted).toBeGreaterThan(50);
    expect(result.apart).toBe(0);
  } finally {
    rmSync(directory, { recursive: true });
  }
});
