import type { FlowFacts } from './fields.ts';

/** What a look at a connection comes to. */
export const Truth = {
  /** Whatever follows, it will not hold. */
  never: -1,
  /** It does not hold yet: look again when `watch` says. */
  later: 0,
  holds: 1,
} as const;
export type Truth = (typeof Truth)[keyof typeof Truth];

/**
 * When to look again: as soon as any of these has come. Before that the condition cannot have become true, so nothing is
 * missed and no connection is looked at in vain at every packet.
 */
export class Watch {
  /** Something was learned of the content. */
  news = false;
  /** Packets and IP bytes of both sides, and seconds since the first packet. */
  packets = Number.POSITIVE_INFINITY;
  bytes = Number.POSITIVE_INFINITY;
  seconds = Number.POSITIVE_INFINITY;

  clear(): void {
    this.news = false;
    this.packets = Number.POSITIVE_INFINITY;
    this.bytes = Number.POSITIVE_INFINITY;
    this.seconds = Number.POSITIVE_INFINITY;
  }

  /** Also when `other` says so. */
  join(other: Watch): void {
    this.news ||= other.news;
    this.packets = Math.min(this.packets, other.packets);
    this.bytes = Math.min(this.bytes, other.bytes);
    this.seconds = Math.min(this.seconds, other.seconds);
  }
}

/** A compiled condition: pure, the same for every connection. `look` fills `watch` when it answers `later`. */
export interface Condition {
  readonly watch: Watch;
  look(facts: FlowFacts): Truth;
}
