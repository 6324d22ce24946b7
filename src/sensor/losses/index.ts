export { LossKeeper, type LossReport } from './keeper.ts';
export type { OrderReport } from './order.ts';
export { reportLines } from './text.ts';
