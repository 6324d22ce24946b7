import { Cbpf, type CbpfProgram } from '../ebpf/index.ts';
import { Assembler, type Label, Op } from '../filter/assembler.ts';
import { IpProto } from '../packet/decode.ts';
import type { Encapsulation } from '../packet/encap/index.ts';
import { EtherType, LinkType } from '../packet/link/types.ts';

/** Words of scratch memory. */
const SOURCE = 0;
const DESTINATION = 1;
const PROTOCOL = 2;
const SOURCE_PORT = 3;
const DESTINATION_PORT = 4;
const TYPE = 5;
const TEMPORARY = 6;

const XOR_X = Cbpf.ALU | Cbpf.XOR | Cbpf.X;
const RET_A = Cbpf.RET | Cbpf.A;

// Odd numbers that mix well: of splitmix and murmur3's finalizers.
const MIX = [0x9e3779b1, 0x85ebca6b, 0xc2b2ae35, 0x27d4eb2f] as const;

/** How many of each there may be one behind the other: classic BPF has no loops. */
const TAGS = 4;
const LABELS = 4;
const EXTENSIONS = 6;
const EXTENSIONS_BETWEEN = 2;

const ETHERNET_BRIDGED = 0x6558;
const PPP = 0x880b;
const VXLAN_BYTES = 8;
const UDP_BYTES = 8;
const GENEVE_BYTES = 8;
/** Protocols whose ports are part of a flow's identity. */
const PORTED = [IpProto.tcp, IpProto.udp];

/**
 * Classic BPF for SO_ATTACH_REUSEPORT_CBPF: which of `sockets` that share a port gets a datagram, chosen by the flow inside of
 * it, the same for both directions, whatever the outer addresses and ports are. It runs over the payload of the UDP datagram
 * (reuseport_select_sock in net/core/sock_reuseport.c takes the header off). Inner flows are told apart by addresses,
 * protocol and ports; fragments, tunnels inside and protocols without ports by addresses and protocol. What holds no IP, or
 * ends too early, goes to the first socket. `ports`: UDP ports that do not tell flows apart (oneSidedPorts).
 */
export function balanceProgram(
  encapsulation: Encapsulation,
  sockets: number,
  ports: readonly number[],
): CbpfProgram {
  return new Balance(sockets, ports).program(encapsulation);
}

/** X is where the next header begins. */
class Balance {
  readonly #asm = new Assembler();
  readonly #sockets: number;
  readonly #ports: readonly number[];
  readonly #ethernet: Label;
  readonly #ppp: Label;
  readonly #ip: Label;
  readonly #mpls: Label;
  readonly #other: Label;

  constructor(sockets: number, ports: readonly number[]) {
    const a = this.#asm;
    this.#sockets = sockets;
    this.#ports = ports;
    this.#ethernet = a.label();
    this.#ppp = a.label();
    this.#mpls = a.label();
    this.#ip = a.label();
    this.#other = a.label();
  }

  program({ kind, skip, linkType }: Encapsulation): CbpfProgram {
    const a = this.#asm;
    a.op(Op.LDX_IMM, skip);
    switch (kind) {
      case 'vxlan':
        a.op(Op.LDX_IMM, skip + VXLAN_BYTES);
        this.#frame(linkType);
        break;
      case 'raw':
        this.#frame(linkType);
        break;
      case 'geneve':
        this.#geneve();
        a.op(Op.LD_MEM, TYPE);
        a.branch(Op.JEQ_K, ETHERNET_BRIDGED, { yes: this.#ethernet });
        a.branch(Op.JEQ_K, PPP, { yes: this.#ppp });
        a.branch(Op.JEQ_K, EtherType.ipv4, { yes: this.#ip });
        a.branch(Op.JEQ_K, EtherType.ipv6, { yes: this.#ip });
        this.#frame(linkType);
        break;
      default:
        this.#geneve();
        this.#overUdp();
        a.advance(UDP_BYTES + VXLAN_BYTES);
        this.#frame(linkType);
    }
    this.#links();
    this.#addresses();
    a.place(this.#other);
    a.ret(0);
    return a.finish();
  }

  #frame(linkType: number): void {
    const a = this.#asm;
    a.jump(
      linkType === LinkType.ethernet
        ? this.#ethernet
        : linkType === LinkType.ppp
          ? this.#ppp
          : linkType === LinkType.raw
            ? this.#ip
            : this.#other,
    );
  }

  /** Over the header and its options; TYPE becomes the protocol. */
  #geneve(): void {
    const a = this.#asm;
    a.xHalf(2);
    a.op(Op.ST, TYPE);
    a.xByte(0);
    a.op(Op.AND_K, 0x3f);
    a.op(Op.LSH_K, 2);
    a.op(Op.ADD_K, GENEVE_BYTES);
    a.op(Op.ADD_X);
    a.op(Op.TAX);
  }

  /** From an IP header between two tunnels to its UDP header. Decapsulator takes no frames out of fragments. */
  #overUdp(): void {
    const a = this.#asm;
    const four = a.label();
    const udp = a.label();
    a.xByte(0);
    a.op(Op.RSH_K, 4);
    a.branch(Op.JEQ_K, 4, { yes: four });
    a.need(6, this.#other);
    this.#extensions(udp, this.#other, [IpProto.udp], EXTENSIONS_BETWEEN);
    a.place(four);
    a.xByte(0);
    this.#overIpv4();
    a.place(udp);
  }

  /** A: the first byte of an IPv4 header, which X is moved over. */
  #overIpv4(): void {
    const a = this.#asm;
    a.op(Op.AND_K, 15);
    a.op(Op.LSH_K, 2);
    a.op(Op.ADD_X);
    a.op(Op.TAX);
  }

  /** Link-layer headers: ends at #ip, or at #other. */
  #links(): void {
    const a = this.#asm;
    const pppoe = a.label();
    const typed = a.label();
    a.place(this.#ethernet);
    a.advance(12);
    for (let tag = 0; tag <= TAGS; tag++) {
      a.xHalf(0);
      if (tag === TAGS) break;
      const more = a.label();
      for (const type of [EtherType.vlan, EtherType.serviceVlan, EtherType.oldServiceVlan])
        a.branch(Op.JEQ_K, type, { yes: more });
      a.jump(typed);
      a.place(more);
      a.advance(4);
    }
    a.place(typed);
    a.op(Op.ST, TYPE);
    a.advance(2);
    a.op(Op.LD_MEM, TYPE);
    a.branch(Op.JEQ_K, EtherType.ipv4, { yes: this.#ip });
    a.branch(Op.JEQ_K, EtherType.ipv6, { yes: this.#ip });
    a.branch(Op.JEQ_K, EtherType.mpls, { yes: this.#mpls });
    a.branch(Op.JEQ_K, EtherType.mplsMulticast, { yes: this.#mpls });
    a.branch(Op.JEQ_K, EtherType.pppoe, { yes: pppoe, no: this.#other });

    // Address and control bytes of HDLC framing may be there (RFC 1662).
    const protocol = a.label();
    a.place(this.#ppp);
    a.xHalf(0);
    a.need(0xff03, protocol);
    a.advance(2);
    a.jump(protocol);
    a.place(pppoe);
    a.advance(6);
    a.place(protocol);
    a.xHalf(0);
    a.op(Op.ST, TYPE);
    a.advance(2);
    a.op(Op.LD_MEM, TYPE);
    a.branch(Op.JEQ_K, 0x0021, { yes: this.#ip });
    a.branch(Op.JEQ_K, 0x0057, { yes: this.#ip });
    a.branch(Op.JEQ_K, 0x0281, { yes: this.#mpls, no: this.#other });

    a.place(this.#mpls);
    for (let label = 0; label < LABELS; label++) {
      a.xByte(2);
      a.op(Op.ST, TYPE);
      a.advance(4);
      a.op(Op.LD_MEM, TYPE);
      // The last of the stack.
      a.branch(Op.JSET_K, 1, { yes: this.#ip });
    }
    a.jump(this.#other);
  }

  /** Addresses into SOURCE and DESTINATION, the protocol, and X to the ports. */
  #addresses(): void {
    const a = this.#asm;
    const six = a.label();
    const ported = a.label();
    const portless = a.label();
    const mixed = a.label();
    a.place(this.#ip);
    a.xByte(0);
    a.op(Op.RSH_K, 4);
    a.branch(Op.JEQ_K, 6, { yes: six });
    a.need(4, this.#other);
    a.xByte(9);
    a.op(Op.ST, PROTOCOL);
    a.xWord(12);
    a.op(Op.ST, SOURCE);
    a.xWord(16);
    a.op(Op.ST, DESTINATION);
    a.xHalf(6);
    a.branch(Op.JSET_K, 0x3fff, { yes: portless });
    a.xByte(0);
    this.#overIpv4();
    a.op(Op.LD_MEM, PROTOCOL);
    for (const protocol of PORTED) a.branch(Op.JEQ_K, protocol, { yes: ported });
    a.jump(portless);

    a.place(six);
    this.#fold(8, SOURCE);
    this.#fold(24, DESTINATION);
    this.#extensions(ported, portless, PORTED, EXTENSIONS);

    a.place(ported);
    a.xHalf(0);
    a.op(Op.ST, SOURCE_PORT);
    a.xHalf(2);
    a.op(Op.ST, DESTINATION_PORT);
    a.op(Op.LD_MEM, PROTOCOL);
    a.need(IpProto.udp, mixed);
    for (const port of [SOURCE_PORT, DESTINATION_PORT]) {
      a.op(Op.LD_MEM, port);
      for (const tunnel of this.#ports) a.branch(Op.JEQ_K, tunnel, { yes: portless });
    }
    a.jump(mixed);

    a.place(portless);
    a.op(Op.LD_IMM, 0);
    a.op(Op.ST, SOURCE_PORT);
    a.op(Op.ST, DESTINATION_PORT);
    a.place(mixed);
    this.#endpoint(SOURCE, SOURCE_PORT);
    this.#endpoint(DESTINATION, DESTINATION_PORT);
    this.#choose();
  }

  /**
   * From an IPv6 header over its extension headers: to `found` with X behind them when what follows is one of `wanted`, else
   * to `otherwise`. PROTOCOL becomes the protocol, also that of a fragment.
   */
  #extensions(found: Label, otherwise: Label, wanted: readonly number[], max: number): void {
    const a = this.#asm;
    a.xByte(6);
    a.op(Op.ST, PROTOCOL);
    a.advance(40);
    for (let n = 0; n < max; n++) {
      const plain = a.label();
      const fragment = a.label();
      const authentication = a.label();
      const next = a.label();
      a.op(Op.LD_MEM, PROTOCOL);
      for (const protocol of wanted) a.branch(Op.JEQ_K, protocol, { yes: found });
      for (const protocol of [IpProto.hopByHop, IpProto.destination, IpProto.routing])
        a.branch(Op.JEQ_K, protocol, { yes: plain });
      a.branch(Op.JEQ_K, IpProto.fragment, { yes: fragment });
      a.branch(Op.JEQ_K, IpProto.ah, { yes: authentication, no: otherwise });
      // The next header's number first: X is about to move.
      a.place(fragment);
      a.xByte(0);
      a.op(Op.ST, PROTOCOL);
      a.xHalf(2);
      // Reserved bits aside: offset and more-fragments. A datagram in one piece goes on.
      a.branch(Op.JSET_K, 0xfff9, { yes: otherwise });
      a.advance(8);
      a.jump(next);
      a.place(authentication);
      this.#overExtension(2, 2);
      a.jump(next);
      a.place(plain);
      this.#overExtension(1, 3);
      a.place(next);
    }
    a.op(Op.LD_MEM, PROTOCOL);
    for (const protocol of wanted) a.branch(Op.JEQ_K, protocol, { yes: found });
    a.jump(otherwise);
  }

  /** X += (length field + more) << shift; PROTOCOL becomes the header's next one. */
  #overExtension(more: number, shift: number): void {
    const a = this.#asm;
    a.xByte(0);
    a.op(Op.ST, PROTOCOL);
    a.xByte(1);
    a.op(Op.ADD_K, more);
    a.op(Op.LSH_K, shift);
    a.op(Op.ADD_X);
    a.op(Op.TAX);
  }

  /** Four words from X + at into one, kept in `word`. */
  #fold(at: number, word: number): void {
    const a = this.#asm;
    a.op(Op.STX, TEMPORARY);
    a.xWord(at);
    for (let n = 1; n < 4; n++) {
      a.op(Op.MUL_K, MIX[n]);
      a.op(Op.ST, word);
      a.xWord(at + 4 * n);
      a.op(Op.LDX_MEM, word);
      a.op(XOR_X);
      a.op(Op.LDX_MEM, TEMPORARY);
    }
    a.op(Op.ST, word);
  }

  /** An address and its port into one number, in `address`. */
  #endpoint(address: number, port: number): void {
    const a = this.#asm;
    a.op(Op.LDX_MEM, address);
    a.op(Op.LD_MEM, port);
    a.op(Op.MUL_K, MIX[3]);
    a.op(Op.ADD_X);
    this.#mix(MIX[0], 15);
    a.op(Op.ST, address);
  }

  /** A ^= A >>> shift; A *= factor. */
  #mix(factor: number, shift: number): void {
    const a = this.#asm;
    a.op(Op.TAX);
    a.op(Op.RSH_K, shift);
    a.op(XOR_X);
    a.op(Op.MUL_K, factor);
  }

  /** The sum of both ends, whichever is first, to the number of a socket. */
  #choose(): void {
    const a = this.#asm;
    a.op(Op.LDX_MEM, DESTINATION);
    a.op(Op.LD_MEM, SOURCE);
    a.op(Op.ADD_X);
    a.op(Op.LDX_MEM, PROTOCOL);
    a.op(XOR_X);
    this.#mix(MIX[1], 16);
    this.#mix(MIX[2], 13);
    a.op(Op.TAX);
    a.op(Op.RSH_K, 16);
    a.op(XOR_X);
    a.op(Op.MOD_K, this.#sockets);
    a.op(RET_A);
  }
}
