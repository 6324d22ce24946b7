import { SluiceError } from '../src/base/errors.ts';
import { firstAllowedCpu } from './process.ts';

export type TapName = 'a' | 'b';
export type NamespaceName = 'client' | 'server' | 'hub' | 'tapA' | 'tapB' | 'replay';

/** How the frames that the taps see are tagged. */
export interface VlanOptions {
  /** VLAN id (1 to 4094) of the inner, or only, tag. */
  inner: number;
  /** VLAN id of an outer 802.1ad tag. */
  outer?: number;
  /** Which frames: those that the client sends, those that the server sends, or both (default). */
  from?: 'client' | 'server' | 'both';
}

/** A tunnel that the mirror ports put each frame into. */
export interface TunnelOptions {
  /** What goes in front of a frame: Ethernet, IPv4 without options, and all up to the frame; 128 bytes at most. */
  headers: Uint8Array;
  /** UDP: so many source ports, by the flow inside and its direction (default: 0, it is not UDP). */
  sources?: number;
}

/** A bad link between client and server; the taps see what is left of the frames after it. */
export interface ImpairOptions {
  /** Same seed, same fate of the n-th frame of each direction. */
  seed: number;
  /** Shares of all frames, 0 to 1, that are dropped, sent twice, or held back until later ones have passed. */
  drop?: number;
  duplicate?: number;
  reorder?: number;
}

/** Bytes that a tunnel may add. */
export const TUNNEL_ROOM = 128;

export interface LabOptions {
  /** Largest IP packet between client and server, 576 to 9,000 bytes (default 1,500). */
  mtu?: number;
  /** Rate of each endpoint in Mb/s, or 0 for as fast as the machine goes (default 1,000). */
  mbps?: number;
  /** Queues of each mirror port and tap (default 1). With more, order holds per flow only. */
  queues?: number;
  /** The CPU that does all the hub's work, so that both taps see one order; 'any' spreads it (default: the first allowed). */
  hubCpu?: number | 'any';
  /**
   * Taps that get an XDP program that passes everything: their frames then wait for the reader instead of being lost
   * under load. Leave it off where a gate is to be attached. Default: only b.
   */
  passOn?: readonly TapName[];
  vlan?: VlanOptions;
  tunnel?: TunnelOptions;
  impair?: ImpairOptions;
  /**
   * Each frame gets one time stamp, as it enters the hub, and both taps see that one instead of the times at which each
   * was handed the frame (IPv4 and IPv6). The taps' interfaces are then in the hub's namespace: another would clear the
   * stamps. Default false.
   */
  oneStamp?: boolean;
}

export interface ResolvedOptions {
  mtu: number;
  mbps: number;
  queues: number;
  hubCpu: number | 'any';
  passOn: readonly TapName[];
  vlan: VlanOptions | undefined;
  tunnel: TunnelOptions | undefined;
  impair: Required<ImpairOptions> | undefined;
  oneStamp: boolean;
}

/** Checks options and fills in the defaults. @throws SluiceError USAGE */
export function resolveOptions(options: LabOptions): ResolvedOptions {
  const resolved: ResolvedOptions = {
    mtu: within('mtu', options.mtu ?? 1500, 576, 9000),
    mbps: within('mbps', options.mbps ?? 1000, 0, 100_000),
    queues: within('queues', options.queues ?? 1, 1, 64),
    hubCpu: options.hubCpu ?? firstAllowedCpu(),
    passOn: options.passOn ?? ['b'],
    vlan: options.vlan,
    tunnel: options.tunnel,
    impair: undefined,
    oneStamp: options.oneStamp ?? false,
  };
  if (resolved.hubCpu !== 'any') within('hubCpu', resolved.hubCpu, 0, 4095);
  if (options.vlan !== undefined) {
    within('vlan.inner', options.vlan.inner, 1, 4094);
    if (options.vlan.outer !== undefined) within('vlan.outer', options.vlan.outer, 1, 4094);
  }
  if (options.tunnel !== undefined) {
    within('tunnel.headers', options.tunnel.headers.length, 34, TUNNEL_ROOM);
    within('tunnel.sources', options.tunnel.sources ?? 0, 0, 16_384);
  }
  if (options.impair !== undefined) {
    const { seed, drop = 0, duplicate = 0, reorder = 0 } = options.impair;
    within('impair.seed', seed, 0, 0xffff_ffff);
    for (const share of [drop, duplicate, reorder, drop + duplicate + reorder]) {
      if (!(share >= 0 && share <= 1))
        throw usage('the shares of an impairment and their sum lie between 0 and 1');
    }
    resolved.impair = { seed, drop, duplicate, reorder };
  }
  return resolved;
}

function within(name: string, value: number, low: number, high: number): number {
  if (!Number.isInteger(value) || value < low || value > high) {
    throw usage(`${name} must be a whole number from ${low} to ${high}, not ${value}`);
  }
  return value;
}

function usage(message: string): SluiceError {
  return new SluiceError('USAGE', `lab: ${message}`, { help: '`sluice lab up --help` lists the options' });
}
