import { MirroredSource } from '../../../src/capture/mirrored.ts';
import type { StoredSource } from '../../../src/capture/source.ts';
import { Decapsulator, GwlbMetadata, parseEncap } from '../../../src/packet/encap/index.ts';
import type { BatchSink, Packet } from '../../../src/packet/packet.ts';
import { packetOf } from '../../flow/support/harness.ts';
import { SHAPES } from '../../support/mirror-frames.ts';
import { between, check, type Input, type Target } from './input.ts';

const NAMES = [
  'vxlan',
  'geneve',
  'geneve+vxlan',
  'raw,port=9',
  'skip=12,port=9,dlt=ppp',
  'geneve,skip=4,dlt=raw',
];

/** Where the UDP payload begins: Ethernet, IPv4 or IPv6, UDP. */
const payloadOf = (datagram: Uint8Array) => datagram.slice(datagram[12] === 8 ? 42 : 62);

function decapsulatorTarget(name: string, frame: Uint8Array): Target {
  const { encapsulation } = parseEncap(name);
  const seeds: Input[] = Object.values(SHAPES).map((shape) => ({
    port: 0,
    pieces: [{ from: 0, bytes: payloadOf(shape.wrap(frame).bytes()) }],
  }));
  return {
    name: `mirror ${name}`,
    seeds,
    ports: [0],
    run({ pieces }) {
      const metadata = new GwlbMetadata();
      const decapsulator = new Decapsulator(encapsulation);
      pieces.forEach(({ bytes }, n) => {
        const results = [0, 0x45].map((filler, i) => {
          const before = 3 + 5 * i;
          const packet = packetOf(new Uint8Array(0));
          const caplen = n % 2 === 0 ? bytes.length : bytes.length >> 1;
          packet.u8 = between(bytes.subarray(0, caplen), filler, before);
          Object.assign(packet, { offset: before, caplen, wirelen: bytes.length });
          if (!decapsulator.open(packet)) return '';
          check(packet.offset >= before && packet.caplen > 0, 'the frame begins outside');
          check(packet.offset + packet.caplen <= before + caplen, 'the frame ends outside');
          check(packet.wirelen >= packet.caplen, 'more was captured than sent');
          check(packet.offset + packet.wirelen <= before + bytes.length, 'more was sent than there is');
          check(packet.optionsAt + packet.optionsBytes <= packet.offset, 'options within the frame');
          const told = metadata.read(packet)
            ? `${metadata.endpointHigh} ${metadata.attachmentLow} ${metadata.flowCookie}`
            : '';
          return [
            packet.offset - before,
            packet.caplen,
            packet.linkType,
            packet.vni,
            packet.outerVni,
            told,
          ].join();
        });
        check(results[0] === results[1], `what stands beyond matters: ${results.join(' / ')}`);
      });
      const { counts } = decapsulator;
      check(counts.reduce((a, b) => a + b) === 2 * pieces.length, 'a datagram was not counted once');
    },
  };
}

/** Some packets as a source. */
function sourceOf(packets: readonly Packet[]): StoredSource {
  return {
    name: 'fuzz',
    packets: packets.length,
    problem: undefined,
    readBytes: 0,
    starved: false,
    drain: () => false,
    drainBatches: (sink: BatchSink) => {
      sink(packets, packets.length);
      return false;
    },
    wait: () => Promise.resolve(),
    close: () => {},
  };
}

function mirroredTarget(frame: Uint8Array): Target {
  const shapes = Object.values(SHAPES);
  return {
    name: 'recorded mirror',
    seeds: shapes.map((shape, port) => ({
      port,
      pieces: [0, 1].map(() => ({ from: 0 as const, bytes: shape.wrap(frame).bytes() })),
    })),
    ports: shapes.map((_, port) => port),
    run({ port, pieces }) {
      const packets = pieces.map(({ bytes }, i) => packetOf(bytes, 100 + i));
      const source = new MirroredSource(
        sourceOf(packets),
        parseEncap(shapes[port % shapes.length].encap),
        false,
      );
      let frames = 0;
      source.drainBatches((batch, count) => {
        frames += count;
        for (let i = 0; i < count; i++) {
          const { u8, offset, caplen } = batch[i];
          check(caplen > 0 && offset + caplen <= u8.length, 'a frame outside of its memory');
        }
      }, 1000);
      const { left, frames: counted } = source.counts();
      const rest = Object.values(left).reduce((a, b) => a + b, 0);
      check(counted === frames && counted + rest === pieces.length, 'a packet was not counted once');
    },
  };
}

/** What takes frames out of mirrors. */
export function encapTargets(frame: Uint8Array): Target[] {
  return [...NAMES.map((name) => decapsulatorTarget(name, frame)), mirroredTarget(frame)];
}
