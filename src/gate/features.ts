import { type GatePeers, peerConstants } from './peers.ts';
import { type GateSteering, steerConstants } from './steer.ts';
import { type GateTunnels, tunnelConstants } from './tunnels.ts';
import { type GateWatch, watchConstants } from './watch.ts';

/** What is in the program only while it is used: each costs something with every packet (docs/bench.md), and nothing while it is off. */
export interface Features {
  /** Look for address pairs. */
  pairs: boolean;
  /** Rows of the list of prefix pairs that are searched. */
  prefixes: number;
  /** Ask the rules before shunting. */
  rules: boolean;
  /** Fragments follow their flow. */
  fragments: boolean;
  /** Tell about packets that match the trace filter. */
  trace: boolean;
  /** Leave notes on each packet for a capture at the exit hook. */
  notes: boolean;
  /** Sample what comes in. */
  samples: boolean;
  /** Look into tunnels. */
  tunnels: GateTunnels | undefined;
  /** Look in the tables of other sensors. */
  peers: GatePeers | undefined;
  /** Share out what passes to CPUs. */
  steer: GateSteering | undefined;
  /** Entries may be shunted by the gate itself, after a threshold. */
  thresholds: boolean;
  /** It stands alone: flows without an entry are watched. */
  watch: GateWatch | undefined;
}

export const NO_FEATURES: Readonly<Features> = {
  pairs: false,
  prefixes: 0,
  rules: false,
  fragments: false,
  trace: false,
  notes: false,
  samples: false,
  tunnels: undefined,
  peers: undefined,
  steer: undefined,
  thresholds: false,
  watch: undefined,
};

/** SL_TELL_* of bpf/gate.h. */
const Tell = { trace: 1, notes: 2, samples: 4 } as const;

/** The constants of bpf/maps.h. */
export function constantsOf(
  features: Readonly<Features>,
  vlanKey: boolean,
): Record<string, number | Uint8Array> {
  return {
    cfg_vlan_in_key: vlanKey ? 1 : 0,
    cfg_pairs: features.pairs ? 1 : 0,
    cfg_prefixes: features.prefixes,
    cfg_rules: features.rules ? 1 : 0,
    cfg_fragments: features.fragments ? 1 : 0,
    cfg_trace:
      (features.trace ? Tell.trace : 0) |
      (features.notes ? Tell.notes : 0) |
      (features.samples ? Tell.samples : 0),
    ...tunnelConstants(features.tunnels),
    ...peerConstants(features.peers),
    ...steerConstants(features.steer),
    ...watchConstants(features.watch),
  };
}

export function sameFeatures(a: Readonly<Features>, b: Readonly<Features>): boolean {
  return (Object.keys(a) as (keyof Features)[]).every((name) => a[name] === b[name]);
}
