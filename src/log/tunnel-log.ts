import type { TunnelRecord } from '../flow/types.ts';
import { connectionFields, type LogSchema, text, time } from './schema.ts';

/** tunnel.log: names, order and types of Zeek's base/frameworks/tunnels/main.zeek. */
export const tunnelSchema: LogSchema<TunnelRecord> = {
  log: 'tunnel',
  fields: [
    time('ts', (r) => r.ts),
    ...connectionFields,
    text('tunnel_type', (r) => `Tunnel::${r.type}`, 'enum'),
    text('action', (r) => `Tunnel::${r.action}`, 'enum'),
  ],
};
