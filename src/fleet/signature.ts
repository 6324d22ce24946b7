import { sign, verify } from 'node:crypto';
import { z } from 'zod';
import { canonicalJson } from './canonical.ts';
import type { SigningKey, TrustedKey } from './keys.ts';

/** Members of a line beside what is signed. */
export const SIGNATURE = {
  /** Whose it is. */
  key: z.string().regex(/^[0-9a-f]{16}$/),
  /** In the one form that base64 has for it. */
  signature: z.string().regex(/^[A-Za-z0-9+/]{85}[AQgw]==$/),
};

const bytesOf = (domain: string, value: unknown): Buffer => Buffer.from(domain + canonicalJson(value));

/**
 * Ed25519 over a value in canonical form.
 * @param domain before it: a signature for something else never fits @throws SluiceError FILE_FORMAT for what has no such form
 */
export function signatureOf(
  domain: string,
  value: unknown,
  { id, key }: SigningKey,
): { key: string; signature: string } {
  return { key: id, signature: sign(null, bytesOf(domain, value), key).toString('base64') };
}

/** Never throws, whatever the value is. */
export function isSigned(domain: string, value: unknown, signature: string, { key }: TrustedKey): boolean {
  try {
    return verify(null, bytesOf(domain, value), key, Buffer.from(signature, 'base64'));
  } catch {
    // Nothing that we would have signed.
    return false;
  }
}
