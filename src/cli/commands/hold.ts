import { Option } from 'commander';
import { outputSchema } from '../../base/config.ts';
import type { HoldRow } from '../../gate/control-protocol.ts';
import { flowText } from '../../gate/flow-key.ts';
import type { Register } from '../command.ts';
import { configOf } from '../flags.ts';
import { withGate } from '../gate-choice.ts';
import {
  connect,
  flowOption,
  type Results,
  type Selection,
  selected,
  succeed,
  ttl,
  withTags,
} from './shunt.ts';

interface Held {
  results: (Results['results'][number] & { released?: boolean })[];
}

/** `sluice hold add|rm|ls`. */
export const registerHold: Register = (program, host) => {
  const hold = program
    .command('hold')
    .description('Flows that somebody still needs (a file, a capture): not shunted until they let go.');

  const add = hold
    .command('add')
    .description('Keep a flow from being shunted for a time; if it is shunted now, that ends.')
    .addOption(flowOption().makeOptionMandatory())
    .addOption(new Option('--ttl <TIME>', 'For so long, up to 7d.').argParser(ttl).default(300, '300'))
    .action(async () => {
      const { config } = configOf(add, outputSchema);
      const given = add.opts<Selection & { ttl: number }>();
      await host.run(config, async (io) => {
        using client = await connect(given.interface);
        const flow = selected(given);
        const why = given.why === undefined ? {} : { why: given.why };
        const { results } = await client.ask<Held>('hold.add', {
          flows: [{ ...flow, ttl: given.ttl }],
          ...why,
        });
        await succeed(results);
        const released = results[0]?.released === true;
        if (config.json) io.out(`${JSON.stringify({ ...flow, ttl: given.ttl, released })}\n`);
        else
          io.say(
            `${flowText(flow)} is held for ${given.ttl} s${released ? '; it was shunted, and is no longer' : ''}`,
          );
        return undefined;
      });
    });
  withTags(add);
  add.addHelpText(
    'after',
    `
Examples:
  sluice hold add --flow 'tcp 10.0.0.1:443 10.0.0.2:51000' --ttl 10m --why 'capture of case 17'
  sluice hold add --flow 'udp [2001:db8::1]:4500 [2001:db8::2]:4500' --json`,
  );

  const rm = hold
    .command('rm')
    .description('Let go of a flow: it may be shunted again. The superuser lets go of anybody’s.')
    .addOption(flowOption().makeOptionMandatory())
    .action(async () => {
      const { config } = configOf(rm, outputSchema);
      const given = rm.opts<Selection>();
      await host.run(config, async (io) => {
        using client = await connect(given.interface);
        const flow = selected(given);
        const why = given.why === undefined ? {} : { why: given.why };
        const { results } = await client.ask<Results>('hold.remove', { flows: [flow], ...why });
        await succeed(results);
        if (config.json) io.out(`${JSON.stringify(flow)}\n`);
        else io.say(`${flowText(flow)} is no longer held`);
        return undefined;
      });
    });
  withTags(rm);
  rm.addHelpText('after', "\nExample:\n  sluice hold rm --flow 'tcp 10.0.0.1:443 10.0.0.2:51000'");

  const ls = hold
    .command('ls')
    .description('List what is held, by whom, for how long, and how often that kept it from being shunted.')
    .action(async () => {
      const { config } = configOf(ls, outputSchema);
      await host.run(config, async (io) => {
        using client = await connect(ls.opts<Selection>().interface);
        const rows: HoldRow[] = [];
        await client.ask('hold.list', {}, (page) => {
          for (const row of page) rows.push(row as HoldRow);
        });
        if (config.json) io.out(`[${rows.map((row) => JSON.stringify(row)).join(',\n')}]\n`);
        else io.out(rows.map(holdText).join(''));
        if (!config.json) io.say(`${rows.length} ${rows.length === 1 ? 'hold' : 'holds'}`);
        return undefined;
      });
    });
  withGate(ls);
  ls.addHelpText('after', '\nExample:\n  sluice hold ls --json');
};

function holdText(row: HoldRow): string {
  const left =
    row.expires === null ? '' : `, ${Math.max(0, Math.round(row.expires - Date.now() / 1000))} s left`;
  const why = row.why === '' ? '' : ` (${row.why})`;
  return `${flowText(row)}  ${row.holder}${left}, kept ${row.kept} times${why}\n`;
}
