import { checksum } from './checksum.ts';
import type { Decoder } from './decode.ts';

/** What is kept of datagrams that are not whole yet. */
export interface FragmentLimits {
  /** Seconds from the first fragment on; 300 in Zeek. */
  timeout: number;
  /** Bytes of memory for all of them together; the oldest goes first. */
  bytes: number;
}

const MAX_DATAGRAM = 65_535;
/** Covered stretches with holes between them: more are no honest datagram. */
const MAX_STRETCHES = 512;
/** What a datagram costs beside its bytes, about. */
const OVERHEAD = 400;
const IPV6_HEADER = 40;

class Datagram {
  readonly begun: number;
  /** Headers of the fragment that came first, as in Zeek. */
  readonly header: Uint8Array;
  readonly protocolAt: number;
  protocol: number;
  data = new Uint8Array(0);
  /** Begins and ends of what is there, ascending, no two touching. */
  stretches: number[] = [];
  /** Known once the last fragment was seen; 0 before. */
  size = 0;

  constructor(begun: number, header: Uint8Array, protocolAt: number, protocol: number) {
    this.begun = begun;
    this.header = header;
    this.protocolAt = protocolAt;
    this.protocol = protocol;
  }

  get cost(): number {
    return OVERHEAD + this.data.length + this.stretches.length * 8;
  }

  /** Takes the bytes that are not there yet: what came first stays (as Zeek's reassembler has it). */
  take(u8: Uint8Array, at: number, offset: number, bytes: number): void {
    const end = offset + bytes;
    if (end > this.data.length) {
      const grown = new Uint8Array(Math.min(MAX_DATAGRAM, Math.max(end, this.data.length * 2)));
      grown.set(this.data);
      this.data = grown;
    }
    const merged: number[] = [];
    let from = offset;
    let to = end;
    let hole = offset;
    let placed = false;
    for (let i = 0; i < this.stretches.length; i += 2) {
      const begin = this.stretches[i];
      const stop = this.stretches[i + 1];
      if (stop < offset) {
        merged.push(begin, stop);
      } else if (begin > end) {
        if (!placed) merged.push(from, to);
        placed = true;
        merged.push(begin, stop);
      } else {
        if (begin > hole) this.data.set(u8.subarray(at + hole - offset, at + begin - offset), hole);
        hole = Math.max(hole, stop);
        from = Math.min(from, begin);
        to = Math.max(to, stop);
      }
    }
    if (hole < end) this.data.set(u8.subarray(at + hole - offset, at + bytes), hole);
    if (!placed) merged.push(from, to);
    this.stretches = merged;
  }

  /** Bytes of the whole datagram's data; -1 while something is missing. */
  get whole(): number {
    if (this.size === 0 || this.stretches[0] !== 0 || this.stretches[1] < this.size) return -1;
    return this.stretches[1];
  }
}

/**
 * Puts IP fragments together again (RFC 791, RFC 8200 section 4.5) by the rules of Zeek: the headers are those of the
 * fragment that came first, of overlapping data the first stays, a datagram is given up a while after its first fragment.
 */
export class Fragments {
  readonly #limits: FragmentLimits;
  /** In the order in which they began. */
  readonly #datagrams = new Map<string, Datagram>();
  #bytes = 0;

  constructor(limits: FragmentLimits) {
    this.#limits = limits;
  }

  /** Datagrams that wait for more, and the memory that they take. */
  get waiting(): number {
    return this.#datagrams.size;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /**
   * Takes the fragment that `decoder` has just decoded from `u8`; the datagram as an IP packet once it is whole. A
   * fragment that was not captured whole is left out. Addresses are those of one network of several when `network` says which.
   */
  add(decoder: Decoder, u8: Uint8Array, now: number, network = 0): Uint8Array | undefined {
    this.#expire(now);
    const { fragment, transport, transportBytes: bytes } = decoder;
    const end = fragment.offset + bytes;
    if (decoder.captured < bytes || bytes < 0 || fragment.headerBytes + end > MAX_DATAGRAM) return undefined;
    const addresses = decoder.family === 4 ? 8 : 32;
    const key = `${fragment.id} ${network} ${latin1(u8, decoder.family === 4 ? decoder.source : fragment.header + 8, addresses)}`;
    let datagram = this.#datagrams.get(key);
    if (datagram === undefined) {
      const header = u8.slice(fragment.header, fragment.header + fragment.headerBytes);
      datagram = new Datagram(now, header, fragment.protocolAt, fragment.protocol);
      this.#datagrams.set(key, datagram);
    } else {
      this.#bytes -= datagram.cost;
    }
    if (fragment.offset === 0) datagram.protocol = fragment.protocol;
    if (!fragment.more || (datagram.size > 0 && end > datagram.size))
      datagram.size = Math.max(datagram.size, end);
    if (bytes > 0) datagram.take(u8, transport, fragment.offset, bytes);
    const whole = datagram.whole;
    if (whole < 0 && datagram.stretches.length <= 2 * MAX_STRETCHES) {
      this.#bytes += datagram.cost;
      this.#shrink();
      return undefined;
    }
    this.#datagrams.delete(key);
    return whole < 0 ? undefined : packetOf(datagram, whole, decoder.family);
  }

  #expire(now: number): void {
    for (const [key, datagram] of this.#datagrams) {
      if (now - datagram.begun < this.#limits.timeout) return;
      this.#drop(key, datagram);
    }
  }

  #shrink(): void {
    for (const [key, datagram] of this.#datagrams) {
      if (this.#bytes <= this.#limits.bytes) return;
      this.#drop(key, datagram);
    }
  }

  #drop(key: string, datagram: Datagram): void {
    this.#bytes -= datagram.cost;
    this.#datagrams.delete(key);
  }
}

function latin1(u8: Uint8Array, at: number, bytes: number): string {
  let text = '';
  for (let i = at; i < at + bytes; i++) text += String.fromCharCode(u8[i]);
  return text;
}

function packetOf(datagram: Datagram, bytes: number, family: 4 | 6): Uint8Array | undefined {
  const header = datagram.header;
  const total = header.length + bytes;
  if (total > MAX_DATAGRAM) return undefined;
  const packet = new Uint8Array(total);
  packet.set(header);
  packet.set(datagram.data.subarray(0, bytes), header.length);
  if (family === 6) {
    packet[4] = (total - IPV6_HEADER) >>> 8;
    packet[5] = total - IPV6_HEADER;
    packet[datagram.protocolAt] = datagram.protocol;
    return packet;
  }
  packet[2] = total >>> 8;
  packet[3] = total;
  packet.fill(0, 6, 8);
  packet.fill(0, 10, 12);
  const sum = checksum(packet, 0, header.length);
  packet[10] = sum >>> 8;
  packet[11] = sum;
  return packet;
}
