import { describe, expect } from 'vitest';
import {
  back,
  fragmentsOf,
  numbered,
  packetOf,
  randomEnds,
  randomOf,
  WRAPPERS,
} from '../../bench/fanout-frames.ts';
import { gateSteering, onlineCpus } from '../../src/gate/steer.ts';
import { loadInstructions, ProgramFlag, ProgramType, XdpAction } from '../../src/kernel/index.ts';
import { eth } from '../../src/packet/build.ts';
import { kernelTest, ownNetns } from '../support/kernel.ts';
import { gateKey, TestGate } from './support.ts';

ownNetns();

/** More CPUs than there are would be refused; some machines have one. */
const [first = 0, second = first] = onlineCpus();
const STEER = { cpus: [first, second, first, second, first], queue: 256, tagged: true };
const FLOWS = 80;

const wish = (steer: string) => () => gateSteering({ steer, steerQueue: 1024 }, 'lo');

/** By which of the queues a frame went: none if it went on where it came. */
function queueOf(gate: TestGate, data: Uint8Array): number | undefined {
  const sent = (): number[] => gate.gate.steering()?.cpus.map((each) => each.sent.pkts) ?? [];
  const before = sent();
  const { retval } = gate.gate.program.testRun({ data });
  const which = sent().flatMap((pkts, index) => (pkts > before[index] ? [index] : []));
  expect(retval).toBe(which.length === 0 ? XdpAction.pass : XdpAction.redirect);
  expect(which.length).toBeLessThan(2);
  return which[0];
}

describe('both directions and all fragments go by one queue', () => {
  kernelTest('whatever is around them', ['xdpFrags', 'syscallProgram', 'cpumap'], () => {
    using gate = new TestGate({ steer: STEER });
    const random = randomOf(1);
    const used = new Set<number>();
    for (let flow = 0; flow < FLOWS; flow++) {
      const ends = { ...randomEnds(random), protocol: flow % 2 === 0 ? 'udp' : 'tcp' } as const;
      const before = WRAPPERS[flow % WRAPPERS.length].wrap(numbered(flow));
      const frames = [packetOf(before, ends).bytes(), packetOf(before, back(ends)).bytes()];
      if (ends.protocol === 'udp')
        frames.push(...fragmentsOf(before, ends, flow, 1300), ...fragmentsOf(before, back(ends), flow, 1300));
      const queues = new Set(frames.map((frame) => queueOf(gate, frame)));
      expect(queues.size, `flow ${flow}`).toBe(1);
      for (const queue of queues) if (queue !== undefined) used.add(queue);
    }
    expect(used).toEqual(new Set(STEER.cpus.keys()));
    const { fragments } = gate.gate.steering() ?? {};
    expect(fragments).toEqual({ first: FLOWS, followed: 2 * FLOWS, unknown: 0 });
    const { seen, steered, passed } = gate.gate.ledger();
    expect(steered).toEqual(seen);
    expect(passed.pkts).toBe(0);
  });
});

kernelTest(
  'a later fragment before its first one goes by addresses, and is counted',
  ['xdpFrags', 'cpumap'],
  () => {
    using gate = new TestGate({ steer: STEER });
    const ends = { ...randomEnds(randomOf(3)), protocol: 'udp' } as const;
    const [head, ...others] = fragmentsOf(eth(), ends, 1, 1300);
    for (const frame of [...others, head]) expect(queueOf(gate, frame)).toBeDefined();
    expect(gate.gate.steering()?.fragments).toEqual({ first: 1, followed: 0, unknown: 2 });
  },
);

kernelTest(
  'what is dropped is dropped, and what has no addresses goes on where it came',
  ['xdpFrags', 'syscallProgram', 'cpumap'],
  () => {
    using gate = new TestGate({ steer: STEER });
    const a = { addr: '10.0.0.1', port: 1000 };
    const b = { addr: '10.0.0.2', port: 443 };
    gate.shunt(gateKey(6, a, b), { seq: [1, 1], ack: [1, 1] });
    const tcp = { sport: a.port, dport: b.port, seq: 1, ack: 1, flags: 'A', window: 9 } as const;
    const held = eth().ipv4({ src: a.addr, dst: b.addr }).tcp(tcp);
    const arp = Uint8Array.from([...new Uint8Array(12), 8, 6, ...new Uint8Array(46)]);
    expect(gate.gate.program.testRun({ data: held.bytes() }).retval).toBe(XdpAction.drop);
    expect(queueOf(gate, arp)).toBeUndefined();
    expect(queueOf(gate, new Uint8Array(14))).toBeUndefined();
    const { seen, shunted, passed, steered, reasons } = gate.gate.ledger();
    expect([seen.pkts, shunted.pkts, passed.pkts, steered.pkts]).toEqual([3, 1, 2, 0]);
    expect([reasons.passNotIp?.pkts, reasons.passParse?.pkts]).toEqual([1, 1]);
  },
);

kernelTest(
  'steering goes on when features and sizes change',
  ['xdpFrags', 'syscallProgram', 'cpumap'],
  () => {
    using gate = new TestGate({ steer: STEER });
    const frame = eth().ipv4({ src: '10.0.0.1', dst: '10.0.0.2' }).udp({ sport: 1, dport: 2 }).bytes();
    const queue = queueOf(gate, frame);
    gate.gate.enable({ pairs: true });
    expect(queueOf(gate, frame)).toBe(queue);
    gate.gate.prepare({ flows4: 2048, flows6: 2048 }).commit();
    expect(queueOf(gate, frame)).toBe(queue);
    expect(gate.gate.ledger().steered.pkts).toBe(3);
  },
);

kernelTest('nothing runs behind a gate that steers', ['xdpFrags', 'cpumap'], () => {
  using gate = new TestGate({ steer: STEER });
  const code = Uint8Array.of(0xb7, 0, 0, 0, 2, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0);
  using next = loadInstructions(code, {
    type: ProgramType.xdp,
    name: 'next',
    flags: ProgramFlag.xdpHasFrags,
  });
  expect(() => gate.gate.setNext(next)).toThrow(expect.objectContaining({ code: 'USAGE' }));
});

kernelTest('CPUs that are not up are refused', ['cpumap'], () => {
  expect(wish('off')()).toBeUndefined();
  expect(wish('auto')()?.cpus.toSorted((a, b) => a - b)).toEqual(onlineCpus());
  expect(wish(`${first}`)()).toEqual({ cpus: [first], queue: 1024, tagged: false });
  expect(wish('8000')).toThrow(
    expect.objectContaining({ code: 'USAGE', message: expect.stringContaining('8000') }),
  );
});
