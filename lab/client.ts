// Runs inside the client's namespace: works through the jobs of a plan, several at a time. Argument: a directory
// for files that curl uploads. One process for all of them: a thousand connections cost one start.
import { runJobs, stopJobs } from './client-jobs.ts';
import type { TrafficRequest } from './wire.ts';

process.on('message', (request: { id: number } & (TrafficRequest | { kind: 'stop' })) => {
  if (request.kind === 'stop') {
    stopJobs();
    process.send?.({ id: request.id, value: true });
    return;
  }
  void runJobs(request, process.argv[2] ?? '/tmp', (progress) => process.send?.({ id: request.id, progress })).then(
    (value) => process.send?.({ id: request.id, value }),
    (error: unknown) => process.send?.({ id: request.id, error: String(error) }),
  );
});
process.on('disconnect', () => process.exit(0));
