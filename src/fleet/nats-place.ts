import { type ConnectionOptions, connect, type NatsConnection } from '@nats-io/transport-node';
import { SluiceError } from '../base/errors.ts';

const PORT = 4222;

/** A NATS server and the buckets of a fleet there. */
export interface NatsPlace {
  /** Without what is secret. */
  readonly name: string;
  readonly options: ConnectionOptions;
  /** What the names of buckets and subjects begin with. */
  readonly bucket: string;
  /** Signed rules by their ids. */
  readonly rules: string;
  /** What became of them, by edge. */
  readonly results: string;
}

/** `nats://[USER:PASSWORD@]HOST[:PORT][/BUCKET]`, `nats+tls://…`. @throws SluiceError USAGE */
export function natsPlace(text: string): NatsPlace {
  const wrong = (what: string): SluiceError =>
    new SluiceError('USAGE', `${text.replace(/\/\/[^/]*@/, '//')}: ${what}`, {
      help: 'nats://[USER:PASSWORD@]HOST[:PORT][/BUCKET]',
    });
  if (!URL.canParse(text)) throw wrong('it is no URL');
  const { protocol, hostname, port, username, password, pathname, host, search } = new URL(text);
  if (hostname === '' || search !== '') throw wrong('it does not name a server of NATS');
  const bucket = pathname.replace(/^\//, '') || 'sluice';
  if (!/^[A-Za-z0-9_-]{1,64}$/.test(bucket)) throw wrong('that is no name of a bucket');
  return {
    name: `${protocol}//${host}/${bucket}`,
    bucket,
    rules: `${bucket}_rules`,
    results: `${bucket}_results`,
    options: {
      servers: `${hostname}:${port === '' ? PORT : port}`,
      ...(username === '' ? {} : { user: decodeURIComponent(username), pass: decodeURIComponent(password) }),
      ...(protocol === 'nats+tls:' ? { tls: {} } : {}),
      timeout: 5000,
      name: 'sluice',
    },
  };
}

/** One connection that is not made again by itself: whoever uses it begins anew. @throws Error */
export async function connectOnce(place: NatsPlace): Promise<NatsConnection> {
  return await connect({
    ...place.options,
    reconnect: false,
    maxReconnectAttempts: 0,
    pingInterval: 5000,
    maxPingOut: 2,
  });
}
