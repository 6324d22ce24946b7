import type { ConnRecord } from '../flow/types.ts';
import {
  bool,
  communityIdField,
  connectionFields,
  count,
  type Field,
  interval,
  type LogSchema,
  number,
  text,
  texts,
  time,
} from './schema.ts';

/** What the gate dropped of one connection, in packets and IP bytes (total length field; IPv6: payload length + 40). */
export interface ShuntedPart {
  origPkts: number;
  origIpBytes: number;
  respPkts: number;
  respIpBytes: number;
  /** The policy that decided to shunt it. */
  trigger: string;
}

/** A connection with what others than the flow engine know of it. */
export interface ConnLogRecord extends ConnRecord {
  shunted?: ShuntedPart | undefined;
  /** The record was put together from two runs of the sensor. */
  recovered?: boolean | undefined;
  communityId?: string | undefined;
}

/** What is said behind all that the flow engine knows. */
export type ConnExtras = Pick<ConnLogRecord, 'shunted' | 'recovered' | 'communityId'>;

export interface ConnLogOptions {
  /**
   * within: packets and IP bytes are those of the whole connection, and the shunted fields say which part of them the
   * sensor did not see. added: packets and IP bytes are what the sensor saw, and the shunted part comes on top.
   */
  shuntFields?: 'within' | 'added';
  /** The columns about shunting; a log of capture files has none. */
  shunts?: boolean;
  /** vlan and inner_vlan (Zeek: policy/protocols/conn/vlan-logging). */
  vlan?: boolean;
  /** id.ctx.vxlan_vni and id.ctx.geneve_vni: of the innermost tunnels that were first around it. */
  vni?: boolean;
  /** gwlb_endpoint, gwlb_attachment and gwlb_cookie. */
  gwlb?: boolean;
  /** community_id (Zeek: policy/protocols/conn/community-id-logging). */
  communityId?: boolean;
}

type F = Field<ConnLogRecord>;

/**
 * conn.log: Zeek's names, order and types (base/protocols/conn/main.zeek). The fields of a column are the same objects
 * whatever else is asked for.
 */
export function connSchema(options: ConnLogOptions = {}): LogSchema<ConnLogRecord> {
  const fields: F[] = [
    ...firstFields,
    ...(options.vni === true ? vniFields : []),
    ...flowFields,
    ...(options.shuntFields === 'added' ? seenFields : wholeFields),
    ...otherFields,
  ];
  if (options.vlan === true) fields.push(...vlanFields);
  if (options.gwlb === true) fields.push(...gwlbFields);
  fields.push(...extraFields(options));
  return { log: 'conn', fields };
}

/** The last columns of conn.log. */
export function extraFields({ communityId, shunts }: ConnLogOptions): readonly Field<ConnExtras>[] {
  return [...(communityId === true ? [communityIdField] : []), ...(shunts === true ? shuntFields : [])];
}

const firstFields: readonly F[] = [time('ts', (r) => r.ts), ...connectionFields];

const flowFields: readonly F[] = [
  text('proto', (r) => r.proto, 'enum'),
  text('service', (r) => r.service),
  interval('duration', (r) => r.duration),
  count('orig_bytes', (r) => r.origBytes),
  count('resp_bytes', (r) => r.respBytes),
  text('conn_state', (r) => r.connState),
  bool('local_orig', (r) => r.localOrig),
  bool('local_resp', (r) => r.localResp),
  count('missed_bytes', (r) => r.missedBytes),
  text('history', (r) => r.history),
];

const otherFields: readonly F[] = [
  texts('tunnel_parents', 'set[string]', (r) => r.tunnelParents),
  count('ip_proto', (r) => r.ipProto),
];

const wholeFields: readonly F[] = [
  count('orig_pkts', (r) => r.origPkts),
  count('orig_ip_bytes', (r) => r.origIpBytes),
  count('resp_pkts', (r) => r.respPkts),
  count('resp_ip_bytes', (r) => r.respIpBytes),
];

const seenFields: readonly F[] = [
  count('orig_pkts', (r) => r.origPkts - (r.shunted?.origPkts ?? 0)),
  count('orig_ip_bytes', (r) => r.origIpBytes - (r.shunted?.origIpBytes ?? 0)),
  count('resp_pkts', (r) => r.respPkts - (r.shunted?.respPkts ?? 0)),
  count('resp_ip_bytes', (r) => r.respIpBytes - (r.shunted?.respIpBytes ?? 0)),
];

/** Names of Zeek's conn_id_ctx with its connection keys by VNI. */
const vniFields: readonly F[] = [
  count('id.ctx.vxlan_vni', (r) => r.vxlanVni),
  count('id.ctx.geneve_vni', (r) => r.geneveVni),
];

const vlanFields: readonly F[] = [
  number('vlan', 'int', (r) => r.vlan),
  number('inner_vlan', 'int', (r) => r.innerVlan),
];

/** What AWS Gateway Load Balancer said of the first packet. */
const gwlbFields: readonly F[] = [
  text('gwlb_endpoint', (r) => r.gwlb?.endpoint),
  text('gwlb_attachment', (r) => r.gwlb?.attachment),
  count('gwlb_cookie', (r) => r.gwlb?.cookie),
];

const shuntFields: readonly Field<ConnExtras>[] = [
  bool('is_shunted', (r) => (r.shunted === undefined ? undefined : true)),
  count('orig_shunted_pkts', (r) => r.shunted?.origPkts),
  count('orig_shunted_bytes', (r) => r.shunted?.origIpBytes),
  count('resp_shunted_pkts', (r) => r.shunted?.respPkts),
  count('resp_shunted_bytes', (r) => r.shunted?.respIpBytes),
  text('shunt_trigger', (r) => r.shunted?.trigger),
  bool('recovered', (r) => r.recovered || undefined),
];
