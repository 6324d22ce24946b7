import { z } from 'zod';
import { SluiceError } from '../base/errors.ts';
import { type Rule, ruleSchema } from '../rules/spec.ts';
import { canonicalJson } from './canonical.ts';
import type { SigningKey, TrustedKeys } from './keys.ts';
import { isSigned, SIGNATURE, signatureOf } from './signature.ts';

/** What is before a fleet's rule ids on a gate: rules of people have other names. */
export const FLEET_PREFIX = 'fleet-';
/** Seconds between issue and expiry, at most. */
export const MAX_LIFE = 366 * 86_400;
/** Seconds that the clock of an author may be ahead of ours. */
export const MAX_SKEW = 300;
/** Of a signed rule as a line. */
export const MAX_LINE = 1 << 20;
/** What is signed begins with this: a signature for something else never fits. */
const DOMAIN = 'sluice rule 1\n';

const seconds = z.number().positive().max(1e11);
const statement = z.strictObject({
  version: z.literal(1),
  id: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,57}$/, {
    error: 'must be 1 to 58 letters, digits, dots, dashes or underscores',
  }),
  /** Of several statements about one id the highest counts. */
  revision: z.number().int().min(1).max(Number.MAX_SAFE_INTEGER),
  author: z.string().min(1).max(128),
  /** Seconds since 1970, by the author's clock. */
  issued: seconds,
  expires: seconds,
  /** Null: the rule is withdrawn. */
  rule: ruleSchema.omit({ id: true, enabled: true, expires: true }).nullable(),
});
export type Statement = z.output<typeof statement>;
export type StatementInput = z.input<typeof statement>;

const envelope = z.strictObject({
  signed: z.looseObject({}),
  ...SIGNATURE,
});

/** Why a statement does not count. */
export type Refusal =
  | 'malformed'
  | 'unknown key'
  | 'forged'
  | 'invalid'
  | 'expired'
  | 'from the future'
  | 'older'
  | 'conflict'
  | 'full'
  /** Of compiled programs: they are for gates of another version. */
  | 'other version';

export interface Refused {
  readonly refused: Refusal;
  /** As it says itself; nothing proves it unless the signature was good. */
  readonly id: string | undefined;
  readonly why: string;
}

export interface Verified {
  readonly statement: Statement;
  readonly keyName: string;
}

/** One line: the statement in canonical form, who signed it, the signature. @throws SluiceError USAGE */
export function signStatement(input: StatementInput, key: SigningKey): string {
  const parsed = statement.safeParse(input);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw new SluiceError('USAGE', `rule ${input.id}: ${issue.path.join('.') || 'it'}: ${issue.message}`);
  }
  const { issued, expires } = parsed.data;
  if (expires <= issued || expires - issued > MAX_LIFE)
    throw new SluiceError('USAGE', `rule ${input.id}: it has to expire within 366 days`, {
      help: 'give --ttl',
    });
  const signed = parsed.data;
  return canonicalJson({ signed, ...signatureOf(DOMAIN, signed, key) });
}

/** What a line says before anything of it is believed; undefined: it is no signed rule. */
export function readEnvelope(text: string): z.output<typeof envelope> | undefined {
  if (text.length > MAX_LINE) return undefined;
  try {
    return envelope.safeParse(JSON.parse(text)).data;
  } catch {
    return undefined;
  }
}

/** A statement whose signature nobody has looked at; undefined: it is none. */
export function readStatement(text: string): Statement | undefined {
  return statement.safeParse(readEnvelope(text)?.signed).data;
}

const idIn = (signed: { readonly [name: string]: unknown }): string | undefined =>
  typeof signed['id'] === 'string' ? signed['id'].slice(0, 64) : undefined;

/** Never throws, whatever the text is. @param now seconds since 1970 @param skew seconds that it may be issued from now */
export function verifyStatement(
  text: string,
  keys: TrustedKeys,
  now: number,
  skew = MAX_SKEW,
): Verified | Refused {
  const read = readEnvelope(text);
  if (read === undefined) return { refused: 'malformed', id: undefined, why: 'it is not a signed rule' };
  const { signed, key: keyId, signature } = read;
  const id = idIn(signed);
  const refuse = (refused: Refusal, why: string): Refused => ({ refused, id, why });
  const trusted = keys.get(keyId);
  if (trusted === undefined) return refuse('unknown key', `key ${keyId} is not trusted here`);
  if (!isSigned(DOMAIN, signed, signature, trusted))
    return refuse('forged', `it is not what key ${trusted.name} has signed`);
  const parsed = statement.safeParse(signed);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    return refuse('invalid', `${issue.path.join('.') || 'it'}: ${issue.message}`);
  }
  const { issued, expires } = parsed.data;
  if (expires <= issued || expires - issued > MAX_LIFE)
    return refuse('invalid', 'it lives longer than 366 days');
  if (issued > now + skew)
    return refuse(
      'from the future',
      `it was issued ${Math.round(issued - now)} s from now: a clock is wrong`,
    );
  if (expires <= now) return refuse('expired', `it expired ${Math.round(now - expires)} s ago`);
  return { statement: parsed.data, keyName: trusted.name };
}

/** The rule of a gate; undefined for a withdrawal. */
export function ruleOf({ id, rule, expires }: Statement): Rule | undefined {
  return rule === null ? undefined : { ...rule, id: FLEET_PREFIX + id, enabled: true, expires };
}
