export { Decapsulator } from './decapsulator.ts';
export { attachmentText, endpointText, GwlbMetadata } from './gwlb.ts';
export {
  defaultPort,
  type EncapKind,
  type EncapOnPort,
  type Encapsulation,
  encapsulationOf,
  mirrorLinkType,
  mirrorPort,
  parseEncap,
} from './names.ts';
export { DECAP_REASON_NAMES, DECAP_REASONS, DecapReason } from './reasons.ts';
