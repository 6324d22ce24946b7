import { SluiceError } from '../base/errors.ts';
import type { BpfMap } from '../kernel/index.ts';
import { SlRule, SlRuleCount } from './layout.gen.ts';
import type { Rule, RuleAction } from './spec.ts';

interface Count {
  readonly pkts: number;
  readonly bytes: number;
}

/** What a rule has seen: packets and L2 bytes. */
export interface RuleCounts {
  readonly matched: Count;
  readonly dropped: Count;
}

export const NO_COUNTS: RuleCounts = { matched: { pkts: 0, bytes: 0 }, dropped: { pkts: 0, bytes: 0 } };

const sum = (a: Count, b: Count): Count => ({ pkts: a.pkts + b.pkts, bytes: a.bytes + b.bytes });

export function addCounts(a: RuleCounts, b: RuleCounts): RuleCounts {
  return { matched: sum(a.matched, b.matched), dropped: sum(a.dropped, b.dropped) };
}

const ACTIONS: Record<RuleAction['kind'], number> = { count: 0, drop: 1, limit: 2, sample: 3 };
const PER = { rule: 0, source: 1, target: 2 } as const;
/** Rate limits count time in parts of a nanosecond: so many (SL_RULE_TIME). */
const PARTS = 1024;
const NS = 1e9;

/** What of a rule its row holds; two rules with the same text share nothing but may have the same row one after the other. */
export function rowText({ action, priority, expires }: Rule): string {
  return JSON.stringify([action, priority, expires]);
}

/** A row of `rule_counts`, summed over the CPUs. */
export function readCounts(counts: BpfMap, row: number): RuleCounts {
  const bytes = new Uint8Array(counts.valueBytes);
  counts.get(new Uint8Array(Uint32Array.of(row).buffer), bytes);
  const view = new DataView(bytes.buffer);
  const { members, size } = SlRuleCount;
  const total = (offset: number): number => {
    let all = 0;
    for (let at = offset; at < bytes.length; at += size) {
      all += view.getUint32(at, true) + view.getUint32(at + 4, true) * 4_294_967_296;
    }
    return all;
  };
  return {
    matched: { pkts: total(members.matched_pkts), bytes: total(members.matched_bytes) },
    dropped: { pkts: total(members.dropped_pkts), bytes: total(members.dropped_bytes) },
  };
}

/** Writes rows of `rule_rows`, and reads `rule_counts`. */
export class RuleRows {
  readonly capacity: number;
  readonly #view: DataView;
  readonly #stride: number;
  readonly #counts: BpfMap;
  readonly #key = new Uint32Array(1);
  readonly #keyBytes = new Uint8Array(this.#key.buffer);

  constructor(rows: BpfMap, counts: BpfMap) {
    this.capacity = rows.maxEntries;
    this.#view = new DataView(rows.mmap(true));
    this.#stride = rows.mappedStride;
    this.#counts = counts;
  }

  /** Fills a row that no program names. `until`: seconds of CLOCK_MONOTONIC, 0 is for ever. */
  write(row: number, rule: Rule, until: number): void {
    if (row >= this.capacity) throw new SluiceError('LIMIT', `there is room for ${this.capacity} rules`);
    const at = row * this.#stride;
    const { members } = SlRule;
    for (let byte = 0; byte < SlRule.size; byte++) this.#view.setUint8(at + byte, 0);
    const word = (member: keyof typeof members, value: number): void =>
      this.#view.setUint32(at + members[member], value, true);
    const wide = (member: keyof typeof members, value: number): void =>
      this.#view.setBigUint64(at + members[member], BigInt(Math.round(value)), true);
    const { action } = rule;
    word('action', ACTIONS[action.kind]);
    word('order', rule.priority);
    word('until', until);
    word('id', row);
    if (action.kind === 'limit') {
      const cost = (NS * PARTS) / action.rate;
      wide('per_packet', action.unit === 'packets' ? cost : 0);
      wide('per_byte', action.unit === 'bits' ? cost * 8 : 0);
      // One packet fits at least, however slow the rate.
      const largest = action.unit === 'packets' ? cost : cost * 8 * 1514;
      wide('burst', Math.max(action.burst * NS * PARTS, largest));
      word('per', PER[action.per]);
      word('prefix4', action.prefix4);
      word('prefix6', action.prefix6);
    } else if (action.kind === 'sample') {
      word('sample', action.every);
      word('sample_size', action.size);
    }
    this.#counts.set(this.#keyOf(row), new Uint8Array(this.#counts.valueBytes));
  }

  /** The switch that works at once. */
  setOff(row: number, off: boolean): void {
    this.#view.setUint32(row * this.#stride + SlRule.members.off, off ? 1 : 0, true);
  }

  counts(row: number): RuleCounts {
    return readCounts(this.#counts, row);
  }

  #keyOf(row: number): Uint8Array {
    this.#key[0] = row;
    return this.#keyBytes;
  }
}
