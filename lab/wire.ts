import type { Job } from './plan.ts';

/** Ports of the lab's servers. */
export const ports = { dns: 53, http: 80, https: 443, tcp: 5001, udp: 5002 } as const;

/** What the client process is asked to do. */
export interface TrafficRequest {
  kind: 'traffic';
  jobs: Job[];
  concurrency: number;
  repeatSeconds: number | undefined;
  maxSeconds: number;
  maxBytes: number;
}

/** How far it is, and in the end what was done. */
export interface TrafficTally {
  seconds: number;
  /** Transfers that were done as planned, by kind; each but ping is one connection or flow. */
  done: Record<Job['kind'], number>;
  /** Transfers that are running. */
  active: number;
  /** Connections left open. */
  open: number;
  /** Payload that arrived at the client, and that the client sent. */
  downloaded: number;
  uploaded: number;
  /** Payload of UDP streams that the client's socket did not get; it was on the wire, or lost on a bad link. */
  lost: number;
  failures: number;
  /** The first failures, in words. */
  errors: string[];
  /** Ended early: by a bound, or because it was asked to. */
  cut: boolean;
}
