import { ipBytes } from '../../src/packet/address.ts';
import type { FlowFacts } from '../../src/policy/fields.ts';

export function address(text: string): FlowFacts['orig'] {
  const u8 = ipBytes(text) ?? new Uint8Array(4);
  return { u8, at: 0, bytes: u8.length as 4 | 16 };
}

/** A connection of which nothing is known but what is given. */
export function facts(known: Partial<FlowFacts> = {}): FlowFacts {
  return {
    protocol: 6,
    origPort: 40_000,
    respPort: 443,
    orig: address('10.0.0.1'),
    resp: address('192.0.2.7'),
    vlan: -1,
    innerVlan: -1,
    vni: -1,
    services: [],
    learning: true,
    tlsEstablished: false,
    tlsResumed: false,
    tlsVersion: undefined,
    serverName: undefined,
    alpn: undefined,
    ja3: undefined,
    ja4: undefined,
    httpHost: undefined,
    sshEncrypted: false,
    opaque: false,
    dnsName: undefined,
    origPackets: 1,
    respPackets: 0,
    origBytes: 60,
    respBytes: 0,
    duration: 0,
    establishedPackets: -1,
    country: () => undefined,
    asn: () => 0,
    ...known,
  };
}
