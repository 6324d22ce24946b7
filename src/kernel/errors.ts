import { constants } from 'node:os';
import { getSystemErrorMap } from 'node:util';
import { type ErrorCode, SluiceError, type SluiceErrorOptions } from '../base/errors.ts';

const names = new Map<number, string>(
  Object.entries(constants.errno).map(([name, number]) => [number, name]),
);
// EWOULDBLOCK and ENOTSUP are second names on Linux; the kernel's own documents say the first ones.
names.set(constants.errno.EAGAIN, 'EAGAIN').set(constants.errno.EOPNOTSUPP, 'EOPNOTSUPP');
/** Linux' own ENOTSUPP leaks out of a few bpf(2) and netlink paths. */
names.set(524, 'ENOTSUPP');

/** `ENODEV` for 19. */
export function errnoName(errno: number): string {
  return names.get(errno) ?? `errno ${errno}`;
}

/** What a system call was meant to do: selects the advice. */
export type Operation =
  | 'map.create'
  | 'map.lookup'
  | 'map.update'
  | 'map.delete'
  | 'map.batch'
  | 'map.mmap'
  | 'map.open'
  | 'object.load'
  | 'program.load'
  | 'program.run'
  | 'program.open'
  | 'link.open'
  | 'link.update'
  | 'link.detach'
  | 'xdp.attach'
  | 'xdp.query'
  | 'tcx.attach'
  | 'pin'
  | 'pin.open'
  | 'info'
  | 'ring.open'
  | 'ring.stats'
  | 'ring.stop'
  | 'ring.filter'
  | 'fanout'
  | 'xsk.open'
  | 'sender.open'
  | 'sender.send'
  | 'netlink'
  | 'nic.rule'
  | 'ethtool'
  | 'membarrier'
  | 'bpffs.mount'
  | 'lock'
  | 'peer'
  | 'affinity'
  | 'netns'
  | 'unix.datagrams'
  | 'udp.open'
  | 'udp.ring'
  | 'udp.read'
  | 'udp.balance'
  | 'watch';

interface Advice {
  code: ErrorCode;
  help?: string;
}

const PRIVILEGE: Advice = {
  code: 'PRIVILEGE',
  help: 'run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_NET_RAW; files and udp:// sources need no privilege',
};
const NO_INTERFACE: Advice = {
  code: 'INTERFACE_UNKNOWN',
  help: '`ip link` lists the interfaces of this network namespace',
};
const BUSY: Advice = {
  code: 'INTERFACE_BUSY',
  help: '`ip link show` and `bpftool net` name the program that is attached; detach it first, it is not ours to remove',
};
const NO_IO_URING: Advice = {
  code: 'KERNEL_FEATURE',
  help: 'io_uring (Linux 6.1) is switched off or filtered here (kernel.io_uring_disabled, containers): use impl=recvmmsg',
};

/** errno → what it means for the operation and what to do; `*` holds for every operation without a row of its own. */
const TABLE: Partial<Record<Operation | '*', Record<string, Advice>>> = {
  '*': {
    EPERM: PRIVILEGE,
    EACCES: PRIVILEGE,
    EOPNOTSUPP: {
      code: 'KERNEL_FEATURE',
      help: 'Linux 6.1 or newer is needed; `sluice doctor` names what is missing',
    },
    ENOTSUPP: {
      code: 'KERNEL_FEATURE',
      help: 'Linux 6.1 or newer is needed; `sluice doctor` names what is missing',
    },
    ENOSYS: {
      code: 'KERNEL_FEATURE',
      help: 'the kernel was built without bpf(2) or the system call is filtered',
    },
    ENODEV: NO_INTERFACE,
    ENXIO: NO_INTERFACE,
    EBADF: { code: 'CLOSED', help: 'the handle was closed before this call' },
    ENOMEM: { code: 'KERNEL_CALL', help: 'less memory is free than this takes: use smaller tables or rings' },
    EMFILE: { code: 'KERNEL_CALL', help: 'raise the limit of open files (ulimit -n)' },
  },
  'map.update': {
    E2BIG: { code: 'MAP_FULL', help: 'use a larger table, or let entries end sooner' },
    ENOSPC: { code: 'MAP_FULL', help: 'use a larger table, or let entries end sooner' },
  },
  'map.create': {
    E2BIG: {
      code: 'KERNEL_CALL',
      help: 'the map would be larger than the kernel allows: fewer entries or smaller values',
    },
  },
  'map.batch': {
    ENOSPC: {
      code: 'KERNEL_CALL',
      help: 'one bucket of the table holds more elements than the batch: use a larger one',
    },
  },
  'object.load': {
    ENOENT: { code: 'OBJECT_INVALID', help: 'build the objects with `npm run build`' },
    EINVAL: { code: 'OBJECT_INVALID', help: 'build the objects anew with `npm run clean && npm run build`' },
    ENOEXEC: { code: 'OBJECT_INVALID', help: 'build the objects anew with `npm run clean && npm run build`' },
    ERANGE: {
      code: 'OBJECT_INVALID',
      help: 'the object and the program that loads it are of different versions: build anew',
    },
    ESRCH: {
      code: 'OBJECT_INVALID',
      help: 'the object refers to something that the running kernel does not have',
    },
  },
  'xdp.attach': {
    EBUSY: BUSY,
    EEXIST: BUSY,
    EINVAL: {
      code: 'KERNEL_FEATURE',
      help: 'the driver refuses this program in this mode (MTU, offloads): try `--mode generic`',
    },
    EOPNOTSUPP: {
      code: 'KERNEL_FEATURE',
      help: 'the driver has no native XDP: use `--mode auto` or `--mode generic`',
    },
    ERANGE: {
      code: 'KERNEL_FEATURE',
      help: 'the MTU is too large for native XDP on this driver: use `--mode generic`',
    },
  },
  'tcx.attach': {
    EINVAL: { code: 'KERNEL_FEATURE', help: 'tcx needs Linux 6.6 or newer' },
    EBUSY: BUSY,
  },
  pin: {
    EEXIST: { code: 'KERNEL_CALL', help: 'something is pinned there already' },
    EPERM: { code: 'PRIVILEGE', help: 'pins need CAP_BPF, and names in bpffs have no dots' },
    EINVAL: {
      code: 'KERNEL_CALL',
      help: 'the path does not lie in a bpf file system (mount -t bpf bpf /sys/fs/bpf)',
    },
  },
  'pin.open': {
    ENOENT: { code: 'KERNEL_CALL', help: 'nothing is pinned there' },
    EINVAL: { code: 'PIN_FOREIGN', help: 'what is pinned there is of another kind' },
  },
  'map.open': { ENOENT: { code: 'KERNEL_CALL', help: 'there is no map with this id (any more)' } },
  'program.open': { ENOENT: { code: 'KERNEL_CALL', help: 'there is no program with this id (any more)' } },
  'ring.open': {
    ENOMEM: {
      code: 'KERNEL_CALL',
      help: 'the packet ring does not fit into memory: fewer or smaller blocks',
    },
    EINVAL: { code: 'KERNEL_CALL', help: 'the block size must be a multiple of the page size' },
  },
  fanout: {
    EINVAL: {
      code: 'KERNEL_CALL',
      help: 'the group with this id has another mode or other flags, or the program is no socket filter',
    },
    EALREADY: { code: 'KERNEL_CALL', help: 'the interface is down, or the socket is in a group already' },
    ENOSPC: { code: 'LIMIT', help: 'the group is full, or of another interface' },
  },
  'xsk.open': {
    EAFNOSUPPORT: { code: 'KERNEL_FEATURE', help: 'the kernel was built without CONFIG_XDP_SOCKETS' },
    EBUSY: { code: 'INTERFACE_BUSY', help: 'another AF_XDP socket is bound to this queue' },
    EINVAL: { code: 'KERNEL_CALL', help: 'the interface has no such receive queue, or the driver refuses' },
    ENOBUFS: {
      code: 'KERNEL_CALL',
      help: 'the frames do not fit into the memory that may be locked: raise `ulimit -l`, or use a smaller ring',
    },
    EOPNOTSUPP: {
      code: 'KERNEL_FEATURE',
      help: 'the driver cannot do this: copy mode works with all of them',
    },
  },
  'udp.open': {
    EADDRNOTAVAIL: {
      code: 'ADDRESS_UNKNOWN',
      help: '`ip address` lists the addresses of this host; 0.0.0.0 and [::] stand for all of them',
    },
    EADDRINUSE: {
      code: 'ADDRESS_IN_USE',
      help: '`ss -ulnp` names it; the kernel’s own VXLAN or GENEVE device takes the port as well',
    },
    EACCES: {
      code: 'PRIVILEGE',
      help: 'ports below net.ipv4.ip_unprivileged_port_start (1024) want CAP_NET_BIND_SERVICE',
    },
    EINVAL: { code: 'USAGE', help: 'an IPv4 or IPv6 address in numbers, for instance 0.0.0.0 or ::1' },
    EAFNOSUPPORT: { code: 'KERNEL_FEATURE', help: 'IPv6 is switched off on this host' },
  },
  'udp.ring': {
    EPERM: NO_IO_URING,
    EACCES: NO_IO_URING,
    ENOSYS: NO_IO_URING,
    EINVAL: NO_IO_URING,
  },
  'nic.rule': {
    EOPNOTSUPP: {
      code: 'KERNEL_FEATURE',
      help: 'the driver has no such rules, or `ethtool -K IFACE ntuple on` has to switch them on',
    },
    ENOSPC: { code: 'LIMIT', help: 'the table of the NIC is full: `ethtool -n IFACE` lists it' },
  },
  ethtool: {
    EOPNOTSUPP: { code: 'KERNEL_FEATURE', help: 'the driver of this interface cannot do this' },
    EINVAL: {
      code: 'KERNEL_CALL',
      help: 'the driver refuses this value; `ethtool IFACE` shows what it takes',
    },
    EBUSY: {
      code: 'INTERFACE_BUSY',
      help: 'the interface is in use in a way that forbids it: an XDP program, rules',
    },
  },
  'ring.stats': { ENETDOWN: { code: 'KERNEL_CALL', help: 'the interface is down' } },
  'sender.send': {
    ENETDOWN: { code: 'KERNEL_CALL', help: 'the interface is down' },
    EMSGSIZE: { code: 'KERNEL_CALL', help: 'a frame is longer than the MTU of the interface' },
  },
};

/** A system call that failed: the code says what it means, `errno` and `errnoName` what the kernel answered. */
export class KernelError extends SluiceError {
  override readonly name: string = 'KernelError';
  readonly errno: number;
  readonly errnoName: string;
  readonly operation: Operation;

  constructor(
    operation: Operation,
    errno: number,
    message: string,
    options: SluiceErrorOptions & { code?: ErrorCode } = {},
  ) {
    const name = errnoName(errno);
    const advice = TABLE[operation]?.[name] ?? TABLE['*']?.[name];
    const help = options.help ?? advice?.help;
    super(options.code ?? advice?.code ?? 'KERNEL_CALL', `${message}: ${describe(errno)}`, {
      ...(options.cause === undefined ? {} : { cause: options.cause }),
      ...(help === undefined ? {} : { help }),
    });
    this.operation = operation;
    this.errno = errno;
    this.errnoName = name;
  }
}

function describe(errno: number): string {
  const name = errnoName(errno);
  if (!names.has(errno) || errno === 524) return name;
  return `${getSystemErrorMap().get(-errno)?.[1] ?? 'unknown error'} (${name})`;
}

/** The verifier refused a program. */
export class VerifierError extends KernelError {
  override readonly name: string = 'VerifierError';
  /** The line of the log that says why. */
  readonly summary: string;
  /** The whole log, line by line. */
  readonly log: string[];
  /** Index of the instruction at fault (in 8-byte units), when the log tells. */
  readonly insn: number | undefined;

  constructor(
    operation: Operation,
    errno: number,
    program: string,
    log: string[],
    options: SluiceErrorOptions = {},
  ) {
    const summary = summaryOf(log);
    const insn = instructionOf(log);
    const at = insn === undefined ? '' : ` at instruction ${insn}`;
    super(operation, errno, `the verifier refused program ${program}${at}: ${summary}`, {
      ...options,
      code: 'VERIFIER',
    });
    this.summary = summary;
    this.log = log;
    this.insn = insn;
  }
}

/** The verifier's statistics, which end every log. */
const STATISTICS =
  /^(processed \d+ insns|verification time|stack depth|insns processed|peak_states|max_states)/;
/** `12: (b7) r0 = 0`: an instruction as the log shows it. */
const INSTRUCTION = /^(\d+): \([0-9a-f]{2}\)/;
/** States, source lines and jump notes that come between instructions. */
const CONTEXT =
  /^(\d+: R\d|\d+: safe|; |from \d+ to \d+|last_idx|regs=|parent |mark_precise|func#|R\d+(_w)?=|\()/;

function meaningful(log: string[]): string[] {
  return log.filter((line) => line.trim() !== '' && !STATISTICS.test(line));
}

/** The lines after the last instruction: the reason, at most the last two of them. */
function summaryOf(log: string[]): string {
  const lines = meaningful(log);
  const reasons: string[] = [];
  for (let i = lines.length - 1; i >= 0; i--) {
    const line = lines[i];
    if (!INSTRUCTION.test(line) && !CONTEXT.test(line)) reasons.unshift(line.trim());
    else if (reasons.length > 0) break;
  }
  return reasons.slice(-2).join('; ') || (lines.at(-1)?.trim() ?? 'it gave no reason');
}

function instructionOf(log: string[]): number | undefined {
  for (let i = log.length - 1; i >= 0; i--) {
    const line = log[i];
    const match = INSTRUCTION.exec(line) ?? /\binsn (\d+)\b/.exec(line);
    if (match !== null && !STATISTICS.test(line)) return Number(match[1]);
  }
  return undefined;
}

/** Splits the kernel's log into lines, without the empty end. */
export function logLines(log: string): string[] {
  const lines = log.split('\n');
  while (lines.length > 0 && lines.at(-1) === '') lines.pop();
  return lines;
}

/** `result` unless it is a negative errno. */
export function check(operation: Operation, result: number, what: () => string): number {
  if (result < 0) throw new KernelError(operation, -result, what());
  return result;
}

/** Runs a call of the addon that throws Error with `errno`. */
export function attempt<T>(operation: Operation, what: string, call: () => T): T {
  try {
    return call();
  } catch (error) {
    if (error instanceof Error && 'errno' in error && typeof error.errno === 'number') {
      throw new KernelError(
        operation,
        error.errno,
        what,
        error.message === '' ? {} : { cause: error.message },
      );
    }
    throw error;
  }
}

/** Unless the descriptor is open. */
export function closedError(what: string): SluiceError {
  return new SluiceError('CLOSED', `${what} has been closed`);
}
