import type { ConnRecord } from '../flow/types.ts';
import { number, object, text, texts, time, truth } from './json-line.ts';

/** What the gate dropped of one connection, in packets and IP bytes (total length field; IPv6: payload length + 40). */
export interface ShuntedPart {
  origPkts: number;
  origIpBytes: number;
  respPkts: number;
  respIpBytes: number;
  /** The policy that decided to shunt it. */
  trigger: string;
  /** The record was put together from two runs of the sensor. */
  recovered?: boolean;
}

export interface ConnLogOptions {
  /**
   * within: packets and IP bytes are those of the whole connection, and the shunted fields say which part of them the
   * sensor did not see. added: packets and IP bytes are what the sensor saw, and the shunted part comes on top.
   */
  shuntFields?: 'within' | 'added';
  /** Write vlan and inner_vlan (Zeek: policy/protocols/conn/vlan-logging). */
  vlan?: boolean;
}

/**
 * One line of conn.log, without newline: Zeek's names, order and JSON types (base/protocols/conn/main.zeek); a field
 * that Zeek would leave unset is absent.
 */
export function connLine(record: ConnRecord, shunted?: ShuntedPart, options: ConnLogOptions = {}): string {
  const apart = shunted !== undefined && options.shuntFields === 'added' ? shunted : undefined;
  let line =
    time('ts', record.ts) +
    text('uid', record.uid) +
    text('id.orig_h', record.origHost) +
    number('id.orig_p', record.origPort) +
    text('id.resp_h', record.respHost) +
    number('id.resp_p', record.respPort) +
    text('proto', record.proto) +
    text('service', record.service) +
    time('duration', record.duration) +
    number('orig_bytes', record.origBytes) +
    number('resp_bytes', record.respBytes) +
    text('conn_state', record.connState) +
    truth('local_orig', record.localOrig) +
    truth('local_resp', record.localResp) +
    number('missed_bytes', record.missedBytes) +
    text('history', record.history) +
    number('orig_pkts', record.origPkts - (apart?.origPkts ?? 0)) +
    number('orig_ip_bytes', record.origIpBytes - (apart?.origIpBytes ?? 0)) +
    number('resp_pkts', record.respPkts - (apart?.respPkts ?? 0)) +
    number('resp_ip_bytes', record.respIpBytes - (apart?.respIpBytes ?? 0)) +
    texts('tunnel_parents', record.tunnelParents) +
    number('ip_proto', record.ipProto);
  if (options.vlan === true) line += number('vlan', record.vlan) + number('inner_vlan', record.innerVlan);
  if (shunted !== undefined) {
    line +=
      truth('is_shunted', true) +
      number('orig_shunted_pkts', shunted.origPkts) +
      number('orig_shunted_bytes', shunted.origIpBytes) +
      number('resp_shunted_pkts', shunted.respPkts) +
      number('resp_shunted_bytes', shunted.respIpBytes) +
      text('shunt_trigger', shunted.trigger);
    if (shunted.recovered === true) line += truth('recovered', true);
  }
  return object(line);
}
