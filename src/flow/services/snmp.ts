import { oneOf } from './choice.ts';
import { answered } from './datagram.ts';

/** RFC 1157, 3416, 3412. */
const INTEGER = 0x02;
const OCTETS = 0x04;
const SEQUENCE = 0x30;
const FIRST_PDU = 0xa0;
const LAST_PDU = 0xa8;
const V1 = 0;
const V2C = 1;
const V3 = 3;

/** Reads BER headers; `at` is the content of the element, `end` its end, and -1 when there is none. */
class Element {
  at = 0;
  end = -1;

  /** Goes to the element of this tag (any PDU for 0) at `at` that ends at `limit` or before. */
  enter(u8: Uint8Array, at: number, limit: number, tag: number): boolean {
    this.end = -1;
    if (at + 2 > limit) return false;
    const found = u8[at];
    if (tag === 0 ? found < FIRST_PDU || found > LAST_PDU : found !== tag) return false;
    let size = u8[at + 1];
    let begin = at + 2;
    if (size >= 0x80) {
      const bytes = size & 0x7f;
      if (bytes === 0 || bytes > 3 || begin + bytes > limit) return false;
      size = 0;
      for (let i = 0; i < bytes; i++) size = size * 256 + u8[begin + i];
      begin += bytes;
    }
    if (begin + size > limit) return false;
    this.at = begin;
    this.end = begin + size;
    return true;
  }
}

const element = new Element();

function isSnmp(u8: Uint8Array, offset: number, length: number): boolean {
  const e = element;
  const end = offset + length;
  if (!e.enter(u8, offset, end, SEQUENCE) || e.end !== end) return false;
  if (!e.enter(u8, e.at, end, INTEGER) || e.end - e.at !== 1) return false;
  const version = u8[e.at];
  if (version === V3) {
    // Message id, maximal size, flags, security model; then the parameters of that.
    if (!e.enter(u8, e.end, end, SEQUENCE)) return false;
    const { at, end: after } = e;
    if (!e.enter(u8, at, after, INTEGER) || !e.enter(u8, e.end, after, INTEGER)) return false;
    if (!e.enter(u8, e.end, after, OCTETS) || e.end - e.at !== 1) return false;
    return e.enter(u8, e.end, after, INTEGER) && e.end === after && e.enter(u8, after, end, OCTETS);
  }
  if (version !== V1 && version !== V2C) return false;
  return e.enter(u8, e.end, end, OCTETS) && e.enter(u8, e.end, end, 0) && e.end === end;
}

/** SNMP 1, 2c and 3; as in Zeek it takes a message of the responder. */
export const SNMP = answered('snmp', oneOf(SEQUENCE), isSnmp);
