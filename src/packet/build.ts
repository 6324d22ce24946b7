import type { Addresses, Layer } from './layer.ts';
import {
  type AhOptions,
  ahLayer,
  type EthOptions,
  ethLayer,
  type Fragment6Options,
  fragment6Layer,
  type Ipv4Options,
  type Ipv6Options,
  ipv4Layer,
  ipv6Layer,
  type MplsOptions,
  mplsLayer,
  optionsLayer,
  type PppoeOptions,
  pppoeLayer,
  type RoutingOptions,
  routingLayer,
  type VlanOptions,
  vlanLayer,
} from './layers-network.ts';
import {
  type GeneveOptions,
  type GreOptions,
  geneveLayer,
  greLayer,
  type IcmpOptions,
  icmpLayer,
  icmpv6Layer,
  rawLayer,
  type SctpOptions,
  sctpLayer,
  spoiled,
  type TcpOptions,
  tcpLayer,
  type UdpOptions,
  udpLayer,
  type VxlanOptions,
  vxlanLayer,
} from './layers-transport.ts';

const NOTHING = new Uint8Array(0);

/**
 * A packet as a stack of headers, for tests, the lab and the documentation. Lengths, types and checksums are filled in
 * unless they are given. A builder never changes: every call gives a new one, so a common start can be shared.
 *
 *     eth().vlan(100).ipv4({ src: '10.0.0.1', dst: '10.0.0.2' }).tcp({ dport: 443, flags: 'S' }).bytes()
 */
export class PacketBuilder {
  readonly #layers: readonly Layer[];

  constructor(layers: readonly Layer[] = []) {
    this.#layers = layers;
  }

  eth(options?: EthOptions): PacketBuilder {
    return this.#with(ethLayer(options));
  }

  /** 802.1Q tag. */
  vlan(id: number, options?: VlanOptions): PacketBuilder {
    return this.#with(vlanLayer(id, options));
  }

  /** 802.1ad service tag. */
  qinq(id: number, options?: VlanOptions): PacketBuilder {
    return this.#with(vlanLayer(id, { tpid: 0x88a8, ...options }));
  }

  mpls(label: number, options?: MplsOptions): PacketBuilder {
    return this.#with(mplsLayer(label, options));
  }

  pppoe(options?: PppoeOptions): PacketBuilder {
    return this.#with(pppoeLayer(options));
  }

  ipv4(options?: Ipv4Options): PacketBuilder {
    return this.#with(ipv4Layer(options));
  }

  ipv6(options?: Ipv6Options): PacketBuilder {
    return this.#with(ipv6Layer(options));
  }

  /** IPv6 hop-by-hop options header; `options` are raw options, padding is added. */
  hopByHop(options: Uint8Array = NOTHING, nextHeader?: number): PacketBuilder {
    return this.#with(optionsLayer('hopByHop', options, nextHeader));
  }

  /** IPv6 destination options header; `options` are raw options, padding is added. */
  destination(options: Uint8Array = NOTHING, nextHeader?: number): PacketBuilder {
    return this.#with(optionsLayer('destination', options, nextHeader));
  }

  routing(options?: RoutingOptions): PacketBuilder {
    return this.#with(routingLayer(options));
  }

  /** IPv6 fragment header (IPv4: the option `fragment` of `ipv4`). */
  fragment(options: Fragment6Options): PacketBuilder {
    return this.#with(fragment6Layer(options));
  }

  /** Authentication header, after IPv4 or IPv6. */
  ah(options?: AhOptions): PacketBuilder {
    return this.#with(ahLayer(options));
  }

  tcp(options?: TcpOptions): PacketBuilder {
    return this.#with(tcpLayer(options));
  }

  udp(options?: UdpOptions): PacketBuilder {
    return this.#with(udpLayer(options));
  }

  icmp(options?: IcmpOptions): PacketBuilder {
    return this.#with(icmpLayer(options));
  }

  icmpv6(options?: IcmpOptions): PacketBuilder {
    return this.#with(icmpv6Layer(options));
  }

  sctp(options?: SctpOptions): PacketBuilder {
    return this.#with(sctpLayer(options));
  }

  gre(options?: GreOptions): PacketBuilder {
    return this.#with(greLayer(options));
  }

  vxlan(options?: VxlanOptions): PacketBuilder {
    return this.#with(vxlanLayer(options));
  }

  geneve(options?: GeneveOptions): PacketBuilder {
    return this.#with(geneveLayer(options));
  }

  /** Bytes as they are; a string is UTF-8; a number is that many bytes of a fixed pattern. */
  payload(data: Uint8Array | string | number): PacketBuilder {
    return this.#with(rawLayer(payloadBytes(data)));
  }

  /** Makes the checksum of the last header wrong (Ethernet, VLAN and the like have none: TypeError). */
  badChecksum(): PacketBuilder {
    const layers = [...this.#layers];
    for (let i = layers.length - 1; i >= 0; i--) {
      const layer = layers[i];
      if (layer.name === 'raw') continue;
      layers[i] = spoiled(layer);
      return new PacketBuilder(layers);
    }
    throw new TypeError('no header with a checksum');
  }

  bytes(): Uint8Array {
    const layers = this.#layers;
    const around: (Addresses | undefined)[] = [];
    let addresses: Addresses | undefined;
    for (const layer of layers) {
      around.push(addresses);
      if (layer.addresses !== undefined) addresses = layer.addresses;
      else if (layer.name === 'eth') addresses = undefined;
    }
    let out: Uint8Array = NOTHING;
    for (let i = layers.length - 1; i >= 0; i--) {
      out = layers[i].encode(out, layers[i + 1], around[i]);
    }
    // A payload alone is handed in by the caller: what is returned is always the caller's own.
    return layers.length === 1 ? out.slice() : out;
  }

  #with(layer: Layer): PacketBuilder {
    return new PacketBuilder([...this.#layers, layer]);
  }
}

function payloadBytes(data: Uint8Array | string | number): Uint8Array {
  if (typeof data === 'string') return new TextEncoder().encode(data);
  return typeof data === 'number' ? pattern(data) : data;
}

/** `length` bytes that repeat only every 251, so that a shift by a power of two shows. */
export function pattern(length: number, start = 0): Uint8Array {
  const out = new Uint8Array(length);
  for (let i = 0; i < length; i++) out[i] = (start + i) % 251;
  return out;
}

/** Begins a frame with Ethernet. */
export function eth(options?: EthOptions): PacketBuilder {
  return new PacketBuilder().eth(options);
}

/** Begins a packet without link layer. */
export function ipv4(options?: Ipv4Options): PacketBuilder {
  return new PacketBuilder().ipv4(options);
}

/** Begins a packet without link layer. */
export function ipv6(options?: Ipv6Options): PacketBuilder {
  return new PacketBuilder().ipv6(options);
}

/** Begins with bytes as they are. */
export function raw(bytes: Uint8Array): PacketBuilder {
  return new PacketBuilder().payload(bytes);
}
