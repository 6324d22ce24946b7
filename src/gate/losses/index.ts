export { GateLosses } from './gate-losses.ts';
export {
  adder,
  type CounterReading,
  GAUGE,
  LOSS_KINDS,
  type LossKind,
  LossLedger,
  type LossRow,
  type LossSum,
  type LossTable,
  type LossUnit,
  OURS,
  STAGES,
  type Stage,
} from './ledger.ts';
export { gateReadings, type LossPoint, PathReader } from './path.ts';
export { type LossLine, type LossTextOptions, lossLines, percentText } from './text.ts';
