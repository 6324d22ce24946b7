import type { FlowEngine } from '../flow/index.ts';
import type { TunnelRecord } from '../flow/types.ts';
import { CommunityIds } from '../packet/community-id.ts';
import { IpProto } from '../packet/decode.ts';
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

/** The community ids of flows, where the settings ask for them. */
export function idsOf(settings: LogSettings): (engine: FlowEngine, slot: number) => string | undefined {
  if (!settings.communityId) return () => undefined;
  const ids = new CommunityIds(settings.communityIdSeed);
  return (engine, slot) => flowId(ids, engine, slot);
}

/** The community id of a flow. */
export function flowId(ids: CommunityIds, engine: FlowEngine, slot: number): string | undefined {
  const proto = engine.proto(slot);
  // What stands for the ports of others is in their records alone.
  if (proto !== IpProto.tcp && proto !== IpProto.udp) return ids.of(engine.record(slot));
  const orig = engine.origSide(slot);
  const resp = orig === 0 ? 1 : 0;
  return ids.between(
    engine.address(slot, orig),
    engine.port(slot, orig),
    engine.address(slot, resp),
    engine.port(slot, resp),
    proto,
  );
}

/** Completes lines of tunnel.log with what the settings ask for. */
export function tunnelCompleter(settings: LogSettings): (record: TunnelRecord) => TunnelRecord {
  if (!settings.communityId) return (record) => record;
  const ids = new CommunityIds(settings.communityIdSeed);
  return (record) => {
    const ipProto = tunnelProtocol(record.type);
    return ipProto === undefined ? record : { ...record, communityId: ids.of({ ...record, ipProto }) };
  };
}
