/**
 * The one table of packets that the gate is held against, wherever it runs: what each is, what is shunted beforehand,
 * what has to become of it, and what its entry has counted then. Every kind that both families know is there for both.
 */
import { eth, type PacketBuilder } from '../../src/packet/build.ts';
import {
  A4,
  A6,
  B4,
  B6,
  BACK,
  type Counted,
  cut,
  type Given,
  JUMBO,
  NETS,
  type Net,
  PAYLOAD,
  type PacketRow,
  PORTS,
  patched,
  Rows,
  SPELLED,
  TCP,
} from './packet-kinds.ts';
import { type GateKey, gateKey } from './support.ts';

function tcpRows(rows: Rows, net: Net): void {
  const { there, back, header } = net;
  const l4 = 14 + header;
  const segment = there(eth()).tcp(TCP);
  const flags = (letters: string) => there(eth()).tcp({ ...TCP, flags: letters });
  const counted = (payload: number, side: 0 | 1 = 0): Counted => ({
    side,
    ipBytes: header + 20 + payload,
    payload,
  });
  rows.shunted('the flow', segment.payload(PAYLOAD), counted(PAYLOAD));
  rows.shunted('its other direction', back(eth()).tcp(BACK).payload(PAYLOAD), counted(PAYLOAD, 1));
  rows.shunted('a plain acknowledgement', segment, counted(0));
  rows.shunted(
    'its padding in a short frame',
    Uint8Array.of(...segment.bytes(), 0, 0, 0, 0, 0, 0),
    counted(0),
  );
  rows.shunted('urgent, push and congestion flags', flags('APUEC').payload(PAYLOAD), counted(PAYLOAD));
  rows.shunted(
    'TCP options',
    there(eth())
      .tcp({ ...TCP, options: [{ nop: true }, { nop: true }, { timestamps: [1, 2] }] })
      .payload(PAYLOAD),
    { side: 0, ipBytes: header + 32 + PAYLOAD, payload: PAYLOAD },
  );
  rows.shunted('a jumbo frame', segment.payload(JUMBO), counted(JUMBO));
  rows.passed('SYN on the tuple', flags('S'), 'passClose');
  rows.passed('SYN+ACK', back(eth()).tcp({ ...BACK, flags: 'SA' }), 'passClose');
  rows.passed('FIN', flags('FA'), 'passClose');
  rows.passed('FIN with data', flags('FA').payload(PAYLOAD), 'passClose');
  rows.passed('RST', back(eth()).tcp({ ...BACK, flags: 'R' }), 'passClose');
  rows.passed('another source port', there(eth()).tcp({ ...TCP, sport: 12_346 }), 'passNoEntry');
  rows.passed('the ports swapped', there(eth()).tcp({ ...TCP, sport: 443, dport: 12_345 }), 'passNoEntry');
  rows.passed('TCP header cut after 8 bytes', cut(segment, l4 + 8), 'passParse');
  rows.passed('TCP header length below 5 words', there(eth()).tcp({ ...TCP, dataOffset: 4 }), 'passParse');
  rows.passed('TCP header longer than the packet', there(eth()).tcp({ ...TCP, dataOffset: 15 }), 'passParse');
  rows.passed('less frame than the IP header says', cut(segment.payload(PAYLOAD), l4 + 30), 'passParse');
  const same = gateKey(6, { ...net.a, port: 443 }, { ...net.a, port: 12_345 });
  const toItself = net.family === 4 ? eth().ipv4({ src: A4, dst: A4 }) : eth().ipv6({ src: A6, dst: A6 });
  rows.shunted('both ends on one address', toItself.tcp(TCP), { ...counted(0), side: 1 }, { key: same });
  // The pair of the other rows is another one.
  (rows.list.at(-1) as PacketRow).pair = 'passNoEntry';
}

function ipRows(rows: Rows, net: Net): void {
  const { there, header, fragment } = net;
  const segment = there(eth()).tcp(TCP);
  rows.passed('first fragment', fragment(0, true, 6).payload(SPELLED), 'passFragment');
  rows.passed('later fragment', fragment(1480, true, 6).payload(PAYLOAD), 'passFragment');
  rows.passed(
    'later fragment whose payload spells the ports',
    fragment(1480, false, 6).payload(SPELLED),
    'passFragment',
  );
  rows.passed('IP header cut', cut(segment, 14 + header - 8), 'passParse', 'passParse');
  rows.passed('nothing behind Ethernet', cut(segment, 14), 'passParse', 'passParse');
  rows.passed('another IP version than the type says', patched(segment, 14, 0x75), 'passParse', 'passParse');
  rows.passed('ARP', patched(segment, 12, 8, 6), 'passNotIp', 'passNotIp');
  rows.passed('802.3 with LLC', patched(segment, 12, 0, 60), 'passNotIp', 'passNotIp');
  rows.passed(
    'other addresses',
    (net.family === 4
      ? eth().ipv4({ src: A4, dst: '192.168.0.2' })
      : eth().ipv6({ src: A6, dst: '2001:db8::3' })
    ).tcp(TCP),
    'passNoEntry',
    'passNoEntry',
  );
}

function vlanRows(rows: Rows, net: Net): void {
  const flow = (start: PacketBuilder): PacketBuilder => net.there(start).tcp(TCP).payload(PAYLOAD);
  const counted: Counted = { side: 0, ipBytes: net.header + 20 + PAYLOAD, payload: PAYLOAD };
  const qinq = eth().qinq(200).vlan(100);
  rows.shunted('one VLAN tag', flow(eth().vlan(100)), counted);
  rows.shunted('the same in another VLAN', flow(eth().vlan(101)), counted);
  rows.shunted('priority tag', flow(eth().vlan(0, { prio: 5 })), counted);
  rows.shunted('QinQ', flow(qinq), counted);
  rows.shunted('QinQ with outer 0x9100', flow(eth().vlan(200, { tpid: 0x9100 }).vlan(100)), counted);
  rows.shunted('three tags', flow(eth().vlan(1).vlan(2).vlan(3)), counted);
  rows.shunted('four tags', flow(eth().vlan(1).vlan(2).vlan(3).vlan(4)), counted);
  rows.passed('five tags', flow(eth().vlan(1).vlan(2).vlan(3).vlan(4).vlan(5)), 'passParse', 'passParse');
  rows.passed('a tag cut in two', cut(eth().vlan(100).vlan(1), 14 + 6), 'passParse', 'passParse');

  const tagged = { key: gateKey(6, net.a, net.b, 100), vlanKey: true };
  const doubly = { key: gateKey(6, net.a, net.b, 200, 100), vlanKey: true };
  const keyed = (name: string, start: PacketBuilder, given: Given): void => {
    rows.shunted(`VLAN in the key, ${name}`, flow(start), counted, given);
    // The pair is one without tag.
    (rows.list.at(-1) as PacketRow).pair = 'passNoEntry';
  };
  const apart = (name: string, start: PacketBuilder, given: Given): void =>
    rows.passed(`VLAN in the key, ${name}`, flow(start), 'passNoEntry', 'passNoEntry', given);
  keyed('its own', eth().vlan(100), tagged);
  keyed('its own with a priority', eth().vlan(100, { prio: 7, dei: true }), tagged);
  keyed('inside of a priority tag', eth().vlan(0, { prio: 3 }).vlan(100), tagged);
  keyed('two tags', qinq, doubly);
  keyed('two tags and one more', eth().qinq(200).vlan(100).vlan(7), doubly);
  apart('another VLAN', eth().vlan(101), tagged);
  // Differs from 100 in the high bits only, in which others have lost ids.
  apart('116 in place of 100', eth().vlan(116), tagged);
  apart('the same id outside of a second tag', eth().vlan(100).vlan(7), tagged);
  apart('two tags the other way round', eth().qinq(100).vlan(200), doubly);
  rows.passed('VLAN in the key, no tag', flow(eth()), 'passNoEntry', 'shuntedPair', tagged);
  rows.passed('VLAN in the key, priority tag', flow(eth().vlan(0)), 'passNoEntry', 'shuntedPair', tagged);
}

function otherProtocols(rows: Rows, net: Net): void {
  const { there, back, header, icmpHeader } = net;
  const { proto, echo, reply, oneWay } = net.icmp;
  const counted = (transport: number, payload: number, side: 0 | 1 = 0): Counted => ({
    side,
    ipBytes: header + transport + payload,
    payload,
  });
  const udp = { key: gateKey(17, net.a, net.b) };
  const datagram = there(eth()).udp(PORTS);
  rows.passed('UDP with the ports of the TCP flow', datagram.payload(PAYLOAD), 'passNoEntry');
  rows.shunted('UDP', datagram.payload(PAYLOAD), counted(8, PAYLOAD), udp);
  rows.shunted('UDP without data', datagram, counted(8, 0), udp);
  rows.shunted('UDP in a jumbo frame', datagram.payload(JUMBO), counted(8, JUMBO), udp);
  rows.shunted(
    'UDP back',
    back(eth()).udp({ sport: 443, dport: 12_345 }).payload(PAYLOAD),
    counted(8, PAYLOAD, 1),
    udp,
  );
  // The IP payload is longer than the datagram.
  rows.shunted(
    'UDP shorter than its IP packet',
    there(eth())
      .udp({ ...PORTS, length: 8 + 10 })
      .payload(PAYLOAD),
    { side: 0, ipBytes: header + 8 + PAYLOAD, payload: 10 },
    udp,
  );
  for (const [name, length] of [
    ['less than its header', 7],
    ['more than there is', 8 + PAYLOAD + 1],
    ['0', 0],
  ] as const)
    rows.passed(
      `UDP whose length is ${name}`,
      there(eth())
        .udp({ ...PORTS, length })
        .payload(PAYLOAD),
      'passParse',
      'shuntedPair',
      udp,
    );

  const echoes = {
    key: gateKey(proto, { ...net.a, port: echo }, { ...net.b, port: reply }),
  };
  const ping = icmpHeader(there(eth()), echo).payload(PAYLOAD);
  rows.passed('ICMP echo beside the TCP flow', ping, 'passNoEntry');
  rows.shunted('ICMP echo', ping, counted(8, PAYLOAD), echoes);
  rows.shunted(
    'ICMP echo reply',
    icmpHeader(back(eth()), reply).payload(PAYLOAD),
    counted(8, PAYLOAD, 1),
    echoes,
  );
  const quoted = there(eth()).tcp(TCP).bytes().slice(14);
  const error = icmpHeader(back(eth()), oneWay, 1).payload(quoted);
  rows.passed('ICMP error that quotes the flow', error, 'passNoEntry');
  rows.passed('ICMP error beside an echo', error, 'passNoEntry', 'shuntedPair', echoes);
  rows.shunted('ICMP one way', error, counted(8, quoted.length, 1), {
    key: gateKey(proto, { ...net.b, port: 0x8000 | oneWay }, { ...net.a, port: 1 }),
  });
  rows.passed('ICMP header cut', cut(ping, 14 + header + 4), 'passParse', 'shuntedPair', echoes);
  rows.passed(
    'ICMP of the other family',
    net.family === 4 ? there(eth()).icmpv6() : there(eth()).icmp(),
    'passOther',
    'shuntedPair',
    echoes,
  );

  const sctp = there(eth()).sctp(PORTS).payload(PAYLOAD);
  rows.passed('SCTP with the ports of the TCP flow', sctp, 'passNoEntry');
  rows.shunted('SCTP', sctp, counted(12, PAYLOAD), { key: gateKey(132, net.a, net.b) });
  const bare = (ip: number): GateKey => gateKey(ip, { ...net.a, port: 0 }, { ...net.b, port: 0 });
  for (const [name, number] of [
    ['ESP', 50],
    ['OSPF', 89],
    ['a protocol for experiments', 253],
  ] as const) {
    rows.passed(`${name} beside the TCP flow`, there(eth(), number).payload(SPELLED), 'passNoEntry');
    rows.shunted(
      `${name}, by addresses and protocol`,
      there(eth(), number).payload(SPELLED),
      { side: 0, ipBytes: header + SPELLED.length, payload: SPELLED.length },
      { key: bare(number) },
    );
  }
  rows.passed('IGMP', there(eth(), 2).payload(8), 'passOther', 'shuntedPair', { key: bare(2) });
  rows.passed('no next header', there(eth(), 59), 'passOther', 'shuntedPair', { key: bare(59) });
}

/** Tunnels around the flow: the inner tuple is not looked at, and the outer one is another flow or none. */
function tunnelRows(rows: Rows, net: Net): void {
  const { there, back } = net;
  const flow = (start: PacketBuilder): PacketBuilder => there(start).tcp(TCP).payload(PAYLOAD);
  rows.passed('GRE around the flow', flow(back(eth()).gre()), 'passOther');
  rows.passed(
    'IP in IPv4 around the flow',
    flow(eth().ipv4({ src: A4, dst: '192.0.2.1' })),
    'passOther',
    'passOther',
  );
  rows.passed(
    'IP in IPv6 around the flow',
    flow(eth().ipv6({ src: A6, dst: '2001:db8::9' })),
    'passOther',
    'passOther',
  );
  rows.passed('VXLAN around the flow', flow(back(eth()).udp().vxlan().eth()), 'passNoEntry');
  rows.passed('GENEVE around the flow', flow(back(eth()).udp().geneve().eth()), 'passNoEntry');
}

/** What lies between Ethernet and IP. */
function carrierRows(rows: Rows, net: Net): void {
  const flow = (start: PacketBuilder): PacketBuilder => net.there(start).tcp(TCP).payload(PAYLOAD);
  const counted: Counted = { side: 0, ipBytes: net.header + 20 + PAYLOAD, payload: PAYLOAD };
  const labels = (count: number, start = eth()): PacketBuilder =>
    count === 0 ? start : labels(count - 1, start.mpls(15 + count));
  rows.shunted('MPLS', flow(labels(1)), counted);
  rows.shunted('MPLS, four labels', flow(labels(4)), counted);
  rows.shunted('MPLS behind two VLAN tags', flow(eth().qinq(200).vlan(100).mpls(16)), counted);
  rows.passed('MPLS, too many labels', flow(labels(5)), 'passNotIp', 'passNotIp');
  rows.passed('MPLS cut behind its label', cut(labels(1), 14 + 4), 'passNotIp', 'passNotIp');
  rows.passed(
    'MPLS around Ethernet',
    flow(eth().mpls(16).payload(new Uint8Array(4)).eth()),
    'passNotIp',
    'passNotIp',
  );
  rows.shunted('PPPoE', flow(eth().pppoe()), counted);
  rows.shunted('PPPoE behind two VLAN tags', flow(eth().qinq(200).vlan(100).pppoe()), counted);
  rows.shunted('PPPoE around MPLS', flow(eth().pppoe({ protocol: 0x0281 }).mpls(16)), counted);
  rows.passed(
    'PPPoE with a control protocol',
    flow(eth().pppoe({ protocol: 0xc021 })),
    'passNotIp',
    'passNotIp',
  );
  rows.passed('PPPoE cut', cut(flow(eth().pppoe()), 14 + 7), 'passNotIp', 'passNotIp');
}

/** A segment with so many bytes of options. */
const counted4 = (options: number): Counted => ({
  side: 0,
  ipBytes: 20 + options + 20 + PAYLOAD,
  payload: PAYLOAD,
});

function ipv4Rows(rows: Rows): void {
  const AB = { src: A4, dst: B4 };
  const flow = (options: object): PacketBuilder =>
    eth()
      .ipv4({ ...AB, ...options })
      .tcp(TCP)
      .payload(PAYLOAD);
  rows.shunted('options', flow({ options: Uint8Array.of(0x94, 4, 0, 0) }), counted4(4));
  rows.shunted(
    'as many options as there can be',
    flow({ options: new Uint8Array(40).fill(1) }),
    counted4(40),
  );
  rows.shunted('do not fragment', flow({ dontFragment: true }), counted4(0));
  rows.shunted('another type of service', flow({ tos: 0xb8 }), counted4(0));
  rows.passed(
    'another flow whose options spell the ports',
    eth()
      .ipv4({ ...AB, options: SPELLED })
      .tcp({ ...TCP, sport: 1, dport: 2 })
      .payload(PAYLOAD),
    'passNoEntry',
  );
  rows.passed('header length below 5 words', flow({ ihl: 4 }), 'passParse', 'passParse');
  rows.passed('header longer than the packet', flow({ ihl: 15, totalLength: 40 }), 'passParse', 'passParse');
  // Segmentation offload leaves it out; no such frame comes from a wire.
  rows.passed('a total length of 0', flow({ totalLength: 0 }), 'passParse', 'passParse');
  rows.passed('the flow behind AH', eth().ipv4(AB).ah().tcp(TCP), 'passNoEntry');
}

/** A segment behind so many bytes of extension headers. */
const counted6 = (extensions: number): Counted => ({
  side: 0,
  ipBytes: 40 + extensions + 20 + PAYLOAD,
  payload: PAYLOAD,
});
const segmentBehind = (start: PacketBuilder): PacketBuilder => start.tcp(TCP).payload(PAYLOAD);

function ipv6Rows(rows: Rows): void {
  const begin = eth().ipv6({ src: A6, dst: B6 });
  const six = begin.hopByHop().destination().routing().destination().ah().destination();
  rows.shunted('hop-by-hop options', segmentBehind(begin.hopByHop()), counted6(8));
  rows.shunted(
    'destination options',
    segmentBehind(begin.destination(new Uint8Array(20).fill(0))),
    counted6(24),
  );
  rows.shunted(
    'routing header that is used up',
    segmentBehind(begin.routing({ segmentsLeft: 0 })),
    counted6(8),
  );
  rows.shunted('AH', segmentBehind(begin.ah()), counted6(24));
  rows.shunted('six extension headers', segmentBehind(six), counted6(5 * 8 + 24));
  rows.passed('seven extension headers', segmentBehind(six.destination()), 'passParse');
  rows.passed(
    'routing header with a way to go',
    segmentBehind(
      eth()
        .ipv6({ src: A6, dst: B6, finalDst: '2001:db8::7' })
        .routing({ segmentsLeft: 1, addresses: ['2001:db8::7'] }),
    ),
    'passParse',
  );
  rows.passed(
    'extension header longer than the packet',
    patched(segmentBehind(begin.hopByHop()), 14 + 41, 200),
    'passParse',
  );
  rows.passed('extension header cut', cut(begin.hopByHop().tcp(TCP), 14 + 41), 'passParse');
  rows.passed(
    'a fragment header around all of it',
    segmentBehind(begin.hopByHop().fragment({ offset: 0, more: false, id: 7 })),
    'passFragment',
  );
  rows.passed(
    'fragment behind six extension headers',
    segmentBehind(six.fragment({ offset: 0, more: true, id: 7 })),
    'passFragment',
  );
  rows.passed(
    'fragment in front of destination options',
    begin.fragment({ offset: 8, more: false, id: 7, nextHeader: 60 }).payload(SPELLED),
    'passFragment',
  );
  // A payload length of 0: more than fits 16 bits, told by a hop-by-hop option (RFC 2675).
  rows.passed(
    'jumbogram',
    segmentBehind(
      eth()
        .ipv6({ src: A6, dst: B6, payloadLength: 0 })
        .hopByHop(Uint8Array.of(0xc2, 4, 0, 1, 0, 0)),
    ),
    'passParse',
  );
}

function table(): PacketRow[] {
  return NETS.flatMap((net) => {
    const rows = new Rows(`IPv${net.family}`, { key: gateKey(6, net.a, net.b) });
    tcpRows(rows, net);
    ipRows(rows, net);
    vlanRows(rows, net);
    otherProtocols(rows, net);
    tunnelRows(rows, net);
    carrierRows(rows, net);
    if (net.family === 4) ipv4Rows(rows);
    else ipv6Rows(rows);
    return rows.list;
  });
}

export const PACKET_TABLE: readonly PacketRow[] = table();
