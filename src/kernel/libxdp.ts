import { spawnSync } from 'node:child_process';
import { extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { SluiceError } from '../base/errors.ts';
import { addon, packageRoot } from './addon.ts';
import { errnoName, KernelError } from './errors.ts';
import type { LibxdpAnswer, LibxdpOrder } from './libxdp-main.ts';
import { type XdpMode, xdpAttachment } from './link.ts';
import type { BpfMap } from './map.ts';
import type { ProbeResult } from './probe.ts';
import { BpfProgram } from './program.ts';
import { capabilities } from './system.ts';

/** libxdp's numbers (enum xdp_attach_mode). */
const MODES: Readonly<Record<XdpMode, number>> = { native: 1, generic: 2, offload: 3 };
/** How long libxdp may take, which waits for others' work on dispatchers. */
const LOCK_MS = 30_000;
const EBUSY = 16;
/** Linux 6.13, and stable ones since: of a component that may change packets, as a tail call may, where the dispatcher's place for it does not. */
const UNFIT = 'Extension program changes packet data';

const object = (name: string): string => join(packageRoot(), 'build', 'bpf', `${name}.bpf.o`);

/** A component of libxdp's dispatcher, which lives on by libxdp's own pins. */
export interface Component {
  program: BpfProgram;
  /** False where libxdp has put it on the interface by itself, as the kernel has no dispatchers or bpffs is not there. */
  dispatcher: boolean;
}

let known: ProbeResult | undefined;

/**
 * Whether the running kernel lets a program take the place of another one's function, which is how libxdp's dispatcher runs its
 * components (Linux 5.10): by doing it.
 */
export function probeComponents(): ProbeResult {
  if (known !== undefined) return known;
  const result = addon().programReplaces(object('replace'), 'sluice_place', object('component'));
  if (result === 0) known = { state: 'supported' };
  // A kernel without it answers in one way or another, and EPERM is one of them.
  else if (Object.values(capabilities()).every(Boolean)) known = { state: 'unsupported', since: '5.10' };
  else return { state: 'inconclusive', cause: `the kernel answers ${errnoName(-result)}` };
  return known;
}

/** Why libxdp.so.1 cannot be used; undefined when it can. */
export function libxdpMissing(): string | undefined {
  const missing = addon().libxdpMissing();
  return missing === '' ? undefined : missing;
}

/**
 * Puts a component on an interface that goes on to the program in `entry`, beside others of libxdp, those of the lowest priority first.
 * @throws SluiceError INTERFACE_BUSY, KERNEL_FEATURE; KernelError with what libxdp says
 */
export function attachComponent(options: {
  entry: BpfMap;
  priority: number;
  ifindex: number;
  mode: XdpMode;
}): Component {
  const { entry, priority, ifindex, mode } = options;
  const path = object('component');
  const id = ask(`attach to interface ${ifindex} by libxdp`, {
    op: 'attach',
    path,
    entry: entry.id,
    priority,
    ifindex,
    mode: MODES[mode],
  });
  return { program: BpfProgram.fromId(id), dispatcher: xdpAttachment(ifindex)?.programId !== id };
}

/** Takes a component off. @throws SluiceError INTERFACE_BUSY; KernelError with what libxdp says */
export function detachComponent(program: BpfProgram, ifindex: number): void {
  ask(`detach from interface ${ifindex} by libxdp`, { op: 'detach', programId: program.id, ifindex });
}

/** In a process of its own, which may be ended: libxdp waits for its lock for as long as somebody has it. */
function ask(what: string, order: LibxdpOrder): number {
  const main = import.meta.resolve(`./libxdp-main${extname(import.meta.filename)}`);
  const done = spawnSync(process.execPath, [fileURLToPath(main), JSON.stringify(order)], {
    encoding: 'utf8',
    timeout: LOCK_MS,
    killSignal: 'SIGKILL',
  });
  if (done.error !== undefined && 'code' in done.error && done.error.code === 'ETIMEDOUT')
    throw new SluiceError(
      'INTERFACE_BUSY',
      `${what}: libxdp has not come to an end in ${LOCK_MS / 1000} seconds`,
      {
        help: 'mostly another process holds its lock: see which (`fuser -v /sys/fs/bpf/xdp`), and try again',
      },
    );
  if (done.status !== 0)
    throw new SluiceError('KERNEL_CALL', `${what} failed`, { cause: done.error ?? done.stderr });
  const answer = JSON.parse(done.stdout) as LibxdpAnswer;
  if ('programId' in answer) return answer.programId;
  const cause = answer.said.trim();
  if (answer.errno === EBUSY)
    throw new SluiceError('INTERFACE_BUSY', `${what}: something is attached that is not libxdp's`, {
      cause,
      help: 'see `ip link show`, and detach it with the tool that attached it',
    });
  if (cause.includes(UNFIT))
    throw new SluiceError(
      'KERNEL_FEATURE',
      'the dispatcher of the libxdp that is installed is too old for this kernel, which lets none of its components go on to another program',
      { cause, help: 'libxdp 1.5.5 has one that fits; or leave out --libxdp' },
    );
  throw new KernelError('xdp.attach', answer.errno, what, cause === '' ? {} : { cause });
}
