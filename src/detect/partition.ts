import type { SampleColumns } from '../mitigation/index.ts';

/** Partitions of a fleet: so many at most. */
export const MAX_PARTITIONS = 256;

/** Of prefixes of this length all packets are in one partition. */
export const WHOLE_BITS = { 4: 24, 6: 48 } as const;

const C1 = 0x85ebca6b;
const C2 = 0xc2b2ae35;

/** Murmur3's finalizer, word by word. */
function mix(hash: number, word: number): number {
  let h = hash ^ word;
  h = Math.imul(h ^ (h >>> 16), C1);
  h = Math.imul(h ^ (h >>> 13), C2);
  return (h ^ (h >>> 16)) >>> 0;
}

/**
 * The partition of a sample: of all packets to an IPv4 /24 or an IPv6 /48 the same one, the same at every edge and in every
 * version of this format.
 */
export function partitionOf(columns: SampleColumns, row: number, partitions: number): number {
  const { target } = columns;
  const at = 4 * row;
  const hash =
    columns.family[row] === 6
      ? mix(mix(6, target[at]), target[at + 1] & 0xffff0000)
      : mix(4, target[at + 3] & 0xffffff00);
  return hash % partitions;
}

/** Subjects and buckets of a fleet's detectors, by its name. */
export const subjects = (bucket: string) => ({
  /** Samples for a partition: a batch each. */
  samples: (partition: number): string => `${bucket}.samples.${partition}`,
  /** What partitions pass on to the second stage: batches too. */
  second: `${bucket}.second`,
  /** What the fleet has agreed on, who lives, and who holds what. */
  detectors: `${bucket}_detectors`,
  /** Attacks, by partition. */
  attacks: `${bucket}_attacks`,
});
