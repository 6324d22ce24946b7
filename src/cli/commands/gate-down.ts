import { existsSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Command } from 'commander';
import { outputSchema } from '../../base/config.ts';
import { SluiceError } from '../../base/errors.ts';
import type { ControlClient as Connected } from '../../gate/control-client.ts';
import type { Place } from '../../gate/control-places.ts';
import type { CommandHost } from '../command.ts';
import { addFlags, configOf } from '../flags.ts';
import { interfaceOption } from '../gate-choice.ts';

/** `sluice gate down`. */
export function registerGateDown(gate: Command, host: CommandHost): void {
  const down = gate
    .command('down')
    .description('Take the gate down and end its daemon.')
    .addOption(interfaceOption())
    .action(async () => {
      const { config } = configOf(down, outputSchema);
      await host.run(config, async (io) => {
        const names = await takeDown(down.opts<{ interface?: string }>().interface, (text) => io.warn(text));
        const { interfacesText } = await import('../../gate/control-places.ts');
        if (config.json)
          io.out(`${JSON.stringify({ interface: names[0], interfaces: names, down: true })}\n`);
        else io.say(`the gate on ${interfacesText(names)} is down`);
        return undefined;
      });
    });
  addFlags(down, outputSchema);
  down.addHelpText('after', '\nExample:\n  sluice gate down -i eth1');
}

/** Answers the interfaces that it was on. */
async function takeDown(ifname: string | undefined, warn: (text: string) => void): Promise<string[]> {
  const { findPlace } = await import('../../gate/control-places.ts');
  const { ControlClient } = await import('../../gate/control-client.ts');
  const place = findPlace(ifname);
  const names = place.interfaces.length === 0 ? [place.ifname] : place.interfaces.map((each) => each.ifname);
  let client: Connected;
  try {
    client = await ControlClient.connect(place);
  } catch (error) {
    if (!(error instanceof SluiceError) || error.code !== 'GATE_DOWN') throw error;
    // Its daemon is dead: what it left is still ours. A daemon that hangs holds its lock, which is told.
    const { Gate } = await import('../../gate/gate.ts');
    const { removeState } = await import('../../gate/daemon-state.ts');
    const { removeLeftNicRules } = await import('../../gate/daemon-rules.ts');
    const { removePeerPins } = await import('../../gate/peer-pins.ts');
    const { readState } = await import('../../gate/daemon-state.ts');
    removeLeftNicRules(place, warn);
    Gate.remove(place);
    removePeerPins(readState(place)?.peers ?? [], place.name);
    removeState(place);
    return names;
  }
  try {
    await client.ask('stop');
    await client.closed;
    await lockReleased(place);
    return names;
  } finally {
    client.close();
  }
}

const DOWN_MS = 10_000;

/** The socket is closed before the gate is off and its pins are gone: those the lock stands for. They may be another user's, as a service's are. */
async function lockReleased({ lock: path, name, ifname }: Place): Promise<void> {
  const { pinPath } = await import('../../gate/pins.ts');
  const { lockFile } = await import('../../kernel/index.ts');
  const end = performance.now() + DOWN_MS;
  while (existsSync(path)) {
    const lock = lockFile(path);
    if (lock !== undefined) {
      // By it a later run finds pins that stay, and without any nobody looks for it.
      if (existsSync(dirname(pinPath(name)))) lock.release();
      else lock.remove();
      return;
    }
    if (performance.now() > end)
      throw new SluiceError('INTERFACE_BUSY', `the daemon of the gate on ${ifname} has not ended yet`, {
        help: `\`sluice gate status -i ${ifname}\` tells of it`,
      });
    await new Promise((done) => setTimeout(done, 20));
  }
}
