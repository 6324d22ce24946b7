import { describe, expect, test } from 'vitest';
import { conversation, seeded } from '../../src/packet/conversation.ts';
import { describe as layers } from '../../src/packet/describe.ts';

const flags = (options: Parameters<typeof conversation>[0]) =>
  conversation(options).map((frame) => /flags (\w+)/.exec(layers(frame.bytes))?.[1]);

function disturbed(seed: number): ReturnType<typeof conversation> {
  return conversation({ turns: [{ from: 'client', data: 50_000 }], retransmit: 0.1, reorder: 0.2, seed });
}

describe('conversation', () => {
  test('handshake, data in segments, acknowledgements, close by FIN', () => {
    const options = {
      turns: [
        { from: 'client', data: 100 },
        { from: 'server', data: 3000 },
      ],
      mss: 1000,
    } as const;
    expect(flags({ ...options, turns: [...options.turns] })).toEqual([
      'S',
      'SA',
      'A',
      'PA',
      'A',
      'A',
      'A',
      'A',
      'PA',
      'A',
      'FA',
      'FA',
      'A',
    ]);
  });

  test.each([
    ['client-rst', ['S', 'SA', 'A', 'RA']],
    ['none', ['S', 'SA', 'A']],
    ['server-fin', ['S', 'SA', 'A', 'FA', 'FA', 'A']],
  ] as const)('close %s', (close, expected) => {
    expect(flags({ close })).toEqual(expected);
  });

  test('sequence numbers wrap, IPv6 and tags work, checksums are right', () => {
    const frames = conversation({
      client: { address: 'fd00::1', port: 5 },
      server: { address: 'fd00::2', port: 6 },
      vlans: [10, 20],
      serverSeq: 0xfffffff0,
      turns: [{ from: 'server', data: 100 }],
    });
    const text = frames.map((frame) => layers(frame.bytes)).join('\n');
    expect(text).not.toContain('BAD');
    expect(text).toContain('vlan 20');
    expect(text).toContain('ack 85 flags');
    expect(frames.every((frame, i) => i === 0 || frame.ts > frames[i - 1].ts)).toBe(true);
  });

  test('the same seed gives the same repeats and exchanges, another one others', () => {
    expect(disturbed(3)).toEqual(disturbed(3));
    expect(disturbed(3)).not.toEqual(disturbed(4));
    const clean = conversation({ turns: [{ from: 'client', data: 50_000 }] });
    expect(disturbed(3).length).toBeGreaterThan(clean.length);
  });

  test('the generator is in [0, 1) and spread', () => {
    const random = seeded(42);
    const values = Array.from({ length: 1000 }, random);
    expect(Math.min(...values)).toBeGreaterThanOrEqual(0);
    expect(Math.max(...values)).toBeLessThan(1);
    expect(values.reduce((sum, value) => sum + value, 0) / 1000).toBeCloseTo(0.5, 1);
  });
});
