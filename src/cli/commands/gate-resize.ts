import { type Command, Option } from 'commander';
import { outputSchema } from '../../base/config.ts';
import { SluiceError } from '../../base/errors.ts';
import { grouped } from '../../base/units.ts';
import type { StatusReport } from '../../gate/control-protocol.ts';
import { wholeNumber } from '../arguments.ts';
import type { CommandHost } from '../command.ts';
import { addFlags, configOf } from '../flags.ts';
import { connectGate, interfaceOption } from '../gate-choice.ts';

interface ResizeOptions {
  interface?: string;
  maxShunts4?: number;
  maxShunts6?: number;
}

/** `sluice gate resize`. */
export function registerGateResize(gate: Command, host: CommandHost): void {
  const resize = gate
    .command('resize')
    .description('Give the tables another size, with all that is in them.')
    .addOption(interfaceOption())
    .addOption(
      new Option('--max-shunts4 <N>', 'Room for shunted IPv4 connections.').argParser(
        wholeNumber(1, 2 ** 24),
      ),
    )
    .addOption(
      new Option('--max-shunts6 <N>', 'Room for shunted IPv6 connections.').argParser(
        wholeNumber(1, 2 ** 24),
      ),
    )
    .action(async () => {
      const { config } = configOf(resize, outputSchema);
      const { interface: ifname, maxShunts4, maxShunts6 } = resize.opts<ResizeOptions>();
      await host.run(config, async (io) => {
        if (maxShunts4 === undefined && maxShunts6 === undefined)
          throw new SluiceError('USAGE', 'no size given', {
            help: 'sluice gate resize --max-shunts4 1000000',
          });
        using client = await connectGate(ifname);
        const wish = {
          ...(maxShunts4 === undefined ? {} : { maxShunts4 }),
          ...(maxShunts6 === undefined ? {} : { maxShunts6 }),
        };
        const { tables } = await client.ask<Pick<StatusReport, 'tables'>>('resize', wish);
        if (config.json) io.out(`${JSON.stringify({ tables })}\n`);
        else
          io.say(`room for ${grouped(tables.flows4.max)} IPv4 and ${grouped(tables.flows6.max)} IPv6 shunts`);
        return undefined;
      });
    });
  addFlags(resize, outputSchema);
  resize.addHelpText('after', '\nExample:\n  sluice gate resize --max-shunts4 1000000');
}
