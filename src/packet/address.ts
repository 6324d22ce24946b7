/** Addresses as text and bytes (RFC 4291 section 2.2, RFC 5952). Made for tests, configuration and logs, not for every packet. */

/** 4 bytes of `192.0.2.1`; undefined when it is no IPv4 address. No octal, no short forms. */
export function ipv4Bytes(text: string): Uint8Array | undefined {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text);
  if (match === null) return undefined;
  const out = new Uint8Array(4);
  for (let i = 0; i < 4; i++) {
    const part = match[i + 1];
    const value = Number(part);
    if (value > 255 || (part.length > 1 && part.startsWith('0'))) return undefined;
    out[i] = value;
  }
  return out;
}

/** 16 bytes of an IPv6 address, `::ffff:192.0.2.1` included; undefined when it is none. No zone. */
export function ipv6Bytes(text: string): Uint8Array | undefined {
  const out = new Uint8Array(16);
  const halves = text.split('::');
  if (halves.length > 2) return undefined;
  const head = groups(halves[0], halves.length === 1);
  const tail = halves.length === 2 ? groups(halves[1], true) : [];
  if (head === undefined || tail === undefined) return undefined;
  if (halves.length === 1 ? head.length !== 16 : head.length + tail.length > 14) return undefined;
  out.set(head, 0);
  out.set(tail, 16 - tail.length);
  return out;
}

function groups(text: string, mayEndInIpv4: boolean): number[] | undefined {
  if (text === '') return [];
  const out: number[] = [];
  const parts = text.split(':');
  for (const [index, part] of parts.entries()) {
    if (mayEndInIpv4 && index === parts.length - 1 && part.includes('.')) {
      const bytes = ipv4Bytes(part);
      if (bytes === undefined) return undefined;
      out.push(...bytes);
    } else {
      if (!/^[0-9a-fA-F]{1,4}$/.test(part)) return undefined;
      const value = Number.parseInt(part, 16);
      out.push(value >>> 8, value & 0xff);
    }
  }
  return out;
}

/** 4 or 16 bytes of an address; undefined when it is none. */
export function ipBytes(text: string): Uint8Array | undefined {
  return text.includes(':') ? ipv6Bytes(text) : ipv4Bytes(text);
}

/** 6 bytes of `02:00:00:00:00:01`; undefined when it is no MAC address. */
export function macBytes(text: string): Uint8Array | undefined {
  if (!/^[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}$/.test(text)) return undefined;
  return Uint8Array.from(text.split(/[:-]/), (part) => Number.parseInt(part, 16));
}

const OCTETS = Array.from({ length: 256 }, (_, octet) => String(octet));

/** Text of the 4 or 16 bytes at u8[offset]; IPv6 in the form of RFC 5952, without an embedded IPv4 part. */
export function ipText(u8: Uint8Array, offset: number, bytes: 4 | 16): string {
  if (bytes === 4)
    return `${OCTETS[u8[offset]]}.${OCTETS[u8[offset + 1]]}.${OCTETS[u8[offset + 2]]}.${OCTETS[u8[offset + 3]]}`;
  // The longest run of words of zero, the first of several, and at least two.
  let best = 8;
  let longest = 1;
  let run = 0;
  for (let i = 0; i < 8; i++) {
    run = u8[offset + 2 * i] === 0 && u8[offset + 2 * i + 1] === 0 ? run + 1 : 0;
    if (run > longest) {
      best = i - run + 1;
      longest = run;
    }
  }
  if (best === 8) return hex(u8, offset, 0, 8);
  return `${hex(u8, offset, 0, best)}::${hex(u8, offset, best + longest, 8)}`;
}

function hex(u8: Uint8Array, offset: number, from: number, to: number): string {
  let text = '';
  for (let i = from; i < to; i++) {
    const word = (u8[offset + 2 * i] << 8) | u8[offset + 2 * i + 1];
    text += i === from ? word.toString(16) : `:${word.toString(16)}`;
  }
  return text;
}
