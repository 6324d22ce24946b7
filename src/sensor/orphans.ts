import type { Orphan } from '../gate/index.ts';
import type { ShuntLogRecord } from '../log/other-logs.ts';
import { ipText } from '../packet/address.ts';
import type { CommunityIds } from '../packet/community-id.ts';

const PROTOCOLS: Readonly<Record<number, string>> = { 1: 'icmp', 6: 'tcp', 17: 'udp', 58: 'icmp' };

/** Line of shunt.log. Whose it was is not known any more: the endpoints stand in the order of the key. */
export function orphanRecord({ family, key, pkts, ipBytes }: Orphan, ids: CommunityIds): ShuntLogRecord {
  const view = new DataView(key.buffer, key.byteOffset, key.byteLength);
  const size = family === 4 ? 4 : 16;
  const word = view.getUint32(size * 2 + 4, true);
  const endpoints = {
    origHost: ipText(key, 0, size),
    origPort: view.getUint16(size * 2),
    respHost: ipText(key, size, size),
    respPort: view.getUint16(size * 2 + 2),
  };
  return {
    ts: Date.now() / 1000,
    uid: undefined,
    ...endpoints,
    proto: PROTOCOLS[word & 0xff] ?? 'unknown_transport',
    event: 'orphaned',
    trigger: undefined,
    reason: 'owner gone',
    origPkts: pkts,
    origBytes: ipBytes,
    communityId: ids.of({ ...endpoints, ipProto: word & 0xff }),
  };
}
