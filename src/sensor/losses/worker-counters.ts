import { type FlowEngine, LOSSES } from '../../flow/index.ts';
import { Stat } from '../setup.ts';

/** Puts what a worker's engine has missed where the main thread reads it. */
export function publishLosses({ stats, losses }: FlowEngine, out: Float64Array): void {
  for (let i = 0; i < LOSSES; i++) out[Stat.losses + i] = losses[i];
  let unparsed = 0;
  for (let i = 0; i < stats.ignored.length; i++) unparsed += stats.ignored[i];
  out[Stat.unparsed] = unparsed;
  out[Stat.evicted] = stats.evicted;
}
