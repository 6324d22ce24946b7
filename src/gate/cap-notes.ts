import { statSync } from 'node:fs';
import { join } from 'node:path';
import type { BpfMap } from '../kernel/index.ts';
import { RUN_DIRECTORY } from './control-places.ts';
import { readState } from './daemon-state.ts';
import { VERDICTS } from './layout.ts';
import { readMeta } from './pinned.ts';
import { readRules } from './rule-file.ts';

/** SL_NOTED_* of bpf/gate.h. */
const Noted = { verdict: 1, owner: 2 } as const;
const RULED: ReadonlySet<string> = new Set(['ruleDropped', 'rateLimited']);

/** What a gate has noted of a packet as text: `verdict=shunted owner=zeek`, `verdict=ruleDropped rule=ntp`. */
export class NoteTexts {
  /** Where the gate's daemon, if it has one, tells of owners and rules. */
  readonly #files: { state: string; rules: string } | undefined;
  #owners = new Map<number, string>();
  #rules = new Map<number, string>();
  #rulesOf = 0;

  /** `meta` of the gate; undefined for a hook that is nobody's. */
  constructor(meta: BpfMap | undefined, path: string) {
    if (meta === undefined) return;
    const { netns, ifindex } = readMeta(meta, path);
    const file = (ending: string): string => join(RUN_DIRECTORY, `${netns}-${ifindex}.${ending}`);
    this.#files = { state: file('json'), rules: file('rules') };
    this.refresh();
  }

  /** Owners and rules come and go. */
  refresh(): void {
    if (this.#files === undefined) return;
    const owners = readState(this.#files)?.owners ?? [];
    this.#owners = new Map(owners.map(({ slot, name }) => [slot, name]));
    const changed = statSync(this.#files.rules, { throwIfNoEntry: false })?.mtimeMs ?? 0;
    // There may be thousands: read when they have changed.
    if (changed === this.#rulesOf) return;
    this.#rulesOf = changed;
    const rows = readRules(this.#files.rules)?.rows ?? [];
    this.#rules = new Map(rows.map(({ id, row }) => [row, id]));
  }

  /** Undefined when nothing was noted. */
  text(noted: number, verdict: number, rule: number, owner: number): string | undefined {
    if ((noted & Noted.verdict) === 0) return undefined;
    const name = VERDICTS[verdict] ?? `${verdict}`;
    const ruled = RULED.has(name);
    const owned = (noted & Noted.owner) !== 0;
    // Who is new since the last time.
    if ((ruled && !this.#rules.has(rule)) || (owned && owner !== 0 && !this.#owners.has(owner)))
      this.refresh();
    const words = [`verdict=${name}`];
    if (ruled) words.push(`rule=${this.#rules.get(rule) ?? rule}`);
    if (owned) words.push(`owner=${this.#owner(owner)}`);
    return words.join(' ');
  }

  /** Without a daemon the owners are the workers of `sluice run`. */
  #owner(slot: number): string {
    if (slot === 0) return 'hand';
    return this.#owners.get(slot) ?? `worker${slot}`;
  }
}
