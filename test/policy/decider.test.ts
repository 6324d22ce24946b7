import { describe, expect, test } from 'vitest';
import { createFlowEngine } from '../../src/flow/index.ts';
import { conversation } from '../../src/packet/conversation.ts';
import { Packet } from '../../src/packet/packet.ts';
import { type PolicyPlan, planOf } from '../../src/policy/index.ts';
import { PrefixTableBuilder, parsePrefix } from '../../src/policy/prefix-set.ts';
import { policySchema } from '../../src/policy/spec.ts';
import { Decider } from '../../src/sensor/decider.ts';

function planWith(net: string, when: string): PolicyPlan {
  const builder = new PrefixTableBuilder();
  const { bytes, bits } = parsePrefix(net) ?? { bytes: new Uint8Array(4), bits: 0 };
  builder.add(bytes, bits);
  return {
    ...planOf([policySchema.parse({ name: 'p', when })]),
    prefixes: [['nets', builder.build()]],
  };
}

const FLOWS = 1024;

/** One flow after the other, all in the same slot. */
function deciding(plan: PolicyPlan) {
  const packet = new Packet();
  const slots = new Set<number>();
  const engine = createFlowEngine(
    { maxFlows: FLOWS, checksums: false },
    { beforePacket: () => {}, mayExpire: () => true, closed: (slot) => decider.closed(slot) },
  );
  const decider = new Decider(engine, FLOWS, plan, { noted: () => {}, spared: () => {} });
  return {
    decider,
    /** What was decided after each packet of a connection to that address that stays open. */
    connection(server: string): number[] {
      const turns = [1, 2, 3, 4].map(() => ({ from: 'client' as const, data: 400 }));
      const frames = conversation({ server: { address: server, port: 443 }, turns, close: 'none' });
      return frames.map(({ bytes, ts }) => {
        packet.u8 = bytes;
        packet.caplen = bytes.length;
        packet.wirelen = bytes.length;
        packet.ts = ts;
        const slot = engine.process(packet);
        expect(slots.add(slot).size).toBe(1);
        return decider.look(slot, ts);
      });
    },
    /** The same packet, once more. */
    again: () => decider.look(engine.process(packet), packet.ts),
    end: () => engine.finish(),
  };
}

describe('what sets said of a flow', () => {
  const WHEN = 'resp.addr in @nets and bytes >= 1kB';

  test('is kept as long as it lasts, and not for the next one in its place', () => {
    const flow = deciding(planWith('192.0.2.0/24', WHEN));
    expect(flow.connection('203.0.113.1')).not.toContain(0);
    flow.end();
    expect(flow.connection('192.0.2.1')).toContain(0);
    flow.end();
    expect(flow.connection('203.0.113.1')).not.toContain(0);
  });

  test('is forgotten when sets are loaded anew', () => {
    const flow = deciding(planWith('192.0.2.0/24', WHEN));
    expect(flow.connection('203.0.113.1')).not.toContain(0);
    flow.decider.replace(planWith('203.0.113.0/24', WHEN));
    expect(flow.again()).toBe(0);
  });
});
