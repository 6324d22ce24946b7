import { createHash } from 'node:crypto';
import { z } from 'zod';
import { RULE_LIMITS } from '../rules/spec.ts';
import { canonicalJson } from './canonical.ts';
import type { TrustedKeys } from './keys.ts';
import {
  MAX_LIFE,
  MAX_SKEW,
  type Refused,
  readEnvelope,
  type Statement,
  type Verified,
  verifyStatement,
} from './statement.ts';

/** Ids whose revisions are remembered. */
const MAX_IDS = 4 * RULE_LIMITS.rules;
/** Seconds. */
const EXPIRED_KEPT = 86_400;

interface Floor {
  readonly revision: number;
  /** Of all that the line says, signature and all. */
  readonly digest: string;
  /** No older statement can be valid after this, seconds since 1970. */
  readonly until: number;
}

const saved = z.object({
  version: z.literal(1),
  /** When the source was last heard of. */
  heard: z.number().nullable(),
  lines: z.array(z.string()),
  floors: z.array(z.object({ id: z.string(), revision: z.number(), digest: z.string(), until: z.number() })),
});

export interface Entry {
  readonly statement: Statement;
  readonly keyName: string;
  readonly text: string;
}

function digestOf(envelope: unknown): string {
  try {
    return createHash('sha256').update(canonicalJson(envelope)).digest('base64');
  } catch {
    // Nothing that anybody has signed: it is refused for it.
    return '';
  }
}

export type Outcome = { readonly accepted: Entry } | { readonly known: true } | Refused;

/**
 * The statements that count, each the highest revision of its id. It does not matter in which order or how often they come, and that one does
 * not come any more takes nothing away: only a withdrawal and the expiry do.
 */
export class RuleBook {
  readonly #keys: TrustedKeys;
  readonly #entries = new Map<string, Entry>();
  readonly #floors = new Map<string, Floor>();

  constructor(keys: TrustedKeys) {
    this.#keys = keys;
  }

  /** Takes a line, or says why not. Never throws. @param now seconds since 1970 */
  offer(text: string, now: number, skew?: number): Outcome {
    const read = readEnvelope(text);
    const named = read?.signed['id'];
    const digest = digestOf(read);
    // Spares verifying it again.
    if (typeof named === 'string' && this.#floors.get(named)?.digest === digest) return { known: true };
    const verified = verifyStatement(text, this.#keys, now, skew);
    return 'refused' in verified ? verified : this.#take(verified, text, digest, now);
  }

  #take({ statement, keyName }: Verified, text: string, digest: string, now: number): Outcome {
    const { id, revision, issued } = statement;
    const floor = this.#floors.get(id);
    if (floor !== undefined && revision < floor.revision)
      return { refused: 'older', id, why: `revision ${floor.revision} is known, this is ${revision}` };
    if (floor !== undefined && revision === floor.revision)
      return { refused: 'conflict', id, why: `revision ${revision} says something else already` };
    if (floor === undefined && this.#floors.size >= MAX_IDS) {
      this.#forget(now);
      if (this.#floors.size >= MAX_IDS) return { refused: 'full', id, why: `there are ${MAX_IDS} ids` };
    }
    // An older one was not issued after this one, but for clocks.
    this.#floors.set(id, { revision, digest, until: issued + MAX_LIFE + 2 * MAX_SKEW });
    const entry = { statement, keyName, text };
    if (statement.rule === null) this.#entries.delete(id);
    else this.#entries.set(id, entry);
    return { accepted: entry };
  }

  #forget(now: number): void {
    for (const [id, { until }] of this.#floors) if (until < now) this.#floors.delete(id);
  }

  /** What holds now. */
  entries(now: number): Entry[] {
    // Not at once: a clock that was ahead may be put right.
    for (const [id, { statement }] of this.#entries)
      if (statement.expires + EXPIRED_KEPT <= now) this.#entries.delete(id);
    return [...this.#entries.values()].filter(({ statement }) => statement.expires > now);
  }

  /** For the next start. */
  save(heard: number | null): string {
    return JSON.stringify({
      version: 1,
      heard,
      lines: [...this.#entries.values()].map(({ text }) => text),
      floors: [...this.#floors].map(([id, floor]) => ({ id, ...floor })),
    } satisfies z.output<typeof saved>);
  }

  /**
   * Goes on with what was saved: rules are verified anew, revisions stay known. Answers when the source was last heard of; undefined when
   * the text is not what save made.
   */
  load(text: string, now: number): { heard: number | null } | undefined {
    let read: z.output<typeof saved>;
    try {
      read = saved.parse(JSON.parse(text));
    } catch {
      return undefined;
    }
    const untrusted = new Set<string>();
    for (const line of read.lines) {
      // They were no longer from the future once: a machine may begin with a clock that is behind.
      const outcome = this.offer(line, now, Number.POSITIVE_INFINITY);
      if ('refused' in outcome && outcome.refused === 'unknown key')
        untrusted.add(digestOf(readEnvelope(line)));
    }
    for (const { id, ...floor } of read.floors) {
      // Whose key is no longer trusted comes back once it is: older ones do not.
      const known = untrusted.has(floor.digest)
        ? { ...floor, revision: floor.revision - 1, digest: '-' }
        : floor;
      if (known.revision > (this.#floors.get(id)?.revision ?? 0)) this.#floors.set(id, known);
    }
    return { heard: read.heard };
  }
}
