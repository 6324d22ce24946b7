import type { NatsConnection } from '@nats-io/transport-node';
import { asSluiceError, SluiceError } from '../base/errors.ts';
import { type NatsAccess, type NatsAddress, natsConnect } from './nats-access.ts';

const PORT = 4222;

/** A NATS server and the buckets of a fleet there. */
export interface NatsPlace {
  /** Without what is secret. */
  readonly name: string;
  readonly address: NatsAddress;
  readonly access: NatsAccess;
  /** What the names of buckets and subjects begin with. */
  readonly bucket: string;
  /** Signed rules by their ids. */
  readonly rules: string;
  /** What became of them, by edge. */
  readonly results: string;
  /** Their compiled programs. */
  readonly programs: string;
}

/** `nats://[USER:PASSWORD@]HOST[:PORT][/BUCKET]`, `nats+tls://…`. @throws SluiceError USAGE */
export function natsPlace(text: string, access: NatsAccess = {}): NatsPlace {
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
    programs: `${bucket}_programs`,
    address: {
      host: hostname.replace(/^\[|\]$/g, ''),
      port: port === '' ? PORT : Number(port),
      user: decodeURIComponent(username),
      password: decodeURIComponent(password),
      tls: protocol === 'nats+tls:',
    },
    access,
  };
}

/** @see natsConnect */
export async function connectOnce({ address, access }: NatsPlace): Promise<NatsConnection> {
  return await natsConnect(address, access);
}

/** Something that is asked once. @param help for what fails without our knowing why @throws SluiceError FLEET, FILE, FILE_FORMAT */
export async function atServer<T>(
  place: NatsPlace,
  help: string,
  work: (connection: NatsConnection) => Promise<T>,
): Promise<T> {
  let connection: NatsConnection | undefined;
  try {
    connection = await connectOnce(place);
    return await work(connection);
  } catch (thrown) {
    const { code, message, cause, help: known = help } = asSluiceError(thrown);
    if (code === 'FLEET') throw new SluiceError(code, `${place.name}: ${message}`, { cause, help: known });
    if (thrown instanceof SluiceError) throw thrown;
    throw new SluiceError('FLEET', `${place.name} does not do that`, { cause: thrown, help });
  } finally {
    await connection?.close().catch(() => {});
  }
}
