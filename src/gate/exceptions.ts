import { SluiceError } from '../base/errors.ts';
import { type BpfMap, UpdateFlag } from '../kernel/index.ts';
import { ipBytes, ipText } from '../packet/address.ts';
import { SlExceptionKey } from './layout.gen.ts';

/** 16 bytes of an address, IPv4 mapped (::ffff:a.b.c.d), as pairs, prefixes and exceptions have it. */
export function mappedAddress(text: string): Uint8Array {
  const bytes = ipBytes(text);
  if (bytes === undefined) throw new SluiceError('USAGE', `${text} is no IP address`);
  if (bytes.length === 16) return bytes;
  return Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, ...bytes);
}

/** `10.0.0.0/8`, `2001:db8::/32` or an address, as mapped bytes and prefix length of 0 to 128. */
export function mappedPrefix(text: string): { bytes: Uint8Array; length: number } {
  const [address = '', length] = text.split('/');
  const bytes = mappedAddress(address);
  const wide = address.includes(':');
  const most = wide ? 128 : 32;
  const given = length === undefined ? most : /^\d{1,3}$/.test(length) ? Number(length) : Number.NaN;
  if (!(given >= 0 && given <= most))
    throw new SluiceError('USAGE', `${text} is no prefix`, {
      help: `a length of 0 to ${most} follows the slash`,
    });
  return { bytes, length: wide ? given : given + 96 };
}

/** Text of a mapped address. */
export function mappedText(u8: Uint8Array, offset: number): string {
  for (let i = 0; i < 10; i++) if (u8[offset + i] !== 0) return ipText(u8, offset, 16);
  if (u8[offset + 10] !== 0xff || u8[offset + 11] !== 0xff) return ipText(u8, offset, 16);
  return ipText(u8, offset + 12, 4);
}

/** Whether a prefix covers the address of `size` bytes at `at`, as a gate key has it. */
export function prefixTest(prefix: string): (bytes: Uint8Array, at: number, size: 4 | 16) => boolean {
  const { bytes: of, length } = mappedPrefix(prefix);
  const mapped = mappedAddress('0.0.0.0');
  return (bytes, at, size) => {
    for (let i = 0, left = length; left > 0; i++, left -= 8) {
      const own = size === 16 ? bytes[at + i] : i < 12 ? mapped[i] : bytes[at + i - 12];
      if (((own ^ of[i]) & (left < 8 ? 0xff00 >> left : 0xff) & 0xff) !== 0) return false;
    }
    return true;
  };
}

/** Whether a flow, by its key in the gate, is between two addresses or networks, one way or the other. */
export function pairTest(a: string, b: string): (key: Uint8Array) => boolean {
  const [first, second] = [prefixTest(a), prefixTest(b)];
  return (key) => {
    // A key of 48 bytes has mapped addresses.
    const size = key.length === 16 ? 4 : 16;
    return (
      (first(key, 0, size) && second(key, size, size)) || (second(key, 0, size) && first(key, size, size))
    );
  };
}

/** Addresses that are never shunted: what the gate asks before a pair or prefix drops, and user space before it adds. */
export class Exceptions {
  readonly #map: BpfMap;

  constructor(map: BpfMap) {
    this.#map = map;
  }

  /** An address or prefix. Throws MAP_FULL. */
  add(prefix: string): void {
    const { bytes, length } = mappedPrefix(prefix);
    this.#map.set(keyOf(bytes, length), new Uint8Array(this.#map.valueSize), UpdateFlag.any);
  }

  /** False when there was none. */
  remove(prefix: string): boolean {
    const { bytes, length } = mappedPrefix(prefix);
    return this.#map.delete(keyOf(bytes, length));
  }

  list(): string[] {
    const found: string[] = [];
    let key: Uint8Array | undefined;
    for (;;) {
      const next = new Uint8Array(this.#map.keySize);
      if (!this.#map.nextKey(key, next)) return found;
      key = next;
      const length = new DataView(next.buffer).getUint32(0, true);
      const text = mappedText(next, SlExceptionKey.members.addr);
      found.push(`${text}/${text.includes(':') ? length : length - 96}`);
    }
  }

  /** Whether an address (4 or 16 bytes, as in a gate key) is under an exception. */
  covers(address: Uint8Array): boolean {
    const mapped =
      address.length === 16 ? address : Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, ...address);
    return this.#map.get(keyOf(mapped, 128), new Uint8Array(this.#map.valueBytes));
  }
}

function keyOf(bytes: Uint8Array, length: number): Uint8Array {
  const key = new Uint8Array(SlExceptionKey.size);
  new DataView(key.buffer).setUint32(SlExceptionKey.members.prefix_len, length, true);
  const at = SlExceptionKey.members.addr;
  key.set(bytes, at);
  // Bits beyond the prefix would make another key of the same prefix.
  for (let i = 0; i < 16; i++) {
    const bits = Math.min(8, Math.max(0, length - i * 8));
    key[at + i] = key[at + i] & (0xff00 >> bits);
  }
  return key;
}
