import { z } from 'zod';
import { filePath, key, list } from '../options.ts';
import { DAY, seconds } from './values.ts';

/** In the path of a store: the name of the interface. */
export const STORE_INTERFACE = 'IFACE';
/** Where rules that are known survive unless somebody says otherwise. */
export const RULES_STORE = `/var/lib/sluice/rules-${STORE_INTERFACE}.json`;

const scopeName = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$/, {
  error: 'must be 1 to 64 letters, digits, dots, dashes, underscores or colons',
});

/** Signed rules of a file, a web server or a fleet, and what this node is to them. */
export const fleetKeys = {
  rulesFrom: key(z.string().min(1).max(4096).optional(), {
    group: 'Fleet',
    arg: 'SOURCE',
    help: 'Keep signed rules of a file, http(s):// or nats:// in force (docs/fleet.md).',
    otherwise: 'none',
  }),
  trust: key(
    list(filePath).prefault([]),
    {
      group: 'Fleet',
      arg: 'FILE,…',
      help: 'Public keys whose signatures count, as sluice rule keygen writes them. Repeatable.',
      otherwise: 'none',
    },
    'list',
  ),
  trustPrograms: key(
    list(filePath).prefault([]),
    {
      group: 'Fleet',
      arg: 'FILE,…',
      help: 'Keys, as for --trust, whose compiled rules are taken in place of compiling them here. Repeatable.',
      otherwise: 'none: rules are compiled here',
    },
    'list',
  ),
  rulesStore: key(filePath.optional(), {
    group: 'Fleet',
    arg: 'FILE',
    help: `Where rules that are known survive; ${STORE_INTERFACE} in it stands for the interface.`,
    otherwise: RULES_STORE,
  }),
  rulesEvery: key(
    seconds(0.1, DAY).optional(),
    {
      group: 'Fleet',
      arg: 'TIME',
      help: 'How often a file or a web server is asked.',
      otherwise: '1s a file, 10s a web server',
    },
    'value',
    'duration',
  ),
  site: key(scopeName.optional(), {
    group: 'Fleet',
    arg: 'NAME',
    help: 'Where this is: rules may hold for some sites only.',
    otherwise: 'none',
  }),
  role: key(
    list(scopeName).prefault([]),
    { group: 'Fleet', arg: 'NAME,…', help: 'What it is for, as --site. Repeatable.', otherwise: 'none' },
    'list',
  ),
};
