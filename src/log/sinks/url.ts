import { SluiceError } from '../../base/errors.ts';
import { parseBytes } from '../../base/units.ts';
import type { NatsAccess } from '../../fleet/nats-access.ts';
import { LOG_NAMES, type LogName } from '../target.ts';

/** Where records go beside the files. */
export interface SinkSpec {
  kind: 'tcp' | 'unix' | 'syslog-udp' | 'syslog-tcp' | 'nats';
  /** How it is named to people: without what is secret. */
  name: string;
  /** tcp, syslog, nats. */
  host: string;
  port: number;
  /** unix: the socket. nats: what subjects begin with. */
  path: string;
  /** nats. */
  user: string;
  password: string;
  /** nats: not without TLS. */
  tls: boolean;
  access: NatsAccess;
  /** Which logs. */
  logs: readonly LogName[];
  /** Bytes that wait while it does not take them. */
  queueBytes: number;
}

const KINDS: Readonly<Record<string, { kind: SinkSpec['kind']; port: number }>> = {
  'tcp:': { kind: 'tcp', port: 0 },
  'unix:': { kind: 'unix', port: 0 },
  'syslog:': { kind: 'syslog-udp', port: 514 },
  'syslog+tcp:': { kind: 'syslog-tcp', port: 601 },
  'nats:': { kind: 'nats', port: 4222 },
  'nats+tls:': { kind: 'nats', port: 4222 },
};
const EXAMPLES =
  'tcp://HOST:PORT, unix:///PATH, syslog://HOST, syslog+tcp://HOST, nats://HOST/SUBJECT; options: ?log=conn&log=shunt&queue=64MB';
const QUEUE_BYTES = 64 * 2 ** 20;
const MOST_QUEUE = 2 ** 32;

function wrong(text: string, problem: string): never {
  throw new SluiceError('USAGE', `--log-sink ${text}: ${problem}`, { help: EXAMPLES });
}

/** @param access for servers of NATS @throws SluiceError USAGE */
export function parseSink(text: string, access: NatsAccess = {}): SinkSpec {
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    return wrong(text.replace(/\/\/[^/]*@/, '//'), 'it is no URL');
  }
  const shown = `${url.protocol}//${url.host}${url.pathname === '/' ? '' : url.pathname}`;
  const about = Object.hasOwn(KINDS, url.protocol)
    ? KINDS[url.protocol]
    : wrong(shown, 'such sinks are not known');
  const { kind } = about;
  const port = url.port === '' ? about.port : Number(url.port);
  const path = decodeURIComponent(url.pathname);
  if (kind === 'unix') {
    if (url.host !== '' || path.length < 2) wrong(shown, 'it is unix:///PATH');
  } else {
    if (url.hostname === '') wrong(shown, 'the host is missing');
    if (port === 0) wrong(shown, 'the port is missing');
    if (kind !== 'nats' && path.length > 1) wrong(shown, 'it has no path');
  }
  const subject = path.replace(/^\//, '') || 'sluice';
  if (kind === 'nats' && !/^[\w-]+(\.[\w-]+)*$/.test(subject)) wrong(shown, 'that is no subject of NATS');
  if (kind !== 'nats' && url.username !== '') wrong(shown, 'a user is for nats:// only');
  const options = url.searchParams;
  const named = options.getAll('log') as LogName[];
  const logs = named.length === 0 ? LOG_NAMES : named;
  for (const log of logs) if (!LOG_NAMES.includes(log)) wrong(shown, `there is no log ${log}`);
  const queueBytes = options.has('queue') ? queueOf(shown, options.get('queue') as string) : QUEUE_BYTES;
  for (const name of options.keys())
    if (name !== 'log' && name !== 'queue') wrong(shown, `there is no option ${name}`);
  return {
    kind,
    name: shown,
    host: url.hostname.replace(/^\[|\]$/g, ''),
    port,
    path: kind === 'nats' ? subject : path,
    user: decodeURIComponent(url.username),
    password: decodeURIComponent(url.password),
    tls: url.protocol === 'nats+tls:',
    access,
    logs: [...new Set(logs)],
    queueBytes,
  };
}

function queueOf(shown: string, text: string): number {
  let bytes = 0;
  try {
    bytes = parseBytes(text);
  } catch {
    wrong(shown, `queue=${text} is no size`);
  }
  if (bytes < 65_536 || bytes > MOST_QUEUE) wrong(shown, 'queue is from 64KiB to 4GiB');
  return bytes;
}
