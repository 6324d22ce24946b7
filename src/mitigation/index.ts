/** From samples to attacks to rules: pure, whatever the samples come from. */
export { type Baseline, readBaseline, restore, snapshot } from './baseline.ts';
export { SAMPLE_HEAD, SampleColumns } from './columns.ts';
export { type Attack, DETECTOR_DEFAULTS, Detector, type DetectorOptions, TICK } from './detector.ts';
export { upperBound } from './estimate.ts';
export type { Evidence, Judgement } from './evidence.ts';
export type { Veto } from './expression.ts';
export { KINDS, kindOf, REFLECTORS } from './kinds.ts';
export { SampleReader } from './read-sample.ts';
export { attackDocument, attackText } from './report.ts';
export { type AttackRecord, type Change, Responder, type ResponderOptions } from './responder.ts';
export { ResponderThread, type Told } from './responder-thread.ts';
export { SpaceSaving } from './space-saving.ts';
export type { Matched, ProposedRule } from './synthesis.ts';
export { operatorVetoes, parseVeto } from './veto.ts';
export { warmUp } from './warm-up.ts';
