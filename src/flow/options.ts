import type { TunnelKind, TunnelPorts } from '../base/tunnels.ts';
import type { LikelyServerPorts } from './ports.ts';
import type { FlowTimeouts } from './timeouts.ts';

/** How connections are tracked. */
export interface FlowEngineOptions {
  /** Flows that are kept at once; beyond, one that has been silent for long is ended early. 131,072 unless told. */
  maxFlows?: number;
  /** Validate IPv4, TCP, UDP and ICMP checksums: true unless told. */
  checksums?: boolean;
  /** As Zeek's bare mode: no protocol analyzers, so no service and no DNS timeouts, and few likely server ports. */
  bare?: boolean;
  likelyServerPorts?: LikelyServerPorts;
  /** Tell flows apart by the ids of their two outermost VLAN tags. */
  vlanInKey?: boolean;
  /** Tell flows apart by the ids of the VXLAN and GENEVE tunnels around them. */
  tunnelInKey?: boolean;
  /** UDP ports of VXLAN and GENEVE: 4789 and 6081 unless told. */
  tunnelPorts?: TunnelPorts;
  /** Tunnels that the gate looks into: flows inside of them may be shunted. None unless told. */
  shuntInside?: readonly TunnelKind[];
  /** Frames of connections at whose content nobody looks are cut on purpose: what is not there is no gap. False unless told. */
  cutFrames?: boolean;
  /** Memory for IP datagrams of which fragments are missing; 16 MiB unless told. */
  fragmentBytes?: number;
  /** Networks that count as local beside the private and special-purpose ranges. */
  localNets?: readonly string[];
  /** Whether those ranges count as local: true unless told. */
  privateIsLocal?: boolean;
  timeouts?: Partial<FlowTimeouts>;
  /** Recognize services by content: true unless bare. */
  services?: boolean;
  /** Bytes held back for the recognizers when segments come out of order: per flow (64 KiB) and for all (16 MiB). */
  serviceBufferBytes?: number;
  serviceBuffersBytes?: number;
  /** Look whether the first payload of each side is random-looking: false unless told. */
  randomness?: boolean;
  /** Addresses of which the name is kept that led to them, as DNS answered: 0 unless told. */
  dnsNames?: number;
  /**
   * Seconds that packet time may go back before it is taken for a step of the clock. Without it time never goes back,
   * as in Zeek.
   */
  clockStep?: number;
  /** Seed of the hash and the uids, for tests; random unless told. */
  seed?: number;
}
