/** A real gate with `--mitigate` on a virtual cable, what is usual, and an attack: what of both arrives. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { SluiceError } from '../src/base/errors.ts';
import { packageRoot } from '../src/kernel/index.ts';
import type { Packets } from './attack-traffic.ts';
import { cable, ip } from './cable.ts';
import { LiveTraffic, Stream } from './live-traffic.ts';

const SLUICE = join(packageRoot(), 'bin', 'sluice.js');
const USUAL = 0x0c;
const ATTACK = 0x0a;
/** Frames of an attack are made before, and repeated. */
const MADE = 20_000;
/** What was sent last has arrived or been dropped by then. */
const SETTLE_MS = 300;

const MOST_SECONDS = 180;

/** A line of mitigation.log. */
export interface MitigationLine {
  readonly event: string;
  readonly ts: number;
  readonly id?: string;
  readonly kind?: string;
  readonly target?: string;
  readonly attack?: boolean;
  readonly rules?: readonly { readonly expr: string; readonly action: string }[];
  readonly [field: string]: unknown;
}

export interface LiveAttackOptions {
  readonly usual: () => Uint8Array;
  /** Undefined: nothing but the usual. */
  readonly attack: Packets | undefined;
  readonly usualPps: number;
  readonly attackPps: number;
  /** Seconds before the attack, or what it waits for with a gate on this interface; seconds of it, or what it waits for: MOST_SECONDS at most. */
  readonly before: number | ((interfaceName: string) => Promise<void>);
  readonly during: number | ((log: () => MitigationLine[]) => Promise<void>);
  readonly signal: AbortSignal;
  /** More of `gate up`. */
  readonly gateOptions?: readonly string[];
  /** To be awaited before the gate is taken down, with its log so far. */
  readonly afterwards?: (log: () => MitigationLine[]) => Promise<void>;
}

export interface LiveAttackResult {
  readonly log: readonly MitigationLine[];
  /** Seconds from the first packet of the attack to the first that was dropped; undefined: none was. */
  readonly firstDrop: number | undefined;
  readonly attackSent: number;
  readonly usualSent: number;
  /** Shares of packets: of the attack after the first drop and in all; of the usual ones while it lasts. */
  readonly droppedAfter: number;
  readonly droppedAll: number;
  readonly usualDropped: number;
  /** Packets that rules have dropped, by the gate's own books. */
  readonly booked: number;
  /** Packets that neither arrived nor were dropped by rules: what is above may be wrong by so many. */
  readonly lost: number;
}

/** Errors: LAB. */
async function sluice(...args: string[]): Promise<string> {
  const child = spawn(process.execPath, [SLUICE, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let [out, said] = ['', ''];
  child.stdout.on('data', (data: Buffer) => {
    out += data.toString();
  });
  child.stderr.on('data', (data: Buffer) => {
    said += data.toString();
  });
  await once(child, 'close');
  if (child.exitCode !== 0) throw new SluiceError('LAB', `sluice ${args.slice(0, 2).join(' ')}: ${said}`);
  return out;
}

function linesOf(directory: string): MitigationLine[] {
  const path = join(directory, 'mitigation.log');
  if (!existsSync(path)) return [];
  // Whole lines: the last one may be on its way.
  return readFileSync(path, 'utf8')
    .split('\n')
    .slice(0, -1)
    .map((text) => JSON.parse(text) as MitigationLine);
}

const sleep = async (seconds: number, signal: AbortSignal): Promise<void> => {
  await pause(seconds * 1000, undefined, { signal }).catch(() => {});
};

/** Packets that there is room for: time does not end when it should on a machine with much to do. */
const room = (pps: number, seconds: number): number => Math.ceil(pps * (seconds + 60));

/** One attack on a gate of its own, in this thread's network namespace. Errors: LAB. */
export async function attackLive(options: LiveAttackOptions): Promise<LiveAttackResult> {
  const { attackPps, usualPps, before, during, signal } = options;
  const ends = await cable();
  const directory = mkdtempSync(join(tmpdir(), 'sluice-live-'));
  let traffic: LiveTraffic | undefined;
  let isUp = false;
  try {
    await sluice(
      'gate',
      'up',
      '-i',
      ends.near,
      '--mitigate',
      '--log-dir',
      directory,
      ...(options.gateOptions ?? []),
    );
    isUp = true;
    traffic = new LiveTraffic(ends);
    const seconds = typeof during === 'number' ? during : MOST_SECONDS;
    const earlier = typeof before === 'number' ? before : MOST_SECONDS;
    const usual = new Stream(USUAL, usualPps, room(usualPps, earlier + seconds), options.usual);
    traffic.begin(usual);
    if (typeof before === 'number') await sleep(before, signal);
    else await before(ends.near);
    const attack = new Stream(ATTACK, attackPps, room(attackPps, seconds), repeated(options.attack));
    const usualBefore = usual.sent;
    if (options.attack !== undefined) traffic.begin(attack);
    if (typeof during === 'number') await sleep(during, signal);
    else await during(() => linesOf(directory));
    traffic.end(attack);
    const usualAfter = usual.sent;
    await pause(SETTLE_MS);
    traffic.end(usual);
    const missing = usual.missing(usualBefore, usualAfter);
    const first = attack.firstMissing;
    const droppedAfter = first === undefined ? 0 : attack.missing(first) / (attack.sent - first);
    const status = JSON.parse(await sluice('gate', 'status', '-i', ends.near, '--json')) as {
      ruleDropped: { pkts: number };
      rateLimited: { pkts: number };
    };
    const dropped = status.ruleDropped.pkts + status.rateLimited.pkts;
    await options.afterwards?.(() => linesOf(directory));
    return {
      log: linesOf(directory),
      firstDrop: first === undefined ? undefined : attack.after(first),
      attackSent: attack.sent,
      usualSent: usualAfter - usualBefore,
      droppedAfter,
      droppedAll: attack.sent === 0 ? 0 : attack.missing(0) / attack.sent,
      usualDropped: missing / Math.max(1, usualAfter - usualBefore),
      booked: dropped,
      lost: Math.max(0, usual.missing(0) + attack.missing(0) - dropped),
    };
  } finally {
    traffic?.close();
    if (isUp) await sluice('gate', 'down', '-i', ends.near, '--quiet').catch(() => {});
    ip('link', 'del', ends.near);
    rmSync(directory, { recursive: true, force: true });
  }
}

/** So many packets of it, over and over. */
function repeated(attack: Packets | undefined): () => Uint8Array {
  if (attack === undefined) return () => new Uint8Array(0);
  const frames = Array.from({ length: MADE }, (_, i) => attack(i / MADE));
  let at = 0;
  return () => {
    at = (at + 1) % MADE;
    return frames[at];
  };
}
