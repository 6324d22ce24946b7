import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { SluiceError } from '../../base/errors.ts';
import { parseDuration } from '../../base/units.ts';
import type { TrustedKeys } from '../../fleet/keys.ts';
import type { FleetOptions, FleetStatus } from '../../gate/daemon-fleet.ts';

/** What `gate up` is told of signed rules. */
export interface FollowOptions {
  rulesFrom?: string;
  trust: string[];
  rulesStore?: string;
  rulesEvery?: number;
}

/** Rules that are known survive in it. */
const STORES = '/var/lib/sluice';

export function trustOption(): Option {
  return new Option(
    '--trust <FILE>',
    'Public keys whose signatures count, as sluice rule keygen writes them. Repeatable.',
  )
    .argParser((value: string, before: string[]) => [...before, value])
    .default([] as string[], 'none');
}

export function addFleetOptions(command: Command): void {
  const group = 'Fleet:';
  command
    .addOption(
      new Option(
        '--rules-from <SOURCE>',
        'Keep signed rules of a file, http(s):// or nats:// in force (docs/fleet.md).',
      ).helpGroup(group),
    )
    .addOption(trustOption().helpGroup(group))
    .addOption(
      new Option(
        '--rules-store <FILE>',
        `Where rules that are known survive (default: ${STORES}/rules-IFACE.json).`,
      ).helpGroup(group),
    )
    .addOption(
      new Option(
        '--rules-every <TIME>',
        'How often a file (default 1s) or a web server (default 10s) is asked.',
      )
        .argParser(every)
        .helpGroup(group),
    );
}

/** Undefined unless it is asked for. @throws SluiceError USAGE, FILE, FILE_FORMAT */
export async function fleetOptions(given: FollowOptions, ifname: string): Promise<FleetOptions | undefined> {
  const { rulesFrom, trust, rulesStore, rulesEvery } = given;
  if (rulesFrom === undefined) {
    if (trust.length > 0 || rulesStore !== undefined || rulesEvery !== undefined)
      throw new SluiceError('USAGE', '--trust, --rules-store and --rules-every are for --rules-from');
    return undefined;
  }
  const { checkSource } = await import('../../fleet/open-source.ts');
  await trustedKeys(trust);
  return {
    source: checkSource(rulesFrom),
    trust: trust.map((path) => resolve(path)),
    store: resolve(rulesStore ?? `${STORES}/rules-${ifname}.json`),
    ...(rulesEvery === undefined ? {} : { every: rulesEvery }),
  };
}

/** @throws SluiceError USAGE, FILE, FILE_FORMAT */
export async function trustedKeys(paths: readonly string[]): Promise<TrustedKeys> {
  if (paths.length === 0)
    throw new SluiceError('USAGE', 'no keys are trusted: nothing would count', {
      help: '--trust FILE; sluice rule keygen makes a key',
    });
  const { keysById, readTrustedKeys } = await import('../../fleet/keys.ts');
  return keysById(paths.flatMap((path) => readTrustedKeys(readText(path), path)));
}

/** @throws SluiceError FILE */
export function readText(path: string): string {
  try {
    return readFileSync(path === '-' ? 0 : path, 'utf8');
  } catch (cause) {
    throw new SluiceError('FILE', `cannot read ${path}`, { cause });
  }
}

/** Of `gate status`. */
export function fleetLines(s: FleetStatus): [string, string][] {
  const age = s.age === null ? 'never heard of' : `heard of ${Math.round(s.age)} s ago`;
  const state = s.connected ? age : `${age}, not there now${s.problem === null ? '' : ` (${s.problem})`}`;
  const lines: [string, string][] = [
    ['rules from', `${s.source}, ${state}`],
    ['', `${s.inForce} in force here of ${s.rules}; ${s.refused} refused`],
  ];
  for (const { id, revision, why } of s.bad) lines.push(['', `bad: ${id} revision ${revision}: ${why}`]);
  for (const { where, id, why } of s.lines.filter(({ refused }) => refused !== 'older'))
    lines.push(['', `refused: ${where}, rule ${id ?? '(nameless)'}: ${why}`]);
  return lines;
}

function every(text: string): number {
  try {
    const value = parseDuration(text);
    if (value >= 0.1 && value <= 86_400) return value;
  } catch {
    // Told below.
  }
  throw new InvalidArgumentError('not a time from 0.1 s to a day, such as 5s');
}
