import { join } from 'node:path';
import { expect } from 'vitest';
import { FileSource } from '../../src/capture/file.ts';
import { createFlowEngine, keyWord, writeGateKey } from '../../src/flow/index.ts';
import type { Side } from '../../src/flow/types.ts';
import type { Verdict } from '../../src/gate/layout.ts';
import { Decoded, Decoder, IpProto } from '../../src/packet/decode.ts';
import { LinkType } from '../../src/packet/link/types.ts';
import { Packet } from '../../src/packet/packet.ts';
import { corpusRoot, readCases } from '../flow/support/corpus.ts';
import { kernelTest, ownNetns } from '../support/kernel.ts';
import { type GateKey, TestGate } from './support.ts';

// Two files at once may hold the loopback interface: each one of its own.
ownNetns();

const root = corpusRoot();
const absent = root === undefined ? ' (absent: set SLUICE_CORPUS to its folder)' : '';
/** SYN, FIN, RST. */
const CLOSING = 0x07;
const ETHERNET_HEADER = 14;

/** Frames that have a flow for the decoder and pass the gate: how many, and as what. */
const EXPLAINED = {
  // Link layers that the gate does not follow: provider backbone bridging, VN-Tag.
  'core.pbb': { passNotIp: 10 },
  'core.vntag': { passNotIp: 3 },
  // No total length: captured on a host with segmentation offload.
  'scripts.base.protocols.ldap.sasl-signed-clear': { passParse: 3 },
};

/** What the gate has to make of a frame that for the decoder is no packet of a flow. */
const WITHOUT_FLOW: Readonly<Record<number, Verdict>> = {
  [Decoded.notIp]: 'passNotIp',
  [Decoded.tags]: 'passParse',
  [Decoded.short]: 'passParse',
  [Decoded.malformed]: 'passParse',
  [Decoded.fragment]: 'passFragment',
  [Decoded.noFlow]: 'passOther',
  [Decoded.carrier]: 'passOther',
};

/** The key as the flow engine makes it of a packet that was just decoded, and the side that has sent it. */
function keyOf(decoder: Decoder, bytes: Uint8Array, vlanKey: boolean): { key: GateKey; side: Side } {
  const out = new Int32Array(12);
  const { family, protocol, source, destination, sourcePort, destinationPort, vlan, innerVlan } = decoder;
  const word = vlanKey ? keyWord(protocol, vlan, innerVlan) : protocol;
  const size = family === 4 ? 4 : 16;
  const side = writeGateKey(out, size, bytes, source, destination, sourcePort, destinationPort, word, 0, 0);
  const key = new Uint8Array(out.buffer, 0, family === 4 ? 16 : 48).slice();
  return { key: { family, bytes: key, tcp: protocol === IpProto.tcp }, side };
}

/**
 * Every Ethernet frame of the corpus goes through the decoder in TypeScript and the one in the kernel. An entry for the
 * key that the first has found must be hit, on the same side, with the same lengths; what has no key must pass for the
 * same reason. Cut frames are taken for whole ones, as they are for a gate.
 */
function compareParsers(vlanKey: boolean): void {
  using gate = new TestGate({ vlanKey });
  const decoder = new Decoder(false);
  const frame = new Packet();
  const differing: Record<string, Record<string, number>> = {};
  let hits = 0;
  let passed = 0;
  let engineKeys = 0;
  let tagged = 0;
  for (const { name, format } of readCases(root as string)) {
    const engine = createFlowEngine(
      { checksums: false, maxFlows: 1 << 12, vlanInKey: vlanKey },
      { beforePacket: () => undefined, mayExpire: () => true, closed: () => undefined },
    );
    const source = FileSource.open(join(root as string, name, `trace.${format}`));
    let number = 0;
    const compare = (packet: Packet): void => {
      number++;
      const slot = engine.process(packet);
      if (packet.linkType !== LinkType.ethernet || packet.caplen < ETHERNET_HEADER) return;
      const bytes = packet.u8.slice(packet.offset, packet.offset + packet.caplen);
      frame.u8 = bytes;
      frame.caplen = frame.wirelen = bytes.length;
      const decoded = decoder.decode(frame);
      const what = `${name}, frame ${number}`;
      if (decoded !== Decoded.ok) {
        expect(gate.run(bytes).verdict, what).toBe(WITHOUT_FLOW[decoded]);
        passed++;
        return;
      }
      const { key, side } = keyOf(decoder, bytes, vlanKey);
      // What is inside of a tunnel is another flow than that of the frame.
      if (slot >= 0 && engine.record(slot).tunnelParents === undefined) {
        expect(engine.key(slot), what).toEqual({ family: key.family, bytes: key.bytes });
        engineKeys++;
        if (decoder.vlan !== 0) tagged++;
      }
      const l4 = decoder.transport;
      const begin = key.tcp ? new DataView(bytes.buffer).getUint32(l4 + 4) : 0;
      gate.shunt(key, key.tcp ? { seq: [begin, begin] } : {});
      const { verdict } = gate.run(bytes);
      const entry = gate.read(key);
      gate.client.remove(key.family, key.bytes);
      if (Object.hasOwn(EXPLAINED, name) && (verdict === 'passNotIp' || verdict === 'passParse')) {
        const counts = (differing[name] ??= {});
        counts[verdict] = (counts[verdict] ?? 0) + 1;
        return;
      }
      const closes = key.tcp && (bytes[l4 + 13] & CLOSING) !== 0;
      expect(verdict, what).toBe(closes ? 'passClose' : 'shunted');
      expect(entry?.ending, what).toBe(closes);
      hits++;
      if (closes) return;
      const { pkts, ipBytes, payloadBytes, seq } = entry?.dirs[side] ?? {};
      expect({ pkts, ipBytes }, what).toEqual({ pkts: 1, ipBytes: decoder.ipBytes });
      expect(entry?.pkts, what).toBe(1);
      const payload = payloadOf(decoder, bytes);
      if (key.tcp) expect(seq, what).toBe((begin + payload) >>> 0);
      else expect(payloadBytes, what).toBe(payload);
    };
    try {
      while (source.drain(compare, 100_000));
    } finally {
      source.close();
    }
  }
  expect(differing).toEqual(EXPLAINED);
  expect({ hits, passed }).toEqual({ hits: 7394, passed: 839 });
  expect(engineKeys).toBeGreaterThan(7000);
  expect(tagged).toBeGreaterThan(0);
}

/** Bytes behind the transport header, by its own fields. */
function payloadOf({ protocol, transport, transportBytes }: Decoder, bytes: Uint8Array): number {
  if (protocol === IpProto.tcp) return transportBytes - (bytes[transport + 12] >> 4) * 4;
  if (protocol === IpProto.udp) return ((bytes[transport + 4] << 8) | bytes[transport + 5]) - 8;
  return transportBytes - (protocol === IpProto.icmp || protocol === IpProto.icmpv6 ? 8 : 0);
}

for (const vlanKey of [false, true]) {
  kernelTest(
    `all traces: the gate finds the keys of the flow engine${vlanKey ? ', VLANs in them' : ''}${absent}`,
    ['xdpFrags', 'syscallProgram'],
    (context) => {
      if (root === undefined) context.skip('the corpus is absent: set SLUICE_CORPUS to its folder');
      compareParsers(vlanKey);
    },
  );
}
