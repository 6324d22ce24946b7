import { type Command, Option } from 'commander';
import { SluiceError } from '../../base/errors.ts';
import type { SenderStatus } from '../../detect/sample-sender.ts';
import type { NatsConfig } from '../../fleet/nats-access.ts';
import type { MitigationOptions } from '../../gate/daemon-mitigation.ts';
import type { SamplesOptions } from '../../gate/daemon-samples.ts';
import { wholeNumber } from '../arguments.ts';

/** What `gate up` is told of mitigation. */
export interface MitigateOptions {
  mitigate?: boolean;
  mitigateDryRun?: boolean;
  minPps: number;
  sampleBudget: number;
  veto: string[];
}

export function addMitigateOptions(command: Command): void {
  const group = 'Mitigation:';
  command
    .addOption(
      new Option(
        '--mitigate',
        'Find attacks in samples, and hold them back by rules (docs/mitigation.md).',
      ).helpGroup(group),
    )
    .addOption(
      new Option('--mitigate-dry-run', 'The same, but rules are only told of in mitigation.log.').helpGroup(
        group,
      ),
    )
    .addOption(
      new Option('--min-pps <N>', 'Packets a second to one target that are never an attack.')
        .argParser(wholeNumber(1, 1e9))
        .default(1000)
        .helpGroup(group),
    )
    .addOption(
      new Option('--sample-budget <N>', 'Samples a second that are looked at, at most.')
        .argParser(wholeNumber(100, 1e6))
        .default(4000)
        .helpGroup(group),
    )
    .addOption(
      new Option(
        '--veto <WHAT>',
        'Never touch this: an address, a prefix, tcp/22, 192.0.2.1,tcp/22. Repeatable; the SSH connection of whoever starts it always is.',
      )
        .argParser((value: string, before: string[]) => [...before, value])
        .default([] as string[], 'none')
        .helpGroup(group),
    );
}

/** Undefined unless it is asked for. @throws SluiceError USAGE */
export async function mitigateOptions(
  given: MitigateOptions,
  env: NodeJS.ProcessEnv,
): Promise<MitigationOptions | undefined> {
  const dryRun = given.mitigateDryRun === true;
  if (given.mitigate !== true && !dryRun) {
    if (given.veto.length > 0)
      throw new SluiceError('USAGE', '--veto says what --mitigate must not touch', {
        help: 'add --mitigate',
      });
    return undefined;
  }
  const { operatorVetoes, parseVeto } = await import('../../mitigation/index.ts');
  for (const text of given.veto) parseVeto(text);
  return {
    minPps: given.minPps,
    budget: given.sampleBudget,
    dryRun,
    vetoes: [...given.veto, ...operatorVetoes(env)],
  };
}

/** Undefined unless it is asked for. @throws SluiceError USAGE */
export async function samplesOptions(
  { samplesTo: to, ...config }: NatsConfig & { samplesTo?: string | undefined },
  { mitigate, mitigateDryRun, sampleBudget }: MitigateOptions,
): Promise<SamplesOptions | undefined> {
  if (to === undefined) return undefined;
  if (mitigate === true || mitigateDryRun === true)
    throw new SluiceError('USAGE', '--samples-to does not go together with --mitigate', {
      help: 'either this gate finds attacks, or the detectors of the fleet do',
    });
  const { natsAccess } = await import('../../fleet/nats-access.ts');
  const { natsPlace } = await import('../../fleet/nats-place.ts');
  const nats = natsAccess(config);
  natsPlace(to, nats);
  return { to, nats, budget: sampleBudget };
}

const whole = (n: number): string => n.toLocaleString('en-US');

/** Of `gate status`. */
export function samplesLines(s: SenderStatus): [string, string][] {
  const state = s.connected ? `${s.partitions} partitions` : `not there now (${s.problem})`;
  return [['samples to', `${s.to}, ${state}; ${whole(s.sent)} sent, ${whole(s.lost)} lost`]];
}
