import { SluiceError } from '../base/errors.ts';
import { FLAGS, TIMEOUT_MASK, TIMEOUT_SHIFT, WORDS } from './layout.ts';

/** Seconds, all of packet time; the defaults are Zeek's. */
export interface FlowTimeouts {
  /** TCP: after a SYN that nobody answers (tcp_attempt_delay, tcp_SYN_timeout). */
  attempt: number;
  /** TCP: after the close of both sides, or a reset (tcp_close_delay). */
  close: number;
  /** TCP: how often a half-closed connection is looked at (tcp_session_timer). */
  halfClosedCheck: number;
  /** TCP: silence after which such a look ends it (tcp_connection_linger). */
  linger: number;
  /** TCP: silence before the handshake is over. */
  tcpHandshake: number;
  /** TCP: silence after that (tcp_inactivity_timeout). */
  tcp: number;
  /** TCP: silence once established to a port of people at keyboards (21, 22, 23, 513), or on confirmed SSH or FTP. */
  tcpInteractive: number;
  udp: number;
  icmp: number;
  /** Other protocols (unknown_ip_inactivity_timeout). */
  other: number;
  /** UDP with DNS: looked at this often, ended after 1 s less of silence (dns_session_timeout). */
  dns: number;
}

export const DEFAULT_TIMEOUTS: FlowTimeouts = {
  attempt: 5,
  close: 5,
  halfClosedCheck: 6,
  linger: 5,
  tcpHandshake: 60,
  tcp: 300,
  tcpInteractive: 3600,
  udp: 60,
  icmp: 60,
  other: 60,
  dns: 10,
};

/** Which inactivity timeout a flow has: the number in its flags. */
export const Timeout = { tcpHandshake: 0, tcp: 1, tcpInteractive: 2, udp: 3, icmp: 4, other: 5 } as const;

export function setTimeoutClass(words: Int32Array, slot: number, value: number): void {
  const at = slot * WORDS + FLAGS;
  words[at] = (words[at] & ~TIMEOUT_MASK) | (value << TIMEOUT_SHIFT);
}

/** The inactivity timeouts by `Timeout`. */
export function timeoutTable(timeouts: FlowTimeouts): Float64Array {
  const { tcpHandshake, tcp, tcpInteractive, udp, icmp, other } = timeouts;
  return Float64Array.of(tcpHandshake, tcp, tcpInteractive, udp, icmp, other);
}

/** The defaults with what is given. Errors: USAGE for what is no positive number of seconds. */
export function completeTimeouts(given: Partial<FlowTimeouts>): FlowTimeouts {
  const all = { ...DEFAULT_TIMEOUTS, ...given };
  for (const [name, seconds] of Object.entries(all)) {
    if (!(seconds > 0 && Number.isFinite(seconds)))
      throw new SluiceError('USAGE', `timeout ${name} is ${seconds}`, {
        help: 'timeouts are seconds above 0',
      });
  }
  return all;
}
