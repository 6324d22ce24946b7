import { hostname } from 'node:os';
import type { LogName } from '../target.ts';
import type { SinkSpec } from './url.ts';

const NEWLINE = 10;
/** local0, and the severities notice and informational (RFC 5424, 6.2.1). */
const PRIORITY = { notice: 16 * 8 + 5, info: 16 * 8 + 6 } as const;

/** The lines of a block, without their newlines. */
export function* linesOf(bytes: Uint8Array): Generator<Uint8Array> {
  let from = 0;
  for (let to = bytes.indexOf(NEWLINE); to >= 0; to = bytes.indexOf(NEWLINE, from)) {
    if (to > from) yield bytes.subarray(from, to);
    from = to + 1;
  }
}

/** JSON lines of one log as one text; each names its log as Zeek's JSON streaming does (`_path`). */
export function namedLines(log: LogName, bytes: Uint8Array): Buffer {
  const name = Buffer.from(`{"_path":"${log}",`);
  const parts: Uint8Array[] = [];
  for (const line of linesOf(bytes)) parts.push(name, line.subarray(1), NEWLINE_BYTES);
  return Buffer.concat(parts);
}

const NEWLINE_BYTES = Buffer.from('\n');

/** Control characters and spaces are no part of a header field (RFC 5424, 6). */
const headerName = (text: string): string => text.replace(/[^\x21-\x7e]/g, '?').slice(0, 255) || '-';

/** One message of syslog (RFC 5424): the log is its MSGID, the record as JSON its text. */
export function syslogMessage(log: LogName, line: Uint8Array, host = hostname(), now = new Date()): Buffer {
  const priority = log === 'notice' ? PRIORITY.notice : PRIORITY.info;
  const head = `<${priority}>1 ${now.toISOString()} ${headerName(host)} sluice ${process.pid} ${log} - `;
  return Buffer.concat([Buffer.from(head), line]);
}

/** What is written for a block of lines; one message for each where messages are sent one by one. */
export function framesOf(
  kind: SinkSpec['kind'],
  log: LogName,
  bytes: Uint8Array,
  records: number,
): { bytes: Buffer; records: number }[] {
  if (kind === 'tcp' || kind === 'unix') return [{ bytes: namedLines(log, bytes), records }];
  const host = hostname();
  const now = new Date();
  const messages: Buffer[] = [];
  for (const line of linesOf(bytes)) {
    if (kind === 'nats') messages.push(Buffer.from(line));
    else messages.push(syslogMessage(log, line, host, now));
  }
  if (kind !== 'syslog-tcp') return messages.map((message) => ({ bytes: message, records: 1 }));
  // Octet counting (RFC 6587, 3.4.1).
  const counted = messages.flatMap((message) => [Buffer.from(`${message.length} `), message]);
  return [{ bytes: Buffer.concat(counted), records }];
}
