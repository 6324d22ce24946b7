import type { BpfObject } from '../kernel/index.ts';
import { SlCount, SlLedger } from './layout.gen.ts';
import { VERDICTS, type Verdict } from './layout.ts';

/** Packets and L2 bytes. */
export interface Count {
  pkts: number;
  bytes: number;
}

/** What became of every packet, each counted once: seen is the sum of all verdicts. */
export type Ledger = Record<
  'seen' | 'passed' | 'shunted' | 'ruleDropped' | 'rateLimited' | 'steered' | 'aborted',
  Count
> & {
  /** Why what passed, or was steered, was not dropped. */
  reasons: Partial<Record<Verdict, Count>>;
};

const count = (): Count => ({ pkts: 0, bytes: 0 });

export function emptyLedger(): Ledger {
  return {
    seen: count(),
    passed: count(),
    shunted: count(),
    ruleDropped: count(),
    rateLimited: count(),
    steered: count(),
    aborted: count(),
    reasons: {},
  };
}

function add(to: Count, what: Count): void {
  to.pkts += what.pkts;
  to.bytes += what.bytes;
}

export function addLedger(to: Ledger, what: Ledger): void {
  for (const key of [
    'seen',
    'passed',
    'shunted',
    'ruleDropped',
    'rateLimited',
    'steered',
    'aborted',
  ] as const)
    add(to[key], what[key]);
  for (const [verdict, value] of Object.entries(what.reasons)) {
    const reasons = to.reasons;
    add((reasons[verdict as Verdict] ??= count()), value);
  }
}

/**
 * Reads the mapped per-CPU rows of the `ledger` map. 64-bit counters are read as two words: a carry between the
 * two loads would show 2^32 too few for one reading, so the upper half is read again.
 */
export function readLedger(words: Uint32Array): Ledger {
  const total = VERDICTS.map(count);
  const row = SlLedger.size / 4;
  const steered = count();
  for (let at = 0; at + row <= words.length; at += row) {
    // Before the verdicts, among which it is: what passes and is steered.
    const s = at + SlLedger.members.steered / 4;
    steered.pkts += counter(words, s + SlCount.members.pkts / 4);
    steered.bytes += counter(words, s + SlCount.members.bytes / 4);
    for (let v = 0; v < VERDICTS.length; v++) {
      const c = at + (SlLedger.members.count + v * SlCount.size) / 4;
      total[v].pkts += counter(words, c + SlCount.members.pkts / 4);
      total[v].bytes += counter(words, c + SlCount.members.bytes / 4);
    }
  }
  const ledger = emptyLedger();
  VERDICTS.forEach((verdict, v) => {
    const value = total[v];
    add(ledger.seen, value);
    if (
      verdict === 'aborted' ||
      verdict === 'shunted' ||
      verdict === 'ruleDropped' ||
      verdict === 'rateLimited'
    )
      add(ledger[verdict], value);
    else if (verdict === 'shuntedPair' || verdict === 'shuntedPeer') {
      // Dropped by address pair or prefix, or for another sensor: shunted like the rest, told apart beside it.
      add(ledger.shunted, value);
      ledger.reasons[verdict] = value;
    } else {
      add(ledger.passed, value);
      ledger.reasons[verdict] = value;
    }
  });
  ledger.steered = steered;
  ledger.passed.pkts -= steered.pkts;
  ledger.passed.bytes -= steered.bytes;
  return ledger;
}

/** A 64-bit counter at this word of mapped memory that the kernel writes. */
export function counter(words: Uint32Array, at: number): number {
  for (;;) {
    const high = Atomics.load(words, at + 1);
    const low = Atomics.load(words, at);
    if (Atomics.load(words, at + 1) === high) return high * 2 ** 32 + low;
  }
}

/** The rows of all CPUs, as the kernel counts in them. */
export function mapLedger(object: BpfObject): Uint32Array {
  const ledger = object.map('ledger');
  return new Uint32Array(ledger.mmap(false), 0, (ledger.mappedStride / 4) * ledger.maxEntries);
}
