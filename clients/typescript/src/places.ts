import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { GateError } from './errors.ts';

const RUN_DIRECTORY = '/run/sluice';

/**
 * The control socket of the gate on this interface, of this network namespace; without a name of the only gate that is up.
 * @throws GateError GATE_DOWN, USAGE when there are several to choose from
 */
export function socketOf(ifname?: string, directory = RUN_DIRECTORY): string {
  const prefix = `${statSync('/proc/self/ns/net').ino}-`;
  const found = gates(directory, prefix).filter(
    ({ interfaces }) => ifname === undefined || interfaces.includes(ifname),
  );
  if (found.length === 1) return found[0].socket;
  if (found.length === 0)
    throw new GateError('GATE_DOWN', ifname === undefined ? 'no gate is up' : `no gate is up on ${ifname}`);
  throw new GateError('USAGE', `${found.length} gates are up: name an interface`);
}

function gates(directory: string, prefix: string): { socket: string; interfaces: string[] }[] {
  let files: string[];
  try {
    files = readdirSync(directory);
  } catch {
    return [];
  }
  return files
    .filter((file) => file.startsWith(prefix) && file.endsWith('.json'))
    .flatMap((file) => {
      try {
        const state = JSON.parse(readFileSync(join(directory, file), 'utf8')) as {
          interfaces: { interface: string }[];
        };
        return {
          socket: join(directory, `${file.slice(0, -'.json'.length)}.sock`),
          interfaces: state.interfaces.map((each) => each.interface),
        };
      } catch {
        // Just being written anew, or going away.
        return [];
      }
    });
}
