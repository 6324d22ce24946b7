import { ipBytes } from '../packet/address.ts';
import type { FlowFacts } from '../policy/index.ts';
import type { EveEvent } from './eve-event.ts';

/** Connections that are known at a time; of more the least recent are forgotten. */
const MAX_FLOWS = 65_536;

const PROTOCOL_NUMBERS = { tcp: 6, udp: 17, sctp: 132 } as const;
/** Suricata's names that Zeek and conn.log have others for. */
const SERVICES: Readonly<Record<string, string>> = {
  tls: 'ssl',
  http2: 'http',
  krb5: 'krb_tcp',
  'bittorrent-dht': 'bittorrent',
};

interface Address {
  readonly u8: Uint8Array;
  readonly at: number;
  readonly bytes: 4 | 16;
}

/** A connection as the records so far show it to policies. */
export class EveFlow implements FlowFacts {
  /** Policies that were told of it. */
  readonly told = new Set<number>();
  /** The policy with a limit that has taken it. */
  taken = -1;
  readonly hash: number;
  readonly protocol: number;
  readonly orig: Address;
  readonly resp: Address;
  readonly origPort: number;
  readonly respPort: number;
  readonly vlan: number;
  readonly innerVlan: number;
  readonly vni = -1;
  services: readonly string[] = [];
  learning = true;
  tlsEstablished = false;
  tlsResumed = false;
  tlsVersion: string | undefined = undefined;
  serverName: string | undefined = undefined;
  alpn: string | undefined = undefined;
  ja3: string | undefined = undefined;
  ja4: string | undefined = undefined;
  httpHost: string | undefined = undefined;
  readonly sshEncrypted = false;
  readonly opaque = false;
  readonly dnsName = undefined;
  origPackets = 0;
  respPackets = 0;
  origBytes = 0;
  respBytes = 0;
  duration = 0;
  readonly establishedPackets = -1;

  constructor(e: EveEvent, key: string) {
    this.protocol = PROTOCOL_NUMBERS[e.proto];
    this.orig = addressOf(e.orig.addr);
    this.resp = addressOf(e.resp.addr);
    this.origPort = e.orig.port;
    this.respPort = e.resp.port;
    this.vlan = e.vlan === 0 ? -1 : e.vlan;
    this.innerVlan = e.innerVlan === 0 ? -1 : e.innerVlan;
    this.hash = hashOf(key);
  }

  /** What another record adds. */
  learn(e: EveEvent): void {
    if (e.appProto !== undefined) this.services = [SERVICES[e.appProto] ?? e.appProto];
    if (e.type === 'tls') {
      // Suricata writes it when the handshake has come to the encrypted part.
      this.tlsEstablished = true;
      if (this.services.length === 0) this.services = ['ssl'];
      this.tlsResumed ||= e.tlsResumed;
    }
    if (e.type === 'http' && this.services.length === 0) this.services = ['http'];
    this.tlsVersion = e.tlsVersion ?? this.tlsVersion;
    this.serverName = e.serverName ?? this.serverName;
    this.alpn = e.alpn ?? this.alpn;
    this.ja3 = e.ja3 ?? this.ja3;
    this.ja4 = e.ja4 ?? this.ja4;
    this.httpHost ??= e.httpHost;
    if (e.counts !== undefined) {
      this.origPackets = Math.max(this.origPackets, e.counts.origPkts);
      this.respPackets = Math.max(this.respPackets, e.counts.respPkts);
      this.origBytes = Math.max(this.origBytes, e.counts.origBytes);
      this.respBytes = Math.max(this.respBytes, e.counts.respBytes);
    }
    this.duration = Math.max(this.duration, e.age ?? 0);
  }

  country(): undefined {
    return undefined;
  }

  asn(): number {
    return 0;
  }
}

/** The connections that records were about, by addresses, ports and VLAN ids. */
export class EveFlows {
  readonly #flows = new Map<string, EveFlow>();

  /** The connection of a record, which is noted; the same one whichever side the record names first. */
  learn(e: EveEvent): EveFlow {
    const key = keyOf(e);
    let flow = this.#flows.get(key);
    if (flow === undefined) {
      flow = new EveFlow(e, key);
      const [oldest] = this.#flows.size >= MAX_FLOWS ? this.#flows.keys() : [];
      if (oldest !== undefined) this.#flows.delete(oldest);
    } else this.#flows.delete(key);
    // The most recent is last.
    this.#flows.set(key, flow);
    flow.learn(e);
    return flow;
  }

  forget(e: EveEvent): EveFlow | undefined {
    const key = keyOf(e);
    const flow = this.#flows.get(key);
    this.#flows.delete(key);
    return flow;
  }

  get size(): number {
    return this.#flows.size;
  }
}

function keyOf({ proto, orig, resp, vlan, innerVlan }: EveEvent): string {
  const ends = [`${orig.addr} ${orig.port}`, `${resp.addr} ${resp.port}`].sort();
  return `${proto} ${ends.join(' ')} ${vlan} ${innerVlan}`;
}

function addressOf(text: string): Address {
  const u8 = ipBytes(text) ?? new Uint8Array(4);
  return { u8, at: 0, bytes: u8.length === 4 ? 4 : 16 };
}

/** FNV-1a: the same for a connection everywhere, so that a share of connections is the same one. */
function hashOf(key: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < key.length; i++) hash = Math.imul(hash ^ key.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}
