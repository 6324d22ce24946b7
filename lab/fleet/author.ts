import { writeFileSync } from 'node:fs';
import { generateKeys, readSigningKey, type SigningKey } from '../../src/fleet/keys.ts';
import { MAX_LIFE, MAX_SKEW, type StatementInput, signStatement } from '../../src/fleet/statement.ts';
import type { EdgePlace } from './edge.ts';
import { trueSeconds } from './until.ts';

type RuleBody = NonNullable<StatementInput['rule']>;

/** A statement that the desk has signed, and what it has to do with an edge's truth. */
export interface Signed {
  readonly id: string;
  readonly revision: number;
  readonly line: string;
  /** Seconds since 1970, true time: before it was signed. */
  readonly at: number;
  readonly rule: RuleBody | null;
  readonly issued: number;
  readonly expires: number;
  /** It cannot be put into force. */
  readonly bad: boolean;
}

export interface SignOptions {
  /** Seconds. */
  ttl?: number;
  /** Seconds since 1970, in place of now. */
  issued?: number;
  revision?: number;
  bad?: boolean;
}

const TTL = 3600;

/** Who signs: keeps in mind what was signed, which is what the edges have to be found with in the end. */
export class Author {
  readonly trust: string;
  /** The private key, for detectors. */
  readonly keyFile: string;
  readonly #key: SigningKey;
  readonly #stranger: SigningKey;
  /** Published, in the order of their revisions, by id. */
  readonly #published = new Map<string, Signed[]>();
  #last = 0;

  /** @param directory for the public key */
  constructor(directory: string) {
    const made = generateKeys('desk');
    this.#key = readSigningKey(made.privatePem, 'desk');
    this.#stranger = readSigningKey(generateKeys('stranger').privatePem, 'stranger');
    this.trust = `${directory}/desk.pub`;
    this.keyFile = `${directory}/desk.key`;
    writeFileSync(this.trust, made.publicLine);
    writeFileSync(this.keyFile, made.privatePem, { mode: 0o600 });
  }

  /** A statement that nothing is known of yet. */
  sign(id: string, rule: RuleBody | null, options: SignOptions = {}): Signed {
    const at = trueSeconds();
    const { ttl = rule === null ? MAX_LIFE - 1 : TTL, issued = Math.floor(at), bad = false } = options;
    this.#last = Math.max(this.#last + 1, Math.floor(at * 1000));
    const revision = options.revision ?? this.#last;
    const expires = issued + ttl;
    const about = { version: 1, id, revision, author: 'lab', issued, expires } as const;
    const line = signStatement({ ...about, rule }, this.#key);
    return { id, revision, line, at, rule, issued, expires, bad };
  }

  /** In force from now on, wherever it may be. */
  published(...statements: readonly Signed[]): void {
    for (const statement of statements) {
      const all = [...(this.#published.get(statement.id) ?? []), statement];
      this.#published.set(
        statement.id,
        all.toSorted((a, b) => a.revision - b.revision),
      );
    }
  }

  /** Signed by nobody whom edges trust. */
  stranger(id: string, rule: RuleBody): string {
    const issued = Math.floor(trueSeconds());
    const about = { version: 1, id, revision: 1, author: 'stranger', issued, expires: issued + TTL } as const;
    return signStatement({ ...about, rule }, this.#stranger);
  }

  get ids(): string[] {
    return [...this.#published.keys()];
  }

  /** Revisions that have to be in force at an edge that has heard of everything, by its clock. */
  truth({ site, offset }: EdgePlace): Map<string, number> {
    const now = trueSeconds() + offset;
    const found = new Map<string, number>();
    for (const [id, statements] of this.#published) {
      const heard = statements.filter(({ issued }) => issued <= now + MAX_SKEW);
      const last = heard.at(-1);
      if (last === undefined || last.rule === null || last.expires <= now) continue;
      const sites = last.rule.scope?.sites;
      if (sites !== undefined && !sites.includes(site)) continue;
      // A revision that cannot be put into force leaves the one before there.
      const good = heard.findLast(({ bad }) => !bad);
      if (good !== undefined && good.rule !== null && good.expires > now) found.set(id, good.revision);
    }
    return found;
  }
}
