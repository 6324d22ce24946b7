/**
 * rtnetlink messages (rtnetlink(7), linux/netlink.h): pure building and reading of bytes, little-endian as every
 * machine that Sluice runs on. Readers take any bytes and stop at the first that makes no sense.
 */

export const Message = {
  newLink: 16,
  getLink: 18,
  newAddress: 20,
  getAddress: 22,
  newRoute: 24,
  getRoute: 26,
} as const;

const REQUEST = 0x1;
const ACK = 0x4;
const DUMP = 0x300;
const EXCLUSIVE_CREATE = 0x600;
const HEADER = 16;
const NESTED_MASK = 0x3fff;

export type AttributeValue = Uint8Array | string | number;

/** One attribute: text is terminated by 0, numbers have 32 bits. */
export function attribute(type: number, value: AttributeValue): Uint8Array {
  let payload: Uint8Array;
  if (typeof value === 'string') payload = new TextEncoder().encode(`${value}\0`);
  else if (typeof value === 'number') payload = new Uint8Array(new Uint32Array([value]).buffer);
  else payload = value;
  const out = new Uint8Array((4 + payload.length + 3) & ~3);
  const view = new DataView(out.buffer);
  view.setUint16(0, 4 + payload.length, true);
  view.setUint16(2, type, true);
  out.set(payload, 4);
  return out;
}

export function concat(...parts: Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

/** A request: `dump` lists a table, otherwise it is acknowledged; `create` fails when the thing exists. */
export function request(type: number, mode: 'dump' | 'get' | 'create', body: Uint8Array): Uint8Array {
  const header = new Uint8Array(HEADER);
  const view = new DataView(header.buffer);
  view.setUint32(0, HEADER + body.length, true);
  view.setUint16(4, type, true);
  view.setUint16(
    6,
    REQUEST | (mode === 'dump' ? DUMP : ACK | (mode === 'create' ? EXCLUSIVE_CREATE : 0)),
    true,
  );
  view.setUint32(8, 1, true);
  return concat(header, body);
}

/** A new pair of virtual Ethernet interfaces. */
export function createVeth(name: string, peer: string): Uint8Array {
  const infoPeer = attribute(1, concat(new Uint8Array(16), attribute(3, peer)));
  const linkInfo = concat(attribute(1, 'veth'), attribute(2, infoPeer));
  return request(
    Message.newLink,
    'create',
    concat(new Uint8Array(16), attribute(3, name), attribute(18, linkInfo)),
  );
}

export interface NetlinkMessage {
  type: number;
  /** Without the netlink header. */
  body: DataView;
}

export function messages(bytes: Uint8Array): NetlinkMessage[] {
  const out: NetlinkMessage[] = [];
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at + HEADER <= bytes.length; ) {
    const length = view.getUint32(at, true);
    if (length < HEADER || at + length > bytes.length) break;
    out.push({
      type: view.getUint16(at + 4, true),
      body: new DataView(bytes.buffer, bytes.byteOffset + at + HEADER, length - HEADER),
    });
    at += (length + 3) & ~3;
  }
  return out;
}

/** The attributes behind a family header of `skip` bytes, by type; of repeated ones the last. */
export function attributes(body: DataView, skip: number): Map<number, DataView> {
  const out = new Map<number, DataView>();
  for (let at = skip; at + 4 <= body.byteLength; ) {
    const length = body.getUint16(at, true);
    if (length < 4 || at + length > body.byteLength) break;
    out.set(
      body.getUint16(at + 2, true) & NESTED_MASK,
      new DataView(body.buffer, body.byteOffset + at + 4, length - 4),
    );
    at += (length + 3) & ~3;
  }
  return out;
}

export function u32(view: DataView | undefined): number {
  return view === undefined || view.byteLength < 4 ? 0 : view.getUint32(0, true);
}

/** Text up to its terminating 0. */
export function textOf(view: DataView | undefined): string {
  if (view === undefined) return '';
  const bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
  const end = bytes.indexOf(0);
  return new TextDecoder().decode(bytes.slice(0, end < 0 ? bytes.length : end));
}

export function macOf(view: DataView | undefined): string {
  if (view === undefined) return '';
  const bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(':');
}

/** `10.0.0.1`, or IPv6 as RFC 5952 writes it; empty for another length. */
export function addressOf(view: DataView | undefined): string {
  if (view === undefined) return '';
  if (view.byteLength === 4) return [0, 1, 2, 3].map((i) => view.getUint8(i)).join('.');
  if (view.byteLength !== 16) return '';
  const words = Array.from({ length: 8 }, (_, i) => view.getUint16(i * 2, false));
  let best = -1;
  let bestLength = 1;
  for (let i = 0; i < 8; i++) {
    let end = i;
    while (end < 8 && words[end] === 0) end++;
    if (end - i > bestLength) {
      best = i;
      bestLength = end - i;
    }
  }
  const hex = (from: number, to: number): string =>
    words
      .slice(from, to)
      .map((word) => word.toString(16))
      .join(':');
  return best < 0 ? hex(0, 8) : `${hex(0, best)}::${hex(best + bestLength, 8)}`;
}
