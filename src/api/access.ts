import { createHash, timingSafeEqual } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { isIP, isIPv4 } from 'node:net';
import { SluiceError } from '../base/errors.ts';
import { fileError } from '../base/file-error.ts';

/** Where the API listens and whom it lets in. */
export interface ApiOptions {
  /** ADDRESS:PORT, [ADDRESS]:PORT, PORT (on loopback), or unix:PATH. */
  listen: string;
  /** A file with the token that requests have to show. */
  tokenFile?: string | undefined;
  /** A file with the token that whoever switches rules has to show; nobody may without it. */
  controlTokenFile?: string | undefined;
  /** Mutual TLS: the server's certificate and key, and whose certificates clients have to have. */
  tlsCert?: string | undefined;
  tlsKey?: string | undefined;
  tlsClientCa?: string | undefined;
}

export type Listen = { path: string } | { host: string; port: number };

const MIN_TOKEN = 16;
const MAX_TOKEN = 4096;

/** @throws SluiceError USAGE */
export function listenOf(text: string): Listen {
  const unix = /^unix:(\/.+)$/.exec(text)?.[1];
  if (unix !== undefined) return { path: unix };
  const [, bracketed, plain, digits] = /^(?:(?:\[([^\]]+)\]|([^:[\]]+)):)?(\d{1,5})$/.exec(text) ?? [];
  const host = bracketed ?? plain ?? '127.0.0.1';
  const port = Number(digits);
  if (digits === undefined || port > 65_535 || isIP(host) === 0)
    throw new SluiceError('USAGE', `--api ${text} is no address to listen on`, {
      help: 'write PORT (on loopback), ADDRESS:PORT, [ADDRESS]:PORT or unix:/PATH',
    });
  return { host, port };
}

export function isLoopback(host: string): boolean {
  return isIPv4(host) ? host.startsWith('127.') : host === '::1';
}

/** @throws SluiceError FILE, USAGE */
export function readSecret(path: string, what: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    throw fileError(path, cause, { missing: `it is to have ${what}: check the path` });
  }
}

/** @throws SluiceError FILE, USAGE */
export function readToken(path: string): string {
  const token = readSecret(path, 'the token of the API').trim();
  if (token.length < MIN_TOKEN || token.length > MAX_TOKEN || /\s/.test(token))
    throw new SluiceError('USAGE', `${path} has no token of ${MIN_TOKEN} to ${MAX_TOKEN} characters`, {
      help: 'openssl rand -hex 32 makes one',
    });
  return token;
}

/** What is let in without more than reaching the port has to be this host. @throws SluiceError USAGE */
export function checkAccess(options: ApiOptions, listen: Listen): void {
  const { tlsCert, tlsKey, tlsClientCa, tokenFile } = options;
  const tls = [tlsCert, tlsKey, tlsClientCa].filter((each) => each !== undefined).length;
  if (tls > 0 && (tlsCert === undefined || tlsKey === undefined))
    throw new SluiceError('USAGE', '--api-tls-cert and --api-tls-key go together', {
      help: '--api-tls-client-ca beside them asks clients for certificates',
    });
  const open = tokenFile === undefined && tlsClientCa === undefined;
  if (open && 'host' in listen && !isLoopback(listen.host))
    throw new SluiceError('USAGE', `the API on ${listen.host} would let everybody in`, {
      help: 'give --api-token-file FILE, or certificates by --api-tls-cert, --api-tls-key and --api-tls-client-ca',
    });
}

/** What of the options can be wrong without listening: to be asked before a run makes anything. @throws SluiceError USAGE, FILE */
export function checkApi(options: ApiOptions): Listen {
  const listen = listenOf(options.listen);
  checkAccess(options, listen);
  const { tokenFile, controlTokenFile, tlsCert, tlsKey, tlsClientCa } = options;
  for (const path of [tokenFile, controlTokenFile]) if (path !== undefined) readToken(path);
  for (const path of [tlsCert, tlsKey, tlsClientCa])
    if (path !== undefined) readSecret(path, 'what the API needs for TLS');
  return listen;
}

const digest = (text: string): Buffer => createHash('sha256').update(text).digest();

/** Whether an Authorization header has the token; takes as long for a wrong one as for the right one. */
export function tokenCheck(token: string): (header: string | undefined) => boolean {
  const wanted = digest(token);
  return (header) => {
    const given = /^Bearer ([\x21-\x7e]+)$/i.exec(header ?? '')?.[1] ?? '';
    return timingSafeEqual(digest(given), wanted);
  };
}

/**
 * Whether a request without a token may be answered on loopback: a page of another site that a browser on this host shows
 * (DNS rebinding) names that site.
 */
export function isLocalHost(header: string | undefined): boolean {
  const host = /^(?:\[([^\]]+)\]|([^:]*))(?::\d+)?$/.exec(header ?? '');
  const name = host?.[1] ?? host?.[2] ?? '';
  return name === 'localhost' || isLoopback(name);
}
