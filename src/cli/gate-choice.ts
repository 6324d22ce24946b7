import { type Command, Option } from 'commander';
import { outputSchema } from '../base/config.ts';
import type { ControlClient as Connected } from '../gate/control-client.ts';
import { addFlags } from './flags.ts';

/** `-i` of commands that need it only when several gates are up. */
export function interfaceOption(): Option {
  return new Option('-i, --interface <IFACE>', 'The gate of this interface, where several are up.');
}

/** Gives a command `-i` and the flags of output. */
export function withGate(command: Command): void {
  command.addOption(interfaceOption());
  addFlags(command, outputSchema);
}

/**
 * The control socket of the gate on this interface, or of the only one.
 * @throws SluiceError GATE_DOWN, USAGE, PRIVILEGE
 */
export async function connectGate(ifname: string | undefined): Promise<Connected> {
  const { findPlace } = await import('../gate/control-places.ts');
  const { ControlClient } = await import('../gate/control-client.ts');
  return await ControlClient.connect(findPlace(ifname));
}
