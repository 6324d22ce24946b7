import { expect, test } from 'vitest';
import { compileCondition, NO_SETS } from '../../src/policy/condition.ts';
import { FIELDS, type FlowFacts } from '../../src/policy/fields.ts';
import { readSignatures } from '../../src/policy/suricata/read.ts';
import { SignatureTable } from '../../src/policy/suricata/table.ts';
import { Truth } from '../../src/policy/watch.ts';
import { address, facts } from './facts.ts';

const MD5 = '0123456789abcdef0123456789abcdef';
const JA4 = 't13d1516h2_8daaf6152771_02713d6af862';
const { signatures } = await readSignatures(
  'alert tls any any -> any any (tls.sni; content:"lab.example"; endswith; bypass; sid:1;)',
);
const SETS = { ...NO_SETS, signatures: new Map([['talk', new SignatureTable(signatures)]]) };

/** Of each field a condition, what makes it hold, and what does not. */
const EACH: Record<string, [when: string, yes: Partial<FlowFacts>, no: Partial<FlowFacts>]> = {
  proto: ['proto == sctp', { protocol: 132 }, { protocol: 6 }],
  addr: ['addr in 203.0.113.0/24', { orig: address('203.0.113.9') }, {}],
  'orig.addr': [
    'orig.addr in 203.0.113.0/24',
    { orig: address('203.0.113.9') },
    { resp: address('203.0.113.9') },
  ],
  'resp.addr': [
    'resp.addr in 2001:db8::/32',
    { resp: address('2001:db8::9') },
    { orig: address('2001:db8::9') },
  ],
  port: ['port == 853', { origPort: 853 }, {}],
  'orig.port': ['orig.port == 853', { origPort: 853 }, { respPort: 853 }],
  'resp.port': ['resp.port == 853', { respPort: 853 }, { origPort: 853 }],
  vlan: ['vlan == 5', { vlan: 5 }, { innerVlan: 5 }],
  inner_vlan: ['inner_vlan == 5', { innerVlan: 5 }, { vlan: 5 }],
  vni: ['vni == 70000', { vni: 70_000 }, {}],
  'orig.country': [
    'orig.country == DE',
    { country: (s) => (s === 'orig' ? 'DE' : 'FR') },
    { country: () => 'FR' },
  ],
  'resp.country': [
    'resp.country == DE',
    { country: (s) => (s === 'resp' ? 'DE' : 'FR') },
    { country: () => 'FR' },
  ],
  'orig.asn': ['orig.asn == 64500', { asn: (s) => (s === 'orig' ? 64_500 : 1) }, { asn: () => 1 }],
  'resp.asn': ['resp.asn == 64500', { asn: (s) => (s === 'resp' ? 64_500 : 1) }, { asn: () => 1 }],
  'dns.name': ['dns.name in lab.example', { dnsName: 'a.lab.example' }, { serverName: 'a.lab.example' }],
  service: ['service == quic', { services: ['quic'] }, { services: ['ssl'] }],
  'tls.established': ['tls.established', { tlsEstablished: true }, {}],
  'tls.resumed': ['tls.resumed', { tlsResumed: true }, { tlsEstablished: true }],
  'tls.version': ['tls.version == DTLSv12', { tlsVersion: 'DTLSv12' }, { tlsVersion: 'TLSv12' }],
  'tls.sni': ['tls.sni in lab.example', { serverName: 'a.lab.example' }, { httpHost: 'a.lab.example' }],
  'tls.alpn': ['tls.alpn == h2', { alpn: 'h2' }, { alpn: 'h3' }],
  'tls.ja3': [`tls.ja3 == ${MD5}`, { ja3: MD5 }, { ja3: MD5.replace('0', '1') }],
  'tls.ja4': [`tls.ja4 == ${JA4}`, { ja4: JA4 }, { ja4: JA4.replace('h2', 'h1') }],
  'http.host': ['http.host in lab.example', { httpHost: 'lab.example' }, { serverName: 'lab.example' }],
  'ssh.encrypted': ['ssh.encrypted', { sshEncrypted: true }, { tlsEstablished: true }],
  opaque: ['opaque', { opaque: true }, {}],
  signature: [
    'signature in @talk',
    { serverName: 'a.lab.example', services: ['ssl'] },
    { serverName: 'a.lab.example.org' },
  ],
  bytes: ['bytes >= 100', { origBytes: 50, respBytes: 50 }, { origBytes: 50, respBytes: 49 }],
  'orig.bytes': ['orig.bytes >= 100', { origBytes: 100 }, { origBytes: 99, respBytes: 100 }],
  'resp.bytes': ['resp.bytes >= 100', { respBytes: 100 }, { origBytes: 100, respBytes: 99 }],
  'either.bytes': ['either.bytes >= 100', { origBytes: 100 }, { origBytes: 99, respBytes: 99 }],
  'both.bytes': ['both.bytes >= 100', { origBytes: 100, respBytes: 100 }, { origBytes: 1000, respBytes: 99 }],
  packets: ['packets >= 4', { origPackets: 2, respPackets: 2 }, { origPackets: 2, respPackets: 1 }],
  'orig.packets': ['orig.packets >= 4', { origPackets: 4 }, { origPackets: 3, respPackets: 4 }],
  'resp.packets': ['resp.packets >= 4', { respPackets: 4 }, { origPackets: 4, respPackets: 3 }],
  'established.packets': [
    'established.packets >= 4',
    { establishedPackets: 4 },
    { origPackets: 9, respPackets: 9 },
  ],
  duration: ['duration >= 1m', { duration: 60 }, { duration: 59 }],
  rate: ['rate >= 8kb/s', { duration: 2, origBytes: 0, respBytes: 2000 }, { duration: 2, respBytes: 900 }],
};

test('every field is asked by itself: what makes it hold, and that nothing else does', () => {
  expect(Object.keys(EACH).toSorted()).toEqual([...FIELDS.keys()].toSorted());
  for (const [when, yes, no] of Object.values(EACH)) {
    const condition = compileCondition(when, SETS);
    expect(condition.look(facts(yes)), when).toBe(Truth.holds);
    expect(condition.look(facts(no)), when).not.toBe(Truth.holds);
  }
});
