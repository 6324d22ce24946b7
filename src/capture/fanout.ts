import { randomInt } from 'node:crypto';
import { join } from 'node:path';
import { SluiceError } from '../base/errors.ts';
import { MAX_TUNNEL_PORTS, type TunnelPorts } from '../base/tunnels.ts';
import { type BpfObject, Fanout, FanoutFlag, FanoutPlace, loadObject, packageRoot } from '../kernel/index.ts';

/** How packets are shared out: by our own program, or by one of the kernel's modes. */
export type FanoutMode = 'ebpf' | 'hash' | 'cpu' | 'queue' | 'rollover';

/** What our program takes for the same flow. */
export interface FanoutKey {
  /** By addresses and ports, or by the pair of addresses alone. */
  key: 'flow' | 'pair';
  /** By what VXLAN, GENEVE, GRE, ERSPAN, IP in IP and GTP-U carry. */
  inner: boolean;
  /** Where VXLAN and GENEVE are; their own ports unless told. */
  tunnelPorts?: TunnelPorts;
  /** VLAN ids belong to the flow. */
  vlanKey: boolean;
}

export interface FanoutWish extends FanoutKey {
  /** `auto`: our program where the kernel takes it, else hash. */
  mode: FanoutMode | 'auto';
  /** What a ring has no room for goes to another one, which splits flows. */
  rollover: boolean;
}

/** What a ring joins a group with; see PacketRingOptions.fanout. */
export interface FanoutTicket {
  id: number;
  mode: number;
}

/** Places of the counters of bpf/fanout.h. */
export const FanoutCount = { first: 0, followed: 1, unknown: 2 } as const;
export const FANOUT_COUNTS = 3;

const SEEDS = 2 ** 32;
/** RFC 7348, RFC 8926. */
const OWN_PORTS: TunnelPorts = { vxlan: [4789], geneve: [6081] };

function portBytes(ports: readonly number[]): Uint8Array {
  const words = new Uint16Array(MAX_TUNNEL_PORTS);
  words.set(ports);
  return new Uint8Array(words.buffer);
}

/** Loads the program `sluice_fanout` of bpf/fanout.bpf.c; with a secret seed unless one is given. Throws as loadObject. */
export function loadFanout(key: FanoutKey, seed: number = randomInt(SEEDS)): BpfObject {
  const { tunnelPorts: ports = OWN_PORTS } = key;
  return loadObject(join(packageRoot(), 'build', 'bpf', 'fanout.bpf.o'), {
    constants: {
      cfg_seed: seed,
      cfg_pair: key.key === 'pair' ? 1 : 0,
      cfg_vlan: key.vlanKey ? 1 : 0,
      cfg_inner: key.inner ? 1 : 0,
      cfg_vxlan_ports: portBytes(ports.vxlan),
      cfg_geneve_ports: portBytes(ports.geneve),
    },
  });
}

/**
 * A fanout group of our own: no other sensor has its id. Rings join by `ticket`; `settle` comes when all have, and before
 * the packets count.
 */
export class FanoutGroup {
  readonly mode: FanoutMode;
  readonly ticket: FanoutTicket;
  /** Why our program is not used, where that was left open. */
  readonly problem: SluiceError | undefined;
  readonly #place: FanoutPlace;

  private constructor(mode: FanoutMode, word: number, place: FanoutPlace, problem: SluiceError | undefined) {
    this.mode = mode;
    this.ticket = { id: place.id, mode: word };
    this.problem = problem;
    this.#place = place;
  }

  /** @throws SluiceError when the kernel does not take the program, or has no such mode */
  static make(ifindex: number, rings: number, wish: FanoutWish): FanoutGroup {
    if (wish.mode !== 'auto') return FanoutGroup.#of(wish.mode, ifindex, rings, wish);
    try {
      return FanoutGroup.#of('ebpf', ifindex, rings, wish);
    } catch (error) {
      // The kernel's own hash knows flows by addresses and ports and nothing else.
      if (!(error instanceof SluiceError) || wish.key !== 'flow' || wish.inner) throw error;
      return FanoutGroup.#of('hash', ifindex, rings, wish, error);
    }
  }

  static #of(
    kind: FanoutMode,
    ifindex: number,
    rings: number,
    wish: FanoutWish,
    problem?: SluiceError,
  ): FanoutGroup {
    const mode = Fanout[kind] | (wish.rollover ? FanoutFlag.rollover : 0);
    using object = kind === 'ebpf' ? loadFanout(wish) : undefined;
    const place = new FanoutPlace({
      ifindex,
      mode,
      // The place that is held until all rings are there is one more.
      members: rings + 1,
      ...(object === undefined ? {} : { program: object.program('sluice_fanout') }),
    });
    return new FanoutGroup(kind, mode, place, problem);
  }

  settle(): void {
    this.#place.close();
  }

  [Symbol.dispose](): void {
    this.#place.close();
  }
}
