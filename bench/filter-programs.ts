import { Cbpf, type CbpfInstruction, type CbpfProgram, decodeCbpf } from '../src/ebpf/index.ts';
import { compileFilter } from '../src/kernel/index.ts';
import { eth, type PacketBuilder } from '../src/packet/build.ts';

/** Instructions and bytes of machine code. */
export interface Size {
  readonly xlated: number;
  readonly jited: number;
}

/** A filter, a packet that it matches, and what others make of it. */
export interface FilterCase {
  readonly name: string;
  readonly program: () => CbpfProgram;
  readonly packet: Uint8Array;
  /** A packet that it does not match; default: OTHER. */
  readonly other?: Uint8Array;
  /**
   * measured-xdp.md, section 4 (libpcap 1.10.3, clang 14, Linux 6.18, x86-64): the kernel's own conversion on a socket, a whole
   * XDP program with cbpfc's eBPF, and one with clang's result on cbpfc's C. cbpfc refuses one.
   */
  readonly kernel: Size;
  readonly cbpfc?: Size;
  readonly clang?: Size;
}

/** Matched by no filter that says what it wants. */
export const OTHER = eth().payload(new Uint8Array(60)).bytes().with(12, 0x88).with(13, 0xcc);

const ip = { src: '192.168.1.1', dst: '10.0.0.1' };
const tcp = (port: number, flags = 'A'): Uint8Array =>
  eth().ipv4(ip).tcp({ sport: 40_000, dport: port, flags }).payload('data').bytes();
const tcpdump = (expression: string) => (): CbpfProgram => decodeCbpf(compileFilter(expression));
const size = (xlated: number, jited: number): Size => ({ xlated, jited });

/** `vlan and tcp port 80` as libpcap compiles it for a live device, which may have a tag beside the frame: tcpdump -ddd. */
const VLAN_LIVE = `0 0 0 0,2 0 0 0,2 0 0 1,48 0 0 4294963248,21 7 0 1,0 0 0 4,2 0 0 0,2 0 0 1,40 0 0 12,21 2 0 33024,21 1 0 34984,
21 0 36 37120,97 0 0 1,72 0 0 12,21 0 9 34525,97 0 0 0,80 0 0 20,21 0 30 6,97 0 0 0,72 0 0 54,21 26 0 80,97 0 0 0,
72 0 0 56,21 23 24 80,21 0 23 2048,97 0 0 0,80 0 0 23,21 0 20 6,97 0 0 0,72 0 0 20,69 17 0 8191,97 0 0 0,80 0 0 14,
84 0 0 15,100 0 0 2,12 0 0 0,7 0 0 0,72 0 0 14,21 8 0 80,97 0 0 0,80 0 0 14,84 0 0 15,100 0 0 2,12 0 0 0,7 0 0 0,
72 0 0 16,21 0 1 80,6 0 0 262144,6 0 0 0`;

const decimal = (text: string): CbpfProgram =>
  text.split(',').map((line) => {
    const [code = 0, jt = 0, jf = 0, k = 0] = line.trim().split(' ').map(Number);
    return { code, jt, jf, k };
  });

const stmt = (code: number, k = 0): CbpfInstruction => ({ code, jt: 0, jf: 0, k: k >>> 0 });
/** Goes on where the condition holds, else to what stands `FAIL` for: filled in at the end. */
const FAIL = 255;
const test = (condition: number, k: number): CbpfInstruction => ({
  code: Cbpf.JMP | condition,
  jt: 0,
  jf: FAIL,
  k: k >>> 0,
});

/** Jumps that stand for failing, made to go to `there`. */
const failTo = (steps: readonly CbpfInstruction[], at: number, there: number): CbpfInstruction[] =>
  steps.map((step, index) => (step.jf === FAIL ? { ...step, jf: there - (at + index) - 1 } : step));

/** Compares the labels that x points to, in words, with what is left over in a half word and a byte. */
function sameLabels(labels: readonly string[], anyCase: boolean): CbpfInstruction[] {
  const bytes = Buffer.from([...labels.flatMap((label) => [label.length, ...Buffer.from(label)]), 0]);
  const lower = Buffer.from([...labels.flatMap((label) => [0, ...Buffer.from(label).fill(0x20)]), 0]);
  const steps: CbpfInstruction[] = [];
  for (let at = 0; at < bytes.length; ) {
    const left = bytes.length - at;
    const length = left >= 4 ? 4 : left >= 2 ? 2 : 1;
    const code = length === 4 ? Cbpf.W : length === 2 ? Cbpf.H : Cbpf.B;
    const mask = anyCase ? lower.readUIntBE(at, length) : 0;
    steps.push(stmt(Cbpf.LD | code | Cbpf.IND, at));
    if (mask !== 0) steps.push(stmt(Cbpf.ALU | Cbpf.OR | Cbpf.K, mask));
    steps.push(test(Cbpf.JEQ, (bytes.readUIntBE(at, length) | mask) >>> 0));
    at += length;
  }
  return steps;
}

/**
 * A query for one of the names as bpftools' generator has it: x at the first label, behind Ethernet, IPv4 with its options,
 * UDP and the DNS header; a leading `*` skips one label. It looks at neither protocol nor port.
 */
function dns(names: readonly string[], anyCase = false): CbpfProgram {
  const several = names.length > 1;
  const program = [
    stmt(Cbpf.LDX | Cbpf.B | Cbpf.MSH, 14),
    stmt(Cbpf.LD | Cbpf.IMM, 34),
    stmt(Cbpf.ALU | Cbpf.ADD | Cbpf.X),
    stmt(Cbpf.MISC | Cbpf.TAX),
    ...(several ? [stmt(Cbpf.ST, 0)] : []),
  ];
  for (const [index, name] of names.entries()) {
    const [first, ...others] = name.split('.');
    const skip = [
      stmt(Cbpf.LD | Cbpf.B | Cbpf.IND, 0),
      stmt(Cbpf.ALU | Cbpf.ADD | Cbpf.X),
      stmt(Cbpf.ALU | Cbpf.ADD | Cbpf.K, 1),
      stmt(Cbpf.MISC | Cbpf.TAX),
    ];
    const steps = [
      ...(index > 0 ? [stmt(Cbpf.LDX | Cbpf.MEM, 0)] : []),
      ...(first === '*'
        ? [...skip, ...sameLabels(others, anyCase)]
        : sameLabels([first, ...others], anyCase)),
      stmt(Cbpf.RET | Cbpf.K, 1),
    ];
    program.push(...failTo(steps, program.length, program.length + steps.length));
  }
  return [...program, stmt(Cbpf.RET | Cbpf.K, 0)];
}

/** bpftools' check of DNS queries: matches what is malformed. */
function dnsValidity(): CbpfProgram {
  const bad = 19;
  const fails = (condition: number, k: number, at: number): CbpfInstruction => ({
    ...test(condition, k),
    jf: bad - at - 1,
  });
  return [
    stmt(Cbpf.LD | Cbpf.IMM, 14),
    stmt(Cbpf.LDX | Cbpf.B | Cbpf.MSH, 14),
    stmt(Cbpf.ALU | Cbpf.ADD | Cbpf.X),
    stmt(Cbpf.MISC | Cbpf.TAX),
    stmt(Cbpf.LD | Cbpf.H | Cbpf.IND, 4),
    fails(Cbpf.JGE, 29, 5),
    stmt(Cbpf.MISC | Cbpf.TXA),
    stmt(Cbpf.ALU | Cbpf.ADD | Cbpf.K, 8),
    stmt(Cbpf.MISC | Cbpf.TAX),
    stmt(Cbpf.LD | Cbpf.H | Cbpf.IND, 2),
    { ...test(Cbpf.JSET, 0xfc8f), jt: bad - 10 - 1, jf: 0 },
    stmt(Cbpf.LD | Cbpf.H | Cbpf.IND, 4),
    fails(Cbpf.JEQ, 1, 12),
    stmt(Cbpf.LD | Cbpf.W | Cbpf.IND, 6),
    fails(Cbpf.JEQ, 0, 14),
    stmt(Cbpf.LD | Cbpf.H | Cbpf.IND, 10),
    { ...test(Cbpf.JGT, 1), jt: bad - 16 - 1, jf: 0 },
    stmt(Cbpf.RET | Cbpf.K, 0),
    stmt(Cbpf.RET | Cbpf.K, 0),
    stmt(Cbpf.RET | Cbpf.K, 65535),
  ];
}

function query(name: string): Uint8Array {
  const labels = name.split('.').flatMap((label) => [label.length, ...Buffer.from(label)]);
  const message = Uint8Array.from([0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, ...labels, 0, 0, 1, 0, 1]);
  return eth().ipv4(ip).udp({ sport: 40_000, dport: 53 }).payload(message).bytes();
}

const bytesOf = (builder: PacketBuilder): Uint8Array => builder.bytes();
const PAYLOAD = 'tcp port 80 and (((ip[2:2] - ((ip[0]&0xf)<<2)) - ((tcp[12]&0xf0)>>2)) != 0)';
const VLAN = bytesOf(eth().vlan(5).ipv4(ip).tcp({ sport: 40_000, dport: 80, flags: 'A' }));

/** The fifteen filters of measured-xdp.md. The four names are ours: it does not say which they were; as many instructions. */
export const FILTER_CASES: readonly FilterCase[] = [
  {
    name: 'tcp',
    program: tcpdump('tcp'),
    packet: tcp(80),
    kernel: size(71, 329),
    cbpfc: size(32, 163),
    clang: size(30, 158),
  },
  {
    name: 'udp port 53',
    program: tcpdump('udp port 53'),
    packet: query('example.com'),
    kernel: size(140, 628),
    cbpfc: size(65, 373),
    clang: size(50, 295),
  },
  {
    name: 'tcp port 80 with payload',
    program: tcpdump(PAYLOAD),
    packet: tcp(80),
    kernel: size(162, 688),
    cbpfc: size(78, 419),
    clang: size(46, 245),
  },
  {
    name: 'host 10.0.0.1 and tcp port 443',
    program: tcpdump('host 10.0.0.1 and tcp port 443'),
    packet: tcp(443),
    kernel: size(124, 545),
    cbpfc: size(58, 322),
    clang: size(41, 229),
  },
  {
    name: 'ip6 and udp dst port 443',
    program: tcpdump('ip6 and udp dst port 443'),
    packet: bytesOf(eth().ipv6().udp({ sport: 40_000, dport: 443 })),
    kernel: size(55, 258),
    cbpfc: size(22, 121),
    clang: size(15, 92),
  },
  {
    name: 'net 192.168.0.0/16 and not port 22',
    program: tcpdump('net 192.168.0.0/16 and not port 22'),
    packet: tcp(80),
    kernel: size(167, 735),
    cbpfc: size(74, 400),
    clang: size(62, 371),
  },
  {
    name: 'vlan and tcp port 80',
    program: tcpdump('vlan and tcp port 80'),
    packet: VLAN,
    kernel: size(157, 717),
    cbpfc: size(70, 416),
    clang: size(54, 331),
  },
  {
    name: 'the same, for a live device',
    program: () => decimal(VLAN_LIVE),
    packet: VLAN,
    kernel: size(154, 679),
  },
  {
    name: 'ip[6:2] & 0x3fff != 0',
    program: tcpdump('ip[6:2] & 0x3fff != 0'),
    packet: tcp(80).with(20, 0x20),
    kernel: size(42, 193),
    cbpfc: size(21, 112),
    clang: size(14, 81),
  },
  {
    name: 'tcp[tcpflags] & (tcp-syn|tcp-fin) != 0',
    program: tcpdump('tcp[tcpflags] & (tcp-syn|tcp-fin) != 0'),
    packet: tcp(80, 'S'),
    kernel: size(85, 375),
    cbpfc: size(37, 197),
    clang: size(27, 138),
  },
  {
    name: 'DNS example.com',
    program: () => dns(['example.com']),
    packet: query('example.com'),
    kernel: size(72, 304),
    cbpfc: size(40, 194),
    clang: size(25, 131),
  },
  {
    name: 'DNS *.example.com',
    program: () => dns(['*.example.com']),
    packet: query('www.example.com'),
    kernel: size(83, 342),
    cbpfc: size(53, 251),
    clang: size(33, 161),
  },
  {
    name: 'DNS example.com, any case',
    program: () => dns(['example.com'], true),
    packet: query('ExAmple.com'),
    kernel: size(75, 319),
    cbpfc: size(43, 212),
    clang: size(34, 155),
  },
  {
    name: 'DNS, four names',
    program: () => dns(['example.com', '*.example.com', 'www.example.org', '*.tests.example.net']),
    packet: query('a.tests.example.net'),
    kernel: size(242, 1008),
    cbpfc: size(242, 1244),
    clang: size(124, 671),
  },
  {
    name: 'DNS validity',
    program: dnsValidity,
    packet: query('example.com').with(47, 0),
    other: query('example.com'),
    kernel: size(87, 351),
    cbpfc: size(84, 424),
    clang: size(44, 223),
  },
];
