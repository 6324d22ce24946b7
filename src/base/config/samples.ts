import { key } from '../options.ts';
import { natsUrl } from './values.ts';

/** What goes to the detectors of a fleet. */
export const samplesKeys = {
  samplesTo: key(natsUrl.optional(), {
    group: 'Mitigation',
    arg: 'URL',
    help: 'Send samples of what comes in to the detectors of a fleet: nats://HOST[:PORT][/NAME] (docs/fleet.md).',
    otherwise: 'nowhere',
  }),
};
