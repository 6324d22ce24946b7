import { filePath, key } from '../options.ts';

const file = (arg: string, help: string, otherwise: string) =>
  key(filePath.optional(), { group: 'NATS', arg, help, otherwise });

/** How servers of NATS are talked to, all that a command has to do with. */
export const natsKeys = {
  natsCa: file(
    'FILE',
    'Authorities (PEM) of which one has to have signed the certificate of servers of NATS; there is no connection without TLS then.',
    'those of Node.js',
  ),
  natsCert: file(
    'FILE',
    'The certificate (PEM) to show to servers of NATS, with --nats-key; there is no connection without TLS then.',
    'none',
  ),
  natsKey: file('FILE', 'The private key (PEM) of --nats-cert.', 'none'),
  natsCreds: file(
    'FILE',
    'Who we are at servers of NATS: a credentials file (user JWT and nkey), as nsc and nats-server accounts have them. A user in a URL goes before it.',
    'nobody',
  ),
  natsLogin: file(
    'FILE',
    'Who we are at servers of NATS: a file with a line USER:PASSWORD. A user in a URL goes before it.',
    'nobody',
  ),
};
