/** CPU seconds of the calling thread; NaN where Node.js cannot tell (before 22.19). */
export function threadCpu(): number {
  // Not in every release that we run on.
  const usage = (process.threadCpuUsage as typeof process.threadCpuUsage | undefined)?.();
  return usage === undefined ? Number.NaN : (usage.user + usage.system) / 1e6;
}
