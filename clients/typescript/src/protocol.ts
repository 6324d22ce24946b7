/** What goes over the control socket (docs/control.md of Sluice). Times are seconds. */
export const PROTOCOL_VERSION = 1;

export interface Endpoint {
  addr: string;
  port: number;
}

/** `proto`: tcp, udp, sctp, icmp, icmp6, or a protocol number as text. Of ICMP the ports are the type and what answers it. */
export interface Flow {
  proto: string;
  a: Endpoint;
  b: Endpoint;
  vlan?: number;
  innerVlan?: number;
  vni?: number;
  geneveVni?: number;
}

/** A flow that is to be shunted. */
export interface FlowToAdd extends Flow {
  /** Seconds; by hand 300 unless given. */
  ttl?: number;
  idle?: number | 'off';
  trigger?: string;
  /** TCP: the highest sequence end and acknowledgement sent so far, of a and of b. */
  seq?: readonly [number, number];
  ack?: readonly [number, number];
}

export interface Counts {
  pkts: number;
  bytes: number;
  ipBytes: number;
  payloadBytes: number;
}

/** An entry of the live table. Times since the epoch; `ab`: what went from a to b. */
export interface Shunt extends Flow {
  owner: string;
  trigger: string;
  since: number | null;
  last: number | null;
  expires: number | null;
  state: 'armed' | 'shunted' | 'ending';
  ab: Counts;
  ba: Counts;
  tcp: object | null;
}

/** A flow that somebody still needs; `kept`: how often it was not shunted for that. */
export interface Hold extends Flow {
  owner: string;
  holder: string;
  why: string;
  since: number;
  expires: number | null;
  kept: number;
}

export interface OwnerSettings {
  name: string;
  /** Seconds, or off: one of the two may be off, never both. */
  lease?: number | 'off';
  idle?: number | 'off';
  maxEntries?: number;
}

/** What a watcher is told. */
export type GateEvent =
  | { event: 'start'; ts: number; shunt: Shunt }
  | { event: 'end'; ts: number; reason: string; shunt: Shunt }
  | {
      event: 'counters';
      ts: number;
      shunts: number;
      ledger: Record<'seen' | 'passed' | 'shunted', { pkts: number; bytes: number }>;
      /** Events that this watcher did not get, as it did not read. */
      lost: number;
    };
