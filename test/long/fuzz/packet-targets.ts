import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { FileSource } from '../../../src/capture/file.ts';
import { createFlowEngine } from '../../../src/flow/index.ts';
import { eth, ipv4, ipv6, raw } from '../../../src/packet/build.ts';
import { seeded } from '../../../src/packet/conversation.ts';
import { Decoded, Decoder, LinkType } from '../../../src/packet/decode.ts';
import { describe } from '../../../src/packet/describe.ts';
import { Fragments } from '../../../src/packet/fragments.ts';
import type { Packet } from '../../../src/packet/packet.ts';
import { ayiya, looksLikeAyiya } from '../../../src/packet/tunnel/ayiya.ts';
import { geneve } from '../../../src/packet/tunnel/geneve.ts';
import { gre } from '../../../src/packet/tunnel/gre.ts';
import { gtp } from '../../../src/packet/tunnel/gtp.ts';
import { Inside, TunnelPayload } from '../../../src/packet/tunnel/payload.ts';
import { looksLikeTeredo, teredo } from '../../../src/packet/tunnel/teredo.ts';
import { vxlan } from '../../../src/packet/tunnel/vxlan.ts';
import { corpusRoot, readCases } from '../../flow/support/corpus.ts';
import { packetOf } from '../../flow/support/harness.ts';
import {
  A,
  asked,
  B,
  gre as greFrame,
  gtpBytes,
  outer,
  SNAP,
  vxlan as vxlanFrame,
} from '../../flow/support/tunnel-frames.ts';
import { encapTargets } from './encap-targets.ts';
import { between, check, type Input, type Target } from './input.ts';

const LINK_TYPES: readonly number[] = Object.values(LinkType);
const MAX_FLOWS = 64;
const FRAGMENT_BYTES = 1 << 20;
/** Frames of each trace that are seeds. */
const FRAMES = 24;

const bytesOf = (...parts: (Uint8Array | readonly number[])[]) =>
  Uint8Array.from(parts.flatMap((part) => [...part]));
const one = (port: number, ...frames: Uint8Array[]): Input => ({
  port,
  pieces: frames.map((bytes, i) => ({ from: (i % 2) as 0 | 1, bytes })),
});

const udp4 = ipv4({ src: '10.0.0.1', dst: '10.0.0.2' }).udp().payload(20).bytes();
const udp6 = ipv6({ src: '2001:0:1:2::3' }).udp().payload(20).bytes();
const frame = eth().ipv4().udp().payload(20).bytes();
const wlan = bytesOf([0x88, 2], new Uint8Array(22), [0, 0], SNAP, udp4);

/** A frame of every link type; what one of them holds, mutation takes to the others. */
const LINKS: readonly Input[] = [
  ...LINK_TYPES.map((type) => one(type, frame)),
  one(LinkType.ethernet, eth().vlan(5).qinq(7).mpls(3).ipv4().tcp().bytes()),
  one(LinkType.ethernet, eth().pppoe().ipv6().hopByHop().routing().destination().udp().bytes()),
  one(LinkType.raw, udp4),
  one(LinkType.ipv6, udp6),
  one(LinkType.null, bytesOf([2, 0, 0, 0], udp4)),
  one(LinkType.loop, bytesOf([0, 0, 0, 24], udp6)),
  one(LinkType.sll, bytesOf(new Uint8Array(14), [0x81, 0, 0, 7, 8, 0], udp4)),
  one(LinkType.sll2, bytesOf([0x86, 0xdd], new Uint8Array(18), udp6)),
  one(LinkType.ppp, bytesOf([0xff, 3, 2, 0x81, 0, 1, 0x41, 64], udp4)),
  one(LinkType.pppSerial, bytesOf([0x0f, 0, 0, 0x57], udp6)),
  one(LinkType.pppEther, bytesOf([0x11, 0, 0, 1, 0, 50, 0, 0x21], udp4)),
  one(LinkType.nflog, bytesOf([2, 0, 0, 5], [5, 0, 10, 0, 65, 0, 0, 0], [52, 0, 9, 0], udp4)),
  one(LinkType.fddi, bytesOf([0x50], new Uint8Array(12), SNAP, udp4)),
  one(LinkType.wlan, wlan),
  one(LinkType.radiotap, bytesOf([0, 0, 10, 0], new Uint8Array(6), wlan)),
  one(LinkType.prism, bytesOf(new Uint8Array(144), wlan)),
  one(LinkType.avs, bytesOf([0x80, 0x21, 0x10, 1, 0, 0, 0, 64], new Uint8Array(56), wlan)),
  one(LinkType.snap, bytesOf(SNAP, udp4)),
];

const scapy = (): Input[] => {
  const file = new URL('../../packet/fixtures/scapy.json', import.meta.url);
  const frames = JSON.parse(readFileSync(file, 'utf8')) as Record<string, string>;
  return Object.values(frames).map((text) => one(LinkType.ethernet, Buffer.from(text, 'hex')));
};

/** Whole conversations of the corpus, as far as it is there. */
function traces(): Input[] {
  const root = corpusRoot();
  if (root === undefined) return [];
  return readCases(root).flatMap((entry) => {
    const path = join(root, entry.name, `trace.${entry.format}`);
    if (!existsSync(path)) return [];
    const source = FileSource.open(path);
    const frames: Uint8Array[] = [];
    let linkType = 1;
    source.drain(({ u8, offset, caplen, linkType: type }) => {
      linkType = type;
      frames.push(u8.slice(offset, offset + caplen));
    }, FRAMES);
    source.close();
    return frames.length === 0 ? [] : [one(linkType, ...frames)];
  });
}

function decoded(decoder: Decoder, packet: Packet): string {
  const verdict = decoder.decode(packet);
  // What the fields hold otherwise is of an earlier frame.
  if (verdict !== Decoded.ok && verdict !== Decoded.fragment && verdict !== Decoded.carrier)
    return `${verdict}`;
  const from = packet.offset;
  const to = packet.offset + packet.caplen;
  const { family, protocol, transport, transportBytes, captured } = decoder;
  check(transport >= from && transport <= to, 'transport outside of the frame');
  check(captured >= 0 && transport + captured <= to, 'captured beyond the frame');
  check(captured <= Math.max(0, transportBytes), 'captured more than there is');
  const { sourcePort, destinationPort, vlan, innerVlan } = decoder;
  return [
    verdict,
    family,
    protocol,
    transport - from,
    transportBytes,
    captured,
    sourcePort,
    destinationPort,
    vlan,
    innerVlan,
  ].join(' ');
}

function at(bytes: Uint8Array, filler: number, before: number, linkType: number): Packet {
  const packet = packetOf(bytes, 0, { linkType });
  packet.u8 = between(bytes, filler, before);
  packet.offset = before;
  return packet;
}

const decoderTarget = (seeds: readonly Input[]): Target => {
  const decoders = [new Decoder(true), new Decoder(false)];
  return {
    name: 'decoder',
    seeds,
    ports: LINK_TYPES,
    run({ port, pieces }) {
      for (const { bytes } of pieces) {
        for (const decoder of decoders) {
          const a = decoded(decoder, at(bytes, 0x45, 3, port));
          check(a === decoded(decoder, at(bytes, 0, 8, port)), `what stands beyond the frame matters: ${a}`);
        }
        describe(bytes);
      }
    },
  };
};

const fragmentsTarget = (): Target => {
  const whole = ipv4({ src: '10.0.0.1', dst: '10.0.0.2' }).udp().payload(3000).bytes();
  const pieces = [0, 1, 2].map((i) =>
    eth()
      .ipv4({ id: 7, fragment: { offset: i * 1480, more: i < 2 }, protocol: 17 })
      .payload(whole.subarray(20 + i * 1480, 20 + (i + 1) * 1480))
      .bytes(),
  );
  const six = [0, 1].map((i) =>
    eth()
      .ipv6()
      .fragment({ id: 9, offset: i * 800, more: i === 0, nextHeader: 17 })
      .payload(800)
      .bytes(),
  );
  return {
    name: 'fragments',
    seeds: [one(1, ...pieces), one(1, ...pieces.toReversed()), one(1, ...six)],
    ports: LINK_TYPES,
    run({ port, pieces: frames }) {
      const decoder = new Decoder(false);
      const fragments = new Fragments({ timeout: 300, bytes: FRAGMENT_BYTES });
      frames.forEach(({ bytes }, i) => {
        const packet = at(bytes, 0, 3, port);
        if (decoder.decode(packet) !== Decoded.fragment) return;
        const put = fragments.add(decoder, packet.u8, i * 20);
        check(put === undefined || put.length <= 65_575, 'longer than a datagram may be');
        check(fragments.bytes <= FRAGMENT_BYTES, `${fragments.bytes} bytes are kept`);
        check(fragments.waiting <= frames.length, 'datagrams from nowhere');
      });
    },
  };
};

const TUNNELS = {
  vxlan: [vxlan, raw(new Uint8Array(0)).vxlan({ vni: 7 }).payload(frame).bytes()],
  geneve: [geneve, raw(new Uint8Array(0)).geneve({ vni: 7 }).payload(frame).bytes()],
  gre: [gre, bytesOf([0x30, 0x81, 0x88, 0x0b, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0xff, 3, 0, 0x21], udp4)],
  gtp: [gtp, gtpBytes(udp4)],
  teredo: [teredo, bytesOf([0, 1, 3, 2, 1, 2, 3, 4, 5], new Uint8Array(9), [0, 0, 1, 2, 3, 4, 5, 6], udp6)],
  ayiya: [ayiya, bytesOf([0x44, 0x52, 0x11, 41], new Uint8Array(40), udp6)],
} as const;

const tunnelTarget = (name: keyof typeof TUNNELS): Target => {
  const [parse, header] = TUNNELS[name];
  const shapes = [
    header,
    bytesOf([0x10, 0, 0x88, 0xbe, 0, 0, 0, 1], new Uint8Array(8), frame),
    bytesOf([0x20, 0, 0x22, 0xeb, 0, 0, 0, 1], new Uint8Array(11), [1], new Uint8Array(8), frame),
    bytesOf([0x34, 255, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1, 1, 0, 0, 0x85, 1, 0, 0, 0], udp4),
    udp6,
    bytesOf([0, 0, 1, 2, 3, 4, 5, 6], udp6),
  ];
  return {
    name: `tunnel ${name}`,
    seeds: shapes.map((bytes) => one(0, bytes)),
    ports: [0],
    run({ pieces }) {
      for (const { bytes } of pieces) {
        const results = [0, 0x45].map((filler, i) => {
          const before = 3 + 5 * i;
          const u8 = between(bytes, filler, before);
          const end = before + bytes.length;
          const out = new TunnelPayload();
          const inside = parse(u8, before, end, out);
          if (inside === Inside.packet)
            check(out.at >= before && out.bytes > 0 && out.at + out.bytes <= end, 'inside lies outside');
          return [
            inside,
            out.at - before,
            out.bytes,
            out.linkType,
            out.vni,
            out.confirmed,
            looksLikeTeredo(u8, before, end),
            looksLikeAyiya(u8, before, end),
          ].join();
        });
        if (results[0].startsWith(`${Inside.packet}`))
          check(results[0] === results[1], `what stands beyond matters: ${results.join(' / ')}`);
      }
    },
  };
};

/** The engine with everything in it, which keeps its promises whatever the frames. */
const engineTarget = (seeds: readonly Input[]): Target => {
  const random = seeded(5);
  return {
    name: 'flow engine',
    seeds,
    ports: LINK_TYPES,
    run({ port, pieces }) {
      let records = 0;
      const engine = createFlowEngine(
        {
          checksums: random() < 0.2,
          maxFlows: MAX_FLOWS,
          fragmentBytes: FRAGMENT_BYTES,
          tunnelInKey: random() < 0.5,
          vlanInKey: random() < 0.5,
          seed: 3,
        },
        {
          beforePacket: () => {},
          mayExpire: () => true,
          closed: (slot) => {
            records++;
            const {
              origBytes = 0,
              respBytes = 0,
              missedBytes,
              service = '',
              history = '',
            } = engine.record(slot);
            check(origBytes >= 0 && respBytes >= 0 && missedBytes >= 0, 'negative counts');
            check(service.length < 200 && history.length < 4096, 'a field without end');
          },
          tunnel: () => {},
        },
      );
      pieces.forEach(({ bytes }, i) => {
        const packet = packetOf(bytes, 100 + i * (random() < 0.1 ? 40 : 0.01), {
          linkType: port,
          wirelen: bytes.length + (random() < 0.1 ? 40 : 0),
        });
        // Some as they come out of a mirror.
        packet.tunnel = random() < 0.7 ? 0 : random() < 0.5 ? 1 : 2;
        if (packet.tunnel > 0) packet.vni = Math.floor(random() * 3);
        engine.process(packet);
      });
      engine.finish();
      check(engine.active === 0, `${engine.active} flows are left`);
      check(records === engine.stats.opened, `${records} records of ${engine.stats.opened} flows`);
    },
  };
};

/** Link layers, IP, fragments, tunnels, and the engine over all of them. */
export function packetTargets(): Target[] {
  const frames = [
    ...LINKS,
    ...scapy(),
    one(
      LinkType.ethernet,
      vxlanFrame(A, B, asked().bytes()).bytes(),
      greFrame(A, B, asked().bytes()).bytes(),
    ),
    one(LinkType.ethernet, outer(A, B, 2152).payload(gtpBytes(asked().bytes())).bytes()),
  ];
  const all = [...frames, ...traces()];
  return [
    decoderTarget(all),
    fragmentsTarget(),
    ...(Object.keys(TUNNELS) as (keyof typeof TUNNELS)[]).map(tunnelTarget),
    ...encapTargets(frame),
    engineTarget(all),
  ];
}
