import { existsSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { SluiceError } from '../base/errors.ts';

/**
 * What build/sluice.node exports: system calls, and memory of the kernel as ArrayBuffers. Numbers that may be
 * negative are negative errnos. Only src/kernel calls it; everything else goes through the classes there.
 */
export interface Addon {
  holdings(): { fds: number; mappings: number; watches: number };
  closeFd(fd: number): number;
  duplicateFd(fd: number): number;

  mapCreate(
    type: number,
    name: string,
    keySize: number,
    valueSize: number,
    maxEntries: number,
    flags: number,
  ): number;
  mapLookup(
    fd: number,
    key: Uint8Array,
    value: Uint8Array,
    flags: number,
    keySize: number,
    valueSize: number,
  ): number;
  mapUpdate(
    fd: number,
    key: Uint8Array,
    value: Uint8Array,
    flags: number,
    keySize: number,
    valueSize: number,
  ): number;
  mapDelete(fd: number, key: Uint8Array, keySize: number): number;
  mapNextKey(fd: number, key: Uint8Array | undefined, next: Uint8Array, keySize: number): number;
  /** Elements read; -1 - elements when they were the last; -2^32 - errno. */
  mapLookupBatch(
    fd: number,
    cursor: Uint8Array,
    first: boolean,
    keys: Uint8Array,
    values: Uint8Array,
    count: number,
    keySize: number,
    valueSize: number,
  ): Promise<number>;
  mapSupportsBatch(fd: number): number;
  mapInfo(fd: number): RawMapInfo;

  progInfo(fd: number, dump: boolean): RawProgramInfo;
  progLoad(
    instructions: Uint8Array,
    type: number,
    name: string,
    license: string,
    expectedAttachType: number,
    flags: number,
    logSize: number,
  ): { fd: number; log: string };
  progTestRun(
    fd: number,
    data: Uint8Array | undefined,
    dataOut: Uint8Array | undefined,
    context: Uint8Array | undefined,
    contextOut: Uint8Array | undefined,
    repeat: number,
    flags: number,
    cpu: number,
    batch: number,
    result: Uint8Array,
  ): number;
  progRunSyscall(fd: number, context: Uint8Array): number;

  objPin(fd: number, path: string): number;
  /** kind: 0 map, 1 program, 2 link. */
  objGet(path: string, kind: number, readOnly: boolean): number;
  fdById(kind: number, id: number): number;

  linkInfo(fd: number): { type: number; id: number; programId: number; ifindex: number };
  linkCreate(programFd: number, ifindex: number, attachType: number, flags: number): number;
  linkUpdate(fd: number, programFd: number): number;
  linkDetach(fd: number): number;
  xdpQuery(ifindex: number): { mode: number; programId: number };
  attachInNewNetns(
    programFd: number,
    attachType: number,
    flags: number,
    netlinkRequest: Uint8Array | undefined,
    interfaceName: string,
  ): number;

  loadObject(
    path: string,
    constants: [name: string, bytes: Uint8Array, scalar: boolean][],
    mapSizes: [name: string, entries: number][],
    reuseMaps: [name: string, fd: number][],
    programs: [name: string, attachType: number, flags: number, autoload: boolean][],
    logSize: number,
    frags: boolean,
  ): RawObject | RawObjectFailure;

  /** Why libxdp cannot be used; empty when it can. */
  libxdpMissing(): string;
  /** mode: 1 native, 2 generic. The program's id; throws with `errno` and what libxdp has said. */
  libxdpAttach(path: string, entryFd: number, priority: number, ifindex: number, mode: number): number;
  libxdpDetach(programId: number, ifindex: number): void;
  programReplaces(target: string, functionName: string, path: string): number;

  /** Without a descriptor (-1): memory of its own. */
  mapFd(fd: number, length: number, offset: number, writable: boolean): ArrayBuffer;
  unmap(buffer: ArrayBuffer): boolean;
  /** Offset of the first place with that alignment, from which on there are large pages where the system has any. */
  largePages(untouched: Uint8Array, alignment: number): number;
  watchStart(fd: number, ready: (error: number) => void, keepAlive: boolean): number;
  watchStop(id: number): boolean;
  watchSwitch(id: number, on: boolean): boolean;

  packetRing(
    ifindex: number,
    blockSize: number,
    blocks: number,
    frameSize: number,
    retireMs: number,
    promiscuous: boolean,
    ignoreOutgoing: boolean,
    filter: Uint8Array | undefined,
    fanout: number,
  ): number;
  packetStats(fd: number, out: Uint8Array): number;
  packetStop(fd: number): number;
  packetFanout(ifindex: number, id: number, mode: number, members: number, program: number): number;
  packetFanoutId(fd: number): number;
  packetSender(ifindex: number, qdiscBypass: boolean): number;
  packetSend(fd: number, frames: Uint8Array, offsets: Uint8Array, first: number, count: number): number;
  /** A descriptor; `offsets` (128 bytes) gets struct xdp_mmap_offsets. */
  xskOpen(
    memory: Uint8Array,
    chunkSize: number,
    fillEntries: number,
    rxEntries: number,
    offsets: Uint8Array,
  ): number;
  xskBind(fd: number, ifindex: number, queue: number, flags: number): number;
  /** Bits: 1 zero copy. */
  xskOptions(fd: number): number;
  /** Six 64-bit counters of struct xdp_statistics. */
  xskStats(fd: number, out: Uint8Array): number;
  xskWake(fd: number): void;
  /** A descriptor. */
  promiscuous(ifindex: number): number;
  netlink(request: Uint8Array): Uint8Array;
  /** Of another protocol than NETLINK_ROUTE. */
  netlinkOf(request: Uint8Array, protocol: number): Uint8Array;

  udpOpen(address: string, port: number, reusePort: boolean, bufferBytes: number): number;
  /** Ten words: SO_MEMINFO, the local port. */
  udpState(fd: number, out: Uint8Array): number;
  udpBalance(fd: number, classic: Uint8Array | undefined, program: number): number;
  receiverOpen(
    fd: number,
    slots: number,
    slotBytes: number,
    ring: boolean,
  ): { id: number; memory: ArrayBuffer };
  receiverRead(id: number): number;
  receiverClocks(id: number): number;
  receiverClose(id: number): boolean;

  compileFilter(
    expression: string,
    linkType: number,
    snaplen: number,
    optimize: boolean,
  ): Uint8Array | string;
  runFilter(filter: Uint8Array, packet: Uint8Array, wireLength: number): number;
  /** Three words a frame: offset in `memory`, captured length, wire length; one word of result. Packets that match, or -1. */
  runFilterBatch(filter: Uint8Array, memory: Uint8Array, frames: Uint8Array, returns: Uint8Array): number;
  /** Two words a frame: offset in `memory`, length; one word of result. 0, or a negative errno. */
  runSocketFilter(filter: Uint8Array, memory: Uint8Array, frames: Uint8Array, kept: Uint8Array): number;
  attachSocketFilter(socket: number, program: number): number;
  /** -1 when there is no such name. */
  linkTypeValue(name: string): number;
  linkTypeName(value: number): string | undefined;

  shortWays(tables: ShortWayTables, checksums: boolean, bare: boolean): RawShortWays;
  shortTake(
    ways: RawShortWays,
    memory: Uint8Array,
    places: Int32Array,
    times: Float64Array,
    from: number,
    count: number,
    fresh: boolean,
  ): number;

  connLines(tables: ConnLineTables): RawConnLines;
  connLine(
    lines: RawConnLines,
    slot: number,
    out: Uint8Array,
    at: number,
    service: string | undefined,
    more: string | undefined,
  ): number;

  /** A struct ethtool_rxnfc, in which the answer is. 0, or a negative errno. */
  nicRules(ifname: string, command: Uint8Array): number;
  rxQueues(ifname: string): number;
  /** A structure of linux/ethtool.h, in which the answer is. What the ioctl gives back, or a negative errno. */
  ethtool(ifname: string, command: Uint8Array): number;
  /** A descriptor, or a negative errno. */
  perfOpen(cpu: number, config: number): number;
  perfRead(fd: number): number;

  possibleCpus(): number;
  monotonic(): number;
  coarseStep(): number;
  /** 1 or 0, or a negative errno. */
  clockSynchronized(): number;
  realtimeOffset(): number;
  membarrier(): Promise<number>;
  membarrierQuery(): number;
  lockFile(path: string): number;
  mountBpffs(path: string): number;
  setAffinity(cpu: number): number;
  /** Empty before Linux 5.14. */
  netnsCookie(): string;
  unshareNetns(): number;
  enterNetns(path: string): number;
  unixDatagrams(path: string): number;
  receiveDatagram(fd: number, buffer: Uint8Array): number;
  /** A path, or @NAME in the abstract namespace. 0, or a negative errno. */
  sendDatagram(path: string, bytes: Uint8Array): number;
  peerCredentials(fd: number): { pid: number; uid: number; gid: number };
}

/** Opaque. */
export interface RawShortWays {
  readonly shortWays: unique symbol;
}

/** Opaque. */
export interface RawConnLines {
  readonly connLines: unique symbol;
}

/** Memory of a flow engine from which lines of conn.log are made. */
export interface ConnLineTables {
  readonly words: Int32Array;
  readonly cold: Int32Array;
  /** Local networks of both families, 17 bytes each: length of the prefix, address. */
  readonly nets4: Uint8Array;
  readonly nets6: Uint8Array;
}

/** Memory that the native short ways of the flow engine share with it; see src/flow/short-ways.ts. */
export interface ShortWayTables {
  readonly words: Int32Array;
  readonly cold: Int32Array;
  readonly free: Int32Array;
  readonly totals: Int32Array;
  /** See src/flow/losses.ts. */
  readonly losses: Float64Array;
  readonly index: Int32Array;
  readonly seed: Int32Array;
  readonly links: Int32Array;
  readonly wheelClock: Float64Array;
  readonly uids: Int32Array;
  /** One byte a port. */
  readonly udpServers: Uint8Array;
  readonly dnsPorts: Uint8Array;
  readonly interactive: Uint8Array;
  readonly tunnelPorts: Uint8Array;
  /** By timeout class. */
  readonly inactivity: Float64Array;
  /** Unanswered attempt, close, look at half-closed ones, DNS, and how far the clock may go back. */
  readonly timeouts: Float64Array;
  /** Packet time, and the time from which on timers are due. */
  readonly clock: Float64Array;
}

export interface RawMapInfo {
  type: number;
  id: number;
  keySize: number;
  valueSize: number;
  maxEntries: number;
  flags: number;
  name: string;
}

export interface RawProgramInfo {
  type: number;
  id: number;
  name: string;
  tag: string;
  xlatedBytes: number;
  jitedBytes: number;
  verifiedInstructions: number;
  /** CLOCK_MONOTONIC (with suspend) seconds. */
  loadTime: number;
  xlated: Uint8Array | undefined;
}

export interface RawObject {
  maps: [name: string, fd: number][];
  programs: [name: string, fd: number][];
}

export interface RawObjectFailure {
  error: number;
  step: string;
  text: string;
  log: string;
}

/** The package's root: the nearest folder upwards with a package.json (this file runs from src/ and from dist/src/). */
export function packageRoot(): string {
  let at = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(at, 'package.json'))) {
    const up = dirname(at);
    if (up === at)
      throw new SluiceError('INTERNAL', 'Sluice runs from a folder without a package.json above it');
    at = up;
  }
  return at;
}

/** Debian's packages with the libraries that the addon is linked with. */
const LIBRARY_PACKAGES: Readonly<Record<string, string>> = {
  'libbpf.so.1': 'libbpf1',
  'libpcap.so.0.8': 'libpcap0.8',
  'libelf.so.1': 'libelf1',
  'libz.so.1': 'zlib1g',
  'libstdc++.so.6': 'libstdc++6',
  'libgcc_s.so.1': 'libgcc-s1',
};

/** What to do about what the dynamic linker says of the addon. */
export function addonHelp(said: string): string {
  const library = /(\S+): cannot open shared object file/.exec(said)?.[1] ?? '';
  if (Object.hasOwn(LIBRARY_PACKAGES, library))
    return `install ${library}: apt-get install libbpf1 libpcap0.8 (Debian; it is in ${LIBRARY_PACKAGES[library]})`;
  if (/version `GLIBC\S*' not found/.test(said))
    return 'the addon that the package brings is for Debian 12 and newer; build it here from a checkout: npm run setup';
  if (/wrong ELF class|invalid ELF header/.test(said))
    return 'the addon is for another processor; build it here from a checkout: npm run setup';
  return 'build it with `npm run build` (in a checkout: `npm run setup`)';
}

let loaded: Addon | undefined;

/** The addon; loaded on first use. SLUICE_ADDON names another build of it (the sanitizer's). */
export function addon(): Addon {
  if (loaded !== undefined) return loaded;
  const path = resolve(process.env['SLUICE_ADDON'] ?? join(packageRoot(), 'build', 'sluice.node'));
  try {
    statSync(path);
    loaded = createRequire(import.meta.url)(path) as Addon;
  } catch (error) {
    throw new SluiceError('ADDON_MISSING', `the native addon ${path} does not load`, {
      cause: error,
      help: addonHelp(error instanceof Error ? error.message : ''),
    });
  }
  return loaded;
}

/** The addon, or undefined where it does not load: reading files needs none. */
export function addonIfAny(): Addon | undefined {
  try {
    return addon();
  } catch (error) {
    if (error instanceof SluiceError) return undefined;
    throw error;
  }
}

/** The addon if some part of this process has loaded it already: for checks that must not load it themselves. */
export function loadedAddon(): Addon | undefined {
  return loaded;
}
