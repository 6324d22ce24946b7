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
} as const;

/** One connection as one recognizer sees it. Never throws, whatever the bytes; keeps a bounded number of bytes. */
export interface ServiceParser {
  /**
   * TCP: the next bytes of the stream of one side, in order, without gaps. UDP: the payload of one datagram.
   * `fromOrig` is 1 for the originator. The bytes are the caller's: copy what is to be kept. Answers ServiceNews bits.
   */
  data(fromOrig: 0 | 1, u8: Uint8Array, offset: number, length: number): number;
}

export interface Service {
  /** As Zeek writes it in `service`: http, dns, ssh, ssl, quic, ldap_tcp … */
  readonly name: string;
  readonly transport: 'tcp' | 'udp' | 'both';
  /**
   * A cheap look at the first bytes that a side sends: may this be the service? No allocation, no state. `respPort` is
   * a hint for protocols without a mark of their own, and never enough by itself.
   */
  looksLike(u8: Uint8Array, offset: number, length: number, fromOrig: 0 | 1, respPort: number): boolean;
  parser(): ServiceParser;
}
