export {
  LATER,
  type PolicyEvents,
  PolicySet,
  SETTLED,
  SPARED,
  type SparedWhy,
  triggerOf,
} from './decision.ts';
export { PolicyError } from './error.ts';
export { FIELDS, type FlowFacts } from './fields.ts';
export { loadPolicies, type PolicyPlan, parsePolicies, planOf, setsOf, textOf } from './load.ts';
export { rangesIn } from './prefix-set.ts';
export { BULK_DEFAULT_BYTES, PRESETS } from './presets.ts';
export { Answers, MAX_QUESTIONS } from './questions.ts';
export type { PolicyAction, PolicySpec } from './spec.ts';
export { readSignatures } from './suricata/read.ts';
