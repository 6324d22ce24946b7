import type { ShuntRow } from '../gate/control-protocol.ts';
import { protocolNumber } from '../gate/flow-key.ts';
import type { ShuntLogRecord } from '../log/other-logs.ts';
import type { CommunityIds } from '../packet/community-id.ts';

/** Line of shunt.log about an entry that a client has had made and no connection stands behind: endpoints in the key's order. */
export function directShuntRecord(
  row: ShuntRow,
  event: 'start' | 'end',
  reason: string | undefined,
  ids: CommunityIds,
): ShuntLogRecord {
  const endpoints = {
    origHost: row.a.addr,
    origPort: row.a.port,
    respHost: row.b.addr,
    respPort: row.b.port,
  };
  const ipProto = protocolNumber(row.proto);
  const ended = event === 'end';
  return {
    ts: Date.now() / 1000,
    uid: undefined,
    ...endpoints,
    proto: row.proto === 'icmp6' ? 'icmp' : row.proto,
    event,
    trigger: row.trigger,
    reason,
    origPkts: ended ? row.ab.pkts : undefined,
    origBytes: ended ? row.ab.ipBytes : undefined,
    respPkts: ended ? row.ba.pkts : undefined,
    respBytes: ended ? row.ba.ipBytes : undefined,
    last: ended ? (row.last ?? undefined) : undefined,
    communityId: ipProto === undefined ? undefined : ids.of({ ...endpoints, ipProto }),
  };
}
