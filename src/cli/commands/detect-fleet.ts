import { mkdirSync } from 'node:fs';
import { hostname } from 'node:os';
import { type Command, Option } from 'commander';
import type { DetectConfig } from '../../base/config.ts';
import { SluiceError } from '../../base/errors.ts';
import type { CommandIo } from '../../base/io.ts';
import { MAX_PARTITIONS } from '../../detect/partition.ts';
import type { SigningKey } from '../../fleet/keys.ts';
import type { AuditLog } from '../../gate/daemon-audit.ts';
import { parseVeto } from '../../mitigation/index.ts';
import { wholeNumber } from '../arguments.ts';
import { readText } from './gate-fleet.ts';

/** What `sluice detect` is told of a fleet, and of detection. */
export interface DetectFleetOptions {
  from?: string;
  key?: string;
  author?: string;
  dryRun?: boolean;
  partitions: number;
  minPps: number;
  factor: number;
  learning: number;
  veto: string[];
}

export function addDetectFleetOptions(command: Command): void {
  const group = 'Fleet:';
  command
    .addOption(
      new Option(
        '--from <URL>',
        'In place of files: be a detector of a fleet, for the samples that edges send to nats://HOST[:PORT][/NAME] (docs/fleet.md).',
      ).helpGroup(group),
    )
    .addOption(new Option('--key <FILE>', 'With --from, the private key that signs rules.').helpGroup(group))
    .addOption(
      new Option(
        '--author <TEXT>',
        'With --from, who says so in rules (default: detector@ and the name of the host).',
      ).helpGroup(group),
    )
    .addOption(
      new Option(
        '--dry-run',
        'With --from, rules are told of in mitigation.log and attack ls, not published.',
      ).helpGroup(group),
    )
    .addOption(
      new Option(
        '--partitions <N>',
        'With --from, parts that a new fleet is divided into; of one that there is they stay as they are.',
      )
        .argParser(wholeNumber(1, MAX_PARTITIONS))
        .default(16)
        .helpGroup(group),
    );
}

/** @throws SluiceError USAGE, FILE, FILE_FORMAT */
async function keyOf({ key: path, dryRun }: DetectFleetOptions): Promise<SigningKey> {
  const { generateKeys, readSigningKey } = await import('../../fleet/keys.ts');
  // Nothing is signed in a dry run.
  if (path === undefined && dryRun === true)
    return readSigningKey(generateKeys('nobody').privatePem, 'no key');
  if (path === undefined)
    throw new SluiceError('USAGE', 'edges take signed rules only', {
      help: '--key FILE (sluice rule keygen makes one), or --dry-run',
    });
  return readSigningKey(readText(path), path);
}

/** `sluice detect --from`: a detector of a fleet, until it is stopped. */
export async function detectFleet(
  from: string,
  options: DetectFleetOptions,
  config: DetectConfig,
  io: CommandIo,
): Promise<undefined> {
  const { veto: vetoes } = options;
  for (const text of vetoes) parseVeto(text);
  const { minPps, factor, learning, partitions, author = `detector@${hostname()}` } = options;
  const dryRun = options.dryRun === true;
  const { logDir } = config;
  const { FleetDetector } = await import('../../detect/fleet-detector.ts');
  const { natsAccess } = await import('../../fleet/nats-access.ts');
  const { natsPlace } = await import('../../fleet/nats-place.ts');
  const { AuditLog } = await import('../../gate/daemon-audit.ts');
  const place = natsPlace(from, natsAccess(config));
  const key = await keyOf(options);
  const warn = (text: string): void => io.warn(text);
  let logs: AuditLog[];
  try {
    mkdirSync(logDir, { recursive: true });
    logs = ['mitigation.log', 'notice.log'].map((name) => new AuditLog(logDir, warn, name));
  } catch (cause) {
    throw new SluiceError('FILE', `cannot write logs in ${logDir}`, {
      cause,
      help: 'name another --log-dir',
    });
  }
  const [log, notices] = logs;
  const detector = new FleetDetector(
    { place, partitions, key, author, dryRun, minPps, factor, learning, vetoes },
    {
      log: (line) => log.writeLine(line),
      notice: (note, msg) => {
        notices.writeLine({ note, msg });
        io.say(msg);
      },
      warn,
    },
  );
  detector.start();
  io.say(`looking for attacks in what edges send to ${place.name}${dryRun ? ' (dry run)' : ''}`);
  try {
    await new Promise<void>((resolve) => {
      if (io.stop.aborted) resolve();
      io.stop.addEventListener('abort', () => resolve(), { once: true });
    });
    if (config.json) io.out(`${JSON.stringify(await detector.status())}\n`);
  } finally {
    await detector.close();
    for (const each of logs) each.close();
  }
  return undefined;
}
