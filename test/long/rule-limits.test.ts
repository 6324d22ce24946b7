import { expect } from 'vitest';
import { eth } from '../../src/packet/build.ts';
import { RuleGate, rule } from '../rules/support.ts';
import { kernelTest } from '../support/kernel.ts';

const XDP_PASS = 2;
/** Buckets of single addresses that there is room for (docs/rules.md). */
const ROOM = 65_536;
const RATE = 50;

const frameOf = (src: string): Uint8Array =>
  eth().ipv4({ src, dst: '192.0.2.1' }).udp({ sport: 1000, dport: 53 }).payload(20).bytes();

/** Where the frame has the source, four bytes. */
const SOURCE_AT = 26;

kernelTest(
  'a limit per source holds under random sources that overflow its table',
  ['xdpFrags', 'syscallProgram'],
  async () => {
    await using gate = new RuleGate();
    await gate.live.apply([rule('limit', 'udp', `limit=${RATE}pps,burst=1s,per=source`)]);
    const heavy = frameOf('198.51.100.1');
    const other = frameOf('10.0.0.0');
    const view = new DataView(other.buffer, other.byteOffset);
    const began = performance.now();
    let passed = 0;
    let fresh = 0;
    const sources = 4 * ROOM;
    for (let i = 0; i < sources; i++) {
      // All different, in no order that a hash would like.
      view.setUint32(SOURCE_AT, (0x0a000000 + ((i * 2_654_435_761) % 2 ** 24)) >>> 0);
      if (gate.run(other) === XDP_PASS) fresh++;
      if (i % 4 !== 0) continue;
      if (gate.run(heavy) === XDP_PASS) passed++;
    }
    const seconds = (performance.now() - began) / 1000;
    // A source that is not there any more begins full again: one that goes on sending stays there.
    expect(passed).toBeGreaterThan(0);
    expect(passed).toBeLessThan(RATE * (seconds + 1) + 2);
    // Who sends one packet is let through: nobody's bucket is used up by others.
    expect(fresh).toBe(sources);
  },
);
