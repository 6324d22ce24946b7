import { z } from 'zod';
import { bytes, duration, durationOrOff, list, tunnelPort } from '../options.ts';
import { MAX_TUNNEL_PORTS, tunnelPorts } from '../tunnels.ts';
import { bytesText, durationText } from '../units.ts';

/** Values that several groups of keys have. */

export const DAY = 86_400;

export const seconds = (min: number, max: number) => duration(min, max, durationText);
export const secondsOrOff = (min: number, max: number) => durationOrOff(min, max, durationText);
export const size = (min: number, max: number) => bytes(min, max, bytesText);

/** A number of percent, with or without its sign: `1%`, `0.1`. */
export const percent = () =>
  z
    .union(
      [z.number(), z.string().regex(/^\d{1,3}(\.\d{1,6})?%?$/, { error: 'must be a number of percent' })],
      {
        error: 'must be a number of percent',
      },
    )
    .transform((value) => (typeof value === 'number' ? value : Number.parseFloat(value)))
    .refine((value) => value > 0 && value <= 100, { error: 'must be above 0 % and at most 100 %' });

export const tunnelPortList = () =>
  list(tunnelPort)
    .refine((all) => Object.values(tunnelPorts(all)).every(({ length }) => length <= MAX_TUNNEL_PORTS), {
      error: `may have up to ${MAX_TUNNEL_PORTS} ports of each kind`,
    })
    .prefault(['vxlan=4789', 'geneve=6081']);

/** A server of NATS; what else is wrong with it is told by whoever connects. */
export const natsUrl = z
  .string()
  .regex(/^nats(\+tls)?:\/\/./i, { error: 'must be nats://HOST[:PORT][/NAME] or nats+tls://…' });
