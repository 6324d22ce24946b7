import { createCipheriv, createDecipheriv, hash } from 'node:crypto';

/** Protection of Initial packets, whose keys everybody can derive (RFC 9001 section 5.2, RFC 9369 section 3.3). */

interface Version {
  salt: Buffer;
  /** Prefix of the labels. */
  label: string;
  /** Packet types Initial and Retry in the long header; the others only pass by. */
  initial: number;
  retry: number;
}

const V1 = 0x00000001;
const V2 = 0x6b3343cf;
const DRAFT29 = 0xff00001d;
const DRAFT32 = 0xff000020;
const DRAFT33 = 0xff000021;
const DRAFT34 = 0xff000022;

const FINAL: Version = {
  salt: Buffer.from('38762cf7f55934b34d179ae6a4c80cadccbb7f0a', 'hex'),
  label: 'quic',
  initial: 0,
  retry: 3,
};
const SECOND: Version = {
  salt: Buffer.from('0dede3def700a6db819381be6e269dcbf9bd2ed9', 'hex'),
  label: 'quicv2',
  initial: 1,
  retry: 0,
};
const DRAFT: Version = { ...FINAL, salt: Buffer.from('afbfec289993d24c9e9786f19c6111e04390a899', 'hex') };

/** What is known of a version; undefined for those that are not supported. `version` is unsigned. */
export function quicVersion(version: number): Version | undefined {
  if (version === V1 || version === DRAFT33 || version === DRAFT34) return FINAL;
  if (version === V2) return SECOND;
  return version >= DRAFT29 && version <= DRAFT32 ? DRAFT : undefined;
}

const TAG_BYTES = 16;
const SAMPLE_BYTES = 16;

const BLOCK_BYTES = 64;

/** HMAC-SHA-256 (RFC 2104) for keys of at most a block; a Hmac object costs several times as much. */
function hmac(key: Uint8Array, data: Uint8Array): Buffer {
  const inner = new Uint8Array(BLOCK_BYTES + data.length).fill(0x36, 0, BLOCK_BYTES);
  const outer = new Uint8Array(BLOCK_BYTES + 32).fill(0x5c, 0, BLOCK_BYTES);
  for (let i = 0; i < key.length; i++) {
    inner[i] ^= key[i];
    outer[i] ^= key[i];
  }
  inner.set(data, BLOCK_BYTES);
  outer.set(hash('sha256', inner, 'buffer'), BLOCK_BYTES);
  return hash('sha256', outer, 'buffer');
}

/** HKDF-Expand-Label of TLS 1.3 for results of at most 32 bytes: one block. */
function expand(secret: Uint8Array, label: string, bytes: number): Buffer {
  const name = `tls13 ${label}`;
  const info = Buffer.concat([
    Buffer.from([0, bytes, name.length]),
    Buffer.from(name, 'latin1'),
    Buffer.from([0, 1]),
  ]);
  return hmac(secret, info).subarray(0, bytes);
}

/** What the keys of both directions come from; `connectionId` is what the client's first Initial was sent to. */
export function initialSecret(version: Version, connectionId: Uint8Array): Uint8Array {
  return hmac(version.salt, connectionId);
}

/** Keys of one direction. */
export class InitialKeys {
  readonly #key: Buffer;
  readonly #iv: Buffer;
  readonly #hp: Buffer;

  constructor(version: Version, initial: Uint8Array, fromClient: boolean) {
    const secret = expand(initial, fromClient ? 'client in' : 'server in', 32);
    this.#key = expand(secret, `${version.label} key`, 16);
    this.#iv = expand(secret, `${version.label} iv`, 12);
    this.#hp = expand(secret, `${version.label} hp`, 16);
  }

  /**
   * The frames of the packet u8[begin, end) whose packet number is at `number`; undefined when it was not protected with
   * these keys. The bytes are not changed.
   */
  open(u8: Uint8Array, begin: number, number: number, end: number): Uint8Array | undefined {
    const sample = number + 4;
    if (sample + SAMPLE_BYTES > end) return undefined;
    const mask = createCipheriv('aes-128-ecb', this.#hp, null).update(
      u8.subarray(sample, sample + SAMPLE_BYTES),
    );
    const first = u8[begin] ^ (mask[0] & 15);
    const numberBytes = (first & 3) + 1;
    const payload = number + numberBytes;
    if (payload + TAG_BYTES > end) return undefined;
    const header = u8.slice(begin, payload);
    header[0] = first;
    const nonce = Buffer.from(this.#iv);
    for (let i = 0; i < numberBytes; i++) {
      header[number - begin + i] ^= mask[i + 1];
      nonce[12 - numberBytes + i] ^= header[number - begin + i];
    }
    const decipher = createDecipheriv('aes-128-gcm', this.#key, nonce);
    decipher.setAAD(header);
    decipher.setAuthTag(u8.subarray(end - TAG_BYTES, end));
    const clear = decipher.update(u8.subarray(payload, end - TAG_BYTES));
    try {
      decipher.final();
    } catch {
      return undefined;
    }
    return clear;
  }
}
