import { C, hex, S, type Said } from './bytes.ts';

const u16 = (value: number) => Buffer.of(value >> 8, value & 255);
export const u24 = (value: number) => Buffer.of(value >> 16, (value >> 8) & 255, value & 255);

export function record(type: number, body: Uint8Array, { epoch = 0, version = 0xfefd } = {}): Buffer {
  return Buffer.concat([Buffer.of(type), u16(version), u16(epoch), Buffer.alloc(6), u16(body.length), body]);
}

/** A handshake message, or the part of it that begins at `from`. */
export function message(type: number, body: Uint8Array, from = 0, to = body.length): Buffer {
  return Buffer.concat([
    Buffer.of(type),
    u24(body.length),
    u16(0),
    u24(from),
    u24(to - from),
    body.subarray(from, to),
  ]);
}

const NAME = Buffer.from('dtls.sluice.test');
const serverName = Buffer.concat([
  u16(0),
  u16(NAME.length + 5),
  u16(NAME.length + 3),
  Buffer.of(0),
  u16(NAME.length),
  NAME,
]);

export function clientHello(cookie = 0): Buffer {
  const extensions = Buffer.concat([serverName, hex('000a 0004 0002 001d')]);
  return Buffer.concat([
    hex(`fefd ${'11'.repeat(32)} 00`),
    Buffer.of(cookie),
    Buffer.alloc(cookie, 5),
    hex('0004 c02b c02f 01 00'),
    u16(extensions.length),
    extensions,
  ]);
}

export const serverHello = hex(
  `fefd ${'22'.repeat(32)} 00 c02b 00 0004 ff01 0000`.replace('0004 ff01 0000', '0005 ff01 0001 00'),
);
export const serverHello13 = hex(`fefd ${'22'.repeat(32)} 00 1301 00 0006 002b 0002 fefc`);
const finished = record(22, Buffer.alloc(40, 9), { epoch: 1 });
const change = record(20, Buffer.of(1));

export const full: Said[] = [
  C(record(22, message(1, clientHello()), { version: 0xfeff })),
  S(record(22, message(3, hex('fefd 04 01020304')), { version: 0xfeff })),
  C(record(22, message(1, clientHello(20)), { version: 0xfeff })),
  S(Buffer.concat([record(22, message(2, serverHello)), record(22, message(14, Buffer.alloc(0)))])),
  C(Buffer.concat([record(22, message(16, Buffer.alloc(33))), change, finished])),
  S(Buffer.concat([change, finished])),
];
