import { z } from 'zod';
import { parseDuration, parseThreshold } from '../base/units.ts';

/** Limits of a policy file. */
export const POLICY_LIMITS = { policies: 1024, sets: 1024, priority: 1000 } as const;

const name = z.string().regex(/^[A-Za-z][A-Za-z0-9._-]{0,63}$/, {
  error: 'must be 1 to 64 letters, digits, dots, dashes or underscores, and begin with a letter',
});

const seconds = z.union([z.string(), z.number()]).transform((value, ctx) => {
  try {
    return parseDuration(value);
  } catch (error) {
    ctx.addIssue({ code: 'custom', message: (error as Error).message });
    return z.NEVER;
  }
});

const threshold = z.union([z.string(), z.number()]).transform((value, ctx) => {
  try {
    return parseThreshold(value);
  } catch (error) {
    ctx.addIssue({ code: 'custom', message: (error as Error).message });
    return z.NEVER;
  }
});

/** What happens to a connection for which a policy holds. */
export const POLICY_ACTIONS = ['shunt', 'arm', 'pair', 'bypass', 'never', 'hold', 'log'] as const;
export type PolicyAction = (typeof POLICY_ACTIONS)[number];

/** What is done for a connection, and how often. */
const doing = {
  action: z.enum(POLICY_ACTIONS).default('shunt'),
  /** Higher ones are asked first; of equal ones the earlier. */
  priority: z.number().int().min(-POLICY_LIMITS.priority).max(POLICY_LIMITS.priority).default(0),
  /** `pair`: for how long all between the two addresses is shunted. */
  for: seconds.optional(),
  /** `arm`: how much of one direction still passes before the kernel shunts it by itself. */
  after: threshold.optional(),
  /** Part of the connections that it takes; the same ones each time. */
  share: z.number().gt(0).max(1).default(1),
  budget: z
    .strictObject({
      perSecond: z.number().positive().max(1e9).optional(),
      live: z
        .number()
        .int()
        .positive()
        .max(2 ** 31)
        .optional(),
    })
    .optional(),
  schedule: z.string().optional(),
  /** Only counts what it would do. */
  dryRun: z.boolean().default(false),
  note: z.string().max(1024).default(''),
};

interface Timed {
  action: PolicyAction;
  for?: number | undefined;
  after?: unknown;
}

type Check = [holds: (written: Timed) => boolean, wrong: { error: string; path: string[] }];

const FOR: Check = [
  ({ action, for: time }) => (action === 'pair') === (time !== undefined),
  { error: "'for' belongs to action pair, and has to be given there", path: ['for'] },
];
const AFTER: Check = [
  ({ action, after }) => (action === 'arm') === (after !== undefined),
  { error: "'after' belongs to action arm, and has to be given there", path: ['after'] },
];

/** One policy as it is written. */
export const policySchema = z
  .strictObject({
    name,
    /** How logs name it (`shunt_trigger`); the name unless given. */
    trigger: z
      .string()
      .regex(/^[\w.:-]{1,64}$/)
      .optional(),
    when: z.string(),
    ...doing,
  })
  .refine(...FOR)
  .refine(...AFTER);

/** A preset by its name, with its argument. */
export const presetSchema = z
  .strictObject({
    preset: z.string(),
    /** Instead of the preset's own, where it stands several times. */
    name: name.optional(),
    ...doing,
  })
  .refine(...FOR)
  .refine(...AFTER);

const setSchema = z.union([
  z.strictObject({ prefixes: z.string() }),
  z.strictObject({ domains: z.string() }),
  z.strictObject({ words: z.string() }),
  /** Suricata's rules; `vars` as in suricata.yaml. */
  z.strictObject({ suricata: z.string(), vars: z.record(z.string(), z.string()).default({}) }),
]);

/** A policy file. */
export const policyFileSchema = z.strictObject({
  sets: z.record(name, setSchema).default({}),
  policies: z.array(z.union([presetSchema, policySchema])).max(POLICY_LIMITS.policies),
});

export type PolicySpec = z.infer<typeof policySchema>;
export type PolicyFile = z.infer<typeof policyFileSchema>;
export type SetSpec = z.infer<typeof setSchema>;
