import { addon } from './addon.ts';
import { AttachType, MapFlag, MapType, ProgramFlag, ProgramType, XdpFlag } from './constants.ts';
import { errnoName } from './errors.ts';
import { createVeth } from './netlink.ts';

export type ProbeResult =
  | { state: 'supported' }
  /** The kernel lacks it; `since` is the first release of Linux that has it. */
  | { state: 'unsupported'; since: string }
  /** It could not be found out: mostly a missing privilege. */
  | { state: 'inconclusive'; cause: string };

/** Answers that mean "the kernel does not know this", not "something is in the way". */
const UNKNOWN_TO_KERNEL: ReadonlySet<string> = new Set([
  'EINVAL',
  'EOPNOTSUPP',
  'ENOTSUPP',
  'ENOSYS',
  'ENOPROTOOPT',
  'EAFNOSUPPORT',
]);

/** Failed before the feature was reached. */
class Obstacle extends Error {}

interface Probe {
  since: string;
  /** 0, or a negative errno of the feature; throws Obstacle when something else was in the way. */
  run: () => number;
}

/** `mov r0, value` and `exit`, after the instructions given as [opcode, registers, imm]. */
function program(value: number, ...before: [opcode: number, registers: number, imm: number][]): Uint8Array {
  const code = [...before, [0xb7, 0, value], [0x95, 0, 0]] as const;
  const bytes = new Uint8Array(code.length * 8);
  const view = new DataView(bytes.buffer);
  code.forEach(([opcode, registers, imm], i) => {
    view.setUint8(i * 8, opcode);
    view.setUint8(i * 8 + 1, registers);
    view.setInt32(i * 8 + 4, imm, true);
  });
  return bytes;
}

const CALL = 0x85;
const KTIME_GET_COARSE_NS = 160;
const PASS = 2;

function tryLoad(code: Uint8Array, type: number, flags = 0): number {
  const { fd } = addon().progLoad(code, type, 'sluice_probe', 'GPL', 0, flags, 0);
  return close(fd);
}

function tryMap(type: number, keySize: number, valueSize: number, entries: number, flags = 0): number {
  return close(addon().mapCreate(type, 'sluice_probe', keySize, valueSize, entries, flags));
}

function close(fd: number): number {
  if (fd < 0) return fd;
  addon().closeFd(fd);
  return 0;
}

/** Attaches in a network namespace that exists only for the call. */
function tryAttach(type: number, attachType: number, flags: number, veth: boolean): number {
  const { fd } = addon().progLoad(
    program(type === ProgramType.xdp ? PASS : -1),
    type,
    'sluice_probe',
    'GPL',
    0,
    0,
    0,
  );
  if (fd < 0) throw new Obstacle(`loading a program answers ${errnoName(-fd)}`);
  const request = veth ? createVeth('probe0', 'probe1') : undefined;
  const result = addon().attachInNewNetns(fd, attachType, flags, request, veth ? 'probe0' : 'lo');
  close(fd);
  if (result <= -4294967296) {
    throw new Obstacle(`a network namespace to try it in answers ${errnoName(-(result + 4294967296))}`);
  }
  return result;
}

function tryBatch(): number {
  const fd = addon().mapCreate(MapType.hash, 'sluice_probe', 4, 4, 1, 0);
  if (fd < 0) throw new Obstacle(`creating a hash map answers ${errnoName(-fd)}`);
  const result = addon().mapSupportsBatch(fd);
  close(fd);
  return result;
}

function tryRing(): number {
  try {
    return close(addon().packetRing(1, 4096, 1, 2048, 20, false, true, undefined, -1));
  } catch (error) {
    if (error instanceof Error && 'errno' in error && typeof error.errno === 'number') return -error.errno;
    throw error;
  }
}

/** With two frames of its own, and without an interface. */
function tryXdpSocket(): number {
  const memory = addon().mapFd(-1, 8192, 0, true);
  try {
    return close(addon().xskOpen(new Uint8Array(memory), 4096, 2, 2, new Uint8Array(128)));
  } catch (error) {
    if (error instanceof Error && 'errno' in error && typeof error.errno === 'number') return -error.errno;
    throw error;
  } finally {
    addon().unmap(memory);
  }
}

const MEMBARRIER_GLOBAL = 1;

const PROBES = {
  syscallProgram: {
    since: '5.14',
    run: () => tryLoad(program(0), ProgramType.syscall, ProgramFlag.sleepable),
  },
  ringBuffer: { since: '5.8', run: () => tryMap(MapType.ringbuf, 0, 0, 4096) },
  coarseClock: {
    since: '5.11',
    run: () => tryLoad(program(PASS, [CALL, 0, KTIME_GET_COARSE_NS]), ProgramType.xdp),
  },
  mmapableArray: { since: '5.5', run: () => tryMap(MapType.array, 4, 8, 1, MapFlag.mmapable) },
  batchOperations: { since: '5.6', run: tryBatch },
  xdpLink: { since: '5.9', run: () => tryAttach(ProgramType.xdp, AttachType.xdp, XdpFlag.generic, false) },
  xdpNativeVeth: {
    since: '4.19',
    run: () => tryAttach(ProgramType.xdp, AttachType.xdp, XdpFlag.native, true),
  },
  xdpFrags: { since: '5.18', run: () => tryLoad(program(PASS), ProgramType.xdp, ProgramFlag.xdpHasFrags) },
  tcx: { since: '6.6', run: () => tryAttach(ProgramType.schedCls, AttachType.tcxIngress, 0, false) },
  membarrier: {
    since: '4.16',
    run: () => {
      const commands = addon().membarrierQuery();
      if (commands < 0) return commands;
      return (commands & MEMBARRIER_GLOBAL) === 0 ? -95 : 0;
    },
  },
  cpumap: { since: '5.9', run: () => tryMap(MapType.cpumap, 4, 8, 1) },
  packetRing: { since: '3.2', run: tryRing },
  xdpSocket: { since: '5.4', run: tryXdpSocket },
} as const satisfies Record<string, Probe>;

export type Feature = keyof typeof PROBES;
export const FEATURES = Object.keys(PROBES) as Feature[];

const known = new Map<Feature, ProbeResult>();

/** Asks the running kernel for a feature. An inconclusive answer is asked anew the next time. */
export function probe(feature: Feature): ProbeResult {
  const before = known.get(feature);
  if (before !== undefined) return before;
  const result = ask(PROBES[feature]);
  if (result.state !== 'inconclusive') known.set(feature, result);
  return result;
}

export function probeAll(): Record<Feature, ProbeResult> {
  return Object.fromEntries(FEATURES.map((feature) => [feature, probe(feature)])) as Record<
    Feature,
    ProbeResult
  >;
}

function ask(candidate: Probe): ProbeResult {
  let result: number;
  try {
    result = candidate.run();
  } catch (error) {
    if (error instanceof Obstacle) return { state: 'inconclusive', cause: error.message };
    throw error;
  }
  if (result === 0) return { state: 'supported' };
  const name = errnoName(-result);
  if (UNKNOWN_TO_KERNEL.has(name)) return { state: 'unsupported', since: candidate.since };
  return { state: 'inconclusive', cause: `the kernel answers ${name}` };
}
