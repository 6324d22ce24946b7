import { fstatSync, mkdirSync, readFileSync, statfsSync, statSync, unlinkSync } from 'node:fs';
import { addon } from './addon.ts';
import { attempt, check, errnoName, KernelError } from './errors.ts';

let cpus = 0;

/** CPUs that may ever come up: the number of slots of a per-CPU value. */
export function possibleCpus(): number {
  if (cpus === 0) cpus = check('info', addon().possibleCpus(), () => 'count the possible CPUs');
  return cpus;
}

/** Waits until every running thread of the machine has passed a full memory barrier (about 20 ms); thread pool. */
export async function membarrier(): Promise<void> {
  check('membarrier', await addon().membarrier(), () => 'membarrier');
}

/** CLOCK_MONOTONIC in seconds: the clock of bpf_ktime_get_ns and its coarse sister. */
export function monotonic(): number {
  return addon().monotonic();
}

/** Seconds between two values of the coarse clocks: one kernel tick (4 ms at HZ=250). */
export function coarseStep(): number {
  return addon().coarseStep();
}

/** Whether NTP or PTP keeps the wall clock right; undefined where the kernel does not say. */
export function clockSynchronized(): boolean | undefined {
  const told = addon().clockSynchronized();
  return told < 0 ? undefined : told === 1;
}

/** CLOCK_MONOTONIC in nanoseconds. */
export function monotonicNs(): bigint {
  return process.hrtime.bigint();
}

/** What to add to a CLOCK_MONOTONIC time to get seconds since the epoch; changes when the clock is set. */
export function realtimeOffset(): number {
  return addon().realtimeOffset();
}

/** A new random one for each boot. */
export function bootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
}

/** Tells network namespaces apart: the inode of the calling thread's. */
export function netnsInode(): number {
  return statSync('/proc/thread-self/ns/net').ino;
}

/** Tells network namespaces of one boot apart, also those that have ended: inodes are used again. */
export function netnsCookie(): string {
  const cookie = addon().netnsCookie();
  return cookie === '' ? `i${netnsInode()}` : cookie;
}

const BPFFS = '/sys/fs/bpf';
const BPF_FS_MAGIC = 0xcafe4a11;

/** Mounts the bpf file system on /sys/fs/bpf unless it is there; its path. */
export function ensureBpffs(): string {
  try {
    if (statfsSync(BPFFS).type === BPF_FS_MAGIC) return BPFFS;
  } catch {
    // Not there yet: the mount below says why if it cannot be.
    mkdirSync(BPFFS, { recursive: true });
  }
  check('bpffs.mount', addon().mountBpffs(BPFFS), () => `mount bpffs on ${BPFFS}`);
  return BPFFS;
}

export interface Capabilities {
  bpf: boolean;
  netAdmin: boolean;
  netRaw: boolean;
  perfmon: boolean;
  sysAdmin: boolean;
}

/** Effective capabilities of the calling thread. */
export function capabilities(): Capabilities {
  const status = readFileSync('/proc/thread-self/status', 'utf8');
  const effective = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)/m.exec(status)?.[1] ?? '0'}`);
  const has = (bit: bigint): boolean => ((effective >> bit) & 1n) === 1n;
  // Before CAP_BPF (39) and CAP_PERFMON (38) existed, and still, CAP_SYS_ADMIN (21) stands for them.
  return {
    bpf: has(39n) || has(21n),
    netAdmin: has(12n),
    netRaw: has(13n),
    perfmon: has(38n) || has(21n),
    sysAdmin: has(21n),
  };
}

/** Pins the calling thread to one CPU. */
export function setThreadAffinity(cpu: number): void {
  check('affinity', addon().setAffinity(cpu), () => `run on CPU ${cpu}`);
}

/**
 * Moves the calling thread into a network namespace of its own, which ends with the thread. Sockets, attachments and
 * child processes that this thread makes from then on live in it; other threads stay where they are.
 */
export function unshareNetns(): void {
  check('netns', addon().unshareNetns(), () => 'make a network namespace');
}

/** Moves the calling thread into the network namespace behind a path such as `/proc/PID/ns/net`. */
export function enterNetns(path: string): void {
  check('netns', addon().enterNetns(path), () => `enter the network namespace ${path}`);
}

export interface PeerCredentials {
  pid: number;
  uid: number;
  gid: number;
}

/** Who connected to a Unix socket, as the kernel noted it then (SO_PEERCRED). */
export function peerCredentials(fd: number): PeerCredentials {
  return attempt('peer', 'ask for the credentials of the peer', () => addon().peerCredentials(fd));
}

/** An exclusive advisory lock, held until `release` or the end of the process. */
export class FileLock {
  readonly #path: string;
  #fd: number;

  constructor(fd: number, path: string) {
    this.#fd = fd;
    this.#path = path;
  }

  /** Whether its file is the one that others would find under the path. */
  get current(): boolean {
    const there = statSync(this.#path, { throwIfNoEntry: false });
    const held = fstatSync(this.#fd);
    return there?.ino === held.ino && there.dev === held.dev;
  }

  /** Lets go and takes the file away. Those who wait for it with `lockFile` notice. */
  remove(): void {
    if (this.#fd < 0) return;
    if (this.current) unlinkSync(this.#path);
    this.release();
  }

  release(): void {
    if (this.#fd < 0) return;
    addon().closeFd(this.#fd);
    this.#fd = -1;
  }

  [Symbol.dispose](): void {
    this.release();
  }
}

/** Locks a file (made when missing); undefined when someone else, or another handle of this process, holds it. */
export function lockFile(path: string): FileLock | undefined {
  for (;;) {
    const fd = addon().lockFile(path);
    if (fd < 0 && errnoName(-fd) === 'EAGAIN') return undefined;
    if (fd < 0) throw new KernelError('lock', -fd, `lock ${path}`);
    const lock = new FileLock(fd, path);
    if (lock.current) return lock;
    // Its holder took the file away between our opening and our locking it: there is a new one to compete for.
    lock.release();
  }
}
