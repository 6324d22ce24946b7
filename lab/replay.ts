import { existsSync } from 'node:fs';
import { SluiceError } from '../src/base/errors.ts';
import type { Lab } from './lab.ts';
import { replayPort } from './topology.ts';

/** At most one of `mbps`, `pps` and `topspeed`; without one the file's own times. */
export interface ReplayOptions {
  mbps?: number;
  pps?: number;
  topspeed?: boolean;
  /** How often the file is sent (default 1). */
  loops?: number;
  /** Seconds after which it is an error that the replay has not ended (default 120). */
  maxSeconds?: number;
  signal?: AbortSignal;
}

export interface ReplayResult {
  /** Frames sent, and frames that the interface refused (too long for its MTU). */
  sent: number;
  refused: number;
  bytes: number;
  seconds: number;
}

/**
 * Sends a capture file (Ethernet) to both taps, frame by frame as it is: past the bridge, so that odd addresses and
 * tags arrive too, and unseen by client and server. Frames beyond MTU + 22 bytes are refused and counted.
 * @throws SluiceError FILE, USAGE, LAB
 */
export async function replay(lab: Lab, file: string, options: ReplayOptions = {}): Promise<ReplayResult> {
  if (!existsSync(file)) throw new SluiceError('FILE', `there is no file ${file}`);
  const { mbps, pps, topspeed, loops = 1 } = options;
  const speeds = [
    ...(mbps === undefined ? [] : [`--mbps=${positive('mbps', mbps)}`]),
    ...(pps === undefined ? [] : [`--pps=${positive('pps', pps)}`]),
    ...(topspeed === true ? ['--topspeed'] : []),
  ];
  if (speeds.length > 1) throw new SluiceError('USAGE', 'a replay has one speed: mbps, pps or topspeed');
  const cpu = lab.options.hubCpu;
  // On the hub's CPU: what is replayed then has one order with everything else that the taps see.
  const pinned = cpu === 'any' ? [] : ['taskset', '-c', String(cpu)];
  const send = [
    'tcpreplay',
    '--intf1',
    replayPort.ifname,
    ...speeds,
    `--loop=${positive('loops', loops)}`,
    file,
  ];
  const { stdout, stderr } = await lab.exec('replay', [...pinned, ...send], {
    timeoutMs: (options.maxSeconds ?? 120) * 1000,
    ...(options.signal === undefined ? {} : { signal: options.signal }),
  });
  const actual = /Actual: (\d+) packets \((\d+) bytes\) sent in ([\d.]+) seconds/.exec(stdout);
  if (actual === null) {
    throw new SluiceError('LAB', 'tcpreplay did not say what it sent', {
      cause: `${stdout}${stderr}`.trim(),
    });
  }
  return {
    sent: Number(actual[1]),
    refused: Number(/Failed packets:\s+(\d+)/.exec(stdout)?.[1] ?? 0),
    bytes: Number(actual[2]),
    seconds: Number(actual[3]),
  };
}

function positive(name: string, value: number): number {
  if (value > 0 && Number.isFinite(value)) return value;
  throw new SluiceError('USAGE', `${name} of a replay must be more than 0, not ${value}`);
}
