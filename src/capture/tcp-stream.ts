import { connect, createServer, isIPv6, type Server, type Socket } from 'node:net';
import { SluiceError } from '../base/errors.ts';
import type { ByteInput } from './input.ts';
import { StreamInput } from './stream-input.ts';

/**
 * PCAP-over-IP: a TCP stream that is a pcap file, header first, as NetworkMiner, Arkime, PolarProxy and pcap-broker speak
 * it. Either end may connect: `tcp://HOST:PORT` does, `tcp-listen://ADDRESS:PORT` waits for the other.
 */

/** The port that is used when none is given. */
const PCAP_OVER_IP_PORT = 57_012;
const KEEP_ALIVE_MS = 30_000;

export interface StreamEnd {
  listen: boolean;
  host: string;
  port: number;
}

export function isStreamUrl(text: string): boolean {
  return /^tcp(-listen)?:\/\//.test(text);
}

/** `tcp://HOST[:PORT]`, `tcp-listen://ADDRESS[:PORT]`; IPv6 addresses in brackets. Errors: USAGE. */
export function parseStreamUrl(text: string): StreamEnd {
  const match = /^tcp(-listen)?:\/\/(?:\[([0-9a-fA-F:.]+)\]|([^\s/:[\]?#]{1,253}))(?::(\d{1,5}))?\/?$/.exec(
    text,
  );
  const listen = match?.[1] !== undefined;
  const host = match?.[2] ?? match?.[3];
  const port = match?.[4] === undefined ? PCAP_OVER_IP_PORT : Number(match[4]);
  // Port 0 lets the kernel choose one to listen on.
  const valid = host !== undefined && port <= 65_535 && (port > 0 || listen);
  if (!valid || (match?.[2] !== undefined && !isIPv6(match[2])))
    throw new SluiceError('USAGE', `'${text}' is no PCAP-over-IP address`, {
      help: 'write it like tcp://sensor.example:57012 or tcp-listen://127.0.0.1:57012, IPv6 as [::1]',
    });
  return { listen, host, port };
}

export function streamUrl(listen: boolean, host: string, port: number): string {
  return `tcp${listen ? '-listen' : ''}://${isIPv6(host) ? `[${host}]` : host}:${port}`;
}

/** What a socket's error means. Codes: STREAM, ADDRESS_UNKNOWN, ADDRESS_IN_USE. */
export function streamError(end: StreamEnd, error: Error): SluiceError {
  const { code = 'unknown error' } = error as NodeJS.ErrnoException;
  const name = streamUrl(end.listen, end.host, end.port);
  if (code === 'EADDRNOTAVAIL' && end.listen)
    return new SluiceError('ADDRESS_UNKNOWN', `${name}: this host has no such address`, {
      cause: error,
      help: 'ip address lists those that it has; 127.0.0.1 is always there',
    });
  if (code === 'EADDRINUSE')
    return new SluiceError('ADDRESS_IN_USE', `${name}: another program listens there`, {
      cause: error,
      help: 'choose another port, or end that program (ss -ltnp names it)',
    });
  return new SluiceError('STREAM', `${name}: ${whyOf(code)}`, {
    cause: error,
    help: end.listen
      ? 'check the address, and the right to listen on that port'
      : 'check that the other end listens there (tcp-listen:// waits for it to connect instead)',
  });
}

function whyOf(code: string): string {
  switch (code) {
    case 'ECONNREFUSED':
      return 'nobody listens there';
    case 'ECONNRESET':
    case 'EPIPE':
      return 'the other end has broken the connection off';
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return 'no host of that name is known';
    case 'ETIMEDOUT':
      return 'the other end does not answer';
    case 'EHOSTUNREACH':
    case 'ENETUNREACH':
      return 'there is no route to it';
    default:
      return code;
  }
}

/** Connects; errors turn up on the socket. */
export function connectStream({ host, port }: StreamEnd): Socket {
  return connect({ host, port, keepAlive: true, keepAliveInitialDelay: KEEP_ALIVE_MS });
}

/** A server for streams of packets; errors turn up as events. */
export function listenStream({ host, port }: StreamEnd, onSocket: (socket: Socket) => void): Server {
  const server = createServer({ keepAlive: true, keepAliveInitialDelay: KEEP_ALIVE_MS }, onSocket);
  server.listen({ host, port });
  return server;
}

/** Where a server has come to listen. */
export function listeningUrl(server: Server): string {
  const address = server.address();
  if (address === null || typeof address === 'string') return '';
  return streamUrl(true, address.address, address.port);
}

/** The bytes of a stream of packets. `onListening` gets its URL, with the port that it has come to. */
export function streamInput(url: string, onListening: (url: string) => void): ByteInput {
  const end = parseStreamUrl(url);
  if (end.listen) return new ListeningInput(end, onListening);
  return new StreamInput(connectStream(end), (error) => streamError(end, error));
}

/** Waits for one peer, and is what that sends. */
class ListeningInput implements ByteInput {
  readonly #server: Server;
  #input: StreamInput | undefined;
  #error: SluiceError | undefined;
  #wake: (() => void) | undefined;
  #closed = false;

  constructor(end: StreamEnd, onListening: (url: string) => void) {
    this.#server = listenStream(end, (socket) => {
      if (this.#input !== undefined || this.#closed) {
        socket.destroy();
        return;
      }
      this.#input = new StreamInput(socket, (error) => streamError(end, error));
      this.#server.close();
      this.#wake?.();
    });
    this.#server.on('listening', () => onListening(listeningUrl(this.#server)));
    this.#server.on('error', (error) => {
      this.#error = streamError(end, error);
      this.#wake?.();
    });
  }

  get readBytes(): number {
    return this.#input?.readBytes ?? 0;
  }

  read(buffer: Uint8Array, at: number): number {
    if (this.#input !== undefined) return this.#input.read(buffer, at);
    if (this.#error !== undefined) throw this.#error;
    return this.#closed ? -1 : 0;
  }

  async wait(): Promise<void> {
    if (this.#input === undefined && this.#error === undefined && !this.#closed) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#wake = undefined;
      return;
    }
    await this.#input?.wait();
  }

  close(): void {
    this.#closed = true;
    this.#server.close();
    this.#input?.close();
    this.#wake?.();
  }
}
