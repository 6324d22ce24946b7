import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { createSecureContext } from 'node:tls';
import {
  type ConnectionOptions,
  connect,
  credsAuthenticator,
  type NatsConnection,
} from '@nats-io/transport-node';
import { SluiceError } from '../base/errors.ts';
import { fileError } from '../base/file-error.ts';

/** What the configuration says of servers of NATS (src/base/config/nats.ts). */
export interface NatsConfig {
  readonly natsCa?: string | undefined;
  readonly natsCert?: string | undefined;
  readonly natsKey?: string | undefined;
  readonly natsCreds?: string | undefined;
  readonly natsLogin?: string | undefined;
}

/** Files, absolute, that are read for each connection: what is renewed in them counts from the next one on. */
export interface NatsAccess {
  /** PEM: authorities that servers are held against. */
  readonly ca?: string;
  /** PEM: ours, and its private key. */
  readonly cert?: string;
  readonly key?: string;
  /** User JWT and the seed of its nkey. */
  readonly creds?: string;
  /** A line USER:PASSWORD. */
  readonly login?: string;
}

/** A server, and who a URL says that we are there. */
export interface NatsAddress {
  /** Without brackets. */
  readonly host: string;
  readonly port: number;
  /** Empty: the URL names nobody. */
  readonly user: string;
  readonly password: string;
  /** Not without TLS. */
  readonly tls: boolean;
}

const TIMEOUT_MS = 5000;
const PING_MS = 5000;

/** @throws SluiceError USAGE, FILE, FILE_FORMAT when it could not work with any server */
export function natsAccess(config: NatsConfig): NatsAccess {
  const { natsCa: ca, natsCert: cert, natsKey: key, natsCreds: creds, natsLogin: login } = config;
  if ((cert === undefined) !== (key === undefined))
    throw new SluiceError('USAGE', '--nats-cert and --nats-key go together');
  if (creds !== undefined && login !== undefined)
    throw new SluiceError('USAGE', '--nats-creds does not go together with --nats-login', {
      help: 'both say who we are',
    });
  const given = Object.entries({ ca, cert, key, creds, login }).filter(([, path]) => path !== undefined);
  const access = Object.fromEntries(
    given.map(([name, path]) => [name, resolve(path as string)]),
  ) as NatsAccess;
  const { tls } = secretsOf(access);
  try {
    createSecureContext(tls);
  } catch (cause) {
    const paths = [ca, cert, key].filter((path) => path !== undefined).join(', ');
    throw new SluiceError('FILE_FORMAT', `TLS cannot work with ${paths}`, {
      cause,
      help: 'a certificate needs the private key that it was made for',
    });
  }
  return access;
}

/** @throws SluiceError FILE, FILE_FORMAT */
function secretsOf({ ca, cert, key, creds, login }: NatsAccess) {
  const authority = pem(ca, 'CERTIFICATE');
  const ours = pem(cert, 'CERTIFICATE');
  const secret = pem(key, 'PRIVATE KEY');
  return {
    tls: {
      ...(authority === undefined ? {} : { ca: authority }),
      ...(ours === undefined ? {} : { cert: ours }),
      ...(secret === undefined ? {} : { key: secret }),
    },
    creds: creds === undefined ? undefined : credentials(creds),
    login: login === undefined ? undefined : loginOf(login),
  };
}

/** @throws SluiceError FILE */
function textOf(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    throw fileError(path, cause);
  }
}

function pem(path: string | undefined, what: string): string | undefined {
  if (path === undefined) return undefined;
  const text = textOf(path);
  if (new RegExp(`-----BEGIN [A-Z ]*${what}-----`).test(text)) return text;
  throw new SluiceError('FILE_FORMAT', `${path} has no ${what.toLowerCase()}`, { help: 'it is PEM' });
}

function credentials(path: string): Uint8Array {
  const bytes = new TextEncoder().encode(textOf(path));
  try {
    credsAuthenticator(bytes)('nonce');
  } catch {
    // What the client says of it may quote it.
    throw new SluiceError('FILE_FORMAT', `${path} has no credentials of NATS`, {
      help: 'a user JWT and the seed of its nkey, as `nsc generate creds` writes them',
    });
  }
  return bytes;
}

function loginOf(path: string): { user: string; pass: string } {
  const [, user, pass] = /^([^:\r\n]+):([^\r\n]*)\r?\n?$/.exec(textOf(path)) ?? [];
  if (user === undefined || pass === undefined)
    throw new SluiceError('FILE_FORMAT', `${path} is not a line USER:PASSWORD`);
  return { user, pass };
}

/** @throws SluiceError FILE, FILE_FORMAT */
function connectionOptions(
  { host, port, user, password, tls }: NatsAddress,
  access: NatsAccess,
): ConnectionOptions {
  const secrets = secretsOf(access);
  const encrypted = tls || access.ca !== undefined || access.cert !== undefined;
  // The client names to TLS no host that is an address, and Node.js would hold the certificate against `localhost`.
  const about = { host, ...secrets.tls };
  const who =
    user !== ''
      ? { user, pass: password }
      : secrets.creds !== undefined
        ? { authenticator: credsAuthenticator(secrets.creds) }
        : (secrets.login ?? {});
  return {
    servers: `${host.includes(':') ? `[${host}]` : host}:${port}`,
    ...who,
    ...(encrypted ? { tls: about } : {}),
    timeout: TIMEOUT_MS,
    name: 'sluice',
  };
}

/** One connection that is not made again by itself: whoever uses it begins anew. @throws SluiceError FILE, FILE_FORMAT, FLEET */
export async function natsConnect(address: NatsAddress, access: NatsAccess): Promise<NatsConnection> {
  const options = connectionOptions(address, access);
  try {
    return await connect({
      ...options,
      reconnect: false,
      maxReconnectAttempts: 0,
      pingInterval: PING_MS,
      maxPingOut: 2,
    });
  } catch (cause) {
    const { what, help } = troubleOf(cause, access);
    throw new SluiceError('FLEET', what, { cause, ...(help === undefined ? {} : { help }) });
  }
}

const UNTRUSTED = new Set([
  'CERT_SIGNATURE_FAILURE',
  'CERT_UNTRUSTED',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
]);

interface Trouble {
  what: string;
  help?: string;
}

/** What is wrong, in one line that says what to do where it will not go away by itself. */
function troubleOf(thrown: unknown, access: NatsAccess): Trouble {
  let found: Trouble | undefined;
  for (let error = thrown; error instanceof Error && found === undefined; error = error.cause)
    found = knownTrouble(error, access);
  return (
    found ?? { what: thrown instanceof Error && thrown.message !== '' ? thrown.message : String(thrown) }
  );
}

function knownTrouble(error: Error, { cert, creds }: NatsAccess): Trouble | undefined {
  const { message } = error;
  const { code = '' } = error as NodeJS.ErrnoException;
  if (UNTRUSTED.has(code))
    return {
      what: 'the server has a certificate of an authority that is not known here',
      help: '--nats-ca FILE names its authority',
    };
  if (code === 'CERT_HAS_EXPIRED' || code === 'CERT_NOT_YET_VALID')
    return {
      what: `the certificate of the server ${code === 'CERT_HAS_EXPIRED' ? 'has expired' : 'is not valid yet'}`,
      help: 'renew it at the server; or is the clock here wrong?',
    };
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID')
    return {
      what: 'the certificate of the server is for another name',
      help: 'name the server in the URL as its certificate does',
    };
  const refused = /alert/i.test(message) && /certificate|unknown[ _]ca/i.test(message);
  if (refused && cert === undefined)
    return { what: 'the server wants a certificate of ours', help: '--nats-cert FILE --nats-key FILE' };
  if (refused)
    return {
      what: `the server refuses our certificate (${/expired/i.test(message) ? 'it has expired' : 'it is not of its authority'})`,
      help: 'renew the file of --nats-cert; it is read for each connection',
    };
  // What it has said of our certificate goes with the connection, where that ends before it was read.
  if (code === 'ECONNRESET' || code === 'EPIPE')
    return {
      what: 'the server has ended the connection before anything was said',
      help:
        cert === undefined
          ? 'it may want a certificate of ours: --nats-cert FILE --nats-key FILE'
          : 'it may not know who has signed the file of --nats-cert',
    };
  if (/does not support 'tls'/.test(message))
    return {
      what: 'the server offers no TLS',
      help: 'nats:// without --nats-ca and --nats-cert is not encrypted',
    };
  if (/authenticat|authoriz/i.test(message))
    return {
      what:
        /expired/i.test(message) || hasExpired(creds)
          ? 'our credentials have expired'
          : 'the server refuses who we are',
      help: '--nats-creds or --nats-login FILE; they are read for each connection',
    };
  return undefined;
}

/** The server does not say so of a user JWT. */
function hasExpired(creds: string | undefined): boolean {
  if (creds === undefined) return false;
  try {
    const claims = /^\s*[\w-]+\.([\w-]+)\.[\w-]+\s*$/m.exec(textOf(creds))?.[1] ?? '';
    const { exp } = JSON.parse(Buffer.from(claims, 'base64url').toString()) as { exp?: unknown };
    return typeof exp === 'number' && exp > 0 && exp < Date.now() / 1000;
  } catch {
    // It was readable a moment ago, and is told of with the next connection.
    return false;
  }
}
