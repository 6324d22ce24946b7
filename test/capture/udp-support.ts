import { PacketSender, UdpReceiver } from '../../src/kernel/index.ts';
import { eth, PacketBuilder } from '../../src/packet/build.ts';
import type { Encapsulation } from '../../src/packet/encap/index.ts';
import { ip, privileged, until } from '../support/kernel.ts';

/** Numbers that are the same in every run. */
export function randomNumbers(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    // mulberry32
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}

/** One end of an inner flow. */
export interface End {
  v4: string;
  v6: string;
  port: number;
}

/** What an inner packet of a flow looks like; `turn` numbers the packets of the flow. */
export type Inner = (from: End, to: End, turn: number) => PacketBuilder;

export interface Kind {
  name: string;
  encapsulation: Encapsulation;
  /** Of the packet inside, with what the mirror puts around it: a datagram's payload. */
  payload: (from: End, to: End, turn: number) => PacketBuilder;
}

const vxlan: Encapsulation = { kind: 'vxlan', skip: 0, linkType: 1 };
const geneve: Encapsulation = { kind: 'geneve', skip: 0, linkType: -1 };
const both: Encapsulation = { kind: 'geneve+vxlan', skip: 0, linkType: 1 };

const option = (bytes: number) => ({ class: 0x0108, type: 1, data: new Uint8Array(bytes) });
const options = (turn: number) => ({ options: Array.from({ length: turn % 4 }, (_, n) => option(4 * n)) });

function tcp4(packet: PacketBuilder): Inner {
  return (from, to) =>
    packet.ipv4({ src: from.v4, dst: to.v4 }).tcp({ sport: from.port, dport: to.port, flags: 'A' });
}

function udp6(packet: PacketBuilder): Inner {
  return (from, to) => packet.ipv6({ src: from.v6, dst: to.v6 }).udp({ sport: from.port, dport: to.port });
}

/** `layers` around the packets of `inner`, which begin with their own link-layer header. */
function around(layers: (turn: number) => PacketBuilder, inner: Inner): Kind['payload'] {
  return (from, to, turn) => layers(turn).payload(inner(from, to, turn).bytes());
}

const between4 = new PacketBuilder().ipv4({ src: '192.0.2.1', dst: '192.0.2.2' });
const between6 = new PacketBuilder().ipv6({ src: '2001:db8::1', dst: '2001:db8::2' });
const onVxlan = () => new PacketBuilder().vxlan({ vni: 7 });
const IPV4 = 0x0800;
const IPV6 = 0x86dd;
const ETHERNET = 0x6558;

/** Every encapsulation, and what may stand before the addresses of the flow inside. */
export const KINDS: Kind[] = [
  { name: 'VXLAN', encapsulation: vxlan, payload: around(onVxlan, tcp4(eth())) },
  { name: 'VXLAN, IPv6', encapsulation: vxlan, payload: around(onVxlan, udp6(eth())) },
  {
    name: 'VXLAN, tags that differ by direction',
    encapsulation: vxlan,
    payload: around(onVxlan, (from, to, turn) =>
      (turn % 2 === 0 ? tcp4(eth().vlan(5)) : tcp4(eth().qinq(6).vlan(7).vlan(8)))(from, to, turn),
    ),
  },
  {
    name: 'VXLAN, IPv4 options',
    encapsulation: vxlan,
    payload: around(onVxlan, (from, to, turn) =>
      eth()
        .ipv4({ src: from.v4, dst: to.v4, options: new Uint8Array(4 * (turn % 11)).fill(1) })
        .udp({ sport: from.port, dport: to.port }),
    ),
  },
  {
    name: 'VXLAN, IPv6 extension headers',
    encapsulation: vxlan,
    payload: around(onVxlan, (from, to, turn) => {
      let packet = eth().ipv6({ src: from.v6, dst: to.v6 });
      if (turn % 2 === 1) packet = packet.hopByHop(new Uint8Array(turn % 3 === 0 ? 14 : 3));
      if (turn % 3 === 1) packet = packet.destination();
      if (turn % 5 < 2) packet = packet.fragment({ offset: 0, more: false });
      if (turn % 7 < 3) packet = packet.ah();
      return packet.tcp({ sport: from.port, dport: to.port, flags: 'A' });
    }),
  },
  {
    name: 'VXLAN, MPLS and PPPoE',
    encapsulation: vxlan,
    payload: around(onVxlan, (from, to, turn) =>
      tcp4(turn % 2 === 0 ? eth().mpls(16).mpls(17) : eth().pppoe())(from, to, turn),
    ),
  },
  {
    name: 'VXLAN behind 4 bytes',
    encapsulation: { ...vxlan, skip: 4 },
    payload: (from, to) =>
      new PacketBuilder().payload(4).payload(
        onVxlan()
          .payload(tcp4(eth())(from, to, 0).bytes())
          .bytes(),
      ),
  },
  {
    name: 'GENEVE, options of several lengths',
    encapsulation: geneve,
    payload: around(
      (turn) => new PacketBuilder().geneve({ ...options(turn), protocol: ETHERNET }),
      tcp4(eth()),
    ),
  },
  {
    name: 'GENEVE around IP',
    encapsulation: geneve,
    payload: (from, to, turn) =>
      new PacketBuilder()
        .geneve({ ...options(turn), protocol: turn % 2 === 0 ? IPV4 : IPV6 })
        .payload(
          (turn % 2 === 0 ? tcp4(new PacketBuilder()) : udp6(new PacketBuilder()))(from, to, turn).bytes(),
        ),
  },
  {
    name: 'GENEVE+VXLAN, IPv4 between',
    encapsulation: both,
    payload: (from, to, turn) =>
      new PacketBuilder().geneve({ ...options(turn), protocol: IPV4 }).payload(
        between4
          .udp({ sport: 1024 + turn, dport: 4789 })
          .vxlan()
          .payload(tcp4(eth().vlan(3))(from, to, turn).bytes())
          .bytes(),
      ),
  },
  {
    name: 'GENEVE+VXLAN, IPv6 between',
    encapsulation: both,
    payload: (from, to, turn) =>
      new PacketBuilder().geneve({ ...options(turn), protocol: IPV6 }).payload(
        (turn % 2 === 0 ? between6 : between6.destination())
          .udp({ sport: 1024 + turn, dport: 4789 })
          .vxlan()
          .payload(udp6(eth())(from, to, turn).bytes())
          .bytes(),
      ),
  },
  {
    name: 'raw, Ethernet behind 16 bytes',
    encapsulation: { kind: 'raw', skip: 16, linkType: 1 },
    payload: around(() => new PacketBuilder().payload(16), tcp4(eth())),
  },
  {
    name: 'raw, IP',
    encapsulation: { kind: 'raw', skip: 0, linkType: 12 },
    payload: udp6(new PacketBuilder()),
  },
  {
    name: 'raw, PPP',
    encapsulation: { kind: 'raw', skip: 0, linkType: 9 },
    payload: (from, to, turn) =>
      new PacketBuilder()
        .payload(Uint8Array.from(turn % 2 === 0 ? [0x00, 0x21] : [0xff, 0x03, 0x00, 0x21]))
        .payload(tcp4(new PacketBuilder())(from, to, turn).bytes()),
  },
];

export function randomEnd(random: (below: number) => number): End {
  const octet = () => random(256);
  const group = () => random(65_536).toString(16);
  return {
    v4: `10.${octet()}.${octet()}.${octet()}`,
    v6: `2001:db8:${group()}::${group()}:${group()}`,
    // Not one of a tunnel: those are balanced by addresses.
    port: 10_000 + random(50_000),
  };
}

/** An address of this host's own namespace that is not the loopback's: frames from outside may go there. */
export const LISTENER = '192.0.2.1';

/** To be called after `ownNetns`. */
export function addListener(): void {
  if (privileged()) ip(`addr add ${LISTENER}/32 dev lo`);
}

/** Sends datagrams with any source port to a port of LISTENER, by frames on the loopback interface. */
export class DatagramSender {
  readonly #sender = new PacketSender('lo');
  readonly #port: number;

  constructor(port: number) {
    this.#port = port;
  }

  /** Each payload with a source port of its own. */
  send(payloads: readonly Uint8Array[], sourcePort: (index: number) => number): void {
    this.sendFrames(this.frames(payloads, sourcePort));
  }

  frames(payloads: readonly Uint8Array[], sourcePort: (index: number) => number): Uint8Array[] {
    return payloads.map((payload, index) =>
      eth({ dst: '00:00:00:00:00:00' })
        .ipv4({ src: '192.0.2.7', dst: LISTENER })
        .udp({ sport: sourcePort(index), dport: this.#port })
        .payload(payload)
        .bytes(),
    );
  }

  /** How many there are. */
  sendFrames(frames: readonly Uint8Array[]): number {
    const bytes = new Uint8Array(frames.reduce((sum, { length }) => sum + length, 0));
    const offsets = new Uint32Array(frames.length + 1);
    for (const [index, frame] of frames.entries()) {
      bytes.set(frame, offsets[index]);
      offsets[index + 1] = offsets[index] + frame.length;
    }
    for (let sent = 0; sent < frames.length; ) sent += this.#sender.send(bytes, offsets, sent);
    return frames.length;
  }

  close(): void {
    this.#sender.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Datagrams for an encapsulation: bytes without sense, and frames of which some bytes are wrong or are missing. */
export function noise({ payload }: Kind, count: number, random: (below: number) => number): Uint8Array[] {
  const turns = Array.from({ length: 8 }, (_, turn) =>
    payload(randomEnd(random), randomEnd(random), turn).bytes(),
  );
  return Array.from({ length: count }, (_, n) => {
    if (n % 2 === 0) return Uint8Array.from({ length: random(120) }, () => random(256));
    const good = turns[random(turns.length)];
    const bytes = good.slice(0, n % 3 === 0 ? random(good.length + 1) : good.length);
    for (let errors = random(4); errors > 0 && bytes.length > 0; errors--)
      bytes[random(bytes.length)] = random(256);
    return bytes;
  });
}

const FLOWS = 120;
const TURNS = 6;

/** A datagram, and which flow is inside of it. */
export interface Numbered {
  flow: number;
  bytes: Uint8Array;
}

/** Both directions of each flow in turn, with the number of the flow behind the packet. */
export function datagrams({ payload }: Kind, seed: number): Numbered[] {
  const random = randomNumbers(seed);
  const flows = Array.from({ length: FLOWS }, (): [End, End] => [randomEnd(random), randomEnd(random)]);
  const out: Numbered[] = [];
  for (let turn = 0; turn < TURNS; turn++)
    for (const [flow, [a, b]] of flows.entries()) {
      const [from, to] = turn % 2 === 0 ? [a, b] : [b, a];
      out.push({ flow, bytes: withNumber(payload(from, to, turn).bytes(), flow) });
    }
  return out;
}

/** With a number behind it, which `received` reads. */
export function withNumber(packet: Uint8Array, flow: number): Uint8Array {
  const bytes = new Uint8Array(packet.length + 4);
  bytes.set(packet);
  new DataView(bytes.buffer).setUint32(packet.length, flow);
  return bytes;
}

/** The family may change with the turn (GENEVE around IP): those are flows of their own. */
export const familyOf = ({ name }: Kind, at: number) =>
  name === 'GENEVE around IP' ? Math.floor(at / FLOWS) % 2 : 0;

export function openSockets(count: number, address = LISTENER): UdpReceiver[] {
  const first = new UdpReceiver({ address, port: 0, reusePort: true });
  const others = Array.from(
    { length: count - 1 },
    () => new UdpReceiver({ address, port: first.port, reusePort: true }),
  );
  return [first, ...others];
}

/** Flow numbers that each socket received. */
export async function received(receivers: UdpReceiver[], total: number): Promise<number[][]> {
  const got = receivers.map((): number[] => []);
  let count = 0;
  await until(() => {
    for (const [index, receiver] of receivers.entries())
      for (let rows = receiver.receive(); rows > 0; rows = receiver.receive())
        for (let row = 0; row < rows; row++) {
          const end = receiver.offsets[row] + receiver.captured[row];
          got[index].push(new DataView(receiver.memory).getUint32(end - 4));
          count++;
        }
    return count >= total;
  }, 'datagrams are missing');
  return got;
}
