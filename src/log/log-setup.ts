import type { TunnelRecord } from '../flow/types.ts';
import { CommunityIds } from '../packet/community-id.ts';
import { type ConnLogOptions, type ConnLogRecord, connSchema } from './conn-log.ts';
import type { JsonTimes } from './json-format.ts';
import type { LineFormat } from './log-writer.ts';
import {
  captureLossSchema,
  noticeSchema,
  type StatsColumns,
  shuntSchema,
  statsSchema,
} from './other-logs.ts';
import type { LogSchema } from './schema.ts';
import { type SslLogRecord, sslSchema, sslSchemaWithId } from './ssl-log.ts';
import { tunnelProtocol, tunnelSchema, tunnelSchemaWithId } from './tunnel-log.ts';
import { type ZeekHeading, zeekHeading } from './zeek-format.ts';

/** The settings that decide how logs look (src/base/config.ts). */
export interface LogSettings {
  logFormat: 'json' | 'zeek';
  jsonTimestamps: JsonTimes;
  vlan: boolean;
  vlanKey: boolean;
  vni: boolean;
  tunnelKey: boolean;
  gwlb: boolean;
  communityId: boolean;
  communityIdSeed: number;
}

/** These settings alone, so that they can be sent to a thread. */
export function logSettings(settings: LogSettings): LogSettings {
  const { logFormat, jsonTimestamps, communityId, communityIdSeed } = settings;
  const { vlan, vlanKey, vni, tunnelKey, gwlb } = settings;
  return { logFormat, jsonTimestamps, vlan, vlanKey, vni, tunnelKey, gwlb, communityId, communityIdSeed };
}

/** How lines are written, for `LogWriter`. */
export function lineFormat(settings: LogSettings): LineFormat {
  return { format: settings.logFormat, times: settings.jsonTimestamps };
}

/** conn.log with the columns that the settings ask for. */
export function connSchemaOf(settings: LogSettings, options: ConnLogOptions = {}): LogSchema<ConnLogRecord> {
  return connSchema({
    ...options,
    vlan: settings.vlan || settings.vlanKey,
    vni: settings.vni || settings.tunnelKey,
    gwlb: settings.gwlb,
    communityId: settings.communityId,
  });
}

/** ssl.log likewise. */
export function sslSchemaOf({ communityId }: LogSettings): LogSchema<SslLogRecord> {
  return communityId ? sslSchemaWithId : sslSchema;
}

/** tunnel.log likewise. */
export function tunnelSchemaOf({ communityId }: LogSettings): typeof tunnelSchema {
  return communityId ? tunnelSchemaWithId : tunnelSchema;
}

/** Whether lines of conn.log are JSON without optional columns: what the flow engine can make by itself. */
export function hasPlainLines(settings: LogSettings, conns: LogSchema<ConnLogRecord>): boolean {
  const { logFormat, jsonTimestamps } = settings;
  return (
    logFormat === 'json' && jsonTimestamps === 'epoch' && conns.fields.length === connSchema().fields.length
  );
}

/** The headings of these logs, for `LogFiles`; undefined when the format has none. */
export function headings(
  settings: LogSettings,
  conns: LogSchema<ConnLogRecord>,
  stats: StatsColumns = {},
): readonly ZeekHeading[] | undefined {
  if (settings.logFormat !== 'zeek') return undefined;
  return [
    zeekHeading(conns),
    zeekHeading(sslSchemaOf(settings)),
    zeekHeading(tunnelSchemaOf(settings)),
    zeekHeading(shuntSchema),
    zeekHeading(statsSchema(stats)),
    zeekHeading(captureLossSchema),
    zeekHeading(noticeSchema),
  ];
}

/** Completes a record with what the settings ask for beside what the flow engine knows. */
export function completer(settings: LogSettings): (record: ConnLogRecord) => void {
  if (!settings.communityId) return () => {};
  const ids = new CommunityIds(settings.communityIdSeed);
  return (record) => {
    record.communityId = ids.of(record);
  };
}

/** The same for lines of tunnel.log. */
export function tunnelCompleter(settings: LogSettings): (record: TunnelRecord) => TunnelRecord {
  if (!settings.communityId) return (record) => record;
  const ids = new CommunityIds(settings.communityIdSeed);
  return (record) => {
    const ipProto = tunnelProtocol(record.type);
    return ipProto === undefined ? record : { ...record, communityId: ids.of({ ...record, ipProto }) };
  };
}
