import { expect } from 'vitest';
import {
  back,
  type Ends,
  numbered,
  numberOf,
  packetOf,
  randomEnds,
  randomOf,
  WRAPPERS,
} from '../../bench/fanout-frames.ts';
import { sendAll } from '../../bench/fanout-rings.ts';
import { AfPacketSource } from '../../src/capture/afpacket.ts';
import { SnapFilter, SnapTable } from '../../src/capture/snap.ts';
import { writeGateKey } from '../../src/flow/index.ts';
import { openPacketRing } from '../../src/kernel/index.ts';
import { kernelTest, ownNetns, until, vethPair } from '../support/kernel.ts';
import { flowOf } from './fanout-oracle.ts';

ownNetns();

const FLOWS = 60;
const PAYLOAD = 300;

const marked = (i: number): boolean => i % 3 !== 0;

/** As the flow engine has it. */
function keyOf(ends: Ends, vlans: readonly number[]): Uint8Array {
  const { src, dst, sport, dport, protocol } = flowOf(ends, vlans);
  const out = new Int32Array(12);
  const word = protocol | ((vlans[0] ?? 0) << 8) | ((vlans[1] ?? 0) << 20);
  const u8 = Uint8Array.of(...src, ...dst);
  writeGateKey(out, src.length as 4 | 16, u8, 0, src.length, sport, dport, word, 0, 0);
  return new Uint8Array(out.buffer, 0, ends.family === 4 ? 16 : 48);
}

kernelTest(
  'of a flow that is marked the headers are kept, of all others everything',
  ['packetRing'],
  async () => {
    for (const vlanKey of [false, true]) {
      const { a, b, remove } = vethPair();
      const ring = openPacketRing({ interface: b, blockSize: 1 << 16, blocks: 16, retireMs: 1 });
      const source = new AfPacketSource(ring, b);
      using filter = new SnapFilter(vlanKey);
      try {
        ring.filterBy(filter.object.program('sluice_snap'));
        const table = new SnapTable(filter.object.map('slots'), filter.seed);
        const random = randomOf(31);
        const flows = Array.from({ length: FLOWS }, (_, i) => {
          const ends = randomEnds(random);
          const { wrap, vlans } = WRAPPERS[i % WRAPPERS.length];
          return { ends, before: wrap(numbered(i)), key: keyOf(ends, vlanKey ? vlans : []) };
        });
        /** How much of the payload of each flow was kept, both directions: as many bytes, or -1 when they differ. */
        const kept = async (): Promise<number[]> => {
          const bytes = Array.from({ length: FLOWS }, () => new Set<number>());
          const frames = flows.flatMap(({ ends, before }) =>
            [ends, back(ends)].map((way) => packetOf(before, way, PAYLOAD).bytes()),
          );
          const from = source.packets;
          sendAll(a, frames);
          await until(() => {
            source.drain(({ u8, offset, caplen, wirelen }) => {
              bytes[numberOf(u8, offset)].add(PAYLOAD - (wirelen - caplen));
            }, 1e6);
            return source.packets - from === frames.length;
          }, 'frames are missing');
          return bytes.map((each) => (each.size === 1 ? [...each][0] : -1));
        };
        expect(new Set(await kept())).toEqual(new Set([PAYLOAD]));
        for (const [i, { ends, key }] of flows.entries()) if (marked(i)) table.mark(ends.family, key);
        expect(await kept()).toEqual(flows.map((_, i) => (marked(i) ? 0 : PAYLOAD)));
        // A SYN comes whole, and so does what follows.
        const { ends, before } =
          flows.find((each, i) => marked(i) && each.ends.protocol === 'tcp') ?? flows[0];
        const again = flows.findIndex((each) => each.ends === ends);
        const ip = ends.family === 4 ? before.ipv4.bind(before) : before.ipv6.bind(before);
        const syn = ip({ src: ends.client[0], dst: ends.server[0] })
          .tcp({ sport: ends.client[1], dport: ends.server[1], flags: 'S' })
          .payload(50)
          .bytes();
        sendAll(a, [syn]);
        let whole = 0;
        await until(() => {
          source.drain(({ caplen, wirelen }) => (whole = wirelen - caplen), 1e6);
          return source.packets === 4 * FLOWS + 1;
        }, 'the SYN is missing');
        expect(whole).toBe(0);
        expect(await kept()).toEqual(flows.map((_, i) => (marked(i) && i !== again ? 0 : PAYLOAD)));
        for (const each of flows) table.unmark(each.ends.family, each.key);
        expect(new Set(await kept())).toEqual(new Set([PAYLOAD]));
      } finally {
        source.close();
        remove();
      }
    }
  },
);
