import { readFileSync } from 'node:fs';
import { Duplex } from 'node:stream';
import {
  type ConnectionOptions,
  connect,
  createSecureContext,
  TLSSocket,
  type TLSSocketOptions,
} from 'node:tls';

const fixture = (name: string) => readFileSync(new URL(`fixtures/${name}`, import.meta.url), 'utf8');
const KEY = fixture('tls-key.pem');
const CERT = fixture('tls-cert.pem');

/** Bytes in the order of the wire; `from` 0 is the client. */
export interface Piece {
  from: 0 | 1;
  bytes: Uint8Array;
}

export interface Capture {
  pieces: Piece[];
  session: Uint8Array | undefined;
  version: string | null;
  reused: boolean;
  error: string | undefined;
}

export interface ServerSide extends TLSSocketOptions {
  /** Ask for a certificate; the client sends the fixture. */
  clientCert?: boolean;
}

/** Two ends of a wire in memory; everything that passes is kept. */
function wire(pieces: Piece[]): [Duplex, Duplex] {
  const ends: Duplex[] = [];
  for (const from of [0, 1] as const) {
    ends.push(
      new Duplex({
        read() {},
        write(chunk: Buffer, _encoding, done) {
          pieces.push({ from, bytes: Uint8Array.from(chunk) });
          ends[1 - from].push(chunk);
          done();
        },
        final(done) {
          ends[1 - from].push(null);
          done();
        },
      }),
    );
  }
  return [ends[0], ends[1]];
}

export const ticketKeys = Buffer.alloc(48, 7);

/** A handshake between OpenSSL and OpenSSL, then `bytes` of data from each side and an orderly close. */
export async function capture(
  client: ConnectionOptions,
  server: ServerSide = {},
  bytes = 3000,
): Promise<Capture> {
  const pieces: Piece[] = [];
  const [clientEnd, serverEnd] = wire(pieces);
  const out: Capture = {
    pieces,
    session: undefined,
    version: null,

    reused: false,
    error: undefined,
  };
  const { clientCert, ...options } = server;
  const tlsServer = new TLSSocket(serverEnd, {
    isServer: true,
    secureContext: createSecureContext({
      key: KEY,
      cert: CERT,
      ...(clientCert ? { ca: CERT } : {}),
      ticketKeys,
      ...options,
    }),
    ...(clientCert ? { requestCert: true, rejectUnauthorized: false } : {}),
    ...(options.ALPNProtocols === undefined ? {} : { ALPNProtocols: options.ALPNProtocols }),
  });
  tlsServer.on('error', () => {});
  const tlsClient = connect({
    socket: clientEnd,
    servername: 'www.test.example',
    rejectUnauthorized: false,
    ...(clientCert ? { key: KEY, cert: CERT } : {}),
    ...client,
  });
  await new Promise<void>((done) => {
    const close = () => {
      tlsClient.destroy();
      tlsServer.destroy();
      done();
    };
    tlsClient.on('error', (error) => {
      out.error = error.message;
      setImmediate(close);
    });
    tlsClient.on('session', (session: Buffer) => {
      out.session = session;
    });
    let got = 0;
    tlsServer.on('data', (chunk: Buffer) => {
      got += chunk.length;
      if (got === bytes) tlsServer.end(Buffer.alloc(bytes, 's'));
    });
    tlsClient.on('secureConnect', () => {
      out.version = tlsClient.getProtocol();
      out.reused = tlsClient.isSessionReused();
      tlsClient.write(Buffer.alloc(bytes, 'c'));
    });
    tlsClient.on('data', () => {});
    tlsClient.on('end', () => setImmediate(close));
  });
  return out;
}
