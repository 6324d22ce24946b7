import type { TlsInfo } from '../types.ts';

/**
 * The shape of every service recognizer: one small parser in a file of its own, that sees the payload of a connection
 * until it is sure. Recognized is what was parsed, never what a port suggests (as Zeek's analyzer confirmation).
 */

/** What a recognizer says after a piece of payload; bits. */
export const ServiceNews = {
  /** It is this service: the name goes into `service`. Said once. */
  confirmed: 1,
  /** It is not this service, or no longer (a violation within the first 10 KiB takes the name off again, as in Zeek). */
  rejected: 2,
  /** Nothing more is wanted; with `confirmed` or after it. */
  done: 4,
  /** TLS or DTLS: both sides have finished the handshake. */
  established: 8,
  /** What follows in both directions is another protocol (STARTTLS, CONNECT): it is recognized anew, the name stays. */
  handsOver: 16,
  /** The originator turns out to be the server (a DNS response, a message of an NTP server, came first). */
  flip: 32,
  /** SSH: both sides have switched to new keys. */
  encrypted: 128,
  /** Something that is kept of the content was found (`host`). */
  told: 256,
} as const;

/** Another TCP connection that belongs to this one, as its endpoints agree on it (FTP's data connections). */
export interface Announced {
  /** What that connection is. */
  readonly service: string;
  /** Who waits for it: 1 the originator of this connection, 0 its responder. */
  readonly byOrig: 0 | 1;
  /** Address as written; undefined: the one of that side. */
  readonly host: string | undefined;
  readonly port: number;
}

/** Where a carrier puts the payload that it has taken out of its frames. */
export type PayloadSink = (fromOrig: 0 | 1, u8: Uint8Array, offset: number, length: number) => void;

/** One connection as one recognizer sees it. Never throws, whatever the bytes; keeps a bounded number of bytes. */
export interface ServiceParser {
  /**
   * TCP: the next bytes of the stream of one side, in order, without gaps. UDP: the payload of one datagram.
   * `fromOrig` is 1 for the originator. The bytes are the caller's: copy what is to be kept. Answers ServiceNews bits.
   */
  data(fromOrig: 0 | 1, u8: Uint8Array, offset: number, length: number): number;
  /** With `handsOver`: how many of the bytes last given belong to what follows already. None unless told. */
  readonly rest?: number;
  /**
   * Names of what was recognized inside of its messages (gssapi in LDAP), in order; the list only grows. New ones go
   * into `service` before the name that `confirmed` of the same call adds.
   */
  readonly inside?: readonly string[];
  /** Connections that were agreed upon; whoever takes note of them takes them out. */
  readonly announced?: Announced[];
  /** HTTP: the host of the first request that names one, without its port. */
  readonly host?: string | undefined;
  /** TLS, DTLS, QUIC: the handshake as far as it was seen. */
  readonly tls?: TlsInfo;
  /**
   * After `handsOver`: what follows is wrapped in frames (websocket); gives what is inside of them to the sink. Answers
   * `rejected` or `done` when there is no more to come.
   */
  unwrap?: (fromOrig: 0 | 1, u8: Uint8Array, offset: number, length: number, sink: PayloadSink) => number;
}

/** Whether the first byte that a side sends may be this one. */
export type FirstByte = (byte: number, fromOrig: 0 | 1) => boolean;

export interface Service {
  /** As Zeek writes it in `service`: http, dns, ssh, ssl, quic, ldap_tcp … */
  readonly name: string;
  readonly transport: 'tcp' | 'udp' | 'both';
  /**
   * The first bytes that are possible, so that most services are not even asked about others (choice.ts): told by the
   * byte alone, and never narrower than `looksLike`. Unset: any.
   */
  readonly first?: FirstByte;
  /**
   * A cheap look at the first bytes that a side sends: may this be the service? No allocation, no state. TCP may
   * deliver as little as one byte: of what is too short to tell, all that is there has to fit. `respPort` is a hint for
   * protocols without a mark of their own, and never enough by itself. A recognizer that is chosen by the first bytes of
   * the side that speaks second has missed what the first one sent.
   */
  looksLike(u8: Uint8Array, offset: number, length: number, fromOrig: 0 | 1, respPort: number): boolean;
  parser(respPort: number): ServiceParser;
}
