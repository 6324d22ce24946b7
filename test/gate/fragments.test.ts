import { expect } from 'vitest';
import { eth, type PacketBuilder } from '../../src/packet/build.ts';
import { type Fragment } from '../../src/packet/layers-network.ts';
import { kernelTest, ownNetns } from '../support/kernel.ts';
import { eventually, UpGate } from './daemon-support.ts';
import { gateKey, TestGate } from './support.ts';

ownNetns();

const A = { addr: '10.0.0.1', port: 4000 };
const B = { addr: '10.0.0.2', port: 5000 };
const A6 = { addr: '2001:db8::1', port: 4000 };
const B6 = { addr: '2001:db8::2', port: 5000 };
const udp4 = gateKey(17, A, B);
const udp6 = gateKey(17, A6, B6);
const FIRST = { offset: 0, more: true };
const MIDDLE = { offset: 80, more: true };
const LAST = { offset: 160, more: false };
/** Lengths of the three: a datagram of 8 + 192 bytes. */
const SIZE = new Map<Fragment, number>([
  [FIRST, 72],
  [MIDDLE, 80],
  [LAST, 40],
]);

/** A fragment of a datagram between A and B; the first one has the UDP header. */
function part(fragment: Fragment, id = 1, options: { src?: string; dst?: string; sport?: number } = {}) {
  const { src = A.addr, dst = B.addr, sport = A.port } = options;
  const ip = eth().ipv4({ src, dst, id, protocol: 17, fragment });
  const payload = 'x'.repeat(SIZE.get(fragment) ?? 0);
  return fragment.offset === 0
    ? ip.udp({ sport, dport: B.port, length: 200 }).payload(payload)
    : ip.payload(payload);
}

function part6(fragment: Fragment, id = 1): PacketBuilder {
  const ip = eth()
    .ipv6({ src: A6.addr, dst: B6.addr })
    .fragment({ ...fragment, id, nextHeader: 17 });
  const payload = 'x'.repeat(SIZE.get(fragment) ?? 0);
  return fragment.offset === 0
    ? ip.udp({ sport: A.port, dport: B.port, length: 200 }).payload(payload)
    : ip.payload(payload);
}

kernelTest('fragments of a shunted flow pass unless told otherwise', ['xdpFrags', 'syscallProgram'], () => {
  using gate = new TestGate();
  gate.shunt(udp4);
  for (const fragment of SIZE.keys()) expect(gate.run(part(fragment)).verdict).toBe('passFragment');
  expect(gate.read(udp4)?.pkts).toBe(0);
});

for (const [family, make, key, header] of [
  ['IPv4', part, udp4, 20],
  ['IPv6', part6, udp6, 48],
] as const) {
  kernelTest(`${family}: fragments follow their flow by option`, ['xdpFrags', 'syscallProgram'], () => {
    using gate = new TestGate({ fragments: true });
    gate.shunt(key);
    const verdicts = [...SIZE.keys()].map((fragment) => gate.run(make(fragment)).verdict);
    expect(verdicts).toEqual(['shunted', 'shunted', 'shunted']);
    const entry = gate.read(key);
    expect(entry?.pkts).toBe(3);
    expect(entry?.dirs[0]).toMatchObject({ pkts: 3, ipBytes: 3 * header + 200, payloadBytes: 192 });
    // Another datagram, of which the first fragment has not come.
    expect(gate.run(make(LAST, 2)).verdict).toBe('passFragment');
    expect(gate.read(key)?.pkts).toBe(3);
  });
}

kernelTest('only those of the flow follow it', ['xdpFrags', 'syscallProgram'], () => {
  using gate = new TestGate({ fragments: true });
  gate.shunt(udp4);
  // The first fragment of another flow between the same two leaves no note.
  expect(gate.run(part(FIRST, 7, { sport: 4001 })).verdict).toBe('passFragment');
  expect(gate.run(part(LAST, 7)).verdict).toBe('passFragment');
  expect(gate.run(part(FIRST, 8)).verdict).toBe('shunted');
  // Ids are of a sender: the same one the other way round is another datagram.
  expect(gate.run(part(LAST, 8, { src: B.addr, dst: A.addr })).verdict).toBe('passFragment');
  const tcp = eth()
    .ipv4({ src: A.addr, dst: B.addr, id: 8, protocol: 6, fragment: LAST })
    .payload('y'.repeat(40));
  expect(gate.run(tcp).verdict).toBe('passFragment');
  expect(gate.run(part(LAST, 8)).verdict).toBe('shunted');
  // Without the entry the note is worth nothing.
  gate.op('end', udp4);
  expect(gate.run(part(LAST, 8)).verdict).toBe('passEnding');
});

kernelTest(
  'a SYN, FIN or RST in a first fragment passes, and TCP sequences go on behind fragments',
  ['xdpFrags', 'syscallProgram'],
  () => {
    using gate = new TestGate({ fragments: true });
    const key = gateKey(6, A, B);
    gate.shunt(key, { seq: [1000, 0], ack: [0, 0] });
    const segment = (seq: number, flags: string, fragment?: Fragment) =>
      eth()
        .ipv4({ src: A.addr, dst: B.addr, id: 3, ...(fragment === undefined ? {} : { fragment }) })
        .tcp({ sport: A.port, dport: B.port, seq, ack: 1, flags, window: 10 })
        .payload('z'.repeat(60));
    expect(gate.run(segment(1000, 'A', FIRST)).verdict).toBe('shunted');
    const later = eth()
      .ipv4({ src: A.addr, dst: B.addr, id: 3, protocol: 6, fragment: LAST })
      .payload('z'.repeat(80));
    expect(gate.run(later).verdict).toBe('shunted');
    // 60 bytes were in the first one, 80 in the other: the next whole segment says so.
    expect(gate.run(segment(1140, 'A')).verdict).toBe('shunted');
    expect(gate.read(key)?.dirs[0]).toMatchObject({ pkts: 3, seq: 1200 });
    expect(gate.run(segment(1200, 'FA', FIRST)).verdict).toBe('passClose');
    expect(gate.read(key)?.ending).toBe(true);
  },
);

kernelTest('a first fragment too short for its header passes', ['xdpFrags', 'syscallProgram'], () => {
  using gate = new TestGate({ fragments: true });
  const key = gateKey(6, A, B);
  gate.shunt(key, { seq: [1, 1], ack: [1, 1] });
  const tiny = eth()
    .ipv4({ src: A.addr, dst: B.addr, id: 9, protocol: 6, fragment: FIRST })
    .payload(Uint8Array.of(0x0f, 0xa0, 0x13, 0x88, 0, 0, 0, 1));
  expect(gate.run(tiny).verdict).toBe('passFragment');
  expect(gate.read(key)?.pkts).toBe(0);
});

kernelTest('the option can change from one daemon to the next', [], async () => {
  await using gate = await UpGate.up();
  const flow = `udp ${A.addr}:${A.port} ${B.addr}:${B.port}`;
  expect((await gate.shunt('add', '--flow', flow)).code).toBe(0);
  gate.send(part(FIRST, 1));
  const { daemon, reasons } = await gate.status();
  expect(reasons.passFragment?.pkts).toBe(1);
  process.kill(daemon.pid as number, 'SIGKILL');
  await eventually(async () => ((await gate.status()).daemon.alive ? undefined : true), 'the daemon is dead');
  expect((await gate.start('--fragments', 'follow')).code).toBe(0);
  for (const fragment of SIZE.keys()) gate.send(part(fragment, 2));
  const [row] = await gate.rows();
  expect(row.ab.pkts + row.ba.pkts).toBe(3);
});
