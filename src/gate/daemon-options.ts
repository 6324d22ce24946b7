import type { AttachMode } from './attach.ts';
import type { GateLibxdp } from './components.ts';
import type { GateInterface } from './control-places.ts';
import type { InterfaceRow } from './control-protocol.ts';
import type { FleetOptions } from './daemon-fleet.ts';
import type { MitigationOptions } from './daemon-mitigation.ts';
import type { SamplesOptions } from './daemon-samples.ts';
import type { EveOptions } from './eve.ts';
import type { GatePeers } from './peers.ts';
import type { PinAccess } from './pins.ts';
import type { GateSteering } from './steer.ts';
import type { GateTunnels } from './tunnels.ts';
import type { GateWatch } from './watch.ts';

/** What the daemon of a gate is started with. */
export interface DaemonOptions extends GateInterface {
  /** More interfaces that share its tables. */
  others: readonly GateInterface[];
  mode: AttachMode | 'auto';
  maxShunts4: number;
  maxShunts6: number;
  vlanKey: boolean;
  tunnels: GateTunnels | undefined;
  /** Other sensors whose tables are served. */
  peers?: GatePeers | undefined;
  /** Shunts by what Suricata's EVE records say. */
  eve?: EveOptions | undefined;
  /** Fragments follow their flow. */
  fragments: boolean;
  /** What passes is shared out to CPUs. */
  steer: GateSteering | undefined;
  /** A component of libxdp's dispatcher. */
  libxdp?: GateLibxdp | undefined;
  /** It shunts flows by itself. */
  watch?: GateWatch | undefined;
  /** Where a program is pinned that runs behind the gate. */
  next?: string;
  /** Zeek's WebSocket, whose scripts drive the gate (zeekUrl). */
  zeek?: string;
  /** Finds attacks and holds them back by rules. */
  mitigation?: MitigationOptions;
  /** Samples go to detectors of a fleet. */
  samples?: SamplesOptions;
  /** Signed rules come from somewhere. */
  fleet?: FleetOptions;
  /** What this node is, for the scopes of rules. */
  site?: string;
  roles: readonly string[];
  /** Absolute; audit.log is written there. */
  logDir: string;
  pins: PinAccess;
  socketMode: number;
}

/** What `gate up --json` prints. */
export interface UpReport {
  interface: string;
  mode: string;
  interfaces: InterfaceRow[];
  programId: number;
  pins: Record<string, string>;
}
