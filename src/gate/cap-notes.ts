import { join } from 'node:path';
import type { BpfMap } from '../kernel/index.ts';
import { RUN_DIRECTORY } from './control-places.ts';
import { readState } from './daemon-state.ts';
import { VERDICTS } from './layout.ts';
import { readMeta } from './pinned.ts';

/** SL_NOTED_* of bpf/gate.h. */
const Noted = { verdict: 1, owner: 2 } as const;
const RULED: ReadonlySet<string> = new Set(['ruleDropped', 'rateLimited']);

/** What a gate has noted of a packet as text: `verdict=shunted owner=zeek`, `verdict=ruleDropped rule=7`. */
export class NoteTexts {
  readonly #state: string | undefined;
  #owners = new Map<number, string>();

  /** `meta` of the gate; undefined for a hook that is nobody's. */
  constructor(meta: BpfMap | undefined, path: string) {
    if (meta === undefined) return;
    const { netns, ifindex } = readMeta(meta, path);
    this.#state = join(RUN_DIRECTORY, `${netns}-${ifindex}.json`);
    this.refresh();
  }

  /** Owners come and go. */
  refresh(): void {
    if (this.#state === undefined) return;
    const owners = readState({ state: this.#state })?.owners ?? [];
    this.#owners = new Map(owners.map(({ slot, name }) => [slot, name]));
  }

  /** Undefined when nothing was noted. */
  text(noted: number, verdict: number, rule: number, owner: number): string | undefined {
    if ((noted & Noted.verdict) === 0) return undefined;
    const name = VERDICTS[verdict] ?? `${verdict}`;
    const words = [`verdict=${name}`];
    if (RULED.has(name)) words.push(`rule=${rule}`);
    if ((noted & Noted.owner) !== 0) words.push(`owner=${this.#owner(owner)}`);
    return words.join(' ');
  }

  /** Without a daemon the owners are the workers of `sluice run`. */
  #owner(slot: number): string {
    if (slot === 0) return 'hand';
    return this.#owners.get(slot) ?? `worker${slot}`;
  }
}
