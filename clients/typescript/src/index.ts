/** Client of Sluice's control socket. */
export { type ClientOptions, GateClient } from './client.ts';
export { GateError } from './errors.ts';
export { socketOf } from './places.ts';
export type {
  Counts,
  Endpoint,
  Flow,
  FlowToAdd,
  GateEvent,
  Hold,
  OwnerSettings,
  Shunt,
} from './protocol.ts';
export { PROTOCOL_VERSION } from './protocol.ts';
