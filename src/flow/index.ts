import { FlowEngine } from './engine.ts';
import type { FlowEngineOptions } from './options.ts';
import type { FlowHooks } from './types.ts';

export type { FlowStats } from './accounting.ts';
export { FlowEngine } from './engine.ts';
export { KEY4_BYTES, KEY6_BYTES, keyWord, writeGateKey } from './keys.ts';
export { FlowFlag } from './layout.ts';
export { LOSSES, Loss } from './losses.ts';
export type { FlowEngineOptions } from './options.ts';
export { BARE_SERVER_PORTS, DEFAULT_SERVER_PORTS, type LikelyServerPorts } from './ports.ts';
export { isSavedFlow, SAVED_FLOW_BYTES } from './saved.ts';
export { DEFAULT_TIMEOUTS, type FlowTimeouts } from './timeouts.ts';
export type * from './types.ts';

/** A flow engine. Errors: USAGE for options out of range. */
export function createFlowEngine(options: FlowEngineOptions, hooks: FlowHooks): FlowEngine {
  return new FlowEngine(options, hooks);
}
