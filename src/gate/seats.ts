import { SluiceError } from '../base/errors.ts';
import { detachComponent } from '../kernel/index.ts';
import { GateComponents, type GateLibxdp } from './components.ts';
import type { GateInterface } from './control-places.ts';
import { GateLinks, type GateSeats, refuseForeign, takeOff } from './links.ts';
import type { Found } from './pinned.ts';
import type { PinDirectory } from './pins.ts';

/** By raw links, or behind libxdp's dispatchers; those that an earlier gate of the same kind has left go on. */
export function seatsOf(
  pins: PinDirectory,
  home: number,
  keep: boolean,
  found: Found | undefined,
  libxdp: GateLibxdp | undefined,
): GateSeats {
  if (libxdp !== undefined) return new GateComponents(pins, home, keep, libxdp, found);
  found?.entry?.close();
  return new GateLinks(pins, home, keep, found?.links ?? new Map());
}

/** @throws SluiceError INTERFACE_BUSY: somebody else's program, or a gate of the other kind */
export function refuseSeats(
  all: readonly GateInterface[],
  found: Found | undefined,
  libxdp: GateLibxdp | undefined,
): void {
  const others = libxdp === undefined ? found?.programs : found?.links;
  if (others !== undefined && others.size > 0)
    throw new SluiceError(
      'INTERFACE_BUSY',
      `the gate whose daemon has ended is ${libxdp === undefined ? "a component of libxdp's dispatcher" : 'on the interface by itself'}`,
      {
        help: `take it over ${libxdp === undefined ? 'with' : 'without'} --libxdp, or take it down first (\`sluice gate down\`)`,
      },
    );
  const ours = libxdp === undefined ? found?.links : found?.programs;
  refuseForeign(all, ours ?? new Map(), libxdp !== undefined);
}

/** Takes a gate off all interfaces whose daemon is dead. @throws SluiceError where libxdp does not take a component off */
export function leaveSeats(found: Found): void {
  for (const link of found.links.values()) takeOff(link);
  found.entry?.delete(new Uint8Array(4));
  for (const [ifindex, program] of found.programs) detachComponent(program, ifindex);
}
