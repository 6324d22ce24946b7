import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { interpretCbpf } from '../../src/ebpf/index.ts';
import { compileFilterText } from '../../src/filter/index.ts';
import { CaptureHook } from '../../src/gate/cap-hook.ts';
import { captureState, clearDeadCaptures, programIn } from '../../src/gate/cap-slots.ts';
import { SlPacket } from '../../src/gate/layout.gen.ts';
import { Pairs } from '../../src/gate/pairs.ts';
import { occupy } from '../../src/gate/slots.ts';
import {
  BpfMap,
  type BpfProgram,
  ensureBpffs,
  loadInstructions,
  MapType,
  ProgramFlag,
  ProgramType,
} from '../../src/kernel/index.ts';
import { eth } from '../../src/packet/build.ts';
import { LiveRules } from '../../src/rules/live-rules.ts';
import { rule } from '../rules/support.ts';
import { kernelTest, ownNetns } from '../support/kernel.ts';
import { Captures, captured, Foreign, hookOf, shown, tcpdump, tshark } from './cap-support.ts';
import { gateKey, TestGate, XDP_DROP, XDP_PASS } from './support.ts';

ownNetns();

const A = { addr: '10.0.0.1', port: 1000 };
const B = { addr: '10.0.0.2', port: 443 };
const AB = { src: A.addr, dst: B.addr };
const XDP_TX = 3;
const tcp = (flags: string, dport = B.port) =>
  eth().ipv4(AB).tcp({ sport: A.port, dport, seq: 1, ack: 1, flags, window: 9 }).bytes();
const udp = (dport: number, payload = 'x') =>
  eth().ipv4(AB).udp({ sport: 5, dport }).payload(payload).bytes();

const part = (offset: number, more: boolean) =>
  eth().ipv4({ ...AB, id: 1, protocol: 17, fragment: { offset, more } });

function returning(value: number): BpfProgram {
  const code = Uint8Array.of(0xb7, 0, 0, 0, value, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0);
  return loadInstructions(code, {
    type: ProgramType.xdp,
    name: 'foreign',
    flags: ProgramFlag.xdpHasFrags,
  });
}

/** Rules on a gate that is not attached. */
function rulesOf(gate: TestGate): LiveRules {
  return new LiveRules({
    rules: gate.gate.table('rules'),
    scratch: gate.gate.table('scratch'),
    enter: (program) => gate.gate.setRules(program),
    frameLength: SlPacket.members.frame_len,
    now: () => performance.now() / 1000,
    grace: () => Promise.resolve(),
  });
}

kernelTest(
  'a capture of a gate shows verdict, rule and owner of each packet, as the ledger counts them',
  ['xdpFrags', 'syscallProgram'],
  async () => {
    using files = new Captures();
    using gate = new TestGate();
    const rules = rulesOf(gate);
    try {
      await rules.apply([
        rule('counts', 'udp', 'count'),
        rule('drops', 'udp dst port 53', 'drop'),
        rule('limits', 'udp dst port 123', 'limit=1pps'),
      ]);
      const far = { addr: '10.0.0.3', port: 443 };
      gate.shunt(gateKey(6, A, B), { seq: [1, 1], ack: [1, 1] });
      gate.shunt(gateKey(6, A, far), { owner: 0, cookie: 0xffffffff, seq: [1, 1], ack: [1, 1] });
      gate.op('arm', gateKey(17, { ...A, port: 5 }, { ...B, port: 900 }), { owner: 1 });
      const before = gate.gate.ledger();
      const run = (data: Uint8Array): number => gate.gate.program.testRun({ data }).retval;
      const byHand = eth()
        .ipv4({ src: A.addr, dst: far.addr })
        .tcp({ sport: A.port, dport: far.port, seq: 1, ack: 1, flags: 'A', window: 9 })
        .bytes();
      const file = files.at('all.pcapng');
      const { counts } = await captured(hookOf(gate.gate), file, () => {
        gate.gate.lookAfterCaptures();
        expect(run(udp(53))).toBe(XDP_DROP);
        expect([run(udp(123)), run(udp(123))]).toEqual([XDP_PASS, XDP_DROP]);
        expect(run(tcp('A'))).toBe(XDP_DROP);
        expect(run(byHand)).toBe(XDP_DROP);
        expect(run(udp(900))).toBe(XDP_PASS);
        expect(run(udp(7))).toBe(XDP_PASS);
        expect(run(tcp('FA'))).toBe(XDP_PASS);
        expect(run(tcp('A'))).toBe(XDP_PASS);
        expect(run(Uint8Array.from([...new Uint8Array(12), 8, 6, ...new Uint8Array(46)]))).toBe(XDP_PASS);
      });
      expect(shown(file)).toEqual(tshark(file));
      const all = tshark(file).map((packet) => [packet.interface, packet.comment, packet.length]);
      expect(all).toEqual([
        ['XDPdrop', 'verdict=ruleDropped rule=1', 43],
        ['XDPpass', 'verdict=passNoEntry', 43],
        ['XDPdrop', 'verdict=rateLimited rule=2', 43],
        ['XDPdrop', 'verdict=shunted owner=worker1', 54],
        ['XDPdrop', 'verdict=shunted owner=hand', 54],
        ['XDPpass', 'verdict=passArmed owner=worker1', 43],
        ['XDPpass', 'verdict=passNoEntry', 43],
        ['XDPpass', 'verdict=passClose owner=worker1', 54],
        ['XDPpass', 'verdict=passEnding owner=worker1', 54],
        ['XDPpass', 'verdict=passNotIp', 60],
      ]);
      expect(tcpdump(file)).toHaveLength(10);
      const after = gate.gate.ledger();
      const { drop, pass } = counts;
      expect(pass?.seen).toBe(after.passed.pkts - before.passed.pkts);
      expect((drop?.seen ?? 0) + (pass?.seen ?? 0)).toBe(after.seen.pkts - before.seen.pkts);
      expect(drop).toEqual({ seen: 4, notMatched: 0, notSampled: 0, captured: 4, lost: 0, surplus: 0 });
      // As it was found.
      expect(gate.gate.slots().hook).toEqual([]);
      const size = gate.gate.program.info().xlatedBytes;
      gate.gate.lookAfterCaptures();
      expect(gate.gate.program.info().xlatedBytes).toBeLessThan(size);
    } finally {
      await rules.close();
    }
  },
);

kernelTest(
  'owners of pairs and of fragments that follow, and none where no entry decided',
  ['xdpFrags', 'syscallProgram'],
  async () => {
    using files = new Captures();
    using gate = new TestGate({ fragments: true });
    gate.gate.enable({ pairs: true });
    const pairs = new Pairs(gate.gate.table('pairs'), gate.client.ops, () => gate.client.grace());
    pairs.add('10.0.0.8', '10.0.0.9', { owner: 1 });
    gate.shunt(gateKey(17, { ...A, port: 5 }, B));
    const packets = [
      eth().ipv4({ src: '10.0.0.9', dst: '10.0.0.8' }).icmp(),
      part(0, true).udp({ sport: 5, dport: B.port, length: 200 }).payload('x'.repeat(72)),
      part(80, false).payload('x'.repeat(40)),
      eth().ipv4({ src: '10.0.0.8', dst: '10.0.0.7' }).icmp(),
    ].map((packet) => packet.bytes());
    const file = files.at('owners.pcapng');
    await captured(hookOf(gate.gate), file, () => {
      gate.gate.lookAfterCaptures();
      for (const data of packets) gate.gate.program.testRun({ data });
    });
    expect(shown(file).map((packet) => packet.comment)).toEqual([
      'verdict=shuntedPair owner=worker1',
      'verdict=shunted owner=worker1',
      'verdict=shunted owner=worker1',
      'verdict=passNoEntry',
    ]);
  },
);

kernelTest('an expression and actions choose; the head of the file says what', ['xdpFrags'], async () => {
  using files = new Captures();
  using gate = new TestGate();
  gate.shunt(gateKey(6, A, B), { seq: [1, 1], ack: [1, 1] });
  const run = (data: Uint8Array): number => gate.gate.program.testRun({ data }).retval;
  const send = (): void => {
    for (let i = 0; i < 10; i++) for (const data of [tcp('A'), udp(53), udp(54)]) run(data);
  };
  const file = files.at('one.pcapng');
  const one = await captured(hookOf(gate.gate), file, send, { expression: 'udp port 53' });
  expect(one.counts.pass).toMatchObject({ seen: 20, notMatched: 10, captured: 10, lost: 0 });
  expect(one.counts.drop).toMatchObject({ seen: 10, notMatched: 10, captured: 0 });
  expect(tcpdump(file).every((line) => / > 10\.0\.0\.2\.53: /.test(line))).toBe(true);
  const head = readFileSync(file).toString('latin1');
  for (const name of ['XDPaborted', 'XDPdrop', 'XDPpass', 'XDPtx', 'XDPredirect', 'XDP action'])
    expect(head).toContain(name);
  expect(head).toContain('\0udp port 53');
  const drops = await captured(hookOf(gate.gate), file, send, { actions: ['drop'] });
  expect(Object.keys(drops.counts)).toEqual(['drop']);
  expect(shown(file).map((packet) => packet.interface)).toEqual(Array(10).fill('XDPdrop'));
});

kernelTest('in front of the capture every filter means what libpcap says', ['xdpFrags'], async () => {
  using files = new Captures();
  using foreign = new Foreign('test_frags', 0);
  const six = { src: '2001:db8::1', dst: '2001:db8::2' };
  const packets = [
    udp(53),
    udp(1, 'x'.repeat(1400)),
    udp(2, 'x'.repeat(9000)),
    tcp('S'),
    tcp('A'),
    eth().vlan(7).ipv4(AB).udp({ sport: 5, dport: 53 }).bytes(),
    eth().ipv6(six).udp({ sport: 5, dport: 53 }).payload('abc').bytes(),
    eth().ipv6(six).hopByHop().tcp({ sport: 1, dport: 2 }).bytes(),
    eth().ipv4(AB).icmp().bytes(),
    Uint8Array.from([...new Uint8Array(12), 8, 6, ...new Uint8Array(46)]),
    new Uint8Array(14),
  ];
  for (const expression of [
    'udp port 53',
    'tcp[tcpflags] & tcp-syn != 0',
    'host 10.0.0.2 and not icmp',
    'ip6[48:2] = 0x6162',
    'vlan 7 and port 53',
    'ether[9000] = 120',
    'greater 1000 or arp',
    'ip[2:2] > 600 and ip[8] - 60 < 10',
    'less 30',
  ]) {
    const file = files.at('filter.pcapng');
    const run = (): void => {
      for (const data of packets) foreign.run(data);
    };
    const { counts } = await captured(foreign.hook, file, run, { expression });
    const wanted = packets.filter(
      (data) => interpretCbpf(compileFilterText(expression, 'tcpdump'), data) !== 0,
    );
    expect(
      shown(file).map(({ length }) => length),
      expression,
    ).toEqual(wanted.map(({ length }) => length));
    const seen = Object.values(counts).reduce((sum, one) => sum + one.seen, 0);
    expect(seen).toBe(packets.length);
  }
});

for (const [name, attachType] of [
  ['test_plain', 0],
  ['test_plain', 37],
  ['test_frags', 0],
  ['test_frags', 37],
] as const) {
  kernelTest(`the hook of a foreign program: ${name}, attach type ${attachType}`, ['xdpFrags'], async () => {
    using files = new Captures();
    using foreign = new Foreign(name, attachType);
    const file = files.at('foreign.pcapng');
    const { counts } = await captured(foreign.hook, file, () => {
      for (let port = 0; port < 8; port++) expect(foreign.run(udp(port))).toBe(port & 3);
    });
    expect(shown(file).map((packet) => packet.interface)).toEqual([
      'XDPaborted',
      'XDPdrop',
      'XDPpass',
      'XDPtx',
      'XDPaborted',
      'XDPdrop',
      'XDPpass',
      'XDPtx',
    ]);
    expect(shown(file).map((packet) => packet.comment)).toEqual(Array(8).fill(''));
    for (const action of ['aborted', 'drop', 'pass', 'tx'] as const)
      expect(counts[action]).toMatchObject({ seen: 2, captured: 2 });
    const hook = foreign.object.map('test_hook');
    for (let slot = 0; slot < 5; slot++) expect(programIn(hook, slot)).toBeUndefined();
    expect(foreign.run(udp(3))).toBe(XDP_TX);
  });
}

kernelTest(
  'frames in several buffers are matched and captured whole, or up to the snap length',
  ['xdpFrags'],
  async () => {
    using files = new Captures();
    using foreign = new Foreign('test_frags', 0);
    const data = new Uint8Array(9014);
    for (let i = 0; i < data.length; i++) data[i] = (i * 7) & 0xff;
    data.set(udp(3, ''));
    const expression = `ether[8500] = ${data[8500]} and ether[8501] = ${data[8501]} and greater 9000`;
    const file = files.at('jumbo.pcapng');
    const run = (): void => void foreign.run(data);
    const whole = await captured(foreign.hook, file, run, { expression });
    expect(whole.counts.tx).toMatchObject({ seen: 1, captured: 1 });
    expect(readFileSync(file).includes(Buffer.from(data))).toBe(true);
    await captured(foreign.hook, file, run, { expression, snaplen: 4100 });
    expect(shown(file)).toMatchObject([{ interface: 'XDPtx', length: 9014, captured: 4100 }]);
    expect(readFileSync(file).includes(Buffer.from(data.subarray(0, 4100)))).toBe(true);
    const lengths = [14, 15, 63, 64, 127, 128, 129, 1023, 1024, 1025, 1151, 1152, 1153, 3000];
    await captured(foreign.hook, file, () => {
      for (const length of lengths) foreign.run(data.subarray(0, length));
    });
    expect(shown(file)).toMatchObject(lengths.map((length) => ({ length, captured: length })));
    for (const length of lengths)
      expect(readFileSync(file).includes(Buffer.from(data.subarray(0, length)))).toBe(true);
  },
);

kernelTest(
  'what finds no room is counted: the parts are the whole, and what the ledger says',
  ['xdpFrags'],
  async () => {
    using files = new Captures();
    using gate = new TestGate();
    gate.shunt(gateKey(6, A, B), { seq: [1, 1], ack: [1, 1] });
    const before = gate.gate.ledger();
    const file = files.at('pressure.pcapng');
    const { counts } = await captured(
      hookOf(gate.gate),
      file,
      async () => {
        for (let round = 0; round < 5; round++) {
          for (const data of [tcp('A'), udp(53), udp(54)])
            gate.gate.program.testRun({ data, repeat: 20_000 });
          await new Promise((resolve) => setTimeout(resolve, 5));
        }
      },
      { ringBytes: 4096, expression: 'tcp or port 53' },
    );
    const after = gate.gate.ledger();
    const { drop, pass } = counts;
    if (drop === undefined || pass === undefined) throw new Error('no counts');
    expect(drop.seen).toBe(after.shunted.pkts - before.shunted.pkts);
    expect(pass.seen).toBe(after.passed.pkts - before.passed.pkts);
    expect(drop.lost).toBeGreaterThan(0);
    expect(drop.captured + drop.lost).toBe(100_000);
    expect(pass.notMatched).toBe(100_000);
    expect(pass.captured + pass.lost).toBe(100_000);
    expect(shown(file)).toHaveLength(drop.captured + pass.captured);
  },
);

kernelTest('one packet in so many', ['xdpFrags'], async () => {
  using files = new Captures();
  using foreign = new Foreign('test_plain', 0);
  const file = files.at('sample.pcapng');
  const { counts } = await captured(foreign.hook, file, () => void foreign.run(udp(2), 20_000), {
    sample: 100,
    ringBytes: 1 << 20,
  });
  const { pass } = counts;
  expect(pass).toMatchObject({ seen: 20_000, notMatched: 0, lost: 0 });
  // 200 are expected, with a standard deviation of 14.
  expect(pass?.captured).toBeGreaterThan(60);
  expect(pass?.captured).toBeLessThan(340);
  expect((pass?.captured ?? 0) + (pass?.notSampled ?? 0)).toBe(20_000);
});

kernelTest('so many packets and no more', ['xdpFrags'], async () => {
  using files = new Captures();
  using foreign = new Foreign('test_plain', 0);
  const file = files.at('count.pcapng');
  const { counts } = await captured(
    foreign.hook,
    file,
    async (capture) => {
      foreign.run(udp(1), 100);
      expect(await capture.ended).toBeUndefined();
    },
    { count: 7 },
  );
  expect(counts.drop).toEqual({
    seen: 100,
    notMatched: 0,
    notSampled: 0,
    captured: 7,
    lost: 0,
    surplus: 93,
  });
  expect(tcpdump(file)).toHaveLength(7);
});

kernelTest('files in turn: each whole, none too large, the latest kept', ['xdpFrags'], async () => {
  using files = new Captures();
  using foreign = new Foreign('test_plain', 0);
  const path = files.at('turn.pcapng');
  const sent = 400;
  const { counts, names } = await captured(
    foreign.hook,
    path,
    async () => {
      for (let i = 0; i < sent; i++) foreign.run(udp(1, `${String(i).padStart(4, '0')}${'.'.repeat(200)}`));
      await new Promise((resolve) => setTimeout(resolve, 50));
    },
    { output: { path, rotateBytes: 10_000, files: 3 } },
  );
  expect(counts.drop?.captured).toBe(sent);
  expect(names).toHaveLength(3);
  expect(names.every((name) => /turn-\d{5}\.pcapng$/.test(name))).toBe(true);
  const kept = names.map((name) => {
    // The statistics at its end come on top.
    expect(readFileSync(name).length).toBeLessThan(10_000 + 1000);
    return readFileSync(name)
      .toString('latin1')
      .match(/\d{4}(?=\.{200})/g)
      ?.map(Number) as number[];
  });
  for (const [index, name] of names.entries()) expect(tcpdump(name)).toHaveLength(kept[index].length);
  const all = kept.flat();
  expect(all).toEqual(Array.from({ length: all.length }, (_, i) => sent - all.length + i));
  expect(all.length).toBeGreaterThan(60);
});

kernelTest('several hooks at once, of different kinds', ['xdpFrags'], async () => {
  using files = new Captures();
  using plain = new Foreign('test_plain', 37);
  using frags = new Foreign('test_frags', 0);
  const file = files.at('several.pcapng');
  const hooks = [plain, frags].map(({ hook }) => ({ path: hook, name: hook }));
  const run = (): void => {
    plain.run(udp(1));
    frags.run(udp(1));
    frags.run(udp(2));
  };
  const { counts } = await captured(plain.hook, file, run, { hooks });
  expect(counts).toMatchObject({ drop: { seen: 2, captured: 2 }, pass: { seen: 1, captured: 1 } });
  expect(shown(file).map((packet) => packet.interface)).toEqual(['XDPdrop', 'XDPdrop', 'XDPpass']);
  const head = readFileSync(file).toString('latin1');
  for (const { name } of hooks) expect(head).toContain(name);
});

kernelTest('the capture of somebody else is named and left alone', ['xdpFrags'], async () => {
  using files = new Captures();
  using gate = new TestGate();
  using theirs = returning(XDP_TX);
  const hook = gate.gate.table('hook');
  occupy(hook, XDP_PASS, theirs);
  const file = files.at('taken.pcapng');
  const taken = { code: 'INTERFACE_BUSY', message: expect.stringContaining(`foreign (id ${theirs.id})`) };
  await expect(captured(hookOf(gate.gate), file, () => {})).rejects.toMatchObject(taken);
  expect(programIn(hook, XDP_PASS)).toBe(theirs.id);
  expect(programIn(hook, XDP_DROP)).toBeUndefined();
  // The other actions are free, and a second capture of ours there finds them taken in turn.
  await captured(
    hookOf(gate.gate),
    file,
    async () => {
      writeFileSync(files.at('second'), 'precious');
      const second = captured(hookOf(gate.gate), files.at('second'), () => {}, { actions: ['drop'] });
      await expect(second).rejects.toMatchObject({ code: 'INTERFACE_BUSY' });
      expect(readFileSync(files.at('second'), 'utf8')).toBe('precious');
      expect(gate.gate.slots().hook).toEqual(['drop', 'pass']);
    },
    { actions: ['drop'] },
  );
  expect(programIn(hook, XDP_PASS)).toBe(theirs.id);
  occupy(hook, XDP_PASS, undefined);
});

kernelTest(
  'the program behind the gate runs while our capture is there, and after',
  ['xdpFrags'],
  async () => {
    using files = new Captures();
    using gate = new TestGate();
    using next = returning(XDP_TX);
    gate.gate.setNext(next);
    const run = (port: number): number => gate.gate.program.testRun({ data: udp(port) }).retval;
    const file = files.at('next.pcapng');
    await captured(
      hookOf(gate.gate),
      file,
      () => {
        expect(gate.gate.slots().next?.reached).toBe(true);
        expect([run(53), run(54)]).toEqual([XDP_TX, XDP_TX]);
      },
      { expression: 'port 53' },
    );
    expect(run(53)).toBe(XDP_TX);
    expect(shown(file)).toMatchObject([{ interface: 'XDPpass' }]);
  },
);

kernelTest('what is no hook is refused', ['xdpFrags'], () => {
  using gate = new TestGate();
  using ring = BpfMap.create({ type: MapType.ringbuf, keySize: 0, valueSize: 0, maxEntries: 4096 });
  const open = (path: string) => () =>
    new CaptureHook({
      path,
      number: 0,
      actions: ['drop'],
      filter: undefined,
      snaplen: 1,
      sample: 1,
      ring,
    });
  expect(open(gate.gate.pins['ledger'])).toThrow(expect.objectContaining({ code: 'PIN_FOREIGN' }));
  expect(open('/sys/fs/bpf/sluice-test-none')).toThrow(expect.objectContaining({ code: 'NOT_FOUND' }));
});

kernelTest('a hook with fewer slots', ['xdpFrags'], async () => {
  using files = new Captures();
  using old = BpfMap.create({ type: MapType.progArray, keySize: 4, valueSize: 4, maxEntries: 4 });
  const path = join(ensureBpffs(), `sluice-test-${process.pid}-four`);
  old.pin(path);
  try {
    const { counts } = await captured(path, files.at('four'), () => {});
    expect(Object.keys(counts)).toEqual(['aborted', 'drop', 'pass', 'tx']);
    const none = captured(path, files.at('none'), () => {}, { actions: ['redirect'] });
    await expect(none).rejects.toMatchObject({ code: 'USAGE' });
  } finally {
    rmSync(path);
  }
});

kernelTest('captures of ours are told from others', ['xdpFrags'], async () => {
  using files = new Captures();
  using foreign = new Foreign('test_frags', 0);
  const hook = foreign.object.map('test_hook');
  await captured(foreign.hook, files.at('a'), () => {
    expect(captureState(programIn(hook, XDP_DROP) ?? 0)).toBe('alive');
    expect(clearDeadCaptures(hook)).toBe(true);
  });
  using theirs = returning(XDP_PASS);
  occupy(hook, XDP_PASS, theirs);
  expect(captureState(theirs.id)).toBe('foreign');
  expect(clearDeadCaptures(hook)).toBe(false);
  expect(programIn(hook, XDP_PASS)).toBe(theirs.id);
});
