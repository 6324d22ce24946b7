/** Made-up sets and signatures of any size for `sluice bench policies`, and connections to ask them about. */
import { seeded } from '../src/packet/conversation.ts';
import type { FlowFacts } from '../src/policy/index.ts';
import { PrefixTableBuilder } from '../src/policy/prefix-set.ts';

/** Of all prefixes, those of IPv6. */
const IPV6_SHARE = 0.3;
const TOPS = ['com', 'net', 'org', 'de', 'co.uk', 'example', 'io'];
const LETTERS = 'etaoinshrdlucmfwypvbgkqjxz0123456789-';

/** The same numbers everywhere. */
export class Maker {
  readonly #random: () => number;

  constructor(seed: number) {
    this.#random = seeded(seed);
  }

  below(n: number): number {
    return Math.floor(this.#random() * n);
  }

  address4(): Uint8Array {
    return Uint8Array.of(1 + this.below(223), this.below(256), this.below(256), this.below(256));
  }

  /** In the quarter of the address space that providers have, some of them with many networks. */
  address6(): Uint8Array {
    const bytes = Uint8Array.from({ length: 16 }, () => this.below(256));
    bytes[0] = this.below(3) === 0 ? 0x20 : 0x26 + this.below(5);
    bytes[1] = this.below(24);
    if (this.below(2) === 0) bytes[2] = this.below(8);
    return bytes;
  }

  /** `length` characters, more often those that are frequent. */
  label(length: number): string {
    let text = '';
    for (let i = 0; i < length; i++)
      text += LETTERS[Math.min(this.below(26), this.below(LETTERS.length))] ?? 'e';
    return text.replace(/^-|-$/g, 'a');
  }

  domain(): string {
    return `${this.label(5 + this.below(9))}.${TOPS[this.below(TOPS.length)]}`;
  }
}

export interface Networks {
  bytes: Uint8Array;
  bits: number;
}

/** Networks of both families: from /12 to /32, and from /28 to /64. */
export function networks(count: number, maker: Maker): Networks[] {
  return Array.from({ length: count }, () =>
    maker.below(1000) < IPV6_SHARE * 1000
      ? { bytes: maker.address6(), bits: 28 + maker.below(37) }
      : { bytes: maker.address4(), bits: 32 - Math.min(maker.below(21), maker.below(21)) },
  );
}

export function prefixesOf(list: readonly Networks[]): ReturnType<PrefixTableBuilder['build']> {
  const builder = new PrefixTableBuilder();
  for (const { bytes, bits } of list) builder.add(bytes, bits);
  return builder.build();
}

export function domains(count: number, maker: Maker): string[] {
  const all = new Set<string>();
  while (all.size < count) all.add(maker.domain());
  return [...all];
}

/** Rules with `bypass`: whole domains, names that end with one, and a fifth with a word anywhere in the name. */
export function signatures(count: number, maker: Maker): { text: string; names: string[] } {
  const names: string[] = [];
  const lines = Array.from({ length: count }, (_, i) => {
    const name = `${maker.label(6 + maker.below(10))}.${TOPS[maker.below(TOPS.length)]}`;
    names.push(name);
    const content = [
      `content:"${name}"; nocase; endswith;`,
      `dotprefix; content:".${name}"; nocase; endswith;`,
      `content:"${name}"; startswith; endswith;`,
      `dotprefix; content:".${name}"; endswith;`,
      `content:"${name.slice(0, name.indexOf('.'))}";`,
    ][i % 5];
    return `alert tls $HOME_NET any -> $EXTERNAL_NET any (msg:"bypass ${i}"; flow:established,to_server; tls.sni; ${content} bypass; sid:${i + 1}; rev:1;)`;
  });
  return { text: `${lines.join('\n')}\n`, names };
}

/**
 * A TLS connection to that address with that server name: established, or not further than both sides heard, or the name
 * known.
 */
export function connection(
  resp: Uint8Array,
  name: string | undefined,
  so: 'heard' | 'named' | 'established' = 'established',
): FlowFacts {
  const established = so === 'established';
  // Letters next to each other, as those of a name from the wire.
  const serverName = name === undefined || so === 'heard' ? undefined : Buffer.from(name).toString('latin1');
  return {
    protocol: 6,
    origPort: 40_000,
    respPort: 443,
    orig: { u8: Uint8Array.of(10, 0, 0, 1), at: 0, bytes: 4 },
    resp: { u8: resp, at: 0, bytes: resp.length === 4 ? 4 : 16 },
    vlan: -1,
    innerVlan: -1,
    vni: -1,
    services: established ? ['ssl'] : [],
    learning: true,
    tlsEstablished: established,
    tlsResumed: false,
    tlsVersion: 'TLSv13',
    serverName,
    alpn: 'h2',
    ja3: undefined,
    ja4: undefined,
    httpHost: undefined,
    sshEncrypted: false,
    opaque: false,
    dnsName: undefined,
    origPackets: 6,
    respPackets: 8,
    origBytes: 2000,
    respBytes: 6000,
    duration: 0.1,
    establishedPackets: established ? 2 : -1,
    country: () => undefined,
    asn: () => 0,
  };
}
