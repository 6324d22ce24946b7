import type { Job } from './plan.ts';
import { endpoints } from './topology.ts';
import type { TrafficTally } from './wire.ts';

/** What the transfers of one run share. */
export interface Context {
  tally: TrafficTally;
  /** Aborted when the run ends early. */
  signal: AbortSignal;
  /** For files that curl uploads. */
  directory: string;
  maxSeconds: number;
}

/** The name that the server goes by in HTTP, TLS and DNS. */
export const HOST_NAME = 'lab.example';

/** What is sent, over and over. */
export const block = Buffer.alloc(65_536, 'Sluice lab. ');

export function serverAddress(job: Job): string {
  return job.family === 4 ? endpoints.server.ipv4 : endpoints.server.ipv6;
}
