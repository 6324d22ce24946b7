import type { TunnelRecord, TunnelType } from '../flow/types.ts';
import { communityIdField, connectionFields, type LogSchema, text, time } from './schema.ts';

/** tunnel.log: names, order and types of Zeek's base/frameworks/tunnels/main.zeek. */
export const tunnelSchema: LogSchema<TunnelRecord & { communityId?: string | undefined }> = {
  log: 'tunnel',
  fields: [
    time('ts', (r) => r.ts),
    ...connectionFields,
    text('tunnel_type', (r) => `Tunnel::${r.type}`, 'enum'),
    text('action', (r) => `Tunnel::${r.action}`, 'enum'),
  ],
};

/** The same with a community id. */
export const tunnelSchemaWithId: typeof tunnelSchema = {
  ...tunnelSchema,
  fields: [...tunnelSchema.fields, communityIdField],
};

const UDP = 17;
const GRE = 47;

/** What carries a tunnel; of IP in IP it depends on what is inside. */
export function tunnelProtocol(type: TunnelType): number | undefined {
  if (type === 'IP') return undefined;
  return type === 'GRE' ? GRE : UDP;
}
