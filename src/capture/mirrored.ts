import type { SluiceError } from '../base/errors.ts';
import { Decoded, Decoder, IpProto } from '../packet/decode.ts';
import { DECAP_REASON_NAMES, DecapReason, Decapsulator, type EncapOnPort } from '../packet/encap/index.ts';
import { Fragments } from '../packet/fragments.ts';
import { LinkType } from '../packet/link/types.ts';
import { type BatchSink, Packet, type PacketSink } from '../packet/packet.ts';
import type { StoredSource } from './source.ts';

/** Memory for datagrams of the mirror that came in fragments, and seconds that they are waited for (Linux: ipfrag_time). */
const FRAGMENT_BYTES = 16 * 2 ** 20;
const FRAGMENT_SECONDS = 30;
const UDP_HEADER = 8;

/** Why a recorded packet is no datagram of the mirror. */
const Outer = {
  datagram: 0,
  /** Not UDP, or to another port. */
  other: 1,
  /** A fragment, save the one that makes its datagram whole. */
  waiting: 2,
  /** The UDP checksum is wrong: the kernel would not hand it over. */
  checksum: 3,
  /** The UDP length does not fit the IP packet. */
  length: 4,
} as const;
type Outer = (typeof Outer)[keyof typeof Outer];

const OUTER_NAMES = ['datagram', 'other', 'fragments', 'checksum', 'length'] as const;

/** What became of the packets of a recorded mirror. */
export interface MirrorCounts {
  /** Packets recorded. */
  packets: number;
  /** Frames taken out of them. */
  frames: number;
  /** The rest by reason; only reasons that occurred. */
  left: Record<string, number>;
}

/**
 * The frames inside of a recorded mirror: of the packets of another source, those that are datagrams to the mirror's port are
 * taken apart as the live source does, fragments put together first; the rest is counted by reason.
 */
export class MirroredSource implements StoredSource {
  packets = 0;
  readonly #source: StoredSource;
  readonly #port: number;
  readonly #checksums: boolean;
  readonly #decapsulator: Decapsulator;
  readonly #outer = new Float64Array(OUTER_NAMES.length);
  readonly #decoder: Decoder;
  readonly #fragments = new Fragments({ timeout: FRAGMENT_SECONDS, bytes: FRAGMENT_BYTES });
  readonly #frames: Packet[] = [];
  #sink: BatchSink = () => {};

  constructor(source: StoredSource, { encapsulation, port }: EncapOnPort, checksums: boolean) {
    this.#source = source;
    this.#port = port;
    this.#checksums = checksums;
    this.#decapsulator = new Decapsulator(encapsulation);
    this.#decoder = new Decoder(checksums);
  }

  get name(): string {
    return this.#source.name;
  }

  get problem(): SluiceError | undefined {
    return this.#source.problem;
  }

  get readBytes(): number {
    return this.#source.readBytes;
  }

  get starved(): boolean {
    return this.#source.starved;
  }

  counts(): MirrorCounts {
    const { counts } = this.#decapsulator;
    const left: Record<string, number> = {};
    for (let i = Outer.other; i < OUTER_NAMES.length; i++)
      if (this.#outer[i] > 0) left[OUTER_NAMES[i]] = this.#outer[i];
    for (let i = DecapReason.empty; i < counts.length; i++)
      if (counts[i] > 0) left[DECAP_REASON_NAMES[i]] = counts[i];
    return { packets: this.#source.packets, frames: counts[DecapReason.frame], left };
  }

  drain(sink: PacketSink, maxPackets: number): boolean {
    return this.drainBatches((packets, count) => {
      for (let i = 0; i < count; i++) sink(packets[i]);
    }, maxPackets);
  }

  drainBatches(sink: BatchSink, maxPackets: number): boolean {
    this.#sink = sink;
    return this.#source.drainBatches(this.#take, maxPackets);
  }

  wait(): Promise<void> {
    return this.#source.wait();
  }

  close(): void {
    this.#source.close();
  }

  readonly #take = (packets: readonly Packet[], count: number): void => {
    const frames = this.#frames;
    let n = 0;
    for (let i = 0; i < count; i++) {
      if (n === frames.length) frames.push(new Packet());
      const outer = this.#open(packets[i], frames[n]);
      this.#outer[outer]++;
      if (outer === Outer.datagram && this.#decapsulator.open(frames[n])) n++;
    }
    this.packets += n;
    if (n > 0) this.#sink(frames, n);
  };

  /** Shows the payload of a datagram of the mirror in `frame`. */
  #open(packet: Packet, frame: Packet): Outer {
    const decoder = this.#decoder;
    let verdict = decoder.decode(packet);
    frame.ts = packet.ts;
    frame.outgoing = packet.outgoing;
    if (verdict !== Decoded.fragment) return this.#datagram(verdict, packet, frame);
    const whole = this.#fragments.add(decoder, packet.u8, packet.ts);
    if (whole === undefined) return Outer.waiting;
    frame.u8 = whole;
    frame.offset = 0;
    frame.caplen = whole.length;
    frame.wirelen = whole.length;
    frame.linkType = LinkType.raw;
    frame.checksum = packet.checksum;
    verdict = decoder.decodeWhole(frame);
    return this.#datagram(verdict, frame, frame);
  }

  #datagram(verdict: Decoded, packet: Packet, frame: Packet): Outer {
    const decoder = this.#decoder;
    if (verdict !== Decoded.ok || decoder.protocol !== IpProto.udp || decoder.destinationPort !== this.#port)
      return Outer.other;
    const { u8 } = packet;
    const at = decoder.transport;
    const bytes = (u8[at + 4] << 8) | u8[at + 5];
    if (bytes < UDP_HEADER || bytes > decoder.transportBytes) return Outer.length;
    // A checksum of 0 is none: tunnels go without it over IPv6 too (RFC 6935).
    if (
      this.#checksums &&
      (u8[at + 6] | u8[at + 7]) !== 0 &&
      bytes === decoder.transportBytes &&
      !decoder.checksumHolds(packet)
    )
      return Outer.checksum;
    frame.u8 = u8;
    frame.offset = at + UDP_HEADER;
    frame.caplen = Math.min(bytes, decoder.captured) - UDP_HEADER;
    frame.wirelen = bytes - UDP_HEADER;
    return Outer.datagram;
  }
}
