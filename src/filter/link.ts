import { SluiceError } from '../base/errors.ts';
import { type Assembler, type Label, Op } from './assembler.ts';

/** Link-layer types by their libpcap DLT, as far as the languages of our own know them. */
const DLT = {
  NULL: 0,
  EN10MB: 1,
  PPP: 9,
  RAW: 12,
  LOOP: 108,
  LINUX_SLL: 113,
  IPV4: 228,
  IPV6: 229,
  LINUX_SLL2: 276,
};
/** LINKTYPE_RAW of files; libpcap's DLT of it on Linux is 12. */
const LINKTYPE_RAW = 101;

const ETHERTYPE = { ipv4: 0x0800, ipv6: 0x86dd, vlan: 0x8100, qinq: 0x88a8, oldQinq: 0x9100 } as const;
/** VLAN tags that are passed over. */
const TAGS = 2;
const IPV4 = 0x40;
const IPV6 = 0x60;

export interface Network {
  /** X is where the IPv4 header begins, and the version is known to be 4. */
  v4: Label;
  v6: Label;
  /** Anything else. */
  other: Label;
}

/** Goes by the version in the first byte of the header, at X. */
function byVersion(asm: Assembler, { v4, v6, other }: Network): void {
  asm.xByte(0);
  asm.op(Op.AND_K, 0xf0);
  asm.branch(Op.JEQ_K, IPV4, { yes: v4 });
  asm.branch(Op.JEQ_K, IPV6, { yes: v6, no: other });
}

/** Ethernet types at `at`, with up to two VLAN tags; the header behind begins 2 bytes further. */
function byEtherType(asm: Assembler, at: number, network: Network): void {
  const version = asm.label();
  asm.op(Op.LDX_IMM, at + 2);
  asm.half(at);
  for (let tags = 0; tags <= TAGS; tags++) {
    asm.branch(Op.JEQ_K, ETHERTYPE.ipv4, { yes: version });
    asm.branch(Op.JEQ_K, ETHERTYPE.ipv6, { yes: version });
    if (tags === TAGS) break;
    const tagged = asm.label();
    asm.branch(Op.JEQ_K, ETHERTYPE.vlan, { yes: tagged });
    asm.branch(Op.JEQ_K, ETHERTYPE.qinq, { yes: tagged });
    asm.branch(Op.JEQ_K, ETHERTYPE.oldQinq, { yes: tagged, no: network.other });
    asm.place(tagged);
    asm.op(Op.LDX_IMM, at + 2 + 4 * (tags + 1));
    asm.half(at + 4 * (tags + 1));
  }
  asm.jump(network.other);
  asm.place(version);
  byVersion(asm, network);
}

/**
 * Code that finds the IP header of a frame and goes on with X at its first byte. Ethernet and Linux cooked captures may have up
 * to two VLAN tags (0x8100, 0x88a8, 0x9100). FILTER_UNSUPPORTED for other link types.
 */
export function toNetwork(asm: Assembler, linkType: number, network: Network): void {
  const at = (offset: number) => {
    asm.op(Op.LDX_IMM, offset);
    byVersion(asm, network);
  };
  switch (linkType) {
    case DLT.EN10MB:
      byEtherType(asm, 12, network);
      return;
    case DLT.LINUX_SLL:
      byEtherType(asm, 14, network);
      return;
    case DLT.RAW:
    case LINKTYPE_RAW:
    case DLT.IPV4:
    case DLT.IPV6:
      at(0);
      return;
    case DLT.NULL:
    case DLT.LOOP:
      at(4);
      return;
    case DLT.PPP: {
      // With address and control (RFC 1662) or without; 0x21 is IPv4, 0x57 IPv6 (RFC 1661, 5072).
      const framed = asm.label();
      const bare = asm.label();
      const version = asm.label();
      asm.half(0);
      asm.branch(Op.JEQ_K, 0xff03, { yes: framed });
      asm.op(Op.LDX_IMM, 2);
      asm.jump(bare);
      asm.place(framed);
      asm.op(Op.LDX_IMM, 4);
      asm.half(2);
      asm.place(bare);
      asm.branch(Op.JEQ_K, 0x21, { yes: version });
      asm.branch(Op.JEQ_K, 0x57, { yes: version, no: network.other });
      asm.place(version);
      byVersion(asm, network);
      return;
    }
    case DLT.LINUX_SLL2: {
      const version = asm.label();
      asm.half(0);
      asm.branch(Op.JEQ_K, ETHERTYPE.ipv4, { yes: version });
      asm.branch(Op.JEQ_K, ETHERTYPE.ipv6, { yes: version, no: network.other });
      asm.place(version);
      at(20);
      return;
    }
    default:
      throw new SluiceError(
        'FILTER_UNSUPPORTED',
        `this language does not know frames of link type ${linkType}`,
        { help: 'it knows EN10MB, RAW, LINUX_SLL, LINUX_SLL2, NULL, LOOP, PPP; --lang tcpdump knows more' },
      );
  }
}

/** IPv6 extension headers that are passed over. */
const EXTENSIONS = 4;
const NEXT = {
  hopByHop: 0,
  tcp: 6,
  udp: 17,
  routing: 43,
  fragment: 44,
  authentication: 51,
  options: 60,
} as const;

/**
 * Sets and clears a bit of A, a place in a packet, that it never has: places stay far below 2^15. The kernel's verifier forgets by
 * that how small the place cannot be; else it goes through what follows once for each way that leads there.
 */
export function forgetLowerBound(asm: Assembler): void {
  asm.op(Op.OR_K, 0x8000);
  asm.op(Op.AND_K, 0x7fff);
}

/**
 * Code that goes from the beginning of a frame to its UDP header and on with X at its first byte: IPv4 with options, IPv6 with up to
 * four extension headers; of fragments only the first. Anything else goes to `other`.
 */
export function toUdp(asm: Assembler, linkType: number, other: Label): void {
  const udp = asm.label();
  const network: Network = { v4: asm.label(), v6: asm.label(), other };
  toNetwork(asm, linkType, network);
  asm.place(network.v4);
  asm.xByte(9);
  asm.need(NEXT.udp, other);
  asm.xHalf(6);
  asm.branch(Op.JSET_K, 0x1fff, { yes: other });
  asm.xByte(0);
  asm.op(Op.AND_K, 0x0f);
  asm.op(Op.LSH_K, 2);
  asm.op(Op.ADD_X);
  asm.op(Op.TAX);
  asm.jump(udp);
  asm.place(network.v6);
  asm.xByte(6);
  asm.op(Op.ST, 0);
  asm.advance(40);
  for (let i = 0; ; i++) {
    asm.op(Op.LD_MEM, 0);
    asm.branch(Op.JEQ_K, NEXT.udp, { yes: udp });
    if (i === EXTENSIONS) break;
    extension(asm, other);
  }
  asm.jump(other);
  asm.place(udp);
  asm.op(Op.TXA);
  forgetLowerBound(asm);
  asm.op(Op.TAX);
}

/** Over the extension header at X, whose type is in A: the type of the next one to M[0]. */
function extension(asm: Assembler, other: Label): void {
  const [plain, fragment, authentication, next] = [asm.label(), asm.label(), asm.label(), asm.label()];
  asm.branch(Op.JEQ_K, NEXT.hopByHop, { yes: plain });
  asm.branch(Op.JEQ_K, NEXT.options, { yes: plain });
  asm.branch(Op.JEQ_K, NEXT.routing, { yes: plain });
  asm.branch(Op.JEQ_K, NEXT.fragment, { yes: fragment });
  asm.branch(Op.JEQ_K, NEXT.authentication, { yes: authentication, no: other });
  asm.place(fragment);
  asm.xHalf(2);
  asm.branch(Op.JSET_K, 0xfff8, { yes: other });
  asm.xByte(0);
  asm.op(Op.ST, 0);
  asm.op(Op.LD_IMM, 8);
  asm.jump(next);
  // Lengths: in units of 4 bytes less 2 (RFC 4302), in units of 8 bytes less 1 (RFC 8200).
  asm.place(authentication);
  asm.xByte(0);
  asm.op(Op.ST, 0);
  asm.xByte(1);
  asm.op(Op.ADD_K, 2);
  asm.op(Op.LSH_K, 2);
  asm.jump(next);
  asm.place(plain);
  asm.xByte(0);
  asm.op(Op.ST, 0);
  asm.xByte(1);
  asm.op(Op.ADD_K, 1);
  asm.op(Op.LSH_K, 3);
  asm.place(next);
  asm.op(Op.ADD_X);
  asm.op(Op.TAX);
}
