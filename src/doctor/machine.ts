import type {
  ChannelCounts,
  Coalescing,
  Feature,
  FeatureState,
  HashFlowName,
  IdleState,
  PauseFrames,
  ProbeResult,
  RingSizes,
  SoftnetRow,
  XdpFeatures,
} from '../kernel/index.ts';

/**
 * All that the checks look at: plain data, gathered once (src/doctor/facts), or written down as a fixture. What could not be
 * read, or is not there, is undefined. `doctor --facts` prints it.
 */
export interface Machine {
  kernel: KernelFacts;
  cpu: CpuFacts;
  nics: Nic[];
  /** Of /proc/sys, by their dotted names; numbers as text. */
  sysctls: Record<string, string>;
  softnet: SoftnetRow[];
  bpf: BpfFacts;
  memory: MemoryFacts;
  clock: ClockFacts;
  fanout: FanoutFacts;
  /** irqbalance runs. */
  irqbalance: boolean;
  sensors: SensorProcess[];
  sample: Sample | undefined;
  cost: CostFacts;
}

export interface KernelFacts {
  release: string;
  cmdline: string;
  /** It runs in a virtual machine. */
  virtual: boolean;
  features: Partial<Record<Feature, ProbeResult['state']>>;
}

export interface Cpu {
  id: number;
  node: number;
  package: number;
  /** All hardware threads of its core, itself too. */
  siblings: number[];
  governor?: string;
  /** kHz. */
  minFrequency?: number;
  maxFrequency?: number;
}

export interface CpuFacts {
  vendor: string;
  model: string;
  list: Cpu[];
  /** isolcpus, by what the kernel says is in force. */
  isolated: number[];
  nohzFull: number[];
  /** Linux' switch of SMT: on, off, forceoff, notsupported, notimplemented. */
  smt: string | undefined;
  /** Of CPU 0, the lightest first; empty without cpuidle. */
  idle: IdleState[];
  /** µs that /dev/cpu_dma_latency holds now; 2,000,000,000 is no wish. */
  latencyRequest: number | undefined;
  /** Driver of frequencies, such as intel_pstate, and its mode. */
  frequencyDriver: string | undefined;
  pstate: string | undefined;
  turbo: boolean | undefined;
  /** MSR 0x1a4 of Intel: a set bit is a prefetcher that is off. */
  prefetchersOff: number | undefined;
  iommu: boolean;
  /** pcie_aspm policy that is chosen. */
  aspm: string | undefined;
}

export interface PciFacts {
  address: string;
  vendor: string;
  device: string;
  /** GT/s and lanes. */
  speed: number | undefined;
  width: number | undefined;
  maxSpeed: number | undefined;
  maxWidth: number | undefined;
  node: number | undefined;
  /** Network functions of the same card, this one too, with the speed of their links in Mbit/s. */
  ports: { address: string; mbps: number | undefined }[];
}

export interface NicQueue {
  queue: number;
  irq: number | undefined;
  irqName: string | undefined;
  /** CPUs that the interrupt may go to, and those that it does go to. */
  affinity: number[];
  effective: number[];
}

export interface TxQueue {
  queue: number;
  xps: number[];
}

export interface RxQueue {
  queue: number;
  rps: number[];
  rfs: number;
}

export interface RssFacts {
  /** Hexadecimal; empty where the driver does not tell it. */
  key: string;
  table: number[];
  function: 'toeplitz' | 'xor' | 'crc32' | 'unknown';
  transform: number;
}

export interface Nic {
  name: string;
  index: number;
  up: boolean;
  mtu: number;
  /** `veth`, `bridge`, …; empty for hardware. */
  kind: string;
  /** Carries the host's own traffic: addresses, routes. */
  hostTraffic: boolean;
  driver: string;
  version: string;
  firmware: string;
  /** The module says that it does not come with the kernel; undefined: built in, or not known. */
  outOfTree: boolean | undefined;
  /** Mbit/s. */
  mbps: number | undefined;
  pci: PciFacts | undefined;
  xdp: XdpFeatures | undefined;
  attached: { mode: 'native' | 'generic' | 'offload' | 'multi'; ours: boolean; name: string } | undefined;
  rxQueuesMax: number;
  /** Transmit queues of the other end of a veth. */
  peerTxQueues: number | undefined;
  channels: ChannelCounts | undefined;
  ring: RingSizes | undefined;
  coalescing: Coalescing | undefined;
  pause: PauseFrames | undefined;
  features: Record<string, FeatureState>;
  privateFlags: Record<string, boolean>;
  rss: RssFacts | undefined;
  hashFields: Partial<Record<HashFlowName, string>>;
  /** Rules in the card; undefined where it takes none. */
  rules: number | undefined;
  counters: Record<string, number>;
  /** By queue; empty where the interrupts are not known. */
  queues: NicQueue[];
  rx: RxQueue[];
  tx: TxQueue[];
}

export interface BpfFacts {
  /** net.core.bpf_jit_enable and the like are among the sysctls. */
  capabilities: { bpf: boolean; netAdmin: boolean; netRaw: boolean; perfmon: boolean };
  mounted: boolean;
}

export interface MemoryModule {
  locator: string;
  /** MB; 0: an empty slot. */
  size: number;
  /** Channel as far as the locator tells it, with its processor. */
  channel: string;
}

export interface MemoryFacts {
  totalKb: number;
  availableKb: number;
  /** From the tables of the firmware (SMBIOS type 17). */
  modules: MemoryModule[] | undefined;
  /** kB by NUMA node. */
  nodes: { node: number; totalKb: number }[];
}

export interface ClockFacts {
  source: string | undefined;
  available: string[];
  synchronized: boolean | undefined;
}

export interface FanoutFacts {
  /** Groups of the namespace; undefined where the kernel does not tell. */
  groups: { id: number; mode: number; interfaces: number[]; processes: string[] }[] | undefined;
  proof:
    | { connections: number; split: number; used: number }
    /** Why there is none. */
    | { failed: string };
}

/** A process that has packet or AF_XDP sockets on an interface. */
export interface SensorProcess {
  pid: number;
  name: string;
  interfaces: number[];
  threads: { id: number; name: string; cpus: number[] }[];
}

/** What went on in a time of watching. */
/** What came in at an interface while it was watched. */
export interface NicRates {
  packets: number;
  bytes: number;
  /** Packets that the card lost, by the counters that tell so (src/gate/losses); those that have grown. */
  lost: Record<string, number>;
}

export interface Sample {
  seconds: number;
  nics: Record<string, NicRates>;
  cpus: { id: number; busy: number; softirq: number; idle: number }[];
  softnet: { processed: number; dropped: number; squeezed: number };
  /** Seconds of processor that each sensor took. */
  sensors: Record<number, number>;
  pmu: { instructionsPerCycle: number; cacheMissesPerPacket: number | undefined } | { none: string };
}

export interface CostFacts {
  /** ns of the gate for a packet of a connection that is not shunted, in test runs; text: why not. */
  gate: { pass: number } | string;
}
