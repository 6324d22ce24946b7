/** Records as Suricata writes them to EVE: of one connection, 10.0.0.1 to 10.0.0.2. */
const base = {
  timestamp: '2026-11-21T21:11:53.250000+0000',
  flow_id: 1_514_213_112_233_445,
  in_iface: 'eth1',
  src_ip: '10.0.0.1',
  src_port: 40_000,
  dest_ip: '10.0.0.2',
  dest_port: 443,
  proto: 'TCP',
  pkt_src: 'wire/pcap',
};

export const eveTls = {
  ...base,
  event_type: 'tls',
  tls: {
    subject: 'CN=www.example.org',
    issuerdn: 'C=US, O=Example',
    sni: 'WWW.example.org',
    version: 'TLS 1.3',
    ja3: { hash: 'e7d705a3286e19ea42f587b344ee6865', string: '771,4865-4866,0-23-65281,29-23,0' },
  },
};

export const eveHttp = {
  ...base,
  event_type: 'http',
  tx_id: 0,
  http: {
    hostname: 'Files.example.org:8080',
    url: '/big',
    http_method: 'GET',
    protocol: 'HTTP/1.1',
    length: 0,
  },
};

/** On a packet of the server. */
export const eveAlert = {
  ...base,
  event_type: 'alert',
  src_ip: '10.0.0.2',
  src_port: 443,
  dest_ip: '10.0.0.1',
  dest_port: 40_000,
  direction: 'to_client',
  alert: {
    action: 'allowed',
    gid: 1,
    signature_id: 1_000_001,
    rev: 1,
    signature: 'large answer',
    severity: 3,
  },
  app_proto: 'tls',
  flow: {
    pkts_toserver: 12,
    pkts_toclient: 900,
    bytes_toserver: 1900,
    bytes_toclient: 1_300_000,
    start: '2026-11-21T21:11:50.750000+0000',
    src_ip: '10.0.0.1',
    dest_ip: '10.0.0.2',
  },
};

/** As Suricata 7.0.10 wrote it with this gate. */
export const eveFlow = {
  ...base,
  event_type: 'flow',
  app_proto: 'tls',
  flow: {
    pkts_toserver: 551,
    pkts_toclient: 550,
    bytes_toserver: 572_794,
    bytes_toclient: 32_746,
    bypassed: { pkts_toserver: 543, pkts_toclient: 543, bytes_toserver: 572_322, bytes_toclient: 29_322 },
    start: '2026-11-21T21:12:41.093223+0000',
    end: '2026-11-21T21:14:31.000000+0000',
    age: 110,
    bypass: 'capture',
    state: 'bypassed',
    reason: 'unknown',
    alerted: false,
  },
};
