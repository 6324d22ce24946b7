import { z } from 'zod';
import { count, filePath, flag, key, list } from '../options.ts';
import { DAY, percent, seconds, size } from './values.ts';

/** What the logs are like, of a run and of a stored capture. */
export const logsKeys = {
  logDir: key(z.string().min(1).max(4096).default('./logs'), {
    group: 'Logs',
    arg: 'DIR',
    help: 'Where the logs are written.',
  }),
  logFormat: key(z.enum(['json', 'zeek']).default('json'), {
    group: 'Logs',
    arg: 'FORMAT',
    help: "JSON lines, or Zeek's tab-separated values with its heading.",
  }),
  jsonTimestamps: key(z.enum(['epoch', 'iso']).default('epoch'), {
    group: 'Logs',
    arg: 'FORM',
    help: 'Times in JSON: seconds since 1970, or ISO 8601 in UTC.',
  }),
  vlan: flag(false, { group: 'Logs', help: 'Write vlan and inner_vlan to conn.log.' }),
  vni: flag(false, {
    group: 'Logs',
    help: 'Write id.ctx.vxlan_vni and id.ctx.geneve_vni to conn.log: network identifiers of the innermost tunnels, those of mirrors included.',
  }),
  gwlb: flag(false, {
    group: 'Logs',
    help: 'Write gwlb_endpoint, gwlb_attachment and gwlb_cookie to conn.log: what AWS Gateway Load Balancer says of a connection in a mirror.',
  }),
  communityId: flag(false, {
    group: 'Logs',
    help: 'Write community_id (version 1) to conn.log, ssl.log and tunnel.log; shunt.log always has it.',
  }),
  communityIdSeed: key(count(0, 65_535).prefault(0), {
    group: 'Logs',
    arg: 'N',
    help: 'Seed of community ids; the same in every tool that is to agree.',
  }),
  captureLossInterval: key(seconds(1, DAY).prefault('15m'), {
    group: 'Logs',
    arg: 'TIME',
    help: 'Write a line for each worker to capture_loss.log so often.',
  }),
  captureLossAlarm: key(percent().prefault('10%'), {
    group: 'Logs',
    arg: 'PERCENT',
    help: 'Tell in notice.log when so much of the acknowledged TCP data was not seen; it is over below half of that.',
  }),
};

/** Logs that go on while it runs. */
export const liveLogsKeys = {
  communityId: flag(true, {
    group: 'Logs',
    help: 'Write community_id (version 1) to conn.log, ssl.log and tunnel.log; shunt.log always has it. Off by default in sluice read.',
    off: 'Leave community_id out of conn.log, ssl.log and tunnel.log.',
  }),
  shuntFields: key(z.enum(['within', 'added']).default('within'), {
    group: 'Logs',
    arg: 'HOW',
    help: "Shunted connections in conn.log: with 'within', packets and IP bytes are whole and the shunted fields say which part of them was shunted; with 'added', that part comes on top.",
  }),
  lossAlarm: key(percent().prefault('1%'), {
    group: 'Logs',
    arg: 'PERCENT',
    help: 'Tell in notice.log when so many packets of ten seconds were lost in the card, the kernel, or rings and sockets; it is over below half of that.',
  }),
  logSink: key(
    list(filePath).prefault([]),
    {
      group: 'Logs',
      arg: 'URL,…',
      help: 'Send the lines of the logs there as well: tcp://HOST:PORT, unix:///PATH, syslog://HOST, syslog+tcp://HOST, nats://HOST/SUBJECT (docs/logs.md).',
      otherwise: 'none',
    },
    'list',
  ),
  logRotateSize: key(
    size(0, 2 ** 50).prefault('1GB'),
    { group: 'Logs', arg: 'BYTES', help: 'Begin a new file when a log has reached this size; 0: never.' },
    'value',
    'bytes',
  ),
  logRotateTime: key(
    seconds(0, 365 * DAY).prefault(0),
    {
      group: 'Logs',
      arg: 'TIME',
      help: 'Begin new files at each multiple of this time, for instance 1h; 0: never.',
    },
    'value',
    'duration',
  ),
};
