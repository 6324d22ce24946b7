import { resolve } from 'node:path';
import { Argument, Option } from 'commander';
import { accountNumber } from '../../base/accounts.ts';
import { fanoutPinSchema, outputSchema } from '../../base/config.ts';
import { tunnelPorts } from '../../base/tunnels.ts';
import { grouped } from '../../base/units.ts';
import type { FanoutStatus } from '../../gate/fanout-pins.ts';
import { wholeNumber } from '../arguments.ts';
import type { Register } from '../command.ts';
import { addFlags, configOf } from '../flags.ts';

const output = { json: true, quiet: true, verbose: true, color: true } as const;
const pinSchema = fanoutPinSchema.pick({
  fanoutKey: true,
  fanoutInner: true,
  tunnelPorts: true,
  vlanKey: true,
  ...output,
});
const plainSchema = outputSchema.pick(output);

const directory = (): Argument =>
  new Argument('[DIRECTORY]', 'in a bpf file system (default: /sys/fs/bpf/sluice/fanout)');

/** `sluice fanout pin|unpin|status|give`. */
export const registerFanout: Register = (program, host) => {
  const fanout = program
    .command('fanout')
    .description('The load-balancing program of `sluice run`, for other AF_PACKET sensors.');

  const pin = fanout
    .command('pin')
    .description('Load the program and pin it; in place of what is pinned there.')
    .addArgument(directory())
    .addOption(new Option('--pin-group <GROUP>', 'This group may open it (default: root alone).'))
    .action(async (where: string | undefined) => {
      const { config } = configOf(pin, pinSchema);
      await host.run(config, async (io) => {
        const { FANOUT_PINS, pinFanout } = await import('../../gate/fanout-pins.ts');
        const { pinGroup } = pin.opts<{ pinGroup?: string }>();
        const pinned = pinFanout(
          resolve(where ?? FANOUT_PINS),
          {
            key: config.fanoutKey,
            inner: config.fanoutInner,
            tunnelPorts: tunnelPorts(config.tunnelPorts),
            vlanKey: config.vlanKey,
          },
          pinGroup === undefined ? undefined : accountNumber('group', pinGroup),
        );
        if (config.json) io.out(`${JSON.stringify(pinned)}\n`);
        else io.say(`program ${pinned.programId} is pinned at ${pinned.path}`);
        return undefined;
      });
    });
  addFlags(pin, pinSchema);
  pin.addHelpText(
    'after',
    `
A sensor opens the pin (bpf_obj_get) and gives it to its group: setsockopt(fd, SOL_PACKET, PACKET_FANOUT_DATA, &program, 4),
with a group of mode PACKET_FANOUT_EBPF. examples/fanout-client.c does just that.

Examples:
  sluice fanout pin
  sluice fanout pin --fanout-key pair --pin-group zeek
  sluice fanout pin --fanout-inner --tunnel-ports vxlan=4789,vxlan=8472 /sys/fs/bpf/inner`,
  );

  const unpin = fanout
    .command('unpin')
    .description('Remove the pins; groups that use the program keep it.')
    .addArgument(directory())
    .action(async (where: string | undefined) => {
      const { config } = configOf(unpin, plainSchema);
      await host.run(config, async (io) => {
        const { FANOUT_PINS, unpinFanout } = await import('../../gate/fanout-pins.ts');
        const path = resolve(where ?? FANOUT_PINS);
        const removed = unpinFanout(path);
        if (config.json) io.out(`${JSON.stringify({ directory: path, removed })}\n`);
        else io.say(removed ? `nothing is pinned in ${path} any more` : `nothing was pinned in ${path}`);
        return undefined;
      });
    });
  addFlags(unpin, plainSchema);
  unpin.addHelpText('after', '\nExample:\n  sluice fanout unpin');

  const status = fanout
    .command('status')
    .description('What is pinned, and the fragments that it has seen.')
    .addArgument(directory())
    .action(async (where: string | undefined) => {
      const { config } = configOf(status, plainSchema);
      await host.run(config, async (io) => {
        const { FANOUT_PINS, fanoutStatus } = await import('../../gate/fanout-pins.ts');
        const report = fanoutStatus(resolve(where ?? FANOUT_PINS));
        io.out(config.json ? `${JSON.stringify(report)}\n` : statusText(report));
        return undefined;
      });
    });
  addFlags(status, plainSchema);
  status.addHelpText('after', '\nExample:\n  sluice fanout status --json');

  const give = fanout
    .command('give')
    .description('Give the pinned program to the group of a sensor that cannot load one.')
    .addArgument(directory())
    .addOption(new Option('-i, --interface <IFACE>', 'The interface of the group.').makeOptionMandatory())
    .addOption(
      new Option('--id <N>', 'Its fanout id (Zeek: AF_Packet::fanout_id, 23 unless told).')
        .argParser(wholeNumber(0, 0xffff))
        .makeOptionMandatory(),
    )
    .action(async (where: string | undefined) => {
      const { config } = configOf(give, plainSchema);
      const { interface: name, id } = give.opts<{ interface: string; id: number }>();
      await host.run(config, async (io) => {
        const { FANOUT_PINS, giveFanout } = await import('../../gate/fanout-pins.ts');
        const { interfaceInfo } = await import('../../kernel/index.ts');
        giveFanout(resolve(where ?? FANOUT_PINS), interfaceInfo(name).index, name, id);
        if (config.json) io.out(`${JSON.stringify({ interface: name, id })}\n`);
        else io.say(`the group ${id} on ${name} has the program`);
        return undefined;
      });
    });
  addFlags(give, plainSchema);
  give.addHelpText(
    'after',
    `
For a moment a socket joins the group: packets that are meant for its place in that time are lost to the sensor.

Example:
  sluice fanout give -i eth1 --id 23`,
  );
};

function statusText({ path, programId, fragments }: FanoutStatus): string {
  return [
    `program    ${programId}, pinned at ${path}`,
    `fragments  ${grouped(fragments.first)} first ones, ${grouped(fragments.followed)} that followed one, ${grouped(fragments.unknown)} whose first one was not known`,
    '',
  ].join('\n');
}
