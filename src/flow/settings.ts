import { randomFillSync } from 'node:crypto';
import { SluiceError } from '../base/errors.ts';
import type { TunnelKind } from '../base/tunnels.ts';
import { DEFAULT_TUNNEL_PORTS } from './carriers.ts';
import { Directions } from './direction.ts';
import { NetSet } from './nets.ts';
import type { FlowEngineOptions } from './options.ts';
import { BARE_SERVER_PORTS, DEFAULT_SERVER_PORTS } from './ports.ts';
import { completeTimeouts, type FlowTimeouts } from './timeouts.ts';
import type { TunnelPorts, TunnelType } from './types.ts';

const TYPE_OF: Readonly<Record<TunnelKind, TunnelType>> = {
  vxlan: 'VXLAN',
  geneve: 'GENEVE',
  gre: 'GRE',
  ipip: 'IP',
};
const DEFAULT_MAX_FLOWS = 1 << 17;
const MAX_FLOWS = 1 << 22;
const MIN_FLOWS = 16;
const SEED_WORDS = 6;

/** The options with all that follows from them. */
export interface FlowSettings {
  readonly maxFlows: number;
  readonly checksums: boolean;
  readonly vlanInKey: boolean;
  readonly tunnelInKey: boolean;
  readonly tunnelPorts: TunnelPorts;
  readonly shuntInside: ReadonlySet<TunnelType>;
  readonly cutFrames: boolean;
  readonly fragmentBytes: number;
  readonly services: boolean;
  /** UDP flows to DNS ports have the timeout of DNS. */
  readonly dns: boolean;
  readonly randomness: boolean;
  readonly dnsNames: number;
  readonly clockStep: number;
  readonly directions: Directions;
  readonly localNets: NetSet;
  readonly timeouts: FlowTimeouts;
  readonly serviceBufferBytes: number;
  readonly serviceBuffersBytes: number;
  /** Three words for the hash, three for the uids. */
  readonly seed: Int32Array;
}

/** Errors: USAGE for options out of range. */
export function completeOptions(options: FlowEngineOptions): FlowSettings {
  const maxFlows = options.maxFlows ?? DEFAULT_MAX_FLOWS;
  if (!Number.isInteger(maxFlows) || maxFlows < MIN_FLOWS || maxFlows > MAX_FLOWS)
    throw new SluiceError('USAGE', `${maxFlows} flows cannot be kept`, {
      help: `choose a number from ${MIN_FLOWS} to ${MAX_FLOWS}`,
    });
  const bare = options.bare ?? false;
  const nets = options.localNets ?? [];
  return {
    maxFlows,
    checksums: options.checksums ?? true,
    vlanInKey: options.vlanInKey ?? false,
    tunnelInKey: options.tunnelInKey ?? false,
    tunnelPorts: options.tunnelPorts ?? DEFAULT_TUNNEL_PORTS,
    shuntInside: new Set((options.shuntInside ?? []).map((kind) => TYPE_OF[kind])),
    cutFrames: options.cutFrames ?? false,
    fragmentBytes: options.fragmentBytes ?? 16_777_216,
    services: options.services ?? !bare,
    dns: !bare,
    randomness: options.randomness ?? false,
    dnsNames: options.dnsNames ?? 0,
    clockStep: options.clockStep ?? Number.POSITIVE_INFINITY,
    directions: new Directions(
      options.likelyServerPorts ?? (bare ? BARE_SERVER_PORTS : DEFAULT_SERVER_PORTS),
    ),
    localNets: (options.privateIsLocal ?? true) ? NetSet.local(nets) : new NetSet(nets),
    timeouts: completeTimeouts(options.timeouts ?? {}),
    serviceBufferBytes: options.serviceBufferBytes ?? 65_536,
    serviceBuffersBytes: options.serviceBuffersBytes ?? 16_777_216,
    seed: seedWords(options.seed),
  };
}

function seedWords(given: number | undefined): Int32Array {
  const seed = new Int32Array(SEED_WORDS);
  if (given === undefined) randomFillSync(seed);
  else for (let i = 0; i < SEED_WORDS; i++) seed[i] = Math.imul(given + i + 1, 0x9e3779b1);
  // Those that the hash multiplies with are odd.
  seed[1] |= 1;
  seed[2] |= 1;
  return seed;
}
