import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
} from 'node:crypto';
import { SluiceError } from '../base/errors.ts';

/** DER of an Ed25519 public key before its 32 bytes (RFC 8410). */
const SPKI = Buffer.from('302a300506032b6570032100', 'hex');
const KEY_BYTES = 32;
const NAME = /^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$/;
const MAX_KEYS = 1024;

/** Whose signatures count. */
export interface TrustedKey {
  /** 16 hexadecimal digits of the key's SHA-256. */
  readonly id: string;
  readonly name: string;
  readonly key: KeyObject;
}
export type TrustedKeys = ReadonlyMap<string, TrustedKey>;

/** To sign with. */
export interface SigningKey {
  readonly id: string;
  readonly key: KeyObject;
}

const rawOf = (key: KeyObject): Buffer => key.export({ format: 'der', type: 'spki' }).subarray(SPKI.length);
const idOf = (raw: Buffer): string => createHash('sha256').update(raw).digest('hex').slice(0, 16);

/** @throws SluiceError USAGE */
export function checkKeyName(name: string): string {
  if (NAME.test(name)) return name;
  throw new SluiceError('USAGE', `'${name}' is no name of a key`, {
    help: '1 to 64 letters, digits, dots, dashes, underscores, @',
  });
}

/** A new pair: the private key as PKCS #8 PEM, the public one as a line for a file of trusted keys. */
export function generateKeys(name: string): { id: string; privatePem: string; publicLine: string } {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  const raw = rawOf(publicKey);
  return {
    id: idOf(raw),
    privatePem: privateKey.export({ format: 'pem', type: 'pkcs8' }) as string,
    publicLine: `ed25519 ${raw.toString('base64')} ${checkKeyName(name)}\n`,
  };
}

/** @throws SluiceError FILE_FORMAT */
export function readSigningKey(pem: string, path: string): SigningKey {
  let key: KeyObject;
  try {
    key = createPrivateKey(pem);
  } catch {
    // What Node says of it may quote it.
    throw new SluiceError('FILE_FORMAT', `${path} is no private key`, {
      help: 'sluice rule keygen makes one',
    });
  }
  if (key.asymmetricKeyType !== 'ed25519')
    throw new SluiceError('FILE_FORMAT', `${path} is a key for ${key.asymmetricKeyType}, not for Ed25519`);
  return { id: idOf(rawOf(createPublicKey(key))), key };
}

/** Lines `ed25519 BASE64 NAME`; `#` begins a comment. @throws SluiceError FILE_FORMAT */
export function readTrustedKeys(text: string, path: string): TrustedKey[] {
  const keys: TrustedKey[] = [];
  for (const [at, line] of text.split('\n').entries()) {
    const words = line.replace(/#.*/, '').trim().split(/\s+/);
    if (words[0] === '') continue;
    const [kind, encoded = '', name = ''] = words;
    const raw = Buffer.from(encoded, 'base64');
    if (
      words.length !== 3 ||
      kind !== 'ed25519' ||
      raw.length !== KEY_BYTES ||
      raw.toString('base64') !== encoded ||
      !NAME.test(name)
    )
      throw new SluiceError('FILE_FORMAT', `${path}:${at + 1} is not a public key`, {
        help: 'ed25519 BASE64 NAME, as in the .pub file of sluice rule keygen',
      });
    const key = createPublicKey({ key: Buffer.concat([SPKI, raw]), format: 'der', type: 'spki' });
    keys.push({ id: idOf(raw), name, key });
  }
  if (keys.length === 0 || keys.length > MAX_KEYS)
    throw new SluiceError('FILE_FORMAT', `${path} has ${keys.length} keys; it needs 1 to ${MAX_KEYS}`);
  return keys;
}

export const keysById = (keys: readonly TrustedKey[]): TrustedKeys =>
  new Map(keys.map((key) => [key.id, key]));
