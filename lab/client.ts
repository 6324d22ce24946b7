// Runs inside the client's namespace: works through the jobs of a plan, several at a time. Argument: a directory
// for files that curl uploads. One process for all of them: a thousand connections cost one start.
import { runJobs } from './client-jobs.ts';
import type { TrafficRequest } from './wire.ts';

const directory = process.argv[2] ?? '/tmp';
const running = new Set<AbortController>();

process.on('message', (request: { id: number } & (TrafficRequest | { kind: 'stop' })) => {
  const { id } = request;
  if (request.kind === 'stop') {
    for (const stop of running) stop.abort();
    process.send?.({ id, value: true });
    return;
  }
  const stop = new AbortController();
  running.add(stop);
  void runJobs(request, directory, (progress) => process.send?.({ id, progress }), stop)
    .then(
      (value) => process.send?.({ id, value }),
      (error: unknown) => process.send?.({ id, error: String(error) }),
    )
    .finally(() => running.delete(stop));
});
process.on('disconnect', () => process.exit(0));
