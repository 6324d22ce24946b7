import { statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { FLOWS_WHOLE, Rings, sendAll } from '../../bench/fanout-rings.ts';
import { SlPacket } from '../../src/gate/layout.gen.ts';
import { RulesSlot } from '../../src/gate/layout.ts';
import { GateLosses, type LossTable } from '../../src/gate/losses/index.ts';
import { onlineCpus } from '../../src/gate/steer.ts';
import {
  interfaceInfo,
  interfaces,
  loadInstructions,
  PacketSender,
  ProgramFlag,
  ProgramType,
} from '../../src/kernel/index.ts';
import { eth } from '../../src/packet/build.ts';
import { conversation } from '../../src/packet/conversation.ts';
import { handRule } from '../gate/hand-rule.ts';
import { gateKey, TestGate } from '../gate/support.ts';
import { documentOf, Feed, LogDir, runOn } from '../sensor/run.ts';
import { ip, kernelTest, ownNetns, sh, until, untilOperational, vethPair } from '../support/kernel.ts';
import { macOf, rowOf, times, total, untilBacklogEmpty } from './losses-support.ts';

/** Every loss here is caused for real, and the sums of the ledger have to be right (docs/losses.md says which test forces what). */

ownNetns();

/** What the head of the table has to be. */
const sumOf = ({ rows }: LossTable, kind: string): number =>
  rows.filter((row) => row.kind === kind && row.unit === 'packets').reduce((sum, row) => sum + row.total, 0);

/** Actions of a filter; the kernel takes 32. */
const ACTIONS = 31;

/** Every frame that comes into `from` is copied within one softirq, so that the copies cannot be taken in between. */
function multiply(from: string, copies: readonly { to: string; filters: number }[]): void {
  sh('tc', 'qdisc', 'add', 'dev', from, 'clsact');
  let pref = 0;
  for (const { to, filters } of copies) {
    const copy = `action mirred egress mirror dev ${to}`;
    const actions = Array.from(
      { length: ACTIONS },
      (_, i) => `${copy} ${i < ACTIONS - 1 ? 'pipe' : 'continue'}`,
    );
    for (let i = 0; i < filters; i++)
      sh(
        'tc',
        ...['filter add dev', from, 'ingress pref', ++pref, 'protocol all u32 match u32 0 0', ...actions]
          .join(' ')
          .split(' '),
      );
  }
}

const countersOf = (name: string) => {
  const found = interfaces().find((each) => each.name === name);
  if (found === undefined) throw new Error(`there is no ${name}`);
  return found.counters;
};

kernelTest(
  'a CPU’s backlog that is full, its budget that is spent, frames that a card refuses: the sums are what was sent',
  ['packetRing'],
  async () => {
    const trigger = vethPair();
    const tap = vethPair();
    // Each of these has a NAPI of its own, as with GRO on; five of them use up the budget of a softirq.
    const napis = Array.from({ length: 6 }, () => vethPair());
    const under = vethPair();
    using logs = new LogDir();
    try {
      for (const { a, b } of napis) {
        sh('ethtool', '-K', b, 'gro', 'on');
        sh('ethtool', '-K', a, 'tso', 'off');
      }
      const FILTERS = 64;
      multiply(trigger.b, [
        { to: tap.a, filters: FILTERS },
        ...napis.map(({ a }) => ({ to: a, filters: 3 })),
      ]);
      // A tunnel's end refuses what was marked as congested outside and cannot carry that inside (RFC 6040).
      ip(`addr add 10.9.0.2/24 dev ${under.a}`);
      ip(`link add vx0 type vxlan id 7 local 10.9.0.2 remote 10.9.0.1 dstport 4789 dev ${under.a}`);
      ip('link set vx0 addrgenmode none');
      ip('link set vx0 up');
      const mac = macOf(under.a);
      const inTunnel = (tos: number): Uint8Array =>
        eth({ dst: mac })
          .ipv4({ src: '10.9.0.1', dst: '10.9.0.2', tos })
          .udp({ sport: 1000, dport: 4789 })
          .vxlan({ vni: 7 })
          .eth()
          .ipv4({ src: '10.1.0.1', dst: '10.2.0.1' })
          .udp({ sport: 5, dport: 6 })
          .payload(50)
          .bytes();
      await using run = await runOn(`${tap.b},vx0`, logs, '--tap', '--no-gate').ready();
      const before = { from: countersOf(tap.a), tap: countersOf(tap.b), vx: countersOf('vx0') };
      const frame = eth().ipv4({ src: '10.9.1.1', dst: '10.9.1.2' }).udp({ sport: 1, dport: 2 }).bytes();
      const TRIGGERS = 5;
      {
        using sender = new PacketSender(trigger.a);
        for (let i = 0; i < TRIGGERS; i++) sender.send(frame, Uint32Array.of(0, frame.length));
      }
      const [refused, good] = [20, 30];
      await new Feed(under.b, [
        ...Array.from({ length: refused }, () => inTunnel(3)),
        ...Array.from({ length: good }, () => inTunnel(0)),
      ]).done;
      await until(() => {
        const { rxPackets, rxErrors } = countersOf('vx0');
        return rxPackets - before.vx.rxPackets === good && rxErrors - before.vx.rxErrors === refused;
      }, 'frames of the tunnel are missing');
      const copied = TRIGGERS * FILTERS * ACTIONS;
      const arrived = (): number => countersOf(tap.b).rxPackets - before.tap.rxPackets;
      const notTaken = (): number => countersOf(tap.a).txDropped - before.from.txDropped;
      await until(() => arrived() + notTaken() === copied, 'not all copies were made');
      const reached = arrived();
      await untilBacklogEmpty();
      const { losses } = documentOf(await run.stop());
      // 1,000 wait for a CPU and not one more (net.core.netdev_max_backlog), so that most of them were lost.
      expect(copied - reached).toBeGreaterThan(TRIGGERS);
      expect(rowOf(losses, 'softnet', 'dropped')).toMatchObject({ kind: 'loss', unit: 'packets' });
      // Of the whole machine: others may have lost some as well.
      expect(total(losses, 'softnet', 'dropped')).toBeGreaterThanOrEqual(copied - reached);
      expect(total(losses, 'softnet', 'squeezed')).toBeGreaterThan(0);
      expect(rowOf(losses, 'softnet', 'squeezed')?.kind).toBe('warning');
      expect(total(losses, 'softnet', 'processed')).toBeGreaterThan(good);
      expect(total(losses, 'nic', 'received', tap.b)).toBe(reached);
      expect(total(losses, 'nic', 'errors.rx_errors', 'vx0')).toBe(refused);
      expect(total(losses, 'worker', 'handled', tap.b) + total(losses, 'capture', 'ringFull', tap.b)).toBe(
        reached,
      );
      expect(total(losses, 'worker', 'handled', 'vx0')).toBe(good);
      expect(losses.lost.packets).toBe(sumOf(losses, 'loss'));
      expect(losses.lost.packets).toBe(
        total(losses, 'softnet', 'dropped') + refused + total(losses, 'capture', 'ringFull'),
      );
    } finally {
      ip('link del vx0');
      for (const { remove } of [trigger, tap, ...napis, under]) remove();
    }
  },
);

/** A program in the slot of rules that leaves a verdict that there is not, as a foreign one might. */
function undecided(gate: TestGate) {
  const map = (register: number, name: 'rules' | 'scratch'): number[] => {
    const { fd } = gate.gate.table(name);
    return [0x18, 0x10 | register, 0, 0, fd & 0xff, (fd >> 8) & 0xff, ...Array<number>(10).fill(0)];
  };
  const code = [
    [0xbf, 0x16, 0, 0, 0, 0, 0, 0], // r6 = r1
    [0x62, 10, 0xfc, 0xff, 0, 0, 0, 0], // key: 0
    map(1, 'scratch'),
    [0xbf, 0xa2, 0, 0, 0, 0, 0, 0], // r2 = r10
    [0x07, 2, 0, 0, 0xfc, 0xff, 0xff, 0xff], // r2 -= 4
    [0x85, 0, 0, 0, 1, 0, 0, 0], // bpf_map_lookup_elem
    [0x15, 0, 6, 0, 0, 0, 0, 0], // none: to the end
    [0x62, 0, SlPacket.members.verdict, 0, 0xff, 0, 0, 0], // verdict = 255
    [0xbf, 0x61, 0, 0, 0, 0, 0, 0], // r1 = r6
    map(2, 'rules'),
    [0xb7, 3, 0, 0, RulesSlot.exit, 0, 0, 0],
    [0x85, 0, 0, 0, 12, 0, 0, 0], // bpf_tail_call
    [0xb7, 0, 0, 0, 2, 0, 0, 0], // XDP_PASS
    [0x95, 0, 0, 0, 0, 0, 0, 0],
  ];
  return loadInstructions(Uint8Array.from(code.flat()), {
    type: ProgramType.xdp,
    name: 'undecided',
    flags: ProgramFlag.xdpHasFrags,
  });
}

kernelTest(
  'a gate: packets that rules and limits drop, queues of CPUs and rings of samples that are full, a program without a verdict',
  ['packetRing', 'xdpFrags', 'syscallProgram', 'xdpNativeVeth', 'cpumap'],
  async () => {
    const { a, b, remove } = vethPair();
    try {
      using gate = new TestGate({
        ifname: b,
        ifindex: interfaceInfo(b).index,
        steer: { cpus: onlineCpus().slice(0, 1), queue: 64, tagged: false },
      });
      gate.gate.attach('native');
      untilOperational(a, b);
      const ledger = new GateLosses(gate.gate, () => [{ interface: b, mode: 'native' }]);
      ledger.look();
      const [A, B] = [
        { addr: '10.0.0.1', port: 1000 },
        { addr: '10.0.0.2', port: 443 },
      ];
      const between = eth().ipv4({ src: A.addr, dst: B.addr });
      const udp = (dport: number): Uint8Array =>
        eth().ipv4({ src: A.addr, dst: B.addr }).udp({ sport: 5, dport }).payload(100).bytes();
      const shunted = between
        .tcp({ sport: A.port, dport: B.port, seq: 1, ack: 1, flags: 'A', window: 9 })
        .bytes();
      gate.shunt(gateKey(6, A, B), { seq: [1, 1], ack: [1, 1] });
      {
        using rule = handRule(gate);
        gate.gate.setRules(rule.program('test_rule'));
        sendAll(a, [...times(udp(53), 30), ...times(udp(123), 20), ...times(shunted, 10)]);
        await until(() => gate.gate.ledger().seen.pkts === 60, 'packets are missing');
        // The ring of samples has room for some of them, and nobody reads it.
        const sampler = gate.gate.sample({ every: 1, size: 2048, ringBytes: 4096 }, () => {});
        sendAll(a, times(udp(53), 40));
        await until(() => gate.gate.ledger().seen.pkts === 100, 'packets are missing');
        // Counted beside the verdicts.
        const taken = (): number => {
          const { sampled, sampleLost } = gate.gate.sampled();
          return sampled.pkts + sampleLost.pkts;
        };
        await until(() => taken() === 40, 'samples are missing');
        ledger.look();
        const { sampled, sampleLost } = gate.gate.sampled();
        expect(sampleLost.pkts).toBeGreaterThan(0);
        expect(sampled.pkts + sampleLost.pkts).toBe(40);
        expect(total(ledger.table(), 'gate', 'sampleLost')).toBe(sampleLost.pkts);
        expect(rowOf(ledger.table(), 'gate', 'sampleLost')?.kind).toBe('warning');
        sampler.close();
      }
      {
        using program = undecided(gate);
        gate.gate.setRules(program);
        sendAll(a, times(udp(9), 15));
        await until(() => gate.gate.ledger().seen.pkts === 115, 'packets are missing');
        gate.gate.setRules(undefined);
      }
      // The queue is short and the senders are many: sooner or later it has no room.
      using rings = new Rings(b, 1, FLOWS_WHOLE, { blocks: 64 });
      const frames = times(udp(9), 200);
      for (let round = 0; round < 500 && (gate.gate.steering()?.lost ?? 0) === 0; round++) {
        sendAll(a, frames, { byCpu: true });
        rings.drain(() => {});
      }
      const settled = (): boolean => {
        const { arrived, lost } = gate.gate.steering() ?? { arrived: { pkts: 0 }, lost: 0 };
        return arrived.pkts + lost === gate.gate.ledger().steered.pkts;
      };
      await until(settled, 'packets are on their way to a CPU for ever');
      ledger.look();
      const table = ledger.table();
      const of = (counter: string): number => total(table, 'gate', counter);
      expect([of('ruleDropped'), of('rateLimited'), of('shunted'), of('aborted')]).toEqual([70, 20, 10, 15]);
      expect(of('steerLost')).toBeGreaterThan(0);
      expect(of('seen')).toBe(
        of('passed') + of('shunted') + of('ruleDropped') + of('rateLimited') + of('steered') + of('aborted'),
      );
      expect(table.wanted.packets).toBe(100);
      expect(table.lost.packets).toBe(sumOf(table, 'loss'));
      expect(table.wanted.packets).toBe(sumOf(table, 'wanted'));
    } finally {
      remove();
    }
  },
);

const talk = (port: number, data: number): Uint8Array[] =>
  conversation({
    client: { address: '10.1.0.1', port },
    server: { address: '10.2.0.1', port: 8080 },
    turns: [
      { from: 'client', data: 100 },
      { from: 'server', data },
      { from: 'client', data: 100 },
    ],
    mss: 1000,
  }).map(({ bytes }) => bytes);
const isData = (frame: Uint8Array): boolean => frame.length > 1000;
const flow = (port: number): Uint8Array =>
  eth().ipv4({ src: '10.3.0.1', dst: '10.4.0.1' }).udp({ sport: port, dport: 9 }).payload(100).bytes();

kernelTest(
  'what workers and logs lose: every packet that was sent is handled, every line is written or lost',
  ['packetRing'],
  async () => {
    const { a, b, remove } = vethPair();
    using logs = new LogDir();
    sh('mount', '-t', 'tmpfs', '-o', 'size=512k', 'sluice-test', logs.path);
    try {
      // Nobody listens there, and there is room for some hundred lines.
      const sink = ['--log-sink', 'tcp://127.0.0.1:1?queue=64KiB&log=conn'];
      const options = ['--no-gate', '--max-flows', '1024', ...sink];
      await using run = await runOn(a, logs, ...options).ready();
      const { bavail, bsize } = statfsSync(logs.path);
      writeFileSync(join(logs.path, 'ballast'), Buffer.alloc((bavail - 4) * bsize));
      // One without what the server sent, one whose two segments have changed places.
      const gap = talk(20_000, 1000).filter((frame) => !isData(frame));
      const late = talk(20_001, 2000);
      const first = late.findIndex(isData);
      [late[first], late[first + 1]] = [late[first + 1], late[first]];
      const damaged = Array.from({ length: 7 }, (_, i) => {
        const frame = flow(60_000 + i);
        frame[frame.length - 1] ^= 0x55;
        return frame;
      });
      const cut = Array.from({ length: 5 }, () => flow(61_000).subarray(0, 20));
      // More than there is room for.
      const many = Array.from({ length: 3000 }, (_, i) => flow(10_000 + i));
      const frames = [...gap, ...late, ...damaged, ...cut, ...many];
      await new Feed(b, frames).done;
      await until(
        () => /^the logs cannot be written: ENOSPC/m.test(run.stderr),
        'the full disk is not told of',
        60,
      );
      const { losses, connections } = documentOf(await run.stop());
      const of = (counter: string): number => total(losses, 'worker', counter);
      expect(of('handled') + total(losses, 'capture', 'ringFull')).toBe(frames.length);
      expect([of('badChecksums'), of('unparsed'), of('tcp.gaps'), of('tcp.late')]).toEqual([7, 5, 1, 1]);
      expect(of('tcp.acks')).toBeGreaterThan(0);
      expect(of('evicted')).toBeGreaterThan(0);
      for (const counter of ['badChecksums', 'tcp.gaps', 'tcp.late', 'evicted'])
        expect(rowOf(losses, 'worker', counter)?.kind).toBe('warning');
      // Of each connection a line for the file and one for the sink, and both are accounted for.
      expect(connections).toBe(2 + damaged.length + many.length);
      const line = (counter: string, where = ''): number => total(losses, 'log', counter, where);
      const whole = (name: string): number => logs.read(name).length;
      const names = ['conn', 'stats', 'capture_loss', 'notice'];
      const kept = names.reduce((sum, name) => sum + whole(name), 0);
      expect(line('diskLost')).toBeGreaterThan(1000);
      expect(line('written')).toBe(kept);
      expect(whole('conn')).toBeLessThan(connections);
      expect(line('waiting')).toBe(0);
      const sinkName = 'tcp://127.0.0.1:1';
      expect(line('sent', sinkName) + line('sinkLost', sinkName)).toBe(connections);
      expect(line('sinkLost', sinkName)).toBeGreaterThan(1000);
      expect(rowOf(losses, 'log', 'sinkLost')).toMatchObject({ kind: 'loss', unit: 'lines' });
      // Lines are no packets.
      expect(losses.lost.packets).toBe(sumOf(losses, 'loss'));
      expect(losses.lost.packets).toBe(
        total(losses, 'capture', 'ringFull') + total(losses, 'softnet', 'dropped'),
      );
    } finally {
      sh('umount', '--lazy', logs.path);
      remove();
    }
  },
);
