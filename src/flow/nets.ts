import { SluiceError } from '../base/errors.ts';
import { ipBytes } from '../packet/address.ts';

/** Private and special-purpose ranges, which count as local (Zeek's Site::private_address_space). */
const SPECIAL4 = [
  '0.0.0.0/8',
  '10.0.0.0/8',
  '100.64.0.0/10',
  '127.0.0.0/8',
  '169.254.0.0/16',
  '172.16.0.0/12',
  '192.0.0.0/24',
  '192.0.2.0/24',
  '192.168.0.0/16',
  '198.18.0.0/15',
  '198.51.100.0/24',
  '203.0.113.0/24',
  '224.0.0.0/24',
  '239.0.0.0/8',
  '240.0.0.0/4',
  '255.255.255.255/32',
];
const SPECIAL6 = [
  '::/128',
  '::1/128',
  '64:ff9b:1::/48',
  '100::/64',
  '2001::/23',
  '2001:2::/48',
  '2001:db8::/32',
  'fc00::/7',
  'fe80::/10',
];

interface Net {
  bytes: Uint8Array;
  bits: number;
}

/** A set of networks of both families. */
export class NetSet {
  readonly #nets4: Net[] = [];
  readonly #nets6: Net[] = [];

  /** Takes CIDR texts. Errors: USAGE for what is none. */
  constructor(cidrs: readonly string[]) {
    for (const cidr of cidrs) {
      const net = parseCidr(cidr);
      (net.bytes.length === 4 ? this.#nets4 : this.#nets6).push(net);
    }
  }

  /** The special-purpose ranges with what is given on top; IPv4 ranges in their 6to4 form (RFC 3056) too. */
  static local(cidrs: readonly string[]): NetSet {
    const set = new NetSet([...SPECIAL4, ...SPECIAL6, ...cidrs]);
    for (const { bytes, bits } of SPECIAL4.map(parseCidr)) {
      const mapped = new Uint8Array(16);
      mapped.set([0x20, 0x02, ...bytes]);
      set.#nets6.push({ bytes: mapped, bits: bits + 16 });
    }
    return set;
  }

  /** Those of a family one after the other, 17 bytes each: length of the prefix, and 4 or 16 bytes of address. */
  packed(bytes: 4 | 16): Uint8Array {
    const nets = bytes === 4 ? this.#nets4 : this.#nets6;
    const out = new Uint8Array(17 * nets.length);
    for (const [i, net] of nets.entries()) {
      out[17 * i] = net.bits;
      out.set(net.bytes, 17 * i + 1);
    }
    return out;
  }

  /** Whether the 4 or 16 bytes at u8[offset] are an address of the set. */
  has(u8: Uint8Array, offset: number, bytes: 4 | 16): boolean {
    for (const net of bytes === 4 ? this.#nets4 : this.#nets6) {
      if (matches(net, u8, offset)) return true;
    }
    return false;
  }
}

function matches(net: Net, u8: Uint8Array, offset: number): boolean {
  const whole = net.bits >>> 3;
  for (let i = 0; i < whole; i++) if (u8[offset + i] !== net.bytes[i]) return false;
  const rest = net.bits & 7;
  return rest === 0 || ((u8[offset + whole] ^ net.bytes[whole]) & (0xff00 >> rest) & 0xff) === 0;
}

function parseCidr(text: string): Net {
  const slash = text.indexOf('/');
  const bytes = ipBytes(slash < 0 ? text : text.slice(0, slash));
  const length = slash < 0 ? '' : text.slice(slash + 1);
  const bits = slash < 0 ? (bytes?.length ?? 0) * 8 : Number(length);
  if (bytes === undefined || (slash >= 0 && !/^\d{1,3}$/.test(length)) || bits > bytes.length * 8)
    throw new SluiceError('USAGE', `${text} is no network`, {
      help: 'write it like 192.0.2.0/24 or 2001:db8::/32',
    });
  return { bytes, bits };
}
