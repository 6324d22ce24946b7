import { type InterfaceInfo, interfaceInfo, interfaces, softnet } from '../../kernel/index.ts';
import type { Area } from '../finding.ts';
import type { Machine } from '../machine.ts';
import { cpuFacts } from './cpu.ts';
import { proveFanout } from './fanout-proof.ts';
import { Files } from './files.ts';
import { gateCost } from './gate-cost.ts';
import { bpfFacts, clockFacts, kernelFacts, memoryFacts, sysctls } from './kernel.ts';
import { nicFacts } from './nic.ts';
import { takeSample } from './sample.ts';
import { sensorFacts } from './sensors.ts';

export interface GatherOptions {
  /** Interfaces to look at; none: those that can be taps. */
  interfaces: readonly string[];
  /** Seconds to watch rates for; 0: not at all. */
  sample: number;
  stop: AbortSignal;
  /** Areas that are checked: what is tried for another one alone is left out. */
  areas: ReadonlySet<Area>;
  /** Time the gate. */
  cost: boolean;
}

const NOT_ASKED = 'it was not asked for';

/** Kinds of interface that packets do not come from the wire by. */
const NOT_TAPS = new Set(
  (
    'bridge bond team vlan ifb dummy tun wireguard vxlan geneve ' +
    'ipip sit gre gretap erspan vti ip6tnl ip6gre ip6gretap ip6erspan vti6'
  ).split(' '),
);
const MOST = 64;

function chosen(names: readonly string[]): InterfaceInfo[] {
  if (names.length > 0) return [...new Set(names)].map(interfaceInfo);
  return interfaces()
    .filter(({ loopback, kind }) => !loopback && !NOT_TAPS.has(kind))
    .slice(0, MOST);
}

/**
 * Everything that the checks look at. Changes nothing: what it has to try (a fanout group, the gate) it tries in a network
 * namespace of its own, or without attaching. @throws SluiceError INTERFACE_UNKNOWN
 */
export async function gather(options: GatherOptions): Promise<Machine> {
  const files = new Files();
  const links = chosen(options.interfaces);
  const all = interfaces();
  const { sensors, groups, irqbalance } = sensorFacts(files);
  const nics = links.map((link) => nicFacts(files, link, all));
  const sample =
    options.sample === 0
      ? undefined
      : await takeSample(
          files,
          nics.map(({ name }) => name),
          sensors.map(({ pid }) => pid),
          options.sample,
          options.stop,
        );
  return {
    kernel: kernelFacts(files, options.areas.has('kernel')),
    cpu: cpuFacts(files),
    nics,
    sysctls: sysctls(files),
    softnet: softnet(files.text('/proc/net/softnet_stat') ?? ''),
    bpf: bpfFacts(files),
    memory: memoryFacts(files),
    clock: clockFacts(files),
    fanout: { groups, proof: options.areas.has('fanout') ? proveFanout() : { failed: NOT_ASKED } },
    irqbalance,
    sensors,
    sample,
    cost: { gate: options.cost ? gateCost() : NOT_ASKED },
  };
}
