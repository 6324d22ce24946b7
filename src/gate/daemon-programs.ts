import type { TrustedKeys } from '../fleet/keys.ts';
import type { ProgramsHere } from '../fleet/nats-desk.ts';
import { type Bundle, type BundleRefused, type BundleSigned, verifyBundle } from '../fleet/program-bundle.ts';
import type { RuleKeeper } from './daemon-rules.ts';
import { SlPacket } from './layout.gen.ts';

export type { ProgramsHere };

interface TakerParts {
  readonly rules: Pick<RuleKeeper, 'take' | 'made'>;
  readonly taken: (signed: BundleSigned, keyName: string) => void;
  readonly failed: (error: unknown) => void;
}

/** Takes programs that a desk has compiled, from keys with that right. The newest count; rules that are not in them are compiled here. */
export class ProgramTaker {
  readonly #keys: TrustedKeys;
  readonly #parts: TakerParts;
  #bundle: Bundle | undefined;
  /** Why what came last was not taken, unless what is here is newer. */
  #refused: string | null = null;

  constructor(keys: TrustedKeys, parts: TakerParts) {
    this.#keys = keys;
    this.#parts = parts;
  }

  /** Why they do not count; undefined when they do. Never throws. */
  offer(text: string): BundleRefused | undefined {
    const bundle = verifyBundle(text, this.#keys, Date.now() / 1000, SlPacket.members.frame_len);
    if ('refused' in bundle) {
      this.#refused = bundle.why;
      return bundle;
    }
    const { signed, keyName, bytes, set } = bundle;
    const known = this.#bundle?.signed;
    if (known !== undefined && signed.revision <= known.revision) {
      if (signed.program === known.program && signed.list === known.list) return undefined;
      return {
        refused: signed.revision < known.revision ? 'older' : 'conflict',
        why: `programs of revision ${known.revision} are here`,
      };
    }
    this.#bundle = bundle;
    this.#refused = null;
    this.#parts.rules
      .take({ hash: signed.program, bytes }, set.rules)
      .then(() => this.#parts.taken(signed, keyName), this.#parts.failed);
    return undefined;
  }

  status(): ProgramsHere {
    const { taken, here, whyNot } = this.#parts.rules.made();
    const from = this.#bundle;
    return {
      from:
        from === undefined
          ? null
          : {
              key: from.keyName,
              revision: from.signed.revision,
              hash: from.signed.program,
              rules: from.set.rules.size,
            },
      taken,
      here,
      why: whyNot ?? this.#refused,
    };
  }
}
