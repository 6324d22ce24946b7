import type { TunnelRecord } from '../flow/types.ts';
import { type LogSchema, number, text, time } from './schema.ts';

/** tunnel.log: names, order and types of Zeek's base/frameworks/tunnels/main.zeek. */
export const tunnelSchema: LogSchema<TunnelRecord> = {
  log: 'tunnel',
  fields: [
    time('ts', (r) => r.ts),
    text('uid', (r) => r.uid),
    text('id.orig_h', (r) => r.origHost, 'addr'),
    number('id.orig_p', 'port', (r) => r.origPort),
    text('id.resp_h', (r) => r.respHost, 'addr'),
    number('id.resp_p', 'port', (r) => r.respPort),
    text('tunnel_type', (r) => `Tunnel::${r.type}`, 'enum'),
    text('action', (r) => `Tunnel::${r.action}`, 'enum'),
  ],
};
