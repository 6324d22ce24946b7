/** A question that is asked often. */
export interface Preset {
  help: string;
  /** Logs that have to be there. */
  logs: readonly string[];
  /** @param top how many rows are wanted */
  sql: (top: number) => string;
}

const BYTES = 'coalesce(orig_ip_bytes, 0) + coalesce(resp_ip_bytes, 0)';
const PACKETS = 'coalesce(orig_pkts, 0) + coalesce(resp_pkts, 0)';
const SHUNTED_BYTES = 'coalesce(orig_shunted_bytes, 0) + coalesce(resp_shunted_bytes, 0)';
const SHUNTED_PACKETS = 'coalesce(orig_shunted_pkts, 0) + coalesce(resp_shunted_pkts, 0)';
const share = (part: string, whole: string): string => `round(100.0 * ${part} / nullif(${whole}, 0), 2)`;

/** conn.log counts the whole connection (`shunt-fields: within`): the shunted part is a part of its packets and bytes. */
const yieldBy = (by: string, name: string, top: number): string => `
  SELECT ${by} AS ${name}, count(*) AS connections, count(*) FILTER (is_shunted) AS shunted,
    sum(${PACKETS})::BIGINT AS packets, ${share(`sum(${SHUNTED_PACKETS})`, `sum(${PACKETS})`)} AS dropped_packets_percent,
    sum(${BYTES})::BIGINT AS bytes, ${share(`sum(${SHUNTED_BYTES})`, `sum(${BYTES})`)} AS dropped_bytes_percent
  FROM conn GROUP BY ALL ORDER BY bytes DESC, ${name} LIMIT ${top}`;

const talkers = (by: string, top: number): string => `
  SELECT ${by} AS host, count(*) AS connections, sum(${PACKETS})::BIGINT AS packets, sum(${BYTES})::BIGINT AS bytes,
    ${share(`sum(${SHUNTED_BYTES})`, `sum(${BYTES})`)} AS dropped_percent
  FROM conn GROUP BY ALL ORDER BY bytes DESC, host LIMIT ${top}`;

const PRESET_LIST: Readonly<Record<string, Preset>> = {
  talkers: {
    help: 'Originators by IP bytes, and how much of it the gate dropped.',
    logs: ['conn'],
    sql: (top) => talkers('id.orig_h', top),
  },
  servers: {
    help: 'Responders by IP bytes, and how much of it the gate dropped.',
    logs: ['conn'],
    sql: (top) => talkers('id.resp_h', top),
  },
  services: {
    help: 'Shunt yield by service: connections, packets and bytes, and the share that the gate dropped.',
    logs: ['conn'],
    sql: (top) => yieldBy("coalesce(service, '-')", 'service', top),
  },
  policies: {
    help: 'Shunt yield by the policy that asked for it.',
    logs: ['conn'],
    sql: (top) => yieldBy("coalesce(shunt_trigger, '-')", 'policy', top),
  },
  elephants: {
    help: 'The largest connections.',
    logs: ['conn'],
    sql: (top) => `
      SELECT ts, uid, id.orig_h AS orig_h, id.orig_p AS orig_p, id.resp_h AS resp_h, id.resp_p AS resp_p, proto, service,
        duration, ${BYTES} AS bytes, ${share(SHUNTED_BYTES, BYTES)} AS dropped_percent
      FROM conn ORDER BY bytes DESC, ts LIMIT ${top}`,
  },
  loss: {
    help: 'Capture loss by hour: bytes that were acknowledged and never seen, of connections that were not shunted.',
    logs: ['conn'],
    sql: (top) => `
      SELECT date_trunc('hour', ts) AS hour, count(*) AS connections, count(*) FILTER (missed_bytes > 0) AS with_gaps,
        sum(missed_bytes)::BIGINT AS missed_bytes,
        ${share('sum(missed_bytes)', 'sum(coalesce(orig_bytes, 0) + coalesce(resp_bytes, 0))')} AS percent
      FROM conn WHERE proto = 'tcp' AND is_shunted IS NOT TRUE GROUP BY ALL ORDER BY hour DESC LIMIT ${top}`,
  },
  states: {
    help: 'Connections by how they ended.',
    logs: ['conn'],
    sql: (top) => `
      SELECT conn_state, proto, count(*) AS connections, count(*) FILTER (is_shunted) AS shunted
      FROM conn GROUP BY ALL ORDER BY connections DESC, conn_state, proto LIMIT ${top}`,
  },
  names: {
    help: 'Server names of TLS and QUIC by handshakes.',
    logs: ['ssl'],
    sql: (top) => `
      SELECT server_name, count(*) AS handshakes, count(DISTINCT id.resp_h) AS servers, any_value(version) AS version
      FROM ssl WHERE server_name IS NOT NULL GROUP BY server_name ORDER BY handshakes DESC, server_name LIMIT ${top}`,
  },
  shunts: {
    help: 'How shunts ended, by policy: how many, packets dropped, and the time from the trigger to the first drop.',
    logs: ['shunt'],
    sql: (top) => `
      SELECT shunt_trigger AS policy, reason, count(*) AS shunts,
        sum(coalesce(orig_shunted_pkts, 0) + coalesce(resp_shunted_pkts, 0))::BIGINT AS packets,
        round(1000 * median(delay), 2) AS delay_median_ms, round(1000 * quantile_cont(delay, 0.99), 2) AS delay_p99_ms
      FROM shunt WHERE event = 'end' GROUP BY ALL ORDER BY shunts DESC, policy, reason LIMIT ${top}`,
  },
  notices: {
    help: 'Notices by kind, with the last message.',
    logs: ['notice'],
    sql: (top) => `
      SELECT note, count(*) AS notices, max(ts) AS last, arg_max(msg, ts) AS message
      FROM notice GROUP BY note ORDER BY last DESC LIMIT ${top}`,
  },
};

export const QUERY_PRESETS: ReadonlyMap<string, Preset> = new Map(Object.entries(PRESET_LIST));
