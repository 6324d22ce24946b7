import { readFileSync } from 'node:fs';
import type { LossRow, LossTable } from '../../src/gate/losses/index.ts';
import { sh, until } from '../support/kernel.ts';

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

/** The 12th column of /proc/net/softnet_stat: frames that wait for a CPU. */
const BACKLOG = 11;

const isWaiting = (): boolean =>
  readFileSync('/proc/net/softnet_stat', 'latin1')
    .split('\n')
    .some((line) => Number.parseInt(line.split(' ')[BACKLOG] ?? '0', 16) > 0);

/** Waits until no frame waits for a CPU: an interface counts those of its peer as soon as they wait there. */
export const untilBacklogEmpty = (): Promise<void> =>
  until(() => !isWaiting(), 'frames wait for a CPU for ever');
