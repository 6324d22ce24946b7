import { expect } from 'vitest';
import { SluiceError } from '../../src/base/errors.ts';
import { eth } from '../../src/packet/build.ts';
import { RuleGate, rule } from '../rules/support.ts';
import { kernelTest } from '../support/kernel.ts';

/**
 * Raw classic BPF for packets to one address: twenty bits of the packet make a number, by which it then looks into the packet.
 * The verifier walks every number that comes of it, and gives up after a million instructions.
 */
function exploding(target: number): string {
  const code = ['32 0 0 30', `21 0 105 ${target}`, '0 0 0 0', '2 0 0 0'];
  for (let bit = 0; bit < 20; bit++)
    code.push(`48 0 0 ${14 + bit}`, '69 0 3 1', '96 0 0 0', `4 0 0 ${2 ** bit}`, '2 0 0 0');
  code.push('97 0 0 0', '80 0 0 0', '6 0 0 65535', '6 0 0 0');
  return [code.length, ...code].join(',');
}

const frame = eth().ipv4({ src: '10.0.0.9', dst: '10.0.0.7' }).udp({ sport: 1, dport: 2 }).bytes();

kernelTest(
  'of a set that the verifier refuses the rule at fault is named, and the set before stays',
  [],
  async () => {
    await using gate = new RuleGate();
    await gate.live.apply([rule('before', 'udp', 'drop')]);
    const set = [
      ...[1, 2, 3].map((i) => rule(`good${i}`, `dst host 10.0.0.${i}`, 'drop')),
      rule('bad', exploding(0x0a000004), 'count', { lang: 'cbpf' }),
      ...[5, 6].map((i) => rule(`good${i}`, `dst host 10.0.0.${i} and greater ${i}`, 'drop')),
    ];
    const error = await gate.live.apply(set).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(SluiceError);
    expect(error).toMatchObject({
      code: 'RULE',
      message: 'the verifier refuses rule bad',
      cause: expect.stringContaining('too large') as string,
    });
    expect(gate.run(frame)).toBe(1);
    expect(gate.live.counts('before')?.dropped.pkts).toBe(1);
  },
);
