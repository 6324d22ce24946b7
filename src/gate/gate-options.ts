import type { GateLibxdp } from './components.ts';
import type { GateInterface } from './control-places.ts';
import type { GateKind } from './kind.ts';
import type { GatePeers } from './peers.ts';
import type { PinAccess } from './pins.ts';
import type { GateSteering } from './steer.ts';
import type { GateTunnels } from './tunnels.ts';
import type { GateWatch } from './watch.ts';

export interface GateOptions extends GateInterface {
  /** Default `xdp`. A filter on sockets is never kept, and attached by whoever has the sockets. */
  kind?: GateKind;
  /** More interfaces, over the same tables. */
  others?: readonly GateInterface[];
  /** Whose name the pins bear, where they were made for another interface. */
  home?: number;
  /** Most entries of each table. */
  maxShunts4: number;
  maxShunts6: number;
  /** Whether the VLAN ids are part of the key; the flow engine must be told the same. */
  vlanKey: boolean;
  /** Look into tunnels; the flow engine must be told the same. */
  tunnels?: GateTunnels | undefined;
  /** Other sensors whose tables are served too; not by a filter on sockets. */
  peers?: GatePeers | undefined;
  /** Fragments of shunted flows are dropped with them; without it fragments pass. */
  fragments?: boolean;
  /** What passes is shared out to CPUs; not by a filter on sockets, and with nothing in the slot `next`. */
  steer?: GateSteering | undefined;
  /** A component of libxdp's dispatcher. Programs that it goes on to then take frames in one buffer only, by their flags. */
  libxdp?: GateLibxdp | undefined;
  /** Shunt flows by itself, by what it sees of them. */
  watch?: GateWatch | undefined;
  /** Entries may wait for a threshold (`flip` with `after`) from the beginning; else `enable` brings it. */
  thresholds?: boolean;
  /** Bytes of a frame that rings keep: the filter on a socket says it. */
  snaplen?: number;
  /** Lease owners: one for each worker, numbered from 1. */
  workers: number;
  /**
   * The gate outlives this process: link and programs are pinned too, open to whom this says. What an earlier one of the
   * same kind left, with the same sizes and key, goes on with its entries under the programs of this process.
   */
  keep?: PinAccess;
  /** Whether this process goes on with a flow of a dead one, by the note that is there; without it with none. */
  join?: (family: 4 | 6, key: Uint8Array, note: Uint8Array) => boolean;
}

/** All of its interfaces, the first one first. */
export function interfacesOf({ ifname, ifindex, others = [] }: GateOptions): readonly GateInterface[] {
  return [{ ifname, ifindex }, ...others];
}
