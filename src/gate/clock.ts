/** CLOCK_MONOTONIC in seconds, the clock of the gate's times. */
export function monotonicSeconds(): number {
  const [s, ns] = process.hrtime();
  return s + ns / 1e9;
}
