import { type Command, Option } from 'commander';
import { SluiceError } from '../base/errors.ts';
import { parseDuration } from '../base/units.ts';
import type { SensorRate } from '../sensor/what-if-report.ts';

/** Options of `sluice read` beside its configuration. */
export interface WhatIfOptions {
  whatIf?: true;
  /** Megabits per second. */
  sensorMbps: SensorRate;
  /** Seconds. */
  whatIfDelay: number;
  whatIfReport?: string;
}

const MAX_DELAY = 60;

function rateOf(text: string): SensorRate {
  const match = /^(\d{1,6})(?:-(\d{1,6}))?$/.exec(text);
  const low = Number(match?.[1]);
  const high = Number(match?.[2] ?? match?.[1]);
  if (match === null || low === 0 || high < low)
    throw new SluiceError('USAGE', `--sensor-mbps ${text} is no rate or range of rates`, {
      help: 'write it like 300 or 150-500: megabits per second',
    });
  return { low, high };
}

function delayOf(text: string): number {
  const delay = parseDuration(text);
  if (delay > MAX_DELAY)
    throw new SluiceError('USAGE', `--what-if-delay ${text} is longer than ${MAX_DELAY} s`, {
      help: 'it is about 10ms',
    });
  return delay;
}

export function addWhatIfOptions(command: Command): void {
  const group = 'What if:';
  const options = [
    new Option(
      '--what-if',
      'Say what the policies would have dropped of this capture: together, each alone, and bulk at other sizes; and what no parser would have seen.',
    ),
    new Option(
      '--sensor-mbps <FROM-TO>',
      'Megabits per second that one core of the sensor takes: what is left is said in cores, too.',
    )
      .argParser(rateOf)
      .default({ low: 150, high: 500 }, '150-500'),
    new Option(
      '--what-if-delay <TIME>',
      'From the packet that triggers a shunt to the first that can be dropped.',
    )
      .argParser(delayOf)
      .default(0.01, '10ms'),
    new Option(
      '--what-if-report <FILE>',
      'Write the result, with a picture over time, as one HTML file.',
    ).implies({
      whatIf: true,
    }),
  ];
  for (const option of options) command.addOption(option.helpGroup(group));
}
