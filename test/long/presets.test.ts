import { expect } from 'vitest';
import { runPresets } from '../../bench/preset-runs.ts';
import { ledgerErrors, presetParts } from '../../bench/presets.ts';
import { kernelTest, ownNetns, vethPair } from '../support/kernel.ts';

ownNetns();

const SIZES = { connections: 3, packets: 120, rate: 10_000, atATime: 12, paused: true };

kernelTest(
  'each preset and each carrier of TLS: all of its kind is shunted or kept as told, records are whole, books add up',
  ['xdpFrags', 'xdpNativeVeth', 'syscallProgram', 'packetRing'],
  async () => {
    const shunted = new Set<string>();
    const kept = new Set<string>();
    const { a: near, b: far, remove } = vethPair();
    try {
      for (const part of await presetParts(SIZES.packets)) {
        const run = await runPresets({ near, far }, part, SIZES);
        expect(ledgerErrors(run)).toEqual([]);
        const connections = Math.min(SIZES.connections, part.connections ?? SIZES.connections);
        for (const each of run.kinds) {
          const { name } = each.kind;
          expect(each.differences, name).toEqual([]);
          expect(each.strangers, name).toEqual([]);
          expect(each.connections, name).toBe(connections);
          if (each.kept) {
            expect([each.shunted, each.droppedPackets], name).toEqual([0, 0]);
            kept.add(name);
          } else {
            expect(each.shunted, name).toBe(connections);
            expect(each.delays.length, name).toBe(connections);
            // What came behind the pause is dropped, all but what opens and ends a connection.
            expect(each.droppedPackets, name).toBeGreaterThanOrEqual(connections * (SIZES.packets / 2 - 4));
            shunted.add(name);
          }
        }
        const byVeto = run.kinds.filter((each) => each.kept && each.kind.carrier === undefined).length;
        expect(run.vetoed).toBe(byVeto * connections);
      }
    } finally {
      remove();
    }
    expect([...kept].toSorted()).toEqual([...shunted].toSorted());
    expect(shunted.size).toBe(34);
  },
);
