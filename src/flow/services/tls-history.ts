import type { TlsInfo } from '../types.ts';

/** As Zeek's SSL::max_ssl_history_length. */
const MAX_LENGTH = 100;

/** Letters of handshake messages by their type (IANA TLS HandshakeType): ssl_history of Zeek's base/protocols/ssl. */
const MESSAGES = new Map([
  [0, 'h'],
  [1, 'c'],
  [2, 's'],
  [3, 'v'],
  [4, 't'],
  [5, 'e'],
  [6, 'j'],
  [8, 'o'],
  [11, 'x'],
  [12, 'k'],
  [13, 'r'],
  [14, 'n'],
  [15, 'y'],
  [16, 'g'],
  [20, 'f'],
  [21, 'w'],
  [22, 'u'],
  [23, 'a'],
  [24, 'p'],
  [254, 'm'],
]);

const SERVER_HELLO = 2;

/** Letters of what is no handshake message. */
export const HistoryLetter = { changeCipherSpec: 'i', alert: 'l', heartbeat: 'b', retry: 'j' } as const;

/** A letter of the client (in upper case) or of the server. */
export function noteLetter(info: TlsInfo, fromClient: boolean, letter: string): void {
  if (info.history.length >= MAX_LENGTH) return;
  info.history += fromClient ? letter.toUpperCase() : letter;
}

/** A handshake message that was sent in the clear; `retry`: the ServerHello asks for another ClientHello. */
export function noteMessage(info: TlsInfo, fromClient: boolean, type: number, retry: boolean): void {
  const letter = type === SERVER_HELLO && retry ? HistoryLetter.retry : (MESSAGES.get(type) ?? 'z');
  noteLetter(info, fromClient, letter);
}

/** The responder of the connection is the client of the handshake. */
export function noteFlip(info: TlsInfo): void {
  info.history += '^';
}

/** An alert that was sent in the clear. */
export function noteAlert(info: TlsInfo, fromClient: boolean, description: number): void {
  noteLetter(info, fromClient, HistoryLetter.alert);
  info.lastAlert = description;
}
