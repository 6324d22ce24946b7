import { BULK_FROM_PACKET, FlowFlag, type Policy } from './policy.ts';

/** A list of policies as one test on numbers, cheap enough for every packet. */
export interface PolicySet {
  readonly policies: readonly Policy[];
  /** No connection is ever shunted by it. */
  readonly empty: boolean;
  /**
   * Index of the first policy that says to shunt, or -1. `flags` are FlowFlag bits, `packets` those of both sides,
   * `ipBytes` the IP bytes of each side since the connection's first packet.
   */
  evaluate(flags: number, packets: number, ipBytes0: number, ipBytes1: number): number;
  /** How logs name the policy of that index. */
  trigger(index: number): string;
}

class Compiled implements PolicySet {
  readonly policies: readonly Policy[];
  readonly empty: boolean;
  readonly #tls: number;
  readonly #bulk: number;
  readonly #bulkBytes: number;

  constructor(policies: readonly Policy[]) {
    this.policies = policies;
    this.empty = policies.length === 0;
    this.#tls = policies.findIndex((policy) => policy.kind === 'tls');
    this.#bulk = policies.findIndex((policy) => policy.kind === 'bulk');
    this.#bulkBytes = this.#bulk < 0 ? Number.POSITIVE_INFINITY : policies[this.#bulk].bytes;
  }

  evaluate(flags: number, packets: number, ipBytes0: number, ipBytes1: number): number {
    const limit = this.#bulkBytes;
    const bulk = packets >= BULK_FROM_PACKET && (ipBytes0 >= limit || ipBytes1 >= limit) ? this.#bulk : -1;
    if ((flags & FlowFlag.tlsEstablished) === 0 || this.#tls < 0) return bulk;
    return bulk >= 0 && bulk < this.#tls ? bulk : this.#tls;
  }

  trigger(index: number): string {
    return this.policies[index].trigger;
  }
}

/** Pure: the same policies give the same set everywhere. */
export function compilePolicies(policies: readonly Policy[]): PolicySet {
  return new Compiled(policies);
}
