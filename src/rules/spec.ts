import { z } from 'zod';
import { SluiceError } from '../base/errors.ts';
import { parseBytes, parseDuration } from '../base/units.ts';

/** Limits of a rule set. */
export const RULE_LIMITS = {
  rules: 16_384,
  expression: 16_384,
  /** Rate limits, packets or bits per second. */
  rate: 1e12,
  /** Bytes of a sample. */
  sample: 2048,
  tests: 64,
} as const;

export const LANGUAGES = ['tcpdump', 'dns', 'p0f', 'quic', 'suffix', 'cbpf'] as const;
export type RuleLanguage = (typeof LANGUAGES)[number];

const rate = z.strictObject({
  kind: z.literal('limit'),
  /** Per second. */
  rate: z.number().positive().max(RULE_LIMITS.rate),
  unit: z.enum(['packets', 'bits']),
  /** What may be had at once, in seconds of the rate. */
  burst: z.number().min(0.008).max(60).default(0.1),
  /** Of what a bucket is kept. */
  per: z.enum(['rule', 'source', 'target']).default('rule'),
  /** Bits of the address that tell sources or targets apart. */
  prefix4: z.number().int().min(1).max(32).default(32),
  prefix6: z.number().int().min(1).max(128).default(64),
});

const action = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('drop') }),
  z.strictObject({ kind: z.literal('count') }),
  rate,
  z.strictObject({
    kind: z.literal('sample'),
    /** One packet in so many, chosen at random. */
    every: z.number().int().min(1).max(1e9).default(1),
    size: z.number().int().min(14).max(RULE_LIMITS.sample).default(256),
  }),
]);
export type RuleAction = z.infer<typeof action>;

const names = z.array(z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$/)).max(64);
/** Where a rule holds: of each kind that is given, the node must be one. */
const scope = z.strictObject({
  sites: names.optional(),
  roles: names.optional(),
  nodes: names.optional(),
  interfaces: names.optional(),
});
export type RuleScope = z.infer<typeof scope>;

/** A packet in hexadecimal, as it comes at the interface. */
const packet = z
  .string()
  .regex(/^(?:[0-9a-fA-F]{2}){14,3000}$/, { error: 'must be a packet in hexadecimal' });

export const ruleSchema = z.strictObject({
  id: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/, {
    error: 'must be 1 to 64 letters, digits, dots, dashes or underscores',
  }),
  expr: z.string().min(1).max(RULE_LIMITS.expression),
  lang: z.enum(LANGUAGES).default('tcpdump'),
  action,
  /** Lower comes first: of several that drop one packet the first has dropped it. */
  priority: z.number().int().min(0).max(65_535).default(1000),
  scope: scope.default({}),
  enabled: z.boolean().default(true),
  /** Seconds since 1970. */
  expires: z.number().positive().nullable().default(null),
  note: z.string().max(1024).default(''),
  /** Where else it is tried to put a drop: into the NIC (docs/rules.md). */
  offload: z.enum(['nic']).nullable().default(null),
  /** Packets that it must match, or must not: tried in the kernel before it goes live. */
  tests: z
    .strictObject({
      match: z.array(packet).max(RULE_LIMITS.tests).default([]),
      noMatch: z.array(packet).max(RULE_LIMITS.tests).default([]),
    })
    .default({ match: [], noMatch: [] }),
});
export type Rule = z.infer<typeof ruleSchema>;
export type RuleInput = z.input<typeof ruleSchema>;

/** One rule from outside. @throws SluiceError USAGE that names the field. */
export function parseRule(input: unknown): Rule {
  const parsed = ruleSchema.safeParse(input);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const id = (input as { id?: unknown } | null)?.id;
  const name = typeof id === 'string' ? `rule ${id.slice(0, 64)}` : 'a rule';
  throw new SluiceError('USAGE', `${name}: ${issue.path.join('.') || 'it'}: ${issue.message}`);
}

/** What a node is, for the scopes of rules. */
export interface Node {
  readonly site?: string;
  readonly roles?: readonly string[];
  readonly name?: string;
  readonly interface?: string;
}

const isOne = (names: readonly string[] | undefined, mine: readonly (string | undefined)[]): boolean =>
  names === undefined || mine.some((name) => name !== undefined && names.includes(name));

export function inScope({ sites, roles, nodes, interfaces }: RuleScope, node: Node): boolean {
  return (
    isOne(sites, [node.site]) &&
    isOne(roles, node.roles ?? []) &&
    isOne(nodes, [node.name]) &&
    isOne(interfaces, [node.interface])
  );
}

const RATE = /^(\d{1,12}(?:\.\d{1,6})?)(k|m|g)?(pps|bit|bps)$/i;
const SCALE: Record<string, number> = { '': 1, k: 1e3, m: 1e6, g: 1e9 };
const HELP =
  'write drop, count, limit=1000pps, limit=10mbit,burst=200ms,per=source/24, sample=100 or sample=100,size=128B';

/**
 * An action as a person writes it: `drop`, `count`, `limit=1000pps`, `limit=10mbit,per=source/24,burst=200ms`,
 * `sample=100,size=128B`. `per=source/24` cuts IPv4 addresses to 24 bits, `per=source/24/48` IPv6 ones to 48 as well.
 * @throws SluiceError USAGE
 */
export function parseAction(text: string): RuleAction {
  const wrong = (what: string): SluiceError =>
    new SluiceError('USAGE', `action '${text}': ${what}`, { help: HELP });
  const [head = '', ...rest] = text.trim().split(',');
  const [kind, value] = pair(head);
  const options = new Map(rest.map(pair));
  const made: Record<string, unknown> = { kind };
  const take = (name: string): string | undefined => {
    const found = options.get(name);
    options.delete(name);
    return found;
  };
  if (kind === 'limit') {
    const [, number, scale = '', unit] = RATE.exec(value) ?? [];
    if (number === undefined) throw wrong(`'${value}' is not a rate in pps or bit`);
    made['rate'] = Number(number) * SCALE[scale.toLowerCase()];
    made['unit'] = unit.toLowerCase() === 'pps' ? 'packets' : 'bits';
    const burst = take('burst');
    if (burst !== undefined) made['burst'] = parseDuration(burst);
    const [per, prefix4, prefix6] = take('per')?.split('/') ?? [];
    if (per !== undefined) made['per'] = per;
    if (prefix4 !== undefined) made['prefix4'] = Number(prefix4);
    if (prefix6 !== undefined) made['prefix6'] = Number(prefix6);
  } else if (kind === 'sample') {
    if (value !== '') made['every'] = Number(value);
    const size = take('size');
    if (size !== undefined) made['size'] = parseBytes(size);
  } else if (value !== '') throw wrong(`'${kind}' takes no value`);
  const [unknown] = options.keys();
  if (unknown !== undefined) throw wrong(`there is no option '${unknown}'`);
  const parsed = action.safeParse(made);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw wrong(
    issue.path.length === 0 || issue.path[0] === 'kind'
      ? 'there is no such action'
      : `${issue.path.join('.')}: ${issue.message}`,
  );
}

function pair(text: string): [string, string] {
  const at = text.indexOf('=');
  return at < 0 ? [text.trim(), ''] : [text.slice(0, at).trim(), text.slice(at + 1).trim()];
}

/** The form that parseAction reads back. */
export function actionText(it: RuleAction): string {
  if (it.kind === 'sample') return `sample=${it.every},size=${it.size}B`;
  if (it.kind !== 'limit') return it.kind;
  const unit = it.unit === 'packets' ? 'pps' : 'bit';
  const per = it.per === 'rule' ? '' : `,per=${it.per}/${it.prefix4}/${it.prefix6}`;
  return `limit=${it.rate}${unit},burst=${it.burst * 1000}ms${per}`;
}
