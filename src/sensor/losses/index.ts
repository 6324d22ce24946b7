export { LossKeeper, type LossReport } from './keeper.ts';
export type { OrderReport } from './order.ts';
export { lossLines } from './text.ts';
