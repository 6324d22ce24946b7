import { Decoded, Decoder, IpProto, LinkType } from '../packet/decode.ts';
import type { Packet } from '../packet/packet.ts';
import { Fragmented, SAMPLE_HEAD, type SampleColumns } from './columns.ts';

const ETHERNET_HEADER = 14;
const NS = 1e9;

const TAG_AT = 12;
const TAG_BYTES = 4;

/**
 * Reads frames, whole or cut, into rows of columns: Ethernet, with the tag that was taken out of it put back, and IP without a link
 * header, which gets an empty one. Rules see frames. Never throws, whatever the bytes.
 */
export class SampleReader {
  readonly #decoder = new Decoder(false);

  /**
   * Writes the packet into row `row`; false when it is no IP packet that could be made sense of, and the row is not
   * to be used. `weight` packets are what it stands for.
   */
  read(packet: Packet, weight: number, into: SampleColumns, row: number): boolean {
    const bare = packet.linkType === LinkType.raw || packet.linkType === LinkType.rawFile;
    if (!bare && packet.linkType !== LinkType.ethernet) return false;
    const decoder = this.#decoder;
    const decoded = decoder.decode(packet);
    const fragmented = decoded === Decoded.fragment;
    if (!fragmented && decoded !== Decoded.ok && decoded !== Decoded.carrier && decoded !== Decoded.noFlow)
      return false;
    const { u8, offset } = packet;
    // By how much further behind it stands what comes behind a header that is put in.
    const shift = bare ? ETHERNET_HEADER : packet.vlanTci >= 0 ? TAG_BYTES : 0;
    const kept = Math.min(packet.caplen + shift, SAMPLE_HEAD);
    const network = decoder.source - (decoder.family === 4 ? 12 : 8);
    const at = network - offset + shift;
    if (at + (decoder.family === 4 ? 20 : 40) > kept) return false;
    into.time[row] = packet.ts * NS;
    into.length[row] = packet.wirelen + shift;
    into.weight[row] = weight;
    into.family[row] = decoder.family;
    words(u8, decoder.source, decoder.family, into.source, row);
    words(u8, decoder.destination, decoder.family, into.target, row);
    const later = fragmented && decoder.fragment.offset > 0;
    const v4 = decoder.family === 4;
    const protocol = fragmented
      ? v4
        ? u8[network + 9]
        : decoder.fragment.protocol
      : decoded === Decoded.noFlow
        ? u8[network + (v4 ? 9 : 6)]
        : decoder.protocol;
    into.protocol[row] = protocol;
    into.ttl[row] = u8[network + (v4 ? 8 : 7)];
    into.fragment[row] = !fragmented ? Fragmented.no : later ? Fragmented.later : Fragmented.first;
    into.tags[row] = bare ? 0 : tagsBefore(u8, offset, network) + (packet.vlanTci >= 0 ? 1 : 0);
    into.interface[row] = 0;
    into.verdict[row] = 0;
    into.rule[row] = 0;
    into.captured[row] = kept;
    into.networkAt[row] = at;
    const transport = decoded === Decoded.noFlow ? 0 : decoder.transport - offset + shift;
    into.transportAt[row] = transport < kept ? transport : 0;
    this.#ports(packet, protocol, later || decoded === Decoded.noFlow, shift, into, row);
    const base = row * SAMPLE_HEAD;
    const before = bare ? 0 : shift > 0 ? TAG_AT : kept;
    for (let i = 0; i < before; i++) into.frames[base + i] = u8[offset + i];
    if (shift > 0) putIn(packet, decoder.family, into.frames, base);
    for (let i = before + shift; i < kept; i++) into.frames[base + i] = u8[offset + i - shift];
    return true;
  }

  #ports(
    packet: Packet,
    protocol: number,
    none: boolean,
    shift: number,
    into: SampleColumns,
    row: number,
  ): void {
    const { transport, transportBytes, captured } = this.#decoder;
    const { u8, offset } = packet;
    const tcp = protocol === IpProto.tcp;
    into.sport[row] = 0;
    into.dport[row] = 0;
    into.tcpFlags[row] = 0;
    into.payloadAt[row] = 0;
    into.payloadBytes[row] = 0;
    if (none) return;
    let header = 0;
    if (tcp && captured >= 14) {
      header = (u8[transport + 12] >> 4) * 4;
      into.tcpFlags[row] = u8[transport + 13];
    } else if (protocol === IpProto.udp || protocol === IpProto.icmp || protocol === IpProto.icmpv6)
      header = 8;
    if ((tcp || protocol === IpProto.udp) && captured >= 4) {
      into.sport[row] = (u8[transport] << 8) | u8[transport + 1];
      into.dport[row] = (u8[transport + 2] << 8) | u8[transport + 3];
    }
    const at = transport + header - offset + shift;
    into.payloadAt[row] = at < SAMPLE_HEAD && at < packet.caplen + shift ? at : 0;
    into.payloadBytes[row] = Math.max(0, transportBytes - header);
  }
}

/** A tag, or the link header of IP that has none. */
function putIn({ linkType, vlanTci }: Packet, family: 4 | 6, frames: Uint8Array, base: number): void {
  if (linkType === LinkType.ethernet) {
    frames[base + TAG_AT] = 0x81;
    frames[base + TAG_AT + 1] = 0;
    frames[base + TAG_AT + 2] = vlanTci >> 8;
    frames[base + TAG_AT + 3] = vlanTci;
    return;
  }
  for (let i = 0; i < TAG_AT; i++) frames[base + i] = 0;
  frames[base + TAG_AT] = family === 4 ? 0x08 : 0x86;
  frames[base + TAG_AT + 1] = family === 4 ? 0x00 : 0xdd;
}

/** How many tags, of frames that have nothing but tags before IP. */
function tagsBefore(u8: Uint8Array, offset: number, network: number): number {
  let at = offset + ETHERNET_HEADER;
  let tags = 0;
  while (at + 4 <= network && tags < 4) {
    const type = (u8[at - 2] << 8) | u8[at - 1];
    if (type !== 0x8100 && type !== 0x88a8 && type !== 0x9100) break;
    tags++;
    at += 4;
  }
  return tags;
}

function words(u8: Uint8Array, at: number, family: 4 | 6, into: Uint32Array, row: number): void {
  const word = (from: number): number =>
    ((u8[from] << 24) | (u8[from + 1] << 16) | (u8[from + 2] << 8) | u8[from + 3]) >>> 0;
  for (let i = 0; i < 4; i++) into[4 * row + i] = family === 6 ? word(at + 4 * i) : i === 3 ? word(at) : 0;
}
