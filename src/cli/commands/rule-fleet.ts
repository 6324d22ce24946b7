import { Argument, type Command, InvalidArgumentError, Option } from 'commander';
import { natsSchema } from '../../base/config.ts';
import { SluiceError } from '../../base/errors.ts';
import { parseDuration } from '../../base/units.ts';
import type { CanaryEdge } from '../../fleet/canary.ts';
import type { EdgeResult } from '../../fleet/nats-desk.ts';
import type { CanaryOutcome } from '../../fleet/staged-publish.ts';
import type { Register } from '../command.ts';
import { addFlags, configOf } from '../flags.ts';
import { errorDocument } from '../report-error.ts';
import { programsText, readText } from './gate-fleet.ts';

interface PublishOptions {
  to: string;
  /** Seconds. */
  canaryFor: number;
  /** 0 to 1. */
  canaryMaxDropped?: number;
}

function canaryTime(text: string): number {
  try {
    const seconds = parseDuration(text);
    if (seconds >= 1 && seconds <= 86_400) return seconds;
  } catch {
    // Told below.
  }
  throw new InvalidArgumentError('not a time from 1 s to a day, such as 5m');
}

function percentage(text: string): number {
  const value = /^\d{1,3}(\.\d{1,6})?%?$/.test(text) ? Number.parseFloat(text) : Number.NaN;
  if (value >= 0 && value <= 100) return value / 100;
  throw new InvalidArgumentError('not a number of percent, such as 2%');
}

function canaryText(id: string, { node, interface: ifname, site, state, why }: CanaryEdge): string {
  return `${id}: ${state} at ${node} ${ifname} (${site})${why === null ? '' : `: ${why}`}`;
}

/** Rules that have not gone further than where they were tried. */
function stayed(canaries: readonly CanaryOutcome[]): SluiceError | undefined {
  const bad = canaries.filter(({ why }) => why !== null);
  if (bad.length === 0) return undefined;
  const [{ id, sites }] = bad;
  return new SluiceError(
    'FLEET',
    bad.map((one) => `rule ${one.id} stays at its canary sites: ${one.why}`).join('; '),
    {
      help: `sluice rule withdraw ${id} takes it out of ${sites.join(', ')}; the same file again goes on with it`,
    },
  );
}

/** `sluice rule publish|results`: signed rules and what became of them, over NATS. */
export function registerRuleFleet(rule: Command, host: Parameters<Register>[1]): void {
  const publish = rule
    .command('publish')
    .description("Put signed rules into a fleet's bucket; what is newer there stays.")
    .addArgument(new Argument('<FILE>', 'lines of sluice rule sign; - is stdin'))
    .addOption(new Option('--to <URL>', 'nats://HOST[:PORT][/BUCKET].').makeOptionMandatory())
    .addOption(
      new Option(
        '--canary-for <TIME>',
        'How long a rule of sluice rule sign --canary is tried before it goes to all.',
      )
        .argParser(canaryTime)
        .default(300, '5m'),
    )
    .addOption(
      new Option(
        '--canary-max-dropped <PERCENT>',
        'A rule stays where it is tried when it drops more than this of what comes at any edge there.',
      ).argParser(percentage),
    )
    .action(async (path: string) => {
      const { config } = configOf(publish, natsSchema);
      const given = publish.opts<PublishOptions>();
      await host.run(config, async (io) => {
        const { natsAccess } = await import('../../fleet/nats-access.ts');
        const { natsPlace } = await import('../../fleet/nats-place.ts');
        const { NatsDesk } = await import('../../fleet/nats-desk.ts');
        const { linesOf } = await import('../../fleet/polled-source.ts');
        const { publishStaged } = await import('../../fleet/staged-publish.ts');
        const lines = linesOf(readText(path), path).map(({ text }) => text);
        const desk = new NatsDesk(natsPlace(given.to, natsAccess(config)));
        const result = await publishStaged(desk, lines, {
          seconds: given.canaryFor,
          mostDropped: given.canaryMaxDropped,
          stop: io.stop,
          told: (id, edge) => io.say(canaryText(id, edge)),
        });
        const problem = stayed(result.canary);
        if (config.json)
          io.out(
            `${JSON.stringify({ ...result, ...(problem === undefined ? {} : { error: errorDocument(problem) }) })}\n`,
          );
        else
          io.say(`${result.published.length} published, ${result.older.length} not newer than what is there`);
        return problem;
      });
    });
  addFlags(publish, natsSchema);
  publish.addHelpText(
    'after',
    `
Examples:
  sluice rule sign udp --id flood --ttl 5m --key desk.key | sluice rule publish - --to nats+tls://nats.example --nats-creds desk.creds
  sluice rule sign udp --id flood --ttl 1d --canary fra1 --key desk.key > flood.jsonl      where the key is
  sluice rule publish flood.jsonl --to nats+tls://nats.example --nats-creds desk.creds --canary-for 10m --canary-max-dropped 2%`,
  );

  const results = rule
    .command('results')
    .description("What became of a fleet's rules, edge by edge.")
    .addOption(new Option('--from <URL>', 'nats://HOST[:PORT][/BUCKET].').makeOptionMandatory())
    .action(async () => {
      const { config } = configOf(results, natsSchema);
      await host.run(config, async (io) => {
        const { natsAccess } = await import('../../fleet/nats-access.ts');
        const { natsPlace } = await import('../../fleet/nats-place.ts');
        const { NatsDesk } = await import('../../fleet/nats-desk.ts');
        const place = natsPlace(results.opts<{ from: string }>().from, natsAccess(config));
        const rows = await new NatsDesk(place).results();
        io.out(config.json ? `${JSON.stringify(rows)}\n` : rows.map(resultText).join(''));
        return undefined;
      });
    });
  addFlags(results, natsSchema);
  results.addHelpText(
    'after',
    '\nExample:\n  sluice rule results --from nats+tls://nats.example --nats-creds desk.creds --json',
  );
}

function resultText({ node, interface: ifname, ts, rules, refused, programs }: EdgeResult): string {
  const age = Math.max(0, Math.round(Date.now() / 1000 - ts));
  const lines = [`${node} ${ifname}, ${age} s ago`];
  if (programs !== null) lines.push(`  programs: ${programsText(programs)}`);
  for (const { id, revision, state, why, dropped } of rules)
    lines.push(
      `  ${id} revision ${revision}: ${state}${why === null ? '' : `: ${why}`}; ${dropped.pkts.toLocaleString('en-US')} packets dropped`,
    );
  for (const { where, id, refused: what, why } of refused)
    lines.push(`  ${where}: ${id ?? '(nameless)'} ${what}: ${why}`);
  return `${lines.join('\n')}\n`;
}
