import type { Lab } from './lab.ts';
import { jobsOf, type TrafficPlan } from './plan.ts';
import type { TrafficRequest, TrafficTally } from './wire.ts';

/** What runTraffic did. */
export interface TrafficReport extends TrafficTally {
  plan: string;
  /** Connections and flows that a sensor must have seen: every transfer done is one. */
  connections: number;
}

export interface TrafficOptions {
  /** Called about four times a second. */
  onProgress?: (tally: TrafficTally) => void;
  /** Ends the traffic; the report then says `cut`. */
  signal?: AbortSignal;
}

/** Payload bytes that a plan may move unless it says otherwise. */
const MAX_BYTES = 8e9;

/**
 * Drives a plan's traffic from the lab's client to its server. Transfers that fail are counted, not thrown.
 * Connections that the plan leaves open stay so until `lab.endTraffic()` or the lab's end.
 * @throws SluiceError USAGE for a plan that makes no sense, LAB when a process of the lab ends
 */
export async function runTraffic(
  lab: Lab,
  plan: TrafficPlan,
  options: TrafficOptions = {},
): Promise<TrafficReport> {
  const jobs = jobsOf(plan);
  await lab.server();
  const client = lab.client();
  const request: TrafficRequest = {
    kind: 'traffic',
    jobs,
    concurrency: plan.concurrency ?? 8,
    repeatSeconds: plan.repeatSeconds,
    maxSeconds: plan.maxSeconds ?? (plan.repeatSeconds === undefined ? 120 : plan.repeatSeconds + 10),
    maxBytes: plan.maxBytes ?? MAX_BYTES,
  };
  const stop = () => void client.request({ kind: 'stop' }).catch(() => undefined);
  options.signal?.addEventListener('abort', stop, { once: true });
  try {
    const running = client.request<TrafficTally>(request, (tally) =>
      options.onProgress?.(tally as TrafficTally),
    );
    if (options.signal?.aborted === true) stop();
    const tally = await running;
    return {
      ...tally,
      plan: plan.name,
      connections: Object.values(tally.done).reduce((sum, count) => sum + count, 0),
    };
  } finally {
    options.signal?.removeEventListener('abort', stop);
  }
}
