import { ruleLines } from './rule.ts';
import { readSignature, type Signature, type Variables } from './signature.ts';

/** A rule with `bypass` that is not honoured. */
export interface RefusedSignature {
  line: number;
  sid: number;
  msg: string;
  reason: string;
}

export interface SignatureFile {
  /** Rules in all, with and without `bypass`. */
  rules: number;
  signatures: readonly Signature[];
  refused: readonly RefusedSignature[];
  /** Lines that are no rule. */
  damaged: readonly { line: number; reason: string }[];
}

/** Rules between two turns of the event loop. */
const RULES_A_TURN = 2000;
/** Signatures with `bypass` that are kept. */
export const MAX_SIGNATURES = 65_536;

/** The `bypass` signatures of a rule file. Never throws. */
export async function readSignatures(text: string, variables: Variables = {}): Promise<SignatureFile> {
  const out = {
    rules: 0,
    signatures: [] as Signature[],
    refused: [] as RefusedSignature[],
    damaged: [] as { line: number; reason: string }[],
  };
  for (const { line, text: rule } of ruleLines(text)) {
    if (++out.rules % RULES_A_TURN === 0) await new Promise((resolve) => setImmediate(resolve));
    const { sid, msg, bypass, signature, reason } = readSignature(rule, variables);
    if (signature !== undefined && out.signatures.length < MAX_SIGNATURES) out.signatures.push(signature);
    else if (bypass) out.refused.push({ line, sid, msg, reason: reason ?? 'there are too many' });
    else if (reason !== undefined) {
      out.rules--;
      out.damaged.push({ line, reason });
    }
  }
  return out;
}
