export type { MirrorCounters } from './counters.ts';
export { createLab, type Lab, type Tap } from './lab.ts';
export type { ImpairOptions, LabOptions, NamespaceName, TapName, VlanOptions } from './options.ts';
export {
  bulkPlan,
  type CloseMode,
  demoPlan,
  jobsOf,
  mixedPlan,
  presets,
  type TrafficPlan,
  type Transfer,
} from './plan.ts';
export type { ImpairCounters } from './programs.ts';
export type { ReplayOptions, ReplayResult } from './replay.ts';
export { askLab, defaultSocket, type LabInfo, type LabRequest, labInfo, serveLab } from './socket.ts';
export { runTraffic, type TrafficOptions, type TrafficReport } from './traffic.ts';
export type { TrafficTally } from './wire.ts';
