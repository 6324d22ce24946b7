import { SluiceError } from '../base/errors.ts';
import { nearest } from '../base/suggest.ts';
import { bytesText, parseBytes } from '../base/units.ts';

/** What a policy may know of a connection beside its counters: bits of the `flags` that `PolicySet.evaluate` is given. */
export const FlowFlag = {
  /** TLS by content, and both sides have finished the handshake. */
  tlsEstablished: 1,
} as const;

/** From which packet of a connection on `bulk` looks at it, so that short ones cost nothing. */
export const BULK_FROM_PACKET = 10;
/** IP bytes in one direction, when `bulk` is given without a size. */
export const BULK_DEFAULT_BYTES = 1_000_000;

/** When to shunt a connection: plain data; compilePolicies turns a list of them into a test. */
export interface Policy {
  /** As written on the command line, in canonical form: `tls`, `bulk=1MB`. */
  readonly name: string;
  /** How logs name it (`shunt_trigger`). */
  readonly trigger: string;
  readonly kind: 'tls' | 'bulk';
  /** `bulk`: IP bytes in either direction at which it triggers; else 0. */
  readonly bytes: number;
}

interface KnownPolicy {
  /** What --help and errors say about it. */
  readonly help: string;
  make(argument: string | undefined): Policy | undefined;
}

/** Every policy that parsePolicies knows. `none` makes no policy: nothing is shunted. */
const KNOWN: ReadonlyMap<string, KnownPolicy> = new Map<string, KnownPolicy>([
  ['tls', { help: 'tls: TLS connections once both sides have finished the handshake', make: makeTls }],
  [
    'bulk',
    {
      help: `bulk[=SIZE]: connections beyond SIZE IP bytes in one direction (${bytesText(BULK_DEFAULT_BYTES)} unless given)`,
      make: makeBulk,
    },
  ],
  ['none', { help: 'none: shunt nothing', make: makeNone }],
]);

/** Name and meaning of every policy, for --help and documentation. */
export const POLICY_HELP: readonly string[] = Array.from(KNOWN.values(), (known) => known.help);

/**
 * The policies of a comma-separated list (`tls,bulk=1MB`), in its order, each once; an empty array for `none`.
 * @throws SluiceError USAGE
 */
export function parsePolicy(text: string): Policy[] {
  return parsePolicies([text]);
}

/**
 * The same for texts that may each hold a list.
 * @throws SluiceError USAGE
 */
export function parsePolicies(texts: readonly string[]): Policy[] {
  const items = texts.flatMap((text) => text.split(',')).map((item) => item.trim());
  const policies: Policy[] = [];
  for (const item of items) {
    const policy = parseOne(item);
    if (policy === undefined) {
      if (items.length > 1) throw usage("'none' stands alone", 'leave it out, or leave out the others');
    } else if (policies.some((other) => other.kind === policy.kind)) {
      throw usage(`policy '${policy.kind}' is given twice`, 'give each policy once');
    } else {
      policies.push(policy);
    }
  }
  return policies;
}

function parseOne(item: string): Policy | undefined {
  const equals = item.indexOf('=');
  const name = (equals < 0 ? item : item.slice(0, equals)).trim().toLowerCase();
  const known = KNOWN.get(name);
  if (known === undefined) {
    const near = nearest(name, KNOWN.keys());
    const hint = near === undefined ? '' : `did you mean '${near}'? `;
    throw usage(
      name === '' ? 'a policy has no name' : `there is no policy '${name}'`,
      `${hint}known: ${knownNames()}`,
    );
  }
  return known.make(equals < 0 ? undefined : item.slice(equals + 1).trim());
}

function knownNames(): string {
  return [...KNOWN.keys()].join(', ');
}

function makeTls(argument: string | undefined): Policy {
  refuseArgument('tls', argument);
  return { name: 'tls', trigger: 'TLS_ESTABLISHED', kind: 'tls', bytes: 0 };
}

function makeNone(argument: string | undefined): undefined {
  refuseArgument('none', argument);
}

function makeBulk(argument: string | undefined): Policy {
  const bytes = argument === undefined ? BULK_DEFAULT_BYTES : bulkBytes(argument);
  return { name: `bulk=${bytesText(bytes)}`, trigger: 'BULK', kind: 'bulk', bytes };
}

function bulkBytes(argument: string): number {
  let bytes: number;
  try {
    bytes = parseBytes(argument);
  } catch (error) {
    throw new SluiceError('USAGE', `policy 'bulk' needs a size, not '${argument}'`, {
      cause: error,
      help: 'write it like bulk=1MB (10^6 bytes), bulk=500kB or bulk=1MiB (2^20 bytes)',
    });
  }
  if (bytes < 1) throw usage("policy 'bulk' needs a size above 0", 'write it like bulk=1MB');
  return bytes;
}

function refuseArgument(name: string, argument: string | undefined): void {
  if (argument !== undefined)
    throw usage(`policy '${name}' takes no argument, but got '${argument}'`, `write just ${name}`);
}

function usage(message: string, help: string): SluiceError {
  return new SluiceError('USAGE', message, { help });
}
