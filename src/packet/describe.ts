import { ipText } from './address.ts';
import { fold, onesSum, pseudoSum } from './checksum.ts';

/** How many headers are told before the rest is left alone. */
const MAX_LAYERS = 24;

/**
 * A frame as one line per header, for failure messages: what each field holds and whether checksums are right. Never
 * throws; what cannot be read is shown as bytes.
 */
export function describe(bytes: Uint8Array, link: 'eth' | 'ip' = 'eth'): string {
  const reader = new Describer(bytes);
  if (link === 'eth') reader.ethernet(0);
  else reader.ip(0);
  return reader.lines.join('\n');
}

class Describer {
  readonly lines: string[] = [];
  readonly #u8: Uint8Array;
  readonly #view: DataView;

  constructor(u8: Uint8Array) {
    this.#u8 = u8;
    this.#view = new DataView(u8.buffer, u8.byteOffset, u8.byteLength);
  }

  ethernet(at: number): void {
    if (!this.#room(at, 14, 'eth')) return;
    this.#line(`eth ${this.#mac(at + 6)} > ${this.#mac(at)} type ${this.#hex16(at + 12)}`);
    this.#etherType(this.#u16(at + 12), at + 14);
  }

  ip(at: number): void {
    if (at < this.#u8.length && this.#u8[at] >>> 4 === 6) this.#ipv6(at);
    else this.#ipv4(at);
  }

  #etherType(type: number, at: number): void {
    if (this.lines.length >= MAX_LAYERS) return;
    switch (type) {
      case 0x8100:
      case 0x88a8:
      case 0x9100:
        if (!this.#room(at, 4, 'vlan')) return;
        this.#line(`vlan ${this.#u16(at) & 0xfff} prio ${this.#u16(at) >>> 13} type ${this.#hex16(at + 2)}`);
        return this.#etherType(this.#u16(at + 2), at + 4);
      case 0x8847:
        if (!this.#room(at, 4, 'mpls')) return;
        this.#line(`mpls ${this.#u32(at) >>> 12} ttl ${this.#u8[at + 3]}`);
        return this.#u8[at + 2] & 1 ? this.ip(at + 4) : this.#etherType(0x8847, at + 4);
      case 0x8864:
        if (!this.#room(at, 8, 'pppoe')) return;
        this.#line(
          `pppoe session ${this.#u16(at + 2)} length ${this.#u16(at + 4)} protocol ${this.#hex16(at + 6)}`,
        );
        return this.ip(at + 8);
      case 0x0800:
        return this.#ipv4(at);
      case 0x86dd:
        return this.#ipv6(at);
      case 0x6558:
        return this.ethernet(at);
      default:
        this.#rest(at, this.#u8.length);
    }
  }

  #ipv4(at: number): void {
    if (!this.#room(at, 20, 'ipv4')) return;
    const u8 = this.#u8;
    const header = (u8[at] & 15) * 4;
    const total = this.#u16(at + 2);
    const fragment = this.#u16(at + 6);
    const sum = onesSum(u8, at, header) === 0xffff ? '' : ' BAD CHECKSUM';
    const piece =
      fragment & 0x3fff ? ` fragment ${(fragment & 0x1fff) * 8}${fragment & 0x2000 ? '+' : ''}` : '';
    const ends = `${ipText(u8, at + 12, 4)} > ${ipText(u8, at + 16, 4)}`;
    this.#line(
      `ipv4 ${ends} protocol ${u8[at + 9]} total ${total} ttl ${u8[at + 8]} id ${this.#u16(at + 4)}${piece}${sum}`,
    );
    const end = Math.min(at + total, u8.length);
    if (header < 20 || fragment & 0x1fff) this.#rest(at + Math.max(header, 20), end);
    else this.#transport(u8[at + 9], at + header, end, pseudoSum(u8, at + 12, 4, u8[at + 9], total - header));
  }

  #ipv6(at: number): void {
    if (!this.#room(at, 40, 'ipv6')) return;
    const u8 = this.#u8;
    const length = this.#u16(at + 4);
    let next = u8[at + 6];
    this.#line(
      `ipv6 ${ipText(u8, at + 8, 16)} > ${ipText(u8, at + 24, 16)} next ${next} payload ${length} hops ${u8[at + 7]}`,
    );
    const end = Math.min(at + 40 + length, u8.length);
    let head = at + 40;
    while (
      (next === 0 || next === 43 || next === 44 || next === 51 || next === 60) &&
      head + 8 <= end &&
      this.lines.length < MAX_LAYERS
    ) {
      const size = next === 44 ? 8 : next === 51 ? (u8[head + 1] + 2) * 4 : (u8[head + 1] + 1) * 8;
      const piece =
        next === 44 ? ` offset ${this.#u16(head + 2) & 0xfff8}${u8[head + 3] & 1 ? '+' : ''}` : '';
      this.#line(`extension ${next} of ${size} bytes next ${u8[head]}${piece}`);
      if (next === 44 && this.#u16(head + 2) & 0xfff8) return this.#rest(head + 8, end);
      next = u8[head];
      head += size;
    }
    this.#transport(next, head, end, pseudoSum(u8, at + 8, 16, next, at + 40 + length - head));
  }

  #transport(protocol: number, at: number, end: number, seed: number): void {
    const u8 = this.#u8;
    if (this.lines.length >= MAX_LAYERS) return;
    const sum = (from: number) => (fold(onesSum(u8, at, end - at, from)) === 0xffff ? '' : ' BAD CHECKSUM');
    switch (protocol) {
      case 6: {
        if (!this.#room(at, 20, 'tcp')) return;
        const flags = Array.from('FSRPAUEC')
          .filter((_, bit) => u8[at + 13] & (1 << bit))
          .join('');
        const numbers = `seq ${this.#u32(at + 4)} ack ${this.#u32(at + 8)} flags ${flags} window ${this.#u16(at + 14)}`;
        this.#line(`tcp ${this.#u16(at)} > ${this.#u16(at + 2)} ${numbers}${sum(seed)}`);
        return this.#rest(at + Math.max(20, (u8[at + 12] >>> 4) * 4), end);
      }
      case 17: {
        if (!this.#room(at, 8, 'udp')) return;
        const port = this.#u16(at + 2);
        this.#line(
          `udp ${this.#u16(at)} > ${port} length ${this.#u16(at + 4)}${this.#u16(at + 6) === 0 ? ' no checksum' : sum(seed)}`,
        );
        if (port === 4789 && this.#room(at + 8, 8, 'vxlan')) {
          this.#line(`vxlan vni ${this.#u32(at + 12) >>> 8}`);
          return this.ethernet(at + 16);
        }
        if (port === 6081 && this.#room(at + 8, 8, 'geneve')) {
          this.#line(`geneve vni ${this.#u32(at + 12) >>> 8} protocol ${this.#hex16(at + 10)}`);
          return this.#etherType(this.#u16(at + 10), at + 16 + (u8[at + 8] & 63) * 4);
        }
        return this.#rest(at + 8, end);
      }
      case 1:
      case 58:
        if (!this.#room(at, 8, 'icmp')) return;
        this.#line(
          `${protocol === 1 ? 'icmp' : 'icmpv6'} type ${u8[at]} code ${u8[at + 1]}${sum(protocol === 1 ? 0 : seed)}`,
        );
        return this.#rest(at + 8, end);
      case 4:
      case 41:
        return this.ip(at);
      case 47: {
        if (!this.#room(at, 4, 'gre')) return;
        this.#line(`gre flags ${this.#hex16(at)} protocol ${this.#hex16(at + 2)}`);
        const words = (u8[at] >>> 7) + ((u8[at] >>> 5) & 1) + ((u8[at] >>> 4) & 1);
        return this.#etherType(this.#u16(at + 2), at + 4 + 4 * words);
      }
      default:
        this.#rest(at, end);
    }
  }

  #rest(at: number, end: number): void {
    const size = end - at;
    if (size <= 0) return;
    const shown = Buffer.from(this.#u8.subarray(at, at + Math.min(size, 24))).toString('hex');
    this.#line(`data ${size} bytes ${shown}${size > 24 ? '…' : ''}`);
  }

  #room(at: number, size: number, name: string): boolean {
    if (at + size <= this.#u8.length) return true;
    this.#line(`${name} cut off: ${Math.max(0, this.#u8.length - at)} of ${size} bytes`);
    return false;
  }

  #line(text: string): void {
    this.lines.push(text);
  }

  #mac(at: number): string {
    return Array.from(this.#u8.subarray(at, at + 6), (byte) => byte.toString(16).padStart(2, '0')).join(':');
  }

  #u16(at: number): number {
    return this.#view.getUint16(at, false);
  }

  #u32(at: number): number {
    return this.#view.getUint32(at, false);
  }

  #hex16(at: number): string {
    return `0x${this.#u16(at).toString(16).padStart(4, '0')}`;
  }
}
