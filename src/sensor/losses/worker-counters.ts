import { type FlowEngine, LOSSES } from '../../flow/index.ts';
import { IpProto } from '../../packet/decode.ts';
import { Stat } from '../setup.ts';

/** Puts what a worker's engine has missed where the main thread reads it. */
export function publishLosses({ stats, losses }: FlowEngine, out: Float64Array): void {
  for (let i = 0; i < LOSSES; i++) out[Stat.losses + i] = losses[i];
  let unparsed = 0;
  for (let i = 0; i < stats.ignored.length; i++) unparsed += stats.ignored[i];
  out[Stat.unparsed] = unparsed;
  out[Stat.evicted] = stats.evicted;
}

/** The place of a protocol in STATS_PROTOCOLS, -1 for others. */
export function protocolPlace(protocol: number): number {
  if (protocol === IpProto.tcp) return 0;
  if (protocol === IpProto.udp) return 1;
  return protocol === IpProto.icmp || protocol === IpProto.icmpv6 ? 2 : -1;
}

/** Counts the open connections by protocol. */
export function publishActive(engine: FlowEngine, out: Float64Array): void {
  const active = engine.activeBy(protocolPlace);
  for (let place = 0; place < active.length; place++) out[Stat.active + place] = active[place];
}
