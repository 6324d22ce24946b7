import { createCipheriv, createHmac } from 'node:crypto';
import { hex } from './bytes.ts';

export const V1 = 1;
export const V2 = 0x6b3343cf;
export const DRAFT29 = 0xff00001d;
export const SALTS = new Map([
  [V1, '38762cf7f55934b34d179ae6a4c80cadccbb7f0a'],
  [V2, '0dede3def700a6db819381be6e269dcbf9bd2ed9'],
  [DRAFT29, 'afbfec289993d24c9e9786f19c6111e04390a899'],
]);
export const CLIENT_ID = hex('8394c8f03e515708');
export const SERVER_ID = hex('f067a5502a4262b5');

export function label(secret: Uint8Array, text: string, bytes: number): Buffer {
  const info = Buffer.concat([
    Buffer.from([0, bytes, text.length + 6]),
    Buffer.from(`tls13 ${text}`),
    Buffer.of(0),
  ]);
  return createHmac('sha256', secret).update(info).update(Buffer.of(1)).digest().subarray(0, bytes);
}

export function extract(salt: string, id: Uint8Array): Buffer {
  return createHmac('sha256', Buffer.from(salt, 'hex')).update(id).digest();
}

function varint(value: number): Buffer {
  if (value < 64) return Buffer.of(value);
  if (value < 16_384) return Buffer.of(0x40 | (value >> 8), value & 255);
  return Buffer.of(0x80 | (value >>> 24), (value >> 16) & 255, (value >> 8) & 255, value & 255);
}

export function crypto(offset: number, bytes: Uint8Array): Buffer {
  return Buffer.concat([Buffer.of(6), varint(offset), varint(bytes.length), bytes]);
}

/** An Initial packet as RFC 9001 protects it. */
export function initial(
  frames: Uint8Array,
  { from = 1, version = V1, number = 0, keyId = CLIENT_ID, token = 0 } = {},
): Buffer {
  const prefix = version === V2 ? 'quicv2' : 'quic';
  const secret = label(extract(SALTS.get(version) ?? '', keyId), from === 1 ? 'client in' : 'server in', 32);
  const padded = Buffer.concat([frames, Buffer.alloc(Math.max(0, 1162 - frames.length))]);
  const type = version === V2 ? 1 : 0;
  const [to, sender] = from === 1 ? [keyId, Buffer.alloc(0)] : [Buffer.alloc(0), SERVER_ID];
  const head = Buffer.concat([
    Buffer.of(
      0xc0 | (type << 4) | 1,
      version >>> 24,
      (version >> 16) & 255,
      (version >> 8) & 255,
      version & 255,
    ),
    Buffer.of(to.length),
    to,
    Buffer.of(sender.length),
    sender,
    varint(token),
    Buffer.alloc(token, 7),
    varint(2 + padded.length + 16),
    Buffer.of(number >> 8, number & 255),
  ]);
  const nonce = label(secret, `${prefix} iv`, 12);
  nonce[10] ^= number >> 8;
  nonce[11] ^= number & 255;
  const cipher = createCipheriv('aes-128-gcm', label(secret, `${prefix} key`, 16), nonce);
  cipher.setAAD(head);
  const body = Buffer.concat([cipher.update(padded), cipher.final(), cipher.getAuthTag()]);
  const mask = createCipheriv('aes-128-ecb', label(secret, `${prefix} hp`, 16), null).update(
    body.subarray(2, 18),
  );
  head[0] ^= mask[0] & 15;
  head[head.length - 2] ^= mask[1];
  head[head.length - 1] ^= mask[2];
  return Buffer.concat([head, body]);
}

/** A packet with a short header. */
export const short = Buffer.concat([Buffer.of(0x41), Buffer.alloc(40, 9)]);
/** Another one with a long header, of a type that only passes by. */
export const handshake = hex('e0 00000001 00 08 f067a5502a4262b5 05 0102030405');
