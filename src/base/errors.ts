/** What the command line exits with (docs/cli.md). */
export const Exit = { done: 0, failed: 1, usage: 2, lacking: 3, interrupted: 130 } as const;
export type ExitCode = (typeof Exit)[keyof typeof Exit];

/**
 * Every code that Sluice raises, with the exit code it leads to and what it means. docs/errors.md is held
 * against this table by a test: a code without an entry, or an entry without a code, fails.
 */
export const ERROR_CODES = {
  USAGE: { exit: Exit.usage, meaning: 'The command line or configuration is not valid.' },
  INTERNAL: { exit: Exit.failed, meaning: 'A defect in Sluice.' },
  ADDON_MISSING: { exit: Exit.lacking, meaning: 'The native addon is missing or does not load.' },
  PRIVILEGE: { exit: Exit.lacking, meaning: 'The process lacks a privilege that the command needs.' },
  KERNEL_FEATURE: {
    exit: Exit.lacking,
    meaning: 'The running kernel lacks a feature that the command needs.',
  },
  KERNEL_CALL: { exit: Exit.failed, meaning: 'A system call failed in a way that no other code describes.' },
  VERIFIER: {
    exit: Exit.failed,
    meaning: 'The kernel verifier refused a program; the whole log comes with the error.',
  },
  OBJECT_INVALID: {
    exit: Exit.failed,
    meaning: 'A BPF object file is missing, damaged, or not one of ours.',
  },
  PROGRAM_UNFIT: {
    exit: Exit.failed,
    meaning: 'A program cannot take the place in the gate that it is meant for.',
  },
  MAP_FULL: { exit: Exit.failed, meaning: 'A map has no room for another entry.' },
  CLOSED: { exit: Exit.failed, meaning: 'A handle was used after it had been closed.' },
  ADDRESS_UNKNOWN: { exit: Exit.usage, meaning: 'This host has no such address to listen on.' },
  ADDRESS_IN_USE: { exit: Exit.failed, meaning: 'Another program listens on that address and port.' },
  INTERFACE_UNKNOWN: { exit: Exit.usage, meaning: 'There is no network interface of that name.' },
  INTERFACE_IN_USE: { exit: Exit.usage, meaning: "The interface carries the host's own traffic." },
  INTERFACE_BUSY: {
    exit: Exit.failed,
    meaning: 'Another XDP program or another Sluice holds the interface.',
  },
  INTERFACE_GONE: { exit: Exit.failed, meaning: 'An interface went away while it was in use.' },
  GATE_DOWN: { exit: Exit.failed, meaning: 'No gate is up there, or its daemon does not answer.' },
  CONTROL: {
    exit: Exit.failed,
    meaning:
      'A request over the control socket was not understood, or was for another version of the protocol.',
  },
  LIMIT: { exit: Exit.failed, meaning: 'A limit of the control socket was reached.' },
  REFUSED: {
    exit: Exit.failed,
    meaning:
      'The gate does not shunt this: an endpoint of this host, an exception, or a key that it does not have.',
  },
  HELD: { exit: Exit.failed, meaning: 'Somebody still needs the flow: it is not shunted until they let go.' },
  DENIED: { exit: Exit.failed, meaning: 'What was asked for belongs to another user or owner.' },
  EXISTS: { exit: Exit.failed, meaning: 'There is one already.' },
  NOT_FOUND: { exit: Exit.failed, meaning: 'There is no such entry, owner, pin or group.' },
  PIN_FOREIGN: { exit: Exit.failed, meaning: 'What is pinned there was not made by this version of Sluice.' },
  QUERY: {
    exit: Exit.failed,
    meaning: 'A query over the logs is not valid, takes too much memory, or asks a log that is not there.',
  },
  FILE: { exit: Exit.failed, meaning: 'A file could not be read or written.' },
  STREAM: {
    exit: Exit.failed,
    meaning: 'A TCP stream of packets (PCAP-over-IP) could not be opened, or broke off.',
  },
  FILE_FORMAT: { exit: Exit.failed, meaning: 'A file is not of a format that Sluice reads, or is damaged.' },
  FILTER_INVALID: { exit: Exit.usage, meaning: 'A filter is not valid; the message says where.' },
  FILTER_UNSUPPORTED: {
    exit: Exit.failed,
    meaning: 'A filter asks for what a program at XDP cannot know, or for more than it can hold.',
  },
  RULE: { exit: Exit.failed, meaning: 'A rule set was refused; the message names the rule at fault.' },
  FLEET: {
    exit: Exit.failed,
    meaning: 'The server of a fleet cannot be asked, or signed rules of a file do not count.',
  },
  POLICY_INVALID: { exit: Exit.usage, meaning: 'A policy is not valid; the message says where.' },
  MACHINE: {
    exit: Exit.failed,
    meaning:
      'The machine is not as it should be: `sluice doctor` found problems, or a setting could not be changed or put back.',
  },
  LAB: { exit: Exit.failed, meaning: 'The test network could not be made or used.' },
} as const satisfies Record<string, { exit: ExitCode; meaning: string }>;

export type ErrorCode = keyof typeof ERROR_CODES;

export interface SluiceErrorOptions {
  /** What led to it: an error, or a line of text. */
  cause?: unknown;
  /** The next step for whoever reads it. */
  help?: string;
}

/** The one error class that crosses module borders: match on `code`, never on the text. */
export class SluiceError extends Error {
  override readonly name: string = 'SluiceError';
  readonly code: ErrorCode;
  readonly help: string | undefined;

  constructor(code: ErrorCode, message: string, options: SluiceErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.help = options.help;
  }

  get exit(): ExitCode {
    return ERROR_CODES[this.code].exit;
  }
}

/** Any thrown value as a SluiceError; what is not one is a defect of ours (INTERNAL). */
export function asSluiceError(thrown: unknown): SluiceError {
  if (thrown instanceof SluiceError) return thrown;
  const message = thrown instanceof Error ? thrown.message : String(thrown);
  return new SluiceError('INTERNAL', message, {
    cause: thrown,
    help: 'this is a defect: please report it with the command that led to it',
  });
}
