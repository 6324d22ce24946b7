export {
  BULK_DEFAULT_BYTES,
  BULK_FROM_PACKET,
  FlowFlag,
  POLICY_HELP,
  type Policy,
  parsePolicies,
  parsePolicy,
} from './policy.ts';
export { compilePolicies, type PolicySet } from './set.ts';
