import { expect } from 'vitest';
import { onlineCpus } from '../../src/gate/steer.ts';
import { loadInstructions, ProgramFlag, ProgramType, XdpAction } from '../../src/kernel/index.ts';
import { eth } from '../../src/packet/build.ts';
import { kernelTest, ownNetns } from '../support/kernel.ts';
import { Captures, Foreign, hookOf, shown, tshark } from './cap-support.ts';
import { Client } from './clients/client.ts';
import { gateKey, TestGate } from './support.ts';

ownNetns();

const A = { addr: '10.0.0.1', port: 1000 };
const B = { addr: '10.0.0.2', port: 443 };
const IP = { src: A.addr, dst: B.addr };
const shunted = eth().ipv4(IP).tcp({ sport: A.port, dport: B.port, seq: 1, ack: 1, flags: 'A', window: 9 });
const udp = (dport: number) => eth().ipv4(IP).udp({ sport: 5, dport }).payload('x');
const arp = Uint8Array.from([...new Uint8Array(12), 8, 6, ...new Uint8Array(46)]);

kernelTest(
  'a filter loaded as xdpcap loads it attaches to our hook and sees every verdict',
  ['xdpFrags', 'syscallProgram'],
  async () => {
    using files = new Captures();
    using gate = new TestGate();
    gate.shunt(gateKey(6, A, B), { seq: [1, 1], ack: [1, 1] });
    const file = files.at('all.pcapng');
    using xdpcap = Client.start('xdpcap', hookOf(gate.gate), file, '0');
    expect(await xdpcap.ask('kind')).toBe('frags 0');
    expect(gate.gate.slots().hook).toEqual(['aborted', 'drop', 'pass', 'tx', 'redirect']);
    const before = gate.gate.ledger();
    const run = (data: Uint8Array): number => gate.gate.program.testRun({ data }).retval;
    const frames = [shunted.bytes(), udp(53).bytes(), arp, shunted.bytes(), udp(54).bytes()];
    const { drop, pass } = XdpAction;
    expect(frames.map(run)).toEqual([drop, pass, pass, drop, pass]);
    expect(await xdpcap.ask('poll')).toBe('5');
    // Each verdict as the ledger has it.
    const after = gate.gate.ledger();
    const dropped = after.shunted.pkts - before.shunted.pkts;
    const passed = after.passed.pkts - before.passed.pkts;
    expect(await xdpcap.counts(`counts ${drop}`)).toEqual([dropped, dropped, 0]);
    expect(await xdpcap.counts(`counts ${pass}`)).toEqual([passed, passed, 0]);
    expect(await xdpcap.counts(`counts ${XdpAction.tx}`)).toEqual([0, 0, 0]);
    expect(shown(file).map((each) => [each.interface, each.length])).toEqual([
      ['XDPdrop', 54],
      ['XDPpass', 43],
      ['XDPpass', 60],
      ['XDPdrop', 54],
      ['XDPpass', 43],
    ]);
    expect(tshark(file)).toEqual(shown(file));
    // Its filter stays in the way of ours for as long as it is there, and `next` is not reached behind it.
    const code = Uint8Array.of(0xb7, 0, 0, 0, 3, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0);
    using next = loadInstructions(code, {
      type: ProgramType.xdp,
      name: 'next',
      flags: ProgramFlag.xdpHasFrags,
    });
    gate.gate.setNext(next);
    expect(gate.gate.slots().next?.reached).toBe(false);
    gate.gate.lookAfterCaptures();
    expect(gate.gate.slots().hook).toHaveLength(5);
    expect(run(udp(53).bytes())).toBe(pass);
    expect(await xdpcap.ask('close')).toBe('closed');
    expect(gate.gate.slots().hook).toEqual([]);
    expect(run(udp(53).bytes())).toBe(XdpAction.tx);
  },
);

kernelTest('its filter chooses, and jumbo frames come up to their first buffer', ['xdpFrags'], async () => {
  using files = new Captures();
  using gate = new TestGate();
  const file = files.at('some.pcapng');
  using xdpcap = Client.start('xdpcap', hookOf(gate.gate), file, '53');
  await xdpcap.ask('kind');
  const jumbo = eth().ipv4(IP).udp({ sport: 5, dport: 53 }).payload(new Uint8Array(8000)).bytes();
  for (const data of [udp(53).bytes(), udp(54).bytes(), shunted.bytes(), jumbo, udp(53).bytes()])
    gate.gate.program.testRun({ data });
  expect(await xdpcap.ask('poll')).toBe('3');
  expect(await xdpcap.counts(`counts ${XdpAction.pass}`)).toEqual([5, 3, 0]);
  const lengths = shown(file).map(({ length }) => length);
  expect([lengths[0], lengths[2]]).toEqual([43, 43]);
  expect(lengths[1]).toBeGreaterThan(1000);
  expect(lengths[1]).toBeLessThan(jumbo.length);
});

kernelTest('steered packets are redirected ones, and stay so', ['xdpFrags', 'cpumap'], async () => {
  using files = new Captures();
  using gate = new TestGate({ steer: { cpus: onlineCpus().slice(0, 1), queue: 64, tagged: true } });
  const file = files.at('steered.pcapng');
  using xdpcap = Client.start('xdpcap', hookOf(gate.gate), file, '0');
  await xdpcap.ask('kind');
  const { retval } = gate.gate.program.testRun({ data: udp(53).bytes() });
  expect(retval).toBe(XdpAction.redirect);
  expect(gate.gate.program.testRun({ data: arp }).retval).toBe(XdpAction.pass);
  expect(await xdpcap.ask('poll')).toBe('2');
  expect(shown(file).map((each) => each.interface)).toEqual(['XDPredirect', 'XDPpass']);
});

kernelTest(
  'the same at a hook of the other kind, which takes filters without frags',
  ['xdpFrags'],
  async () => {
    using files = new Captures();
    using foreign = new Foreign('test_plain', 0);
    const file = files.at('foreign.pcapng');
    using xdpcap = Client.start('xdpcap', foreign.hook, file, '0');
    expect(await xdpcap.ask('kind')).toBe('plain 0');
    for (let port = 0; port < 4; port++) foreign.run(udp(port).bytes());
    expect(await xdpcap.ask('poll')).toBe('4');
    expect(shown(file).map((each) => each.interface)).toEqual(['XDPaborted', 'XDPdrop', 'XDPpass', 'XDPtx']);
  },
);
