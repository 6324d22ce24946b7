import type { LossRow, LossTable } from '../../src/gate/losses/index.ts';
import { sh } from '../support/kernel.ts';

export const rowOf = ({ rows }: LossTable, stage: string, counter: string): LossRow | undefined =>
  rows.find((row) => row.stage === stage && row.counter === counter);

/** Of a counter, at all places or at one. */
export const total = (
  { rows }: Pick<LossTable, 'rows'>,
  stage: string,
  counter: string,
  where?: string,
): number =>
  rows
    .filter((row) => row.stage === stage && row.counter === counter && (where ?? row.where) === row.where)
    .reduce((sum, row) => sum + row.total, 0);

export const macOf = (ifname: string): string =>
  /link\/ether (\S+)/.exec(sh('ip', 'link', 'show', ifname))?.[1] ?? '';

export const times = <T>(one: T, count: number): T[] => Array.from({ length: count }, () => one);
