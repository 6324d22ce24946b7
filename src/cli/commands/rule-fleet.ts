import { Argument, type Command, Option } from 'commander';
import { natsSchema } from '../../base/config.ts';
import type { EdgeResult } from '../../fleet/nats-desk.ts';
import type { Register } from '../command.ts';
import { addFlags, configOf } from '../flags.ts';
import { readText } from './gate-fleet.ts';

/** `sluice rule publish|results`: signed rules and what became of them, over NATS. */
export function registerRuleFleet(rule: Command, host: Parameters<Register>[1]): void {
  const publish = rule
    .command('publish')
    .description("Put signed rules into a fleet's bucket; what is newer there stays.")
    .addArgument(new Argument('<FILE>', 'lines of sluice rule sign; - is stdin'))
    .addOption(new Option('--to <URL>', 'nats://HOST[:PORT][/BUCKET].').makeOptionMandatory())
    .action(async (path: string) => {
      const { config } = configOf(publish, natsSchema);
      await host.run(config, async (io) => {
        const { natsAccess } = await import('../../fleet/nats-access.ts');
        const { natsPlace } = await import('../../fleet/nats-place.ts');
        const { NatsDesk } = await import('../../fleet/nats-desk.ts');
        const { linesOf } = await import('../../fleet/polled-source.ts');
        const lines = linesOf(readText(path), path).map(({ text }) => text);
        const place = natsPlace(publish.opts<{ to: string }>().to, natsAccess(config));
        const result = await new NatsDesk(place).publish(lines);
        if (config.json) io.out(`${JSON.stringify(result)}\n`);
        else
          io.say(`${result.published.length} published, ${result.older.length} not newer than what is there`);
        return undefined;
      });
    });
  addFlags(publish, natsSchema);
  publish.addHelpText(
    'after',
    '\nExample:\n  sluice rule sign udp --id flood --ttl 5m --key desk.key | sluice rule publish - --to nats+tls://nats.example --nats-creds desk.creds',
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

function resultText({ node, interface: ifname, ts, rules, refused }: EdgeResult): string {
  const age = Math.max(0, Math.round(Date.now() / 1000 - ts));
  const lines = [`${node} ${ifname}, ${age} s ago`];
  for (const { id, revision, state, why, dropped } of rules)
    lines.push(
      `  ${id} revision ${revision}: ${state}${why === null ? '' : `: ${why}`}; ${dropped.pkts.toLocaleString('en-US')} packets dropped`,
    );
  for (const { where, id, refused: what, why } of refused)
    lines.push(`  ${where}: ${id ?? '(nameless)'} ${what}: ${why}`);
  return `${lines.join('\n')}\n`;
}
