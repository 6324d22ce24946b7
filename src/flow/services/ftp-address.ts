import { decimal, isDigit } from './ascii.ts';
import type { Announced } from './service.ts';

/**
 * Data connections as the control connection announces them (RFC 959 PORT and PASV, RFC 2428 EPRT and EPSV).
 */

const SERVICE = 'ftp-data';

const COMMA = 0x2c;
const MAX_HOST = 45;

/** PORT h1,h2,h3,h4,p1,p2 or EPRT |1|address|port|. */
export function announcedByCommand(
  command: 'PORT' | 'EPRT',
  u8: Uint8Array,
  at: number,
  end: number,
): Announced | undefined {
  if (command === 'PORT') return sixNumbers(1, u8, at, end);
  if (at >= end) return undefined;
  const separator = u8[at];
  const family = next(u8, at + 1, end, separator);
  const host = next(u8, family + 1, end, separator);
  const port = next(u8, host + 1, end, separator);
  if (port < 0 || host - family - 1 > MAX_HOST || host - family < 2) return undefined;
  const number = decimal(u8, host + 1, port, 65_535);
  let address = '';
  for (let i = family + 1; i < host; i++) {
    const byte = u8[i];
    if (!isAddress(byte)) return undefined;
    address += String.fromCharCode(byte);
  }
  return number > 0 ? { service: SERVICE, byOrig: 1, host: address, port: number } : undefined;
}

/** 227 … h1,h2,h3,h4,p1,p2 … or 229 … (|||port|). */
export function announcedByReply(
  code: 227 | 229,
  u8: Uint8Array,
  at: number,
  end: number,
): Announced | undefined {
  if (code === 227) {
    let from = at;
    while (from < end && !isDigit(u8[from])) from++;
    return sixNumbers(0, u8, from, end);
  }
  let from = at;
  while (from < end && u8[from] !== 0x28) from++;
  if (from + 4 >= end) return undefined;
  const separator = u8[from + 1];
  if (u8[from + 2] !== separator || u8[from + 3] !== separator) return undefined;
  const port = decimal(u8, from + 4, next(u8, from + 4, end, separator), 65_535);
  return port > 0 ? { service: SERVICE, byOrig: 0, host: undefined, port } : undefined;
}

function sixNumbers(byOrig: 0 | 1, u8: Uint8Array, at: number, end: number): Announced | undefined {
  let host = '';
  let port = 0;
  let from = at;
  for (let i = 0; i < 6; i++) {
    let to = from;
    while (to < end && isDigit(u8[to])) to++;
    const value = decimal(u8, from, to, 255);
    if (value < 0 || (i < 5 && (to >= end || u8[to] !== COMMA))) return undefined;
    if (i < 4) host += i === 0 ? `${value}` : `.${value}`;
    else port = port * 256 + value;
    from = to + 1;
  }
  return port > 0 ? { service: SERVICE, byOrig, host, port } : undefined;
}

/** Place of the next separator; -1 when there is none. */
function next(u8: Uint8Array, at: number, end: number, separator: number): number {
  if (at <= 0) return -1;
  for (let i = at; i < end; i++) if (u8[i] === separator) return i;
  return -1;
}

/** Digits, letters up to f, dots and colons. */
function isAddress(byte: number): boolean {
  return isDigit(byte) || byte === 0x2e || byte === 0x3a || ((byte | 0x20) >= 0x61 && (byte | 0x20) <= 0x66);
}
