import { flag } from '../options.ts';

/** What commands print; of every command. */
export const outputKeys = {
  json: flag(false, { group: 'Output', help: 'The result as JSON on stdout; errors too.' }),
  quiet: flag(false, {
    group: 'Output',
    short: '-q',
    help: 'No progress and no talk; errors and warnings only.',
  }),
  verbose: flag(false, { group: 'Output', short: '-v', help: 'Say more.' }),
  color: flag(true, {
    group: 'Output',
    help: 'Colours on a terminal; NO_COLOR and TERM=dumb turn them off too.',
    off: 'No colours; NO_COLOR and TERM=dumb do the same.',
  }),
};
