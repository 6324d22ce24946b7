import { join } from 'node:path';
import { expect } from 'vitest';
import { TUNNEL_KINDS } from '../../src/base/tunnels.ts';
import { FileSource } from '../../src/capture/file.ts';
import { createFlowEngine } from '../../src/flow/index.ts';
import { CARRIER, TIED } from '../../src/gate/layout.ts';
import { LinkType } from '../../src/packet/link/types.ts';
import type { Packet } from '../../src/packet/packet.ts';
import { corpusRoot, readCases } from '../flow/support/corpus.ts';
import { kernelTest, ownNetns } from '../support/kernel.ts';
import { type GateKey, TestGate } from './support.ts';

// Two files at once may hold the loopback interface: each one of its own.
ownNetns();

const root = corpusRoot();
const absent = root === undefined ? ' (absent: set SLUICE_CORPUS to its folder)' : '';
const ETHERNET_HEADER = 14;

/** Frames in tunnels that the gate does not look into: how many pass, and as what. */
const PASSED = {
  'core.tunnels.ayiya': { passCarrier: 32 },
  'core.tunnels.gre-over-udp': { passNoEntry: 14 },
  'core.tunnels.gre-pptp': { passTunnel: 2 },
  'core.tunnels.gtp.different_dl_and_ul': { passCarrier: 36, passFragment: 42 },
  'core.tunnels.gtp.inner_ipv6': { passCarrier: 2 },
  'core.tunnels.gtp.outer_ip_frag': { passCarrier: 32, passFragment: 36 },
  'core.tunnels.teredo': { passCarrier: 26 },
  'core.tunnels.teredo_bubble_with_payload': { passCarrier: 26 },
};

/**
 * Every Ethernet frame of the corpus in which the flow engine finds a packet inside of tunnels that the gate knows: shunted
 * with its tunnels it has to be hit, on the same key and in the same tunnels.
 */
function compare(tunnelInKey: boolean): {
  hits: number;
  closes: number;
  passed: Record<string, Record<string, number>>;
} {
  const ports = { vxlan: [4789], geneve: [6081] };
  using gate = new TestGate({ tunnels: { kinds: TUNNEL_KINDS, inKey: tunnelInKey, ports } });
  const passed: Record<string, Record<string, number>> = {};
  let hits = 0;
  let closes = 0;
  for (const { name, format } of readCases(root as string)) {
    const engine = createFlowEngine(
      { checksums: false, maxFlows: 1 << 12, tunnelInKey, tunnelPorts: ports, shuntInside: TUNNEL_KINDS },
      { beforePacket: () => undefined, mayExpire: () => true, closed: () => undefined },
    );
    const keyOf = (slot: number): GateKey => ({ ...engine.key(slot), tcp: engine.proto(slot) === 6 });
    const source = FileSource.open(join(root as string, name, `trace.${format}`));
    const look = (packet: Packet): void => {
      const slot = engine.process(packet);
      if (slot < 0 || !engine.isTunnelled(slot)) return;
      if (packet.linkType !== LinkType.ethernet || packet.caplen < ETHERNET_HEADER) return;
      if (packet.caplen < packet.wirelen) return;
      const { tie, carriers } = engine.tunnelsAround(slot);
      if (carriers.includes(-1)) return;
      const keys = [keyOf(slot), ...carriers.map(keyOf)];
      keys.forEach((key, i) => gate.shunt(key, { tunnels: { flags: i === 0 ? TIED : CARRIER, tie } }));
      const bytes = packet.u8.slice(packet.offset, packet.offset + packet.caplen);
      const { verdict } = gate.run(bytes);
      if (verdict === 'shunted') hits++;
      else if (verdict === 'passClose') closes++;
      else {
        const counts = (passed[name] ??= {});
        counts[verdict] = (counts[verdict] ?? 0) + 1;
      }
      for (const key of keys) gate.client.remove(key.family, key.bytes);
    };
    try {
      while (source.drain(look, 100_000));
    } finally {
      source.close();
    }
  }
  return { hits, closes, passed };
}

for (const tunnelInKey of [false, true])
  kernelTest(
    `all traces: the gate finds the flow engine's keys in tunnels${tunnelInKey ? ', ids in them' : ''}${absent}`,
    ['xdpFrags', 'syscallProgram'],
    (context) => {
      if (root === undefined) context.skip('the corpus is absent: set SLUICE_CORPUS to its folder');
      const { hits, closes, passed } = compare(tunnelInKey);
      expect(passed).toEqual(PASSED);
      expect({ hits, closes }).toEqual({ hits: 664, closes: 2 });
    },
  );
