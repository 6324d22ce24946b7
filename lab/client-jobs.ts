import { setMaxListeners } from 'node:events';
import { curl, ping } from './client-command.ts';
import type { Context } from './client-context.ts';
import { stream } from './client-tcp.ts';
import { datagrams, query } from './client-udp.ts';
import type { Job } from './plan.ts';
import type { TrafficRequest, TrafficTally } from './wire.ts';

const PROGRESS_MS = 250;

const clients: Record<Job['kind'], (job: Job, context: Context) => Promise<void>> = {
  https: stream,
  http: stream,
  tcp: stream,
  udp: datagrams,
  dns: query,
  ping,
};

/** Works through the jobs. Never rejects for a job that failed: failures are counted. Aborting `stop` ends it early. */
export async function runJobs(
  request: TrafficRequest,
  directory: string,
  progress: (tally: TrafficTally) => void,
  stop: AbortController,
): Promise<TrafficTally> {
  setMaxListeners(0, stop.signal);
  const begin = performance.now();
  const seconds = () => (performance.now() - begin) / 1000;
  const tally: TrafficTally = {
    seconds: 0,
    done: { https: 0, http: 0, tcp: 0, udp: 0, dns: 0, ping: 0 },
    active: 0,
    open: 0,
    downloaded: 0,
    uploaded: 0,
    lost: 0,
    failures: 0,
    errors: [],
    cut: false,
  };
  const context = { tally, signal: stop.signal, directory, maxSeconds: request.maxSeconds };
  let next = 0;
  let planned = 0;
  const more = (): Job | undefined => {
    const { jobs, repeatSeconds } = request;
    if (
      stop.signal.aborted ||
      (repeatSeconds === undefined ? next >= jobs.length : seconds() >= repeatSeconds)
    )
      return undefined;
    const job = jobs[next % jobs.length];
    if (job === undefined) return undefined;
    if (planned + job.bytes > request.maxBytes) {
      tally.cut = true;
      return undefined;
    }
    next++;
    planned += job.bytes;
    return job;
  };
  const lane = async () => {
    for (let job = more(); job !== undefined; job = more()) {
      tally.active++;
      try {
        await (job.with === 'curl' ? curl : clients[job.kind])(job, context);
        tally.done[job.kind]++;
      } catch (error) {
        if (!stop.signal.aborted) {
          tally.failures++;
          if (tally.errors.length < 10) {
            tally.errors.push(
              `${job.kind} ${job.direction} ${job.bytes} ${job.close}: ${(error as Error).message}`,
            );
          }
        }
      }
      tally.active--;
    }
  };
  const timer = setInterval(() => progress({ ...tally, seconds: seconds() }), PROGRESS_MS);
  const limit = setTimeout(() => stop.abort(), request.maxSeconds * 1000);
  await Promise.all(Array.from({ length: request.concurrency }, lane));
  clearInterval(timer);
  clearTimeout(limit);
  tally.cut ||= stop.signal.aborted;
  tally.seconds = seconds();
  return tally;
}
