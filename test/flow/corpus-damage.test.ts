import { join } from 'node:path';
import { expect, test } from 'vitest';
import { FileSource } from '../../src/capture/file.ts';
import { createFlowEngine } from '../../src/flow/index.ts';
import { seeded } from '../../src/packet/conversation.ts';
import { LinkType } from '../../src/packet/decode.ts';
import { corpusRoot, readCases } from './support/corpus.ts';
import { packetOf } from './support/harness.ts';
import { truncated } from './support/truncation.ts';

const root = corpusRoot();
const LINK_TYPES = Object.values(LinkType);

/** Changes some bytes of a copy, mostly near its begin, where the headers are. */
function damage(bytes: Uint8Array, random: () => number): Uint8Array {
  const out = bytes.slice();
  for (let changes = random() * 4; changes > 1; changes--) {
    const at = Math.floor(random() ** 3 * out.length);
    if (random() < 0.5) out[at] = out[at] ^ (1 << Math.floor(random() * 8));
    else out[at] = Math.floor(random() * 256);
  }
  return random() < 0.3 ? out.subarray(0, Math.floor(random() * (out.length + 1))) : out;
}

test.skipIf(root === undefined)(
  'the corpus, damaged: nothing throws, every connection is a line, nothing is left',
  () => {
    const random = seeded(Number(process.env['SLUICE_SEED'] ?? 1));
    for (const entry of readCases(root as string)) {
      let records = 0;
      const engine = createFlowEngine(
        { checksums: random() < 0.3, maxFlows: 64, tunnelInKey: random() < 0.5 },
        {
          beforePacket: () => undefined,
          mayExpire: () => true,
          closed: (slot) => {
            records++;
            const { origBytes = 0, respBytes = 0, origPkts, respPkts } = engine.record(slot);
            if (!(origBytes >= 0 && respBytes >= 0 && origPkts >= 0 && respPkts >= 0))
              throw new Error(`negative counts: ${entry.name}`);
          },
        },
      );
      const source = FileSource.open(join(root as string, entry.name, `trace.${entry.format}`));
      while (
        source.drain((packet) => {
          const { u8, offset, caplen, wirelen, ts } = packet;
          const linkType =
            random() < 0.05 ? LINK_TYPES[Math.floor(random() * LINK_TYPES.length)] : packet.linkType;
          const bytes = damage(u8.subarray(offset, offset + caplen), random);
          engine.process(packetOf(bytes, ts, { wirelen: Math.max(wirelen, bytes.length), linkType }));
        }, 10_000)
      );
      source.close();
      engine.finish();
      expect(engine.active, entry.name).toBe(0);
      expect(records, entry.name).toBe(engine.stats.opened);
    }
  },
);

test.skipIf(root === undefined)(
  'the corpus, cut behind packets and within them; behind each in test/long',
  () => {
    let cuts = 0;
    for (const entry of readCases(root as string)) cuts += truncated(root as string, entry, 29);
    expect(cuts).toBeGreaterThan(350);
  },
);
