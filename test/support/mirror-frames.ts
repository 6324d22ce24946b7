import { eth, ipv4, ipv6, type PacketBuilder } from '../../src/packet/build.ts';

/** Frames of mirrors, as each of the clouds and Linux send them. */

export const MIRROR = { src: '192.0.2.10', dst: '192.0.2.20' };
export const MIRROR6 = { src: '2001:db8::10', dst: '2001:db8::20' };
export const VNI = 0x0a1b2c;
export const GENEVE_VNI = 0x00000d;

/** Options of AWS Gateway Load Balancer: endpoint, attachment, flow cookie. */
export function gwlbOptions(cookie = 0xdeadbeef) {
  const flow = new Uint8Array(4);
  new DataView(flow.buffer).setUint32(0, cookie);
  return [
    { class: 0x0108, type: 1, data: Uint8Array.of(0x0a, 0x1b, 0x2c, 0x3d, 0x4e, 0x5f, 0x60, 0x71) },
    { class: 0x0108, type: 2, data: Uint8Array.of(0, 0, 0, 0, 0, 0, 0x12, 0x34) },
    { class: 0x0108, type: 3, data: flow },
  ];
}

/** The same as conn.log has it. */
export const GWLB = {
  endpoint: 'vpce-00a1b2c3d4e5f6071',
  attachment: '0000000000001234',
  cookie: 0xdeadbeef,
};

const over4 = (dport: number) => eth().ipv4(MIRROR).udp({ sport: 50_123, dport });
const over6 = (dport: number) => eth().ipv6(MIRROR6).udp({ sport: 50_123, dport });
const etherType = (frame: Uint8Array) => (frame[12] << 8) | frame[13];

export interface MirrorShape {
  /** For --encap. */
  encap: string;
  /** What the connections inside have in the log. */
  vnis: { vxlanVni?: number; geneveVni?: number };
  /** It has options of AWS Gateway Load Balancer. */
  gwlb?: boolean;
  /** Much the same as another one. */
  variant?: boolean;
  /** The mirror carries IP alone: Ethernet headers get lost. */
  ipOnly?: boolean;
  wrap: (frame: Uint8Array) => PacketBuilder;
}

/** Every encapsulation around Ethernet frames. */
export const SHAPES: Readonly<Record<string, MirrorShape>> = {
  'VXLAN (AWS Traffic Mirroring, Azure vTAP)': {
    encap: 'vxlan',
    vnis: { vxlanVni: VNI },
    wrap: (frame) =>
      eth().ipv4(MIRROR).udp({ sport: 50_123, dport: 4789, checksum: 0 }).vxlan({ vni: VNI }).payload(frame),
  },
  'VXLAN over IPv6, on the port of older Linux': {
    encap: 'vxlan,port=8472',
    variant: true,
    vnis: { vxlanVni: VNI },
    wrap: (frame) => over6(8472).vxlan({ vni: VNI }).payload(frame),
  },
  'GENEVE around Ethernet': {
    encap: 'geneve',
    vnis: { geneveVni: VNI },
    wrap: (frame) => over6(6081).geneve({ vni: VNI, protocol: 0x6558 }).payload(frame),
  },
  'GENEVE around IP (AWS Gateway Load Balancer)': {
    encap: 'geneve',
    vnis: { geneveVni: 0 },
    gwlb: true,
    ipOnly: true,
    wrap: (frame) =>
      over4(6081)
        .geneve({ vni: 0, protocol: etherType(frame), options: gwlbOptions() })
        .payload(frame.subarray(14)),
  },
  'GENEVE around IP (Google Cloud Network Security Integration)': {
    encap: 'geneve',
    vnis: { geneveVni: 0 },
    ipOnly: true,
    wrap: (frame) =>
      over4(6081)
        .geneve({
          vni: 0,
          protocol: etherType(frame),
          options: [
            { class: 0x0132, type: 1, data: Uint8Array.of(0x12, 0x34, 0x56, 0x71) },
            { class: 0x0132, type: 2, data: new Uint8Array(8).fill(0x5a) },
            { class: 0x0132, type: 3, data: new Uint8Array(8).fill(0x01) },
          ],
        })
        .payload(frame.subarray(14)),
  },
  'GENEVE+VXLAN over IPv4 (AWS Traffic Mirroring through a Gateway Load Balancer)': {
    encap: 'geneve+vxlan',
    vnis: { vxlanVni: VNI, geneveVni: 0 },
    gwlb: true,
    wrap: (frame) =>
      over4(6081)
        .geneve({ vni: 0, protocol: 0x0800, options: gwlbOptions() })
        .payload(
          ipv4({ src: '172.31.0.9', dst: '172.31.0.10' })
            .udp({ sport: 65_000, dport: 4789, checksum: 0 })
            .vxlan({ vni: VNI })
            .payload(frame)
            .bytes(),
        ),
  },
  'GENEVE+VXLAN over IPv6': {
    encap: 'geneve+vxlan',
    vnis: { vxlanVni: VNI, geneveVni: GENEVE_VNI },
    variant: true,
    wrap: (frame) =>
      over4(6081)
        .geneve({ vni: GENEVE_VNI, protocol: 0x86dd })
        .payload(
          ipv6(MIRROR6).udp({ sport: 65_000, dport: 4789 }).vxlan({ vni: VNI }).payload(frame).bytes(),
        ),
  },
  raw: { encap: 'raw,port=9999', vnis: {}, variant: true, wrap: (frame) => over4(9999).payload(frame) },
  'behind a header of 12 bytes': {
    encap: 'skip=12,port=9999',
    vnis: {},
    variant: true,
    wrap: (frame) => over4(9999).payload(new Uint8Array(12)).payload(frame),
  },
};

/** Most bytes of a frame that every encapsulation has room for. */
export const MOST_INSIDE = 65_535 - 200;

/** A frame of which `wirelen` bytes were sent and those in `frame` captured, in a datagram that was captured likewise. */
export function wrapCut(
  shape: MirrorShape,
  frame: Uint8Array,
  wirelen: number,
): { bytes: Uint8Array; wirelen: number } {
  if (wirelen === frame.length) {
    const bytes = shape.wrap(frame).bytes();
    return { bytes, wirelen: bytes.length };
  }
  const sent = new Uint8Array(wirelen);
  sent.set(frame);
  const bytes = shape.wrap(sent).bytes();
  return { bytes: bytes.subarray(0, bytes.length - (wirelen - frame.length)), wirelen: bytes.length };
}
