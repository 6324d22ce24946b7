/** Where an edge of the lab is, and how wrong its clock. */
export interface EdgePlace {
  readonly name: string;
  readonly site: string;
  /** Seconds that its clock is ahead. */
  readonly offset: number;
  /** A real gate, with a kernel and traffic. */
  readonly real: boolean;
  /** On the side that a partition cuts off. */
  readonly cuttable: boolean;
}

/** A revision of a rule that has come into force at an edge, and when (seconds since 1970, true time). */
export interface Landing {
  readonly edge: string;
  readonly id: string;
  readonly revision: number;
  readonly at: number;
}

/** What an edge says of itself. */
export interface EdgeState {
  readonly edge: string;
  readonly connected: boolean;
  /** Seconds since the source was last heard of. */
  readonly age: number | null;
  /** Revisions in force by the ids of rules. */
  readonly inForce: ReadonlyMap<string, number>;
  /** Lines that did not count, as `ID REASON`. */
  readonly refused: readonly string[];
  /** Ids of rules that it refuses to put into force. */
  readonly bad: readonly string[];
}

/** Some edges: one gate, or a thread of simulated ones. */
export interface EdgeGroup {
  readonly edges: readonly EdgePlace[];
  states(): Promise<EdgeState[]>;
  /** All so far, in any order. */
  landings(): readonly Landing[];
  close(): Promise<void>;
}

const LIVE = /^revision (\d+) by /;

/** The id and revision that a line of audit.log says is in force from now on; undefined: it says something else. */
export function liveRule(line: {
  op: string;
  key?: string | undefined;
  why?: string | undefined;
}): { id: string; revision: number } | undefined {
  const revision = LIVE.exec(line.why ?? '')?.[1];
  if (line.op !== 'fleet.live' || line.key === undefined || revision === undefined) return undefined;
  return { id: line.key, revision: Number(revision) };
}
