import { createHash } from 'node:crypto';
import { gunzipSync, gzipSync } from 'node:zlib';
import { z } from 'zod';
import { SluiceError } from '../base/errors.ts';
import {
  compilerAbi,
  MOST_BYTES,
  type ProgramBytes,
  type ProgramSet,
  programHash,
  readSet,
} from '../rules/taken/program-set.ts';
import { canonicalJson } from './canonical.ts';
import type { SigningKey, TrustedKeys } from './keys.ts';
import { isSigned, SIGNATURE, signatureOf } from './signature.ts';
import { MAX_SKEW, type Refusal } from './statement.ts';

/** Characters of a line with compiled programs. */
export const MAX_BUNDLE = 8 << 20;
const DOMAIN = 'sluice programs 1\n';
/** Lines are in canonical form, by which they are known without being read. */
const BEGINNING = '{"code":"';

const hash = z.string().regex(/^[0-9a-f]{64}$/);
const signedSchema = z.strictObject({
  version: z.literal(1),
  /** Of several the highest counts. */
  revision: z.number().int().min(1).max(Number.MAX_SAFE_INTEGER),
  author: z.string().min(1).max(128),
  /** Seconds since 1970, by the author's clock. */
  issued: z.number().positive().max(1e11),
  /** Of the compiler and the gates that it has compiled for (compilerAbi). */
  abi: z.string().max(64),
  /** SHA-256 of the programs before they are specialised, and of the list of rules and constants. */
  program: hash,
  list: hash,
});
export type BundleSigned = z.output<typeof signedSchema>;

const base64 = z.string().regex(/^[A-Za-z0-9+/]*={0,2}$/);
const envelope = z.strictObject({
  /** Both with gzip, in base64. */
  code: base64,
  constants: base64,
  signed: z.looseObject({}),
  ...SIGNATURE,
});

/** Programs that a trusted key has signed, and that do no more than rules do. */
export interface Bundle {
  readonly signed: BundleSigned;
  readonly keyName: string;
  readonly bytes: ProgramBytes;
  readonly set: ProgramSet;
}

export interface BundleRefused {
  readonly refused: Refusal;
  readonly why: string;
}

export const isBundle = (text: string): boolean => text.startsWith(BEGINNING);

const packed = (bytes: Uint8Array): string => gzipSync(bytes, { level: 9 }).toString('base64');
const unpacked = (text: string): Uint8Array =>
  gunzipSync(Buffer.from(text, 'base64'), { maxOutputLength: MOST_BYTES });
const hashOf = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** One line, as isBundle knows it. @throws SluiceError LIMIT */
export function signBundle(
  bytes: ProgramBytes,
  about: Pick<BundleSigned, 'revision' | 'author' | 'issued' | 'abi'>,
  key: SigningKey,
): string {
  const signed: BundleSigned = {
    version: 1,
    ...about,
    program: programHash(bytes.program),
    list: hashOf(bytes.list),
  };
  const [code, constants] = [packed(bytes.program), packed(bytes.list)];
  const line = canonicalJson({ code, constants, signed, ...signatureOf(DOMAIN, signed, key) });
  if (line.length > MAX_BUNDLE)
    throw new SluiceError('LIMIT', `the programs take ${line.length} bytes; ${MAX_BUNDLE} are allowed`, {
      help: 'edges compile these rules for themselves',
    });
  return line;
}

/** What a line says before anything of it is believed; undefined: it has no programs. */
export function readBundle(text: string): z.output<typeof envelope> | undefined {
  if (text.length > MAX_BUNDLE || !isBundle(text)) return undefined;
  try {
    return envelope.safeParse(JSON.parse(text)).data;
  } catch {
    return undefined;
  }
}

const refuse = (refused: Refusal, why: string): BundleRefused => ({ refused, why });

/**
 * Whether programs may be taken: the signature of a key with that right, the ABI, both hashes, and what the programs do. Never throws, whatever
 * the text is. @param now seconds since 1970 @param frameLength as of compilerAbi
 */
export function verifyBundle(
  text: string,
  keys: TrustedKeys,
  now: number,
  frameLength: number,
): Bundle | BundleRefused {
  const read = readBundle(text);
  if (read === undefined) return refuse('malformed', 'it is no signed program');
  const trusted = keys.get(read.key);
  if (trusted === undefined) return refuse('unknown key', `programs of key ${read.key} are not taken here`);
  if (!isSigned(DOMAIN, read.signed, read.signature, trusted))
    return refuse('forged', `it is not what key ${trusted.name} has signed`);
  const parsed = signedSchema.safeParse(read.signed);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    return refuse('invalid', `${issue.path.join('.') || 'it'}: ${issue.message}`);
  }
  const signed = parsed.data;
  if (signed.issued > now + MAX_SKEW)
    return refuse('from the future', `it was issued ${Math.round(signed.issued - now)} s from now`);
  const abi = compilerAbi(frameLength);
  if (signed.abi !== abi)
    return refuse('other version', `it was compiled for gates of version ${signed.abi}, this is ${abi}`);
  let bytes: ProgramBytes;
  try {
    bytes = { program: unpacked(read.code), list: unpacked(read.constants) };
  } catch {
    return refuse('malformed', 'its programs cannot be unpacked');
  }
  if (programHash(bytes.program) !== signed.program || hashOf(bytes.list) !== signed.list)
    return refuse('forged', `the programs are not those that key ${trusted.name} has signed`);
  const set = readSet(bytes, frameLength);
  if (typeof set === 'string') return refuse('invalid', set);
  return { signed, keyName: trusted.name, bytes, set };
}
