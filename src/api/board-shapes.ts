import { z } from 'zod';
import { lossesShape, policiesShape, sourcesShape } from './shapes.ts';

/** What the dashboard shows beside the stream; from these come the checks, the OpenAPI document and the types. */

const counter = z.number().nonnegative();
const seconds = z.number().describe('seconds since 1970');
const end = z.object({ addr: z.string(), port: counter });
const side = z.object({ pkts: counter, ipBytes: counter });
const loose = z.record(z.string(), z.unknown());

const tally = z.object({
  name: z.string(),
  connections: counter,
  bytes: counter.describe('IP bytes'),
  shuntedBytes: counter.describe('the part that the gate dropped'),
});

const tags = {
  vlan: counter.describe('ids of VLANs and tunnels; 0: none, or it does not tell flows apart'),
  innerVlan: counter,
  vni: counter.describe('of VXLAN'),
  geneveVni: counter,
};
const flowName = { proto: z.string(), a: end, b: end, ...tags };

export const topShape = z.object({
  interface: z.string(),
  ...flowName,
  trigger: z.string(),
  owner: z.string(),
  state: z.enum(['armed', 'shunted', 'ending']),
  since: seconds.nullable(),
  last: seconds.nullable().describe('the last dropped packet'),
  pkts: counter,
  ipBytes: counter,
  bytes: counter.describe('L2 bytes'),
});

export const ruleShape = z.object({
  interface: z.string(),
  id: z.string(),
  expr: z.string(),
  lang: z.string(),
  action: z.string(),
  priority: z.number(),
  enabled: z.boolean(),
  inScope: z.boolean(),
  expires: seconds.nullable(),
  note: z.string(),
  matched: z.object({ pkts: counter, bytes: counter }),
  dropped: z.object({ pkts: counter, bytes: counter }),
});

export const attackShape = z.object({
  interface: z.string(),
  id: z.string(),
  kind: z.string(),
  target: z.string(),
  began: seconds,
  ended: seconds.nullable(),
  peak: counter.describe('packets per second'),
  usual: counter,
  attack: z.boolean(),
  surprise: z.string().nullable(),
  why: z.string(),
  dryRun: z.boolean(),
  evidence: loose,
  rules: z.array(z.object({ id: z.string(), expr: z.string(), action: z.string(), covers: counter })),
});

export const checkShape = z.object({
  name: z.string(),
  state: z.enum(['ok', 'warning', 'bad']),
  text: z.string(),
});

export const boardShape = z.object({
  at: seconds,
  shunts: z.object({
    entries: counter.describe('entries of all gates that drop'),
    top: z.array(topShape).describe('those that have dropped the most IP bytes'),
  }),
  talkers: z.object({
    seconds: counter.describe('of so many seconds'),
    hosts: z.array(
      tally.extend({ liveBytes: counter.describe('dropped of shunts that are live, of the top ones') }),
    ),
  }),
  services: z.array(tally).describe('connections that have ended, since the start'),
  policies: policiesShape,
  rules: z.array(ruleShape).nullable().describe('null: this run has no rules'),
  attacks: z.array(attackShape).nullable().describe('null: nothing looks for them'),
  sources: sourcesShape,
  losses: lossesShape,
  checks: z.array(checkShape),
});

export const historyShape = z.object({
  seconds: counter.describe('between two points'),
  points: z.array(loose),
});

export const sessionShape = z.object({
  version: z.string(),
  switches: z
    .enum(['yes', 'token', 'no'])
    .describe('rules may be switched; with the other token; not at all'),
});

const tail = z
  .object({ records: z.array(loose), bytes: counter, whole: z.boolean() })
  .nullable()
  .describe('null: there is no such log');

export const flowShape = z.object({
  flow: z.object(flowName),
  why: z.enum(['shunted', 'armed', 'ending', 'pair', 'passing', 'ended-shunted', 'ended-whole', 'unknown']),
  text: z.string(),
  gates: z.array(
    z.object({
      interface: z.string(),
      keys: z
        .object({ vlan: z.boolean(), tunnel: z.boolean() })
        .describe('ids that tell flows apart here; what was asked of others was left out'),
      shunt: topShape.nullable(),
      followed: z.boolean(),
      pairs: z.array(
        z.object({ a: z.string(), b: z.string(), expires: seconds.nullable(), ab: side, ba: side }),
      ),
      holds: z.array(z.object({ holder: z.string(), why: z.string(), expires: seconds.nullable() })),
      exceptions: z.array(z.string()),
    }),
  ),
  conn: tail,
  shunt: tail,
});

export const switchShape = z.strictObject({
  interface: z.string().max(64),
  id: z.string().min(1).max(128),
  on: z.boolean(),
});

export type Board = z.output<typeof boardShape>;
export type TopFlow = z.output<typeof topShape>;
export type Rule = z.output<typeof ruleShape>;
export type Attack = z.output<typeof attackShape>;
export type Check = z.output<typeof checkShape>;
export type FlowReport = z.output<typeof flowShape>;
export type Session = z.output<typeof sessionShape>;
