import { existsSync } from 'node:fs';
import { expect } from 'vitest';
import type { Abi } from '../../src/gate/abi.ts';
import { Exceptions } from '../../src/gate/exceptions.ts';
import type { GateOptions } from '../../src/gate/gate-options.ts';
import { gatePeers } from '../../src/gate/peers.ts';
import { eth, type PacketBuilder } from '../../src/packet/build.ts';
import { kernelTest, ownNetns } from '../support/kernel.ts';
import { Client } from './clients/client.ts';
import { gateKey, TestGate, XDP_DROP, XDP_PASS } from './support.ts';

// Two files at once may hold the loopback interface: each one of its own.
ownNetns();

const IFNAME = `abi${process.pid}`;
const ZEEK = `/sys/fs/bpf/sluice-test-zeek-${process.pid}`;

class PeerGate extends TestGate {
  constructor(abis: readonly Abi[], options: Partial<GateOptions> = {}, entries = 64) {
    super({ ifname: IFNAME, peers: gatePeers(abis, { zeekPins: ZEEK, entries }), ...options });
  }

  /** What becomes of a frame: its verdict, with the action that goes with it. */
  verdict(packet: PacketBuilder): string {
    const { action, verdict } = this.run(packet);
    const dropped = verdict === 'shunted' || verdict.startsWith('shuntedP');
    expect(action, verdict).toBe(dropped ? XDP_DROP : XDP_PASS);
    return verdict;
  }
}

type Wrap = (packet: PacketBuilder) => PacketBuilder;

interface Net {
  name: string;
  family: 4 | 6;
  a: string;
  b: string;
  wrap: Wrap;
  vlans: [number, number];
}

const plain: Wrap = (packet) => packet;
const NETS: readonly Net[] = [
  { name: 'IPv4', family: 4, a: '10.0.0.1', b: '192.168.7.9', wrap: plain, vlans: [0, 0] },
  { name: 'IPv4, VLAN', family: 4, a: '10.0.0.1', b: '192.168.7.9', wrap: (p) => p.vlan(5), vlans: [5, 0] },
  {
    name: 'IPv4, QinQ',
    family: 4,
    a: '200.0.0.1',
    b: '1.168.7.9',
    wrap: (p) => p.vlan(1234).vlan(4001),
    vlans: [1234, 4001],
  },
  { name: 'IPv6', family: 6, a: '2001:db8::1', b: '2001:db8:0:1::', wrap: plain, vlans: [0, 0] },
  // As two words of the machine the second address comes first.
  { name: 'IPv6, by words', family: 6, a: '2001:db8::1:1', b: '2001:db8::2:0', wrap: plain, vlans: [0, 0] },
  { name: 'IPv6, VLAN', family: 6, a: 'fd00::1', b: '2001:db8::5', wrap: (p) => p.vlan(7), vlans: [7, 0] },
];

const PORTS = { sport: 40_000, dport: 443 };
const BACK = { sport: 443, dport: 40_000 };

function frames({ family, a, b, wrap }: Net) {
  const from = (src: string, dst: string): PacketBuilder =>
    family === 4 ? wrap(eth()).ipv4({ src, dst }) : wrap(eth()).ipv6({ src, dst });
  return {
    there: (flags = 'A', payload = 100) =>
      from(a, b)
        .tcp({ ...PORTS, flags })
        .payload(payload),
    back: (flags = 'A', payload = 300) =>
      from(b, a)
        .tcp({ ...BACK, flags })
        .payload(payload),
    udp: (payload = 50) => from(a, b).udp(PORTS).payload(payload),
    udpBack: (payload = 60) => from(b, a).udp(BACK).payload(payload),
    from,
  };
}

const suricataFlow = (port: number): string => `4 tcp 10.0.0.1 ${port} 10.0.0.2 443 0 0`;

const length = (packet: PacketBuilder): number => packet.bytes().length;

for (const abi of ['suricata', 'suricata-shared', 'suricata-filter'] as const) {
  kernelTest(
    `${abi}: what is added is dropped at once, counted per direction, and passes when deleted`,
    ['xdpFrags', 'syscallProgram'],
    async () => {
      using gate = new PeerGate([abi]);
      using client = Client.start(
        'suricata',
        IFNAME,
        abi === 'suricata-shared' ? 'shared' : 'percpu',
        ...(abi === 'suricata-filter' ? ['host'] : []),
      );
      for (const net of NETS) {
        const { there, back, udp, udpBack } = frames(net);
        const flow = `${net.family} tcp ${net.a} 40000 ${net.b} 443 ${net.vlans.join(' ')}`;
        expect(gate.verdict(there()), net.name).toBe('passNoEntry');
        expect(await client.ask(`add ${flow}`), net.name).toBe('added added');
        expect(await client.ask(`add ${flow}`), net.name).toBe('exists exists');
        expect(gate.verdict(there()), net.name).toBe('shuntedPeer');
        expect(gate.verdict(there('PA', 7)), net.name).toBe('shuntedPeer');
        expect(gate.verdict(back()), net.name).toBe('shuntedPeer');
        expect(gate.verdict(udp()), `${net.name}: UDP is another`).toBe('passNoEntry');
        expect(await client.counts(`read ${flow}`), net.name).toEqual([
          2,
          length(there()) + length(there('PA', 7)),
          1,
          length(back()),
        ]);
        expect(await client.ask(`add ${flow.replace('tcp', 'udp')}`)).toBe('added added');
        expect(gate.verdict(udp()), net.name).toBe('shuntedPeer');
        expect(gate.verdict(udpBack()), net.name).toBe('shuntedPeer');
        expect(await client.counts(`read ${flow.replace('tcp', 'udp')}`)).toEqual([
          1,
          length(udp()),
          1,
          length(udpBack()),
        ]);
        expect(await client.counts(`walk ${net.family}`)).toEqual([4, 5, expect.any(Number)]);
        expect(await client.ask(`delete ${flow}`)).toBe('deleted 2');
        expect(gate.verdict(there()), net.name).toBe('passNoEntry');
        expect(await client.ask(`delete ${flow.replace('tcp', 'udp')}`)).toBe('deleted 2');
      }
      expect(gate.gate.ledger().aborted.pkts).toBe(0);
    },
  );
}

kernelTest(
  'Suricata: the VLAN ids are part of the key, whatever the own key has',
  ['xdpFrags', 'syscallProgram'],
  async () => {
    for (const vlanKey of [false, true]) {
      using gate = new PeerGate(['suricata'], { vlanKey });
      using client = Client.start('suricata', IFNAME, 'percpu');
      const [untagged, tagged, double] = NETS;
      await client.ask(`add 4 tcp ${tagged.a} 40000 ${tagged.b} 443 5 0`);
      expect(gate.verdict(frames(tagged).there())).toBe('shuntedPeer');
      expect(gate.verdict(frames(untagged).there())).toBe('passNoEntry');
      const other: Net = { ...tagged, wrap: (p) => p.vlan(6) };
      expect(gate.verdict(frames(other).there())).toBe('passNoEntry');
      // 5 in the other byte order.
      expect(gate.verdict(frames({ ...tagged, wrap: (p) => p.vlan(0x500) }).there())).toBe('passNoEntry');
      expect(gate.verdict(frames(double).there())).toBe('passNoEntry');
    }
  },
);

kernelTest(
  'Suricata: a SYN, FIN or RST passes and ends both directions until the entries are gone',
  ['xdpFrags', 'syscallProgram'],
  async () => {
    using gate = new PeerGate(['suricata']);
    using client = Client.start('suricata', IFNAME, 'percpu');
    for (const [net, flags] of [
      [NETS[0], 'S'],
      [NETS[2], 'FA'],
      [NETS[3], 'R'],
    ] as const) {
      const { there, back } = frames(net);
      const flow = `${net.family} tcp ${net.a} 40000 ${net.b} 443 ${net.vlans.join(' ')}`;
      await client.ask(`add ${flow}`);
      expect(gate.verdict(there())).toBe('shuntedPeer');
      expect(gate.verdict(back(flags, 0)), flags).toBe('passClose');
      expect(gate.verdict(there())).toBe('passEnding');
      expect(gate.verdict(back())).toBe('passEnding');
      // What passed is Suricata's to count.
      expect(await client.counts(`read ${flow}`)).toEqual([1, length(there()), 0, 0]);
      await client.ask(`delete ${flow}`);
      expect(gate.verdict(there())).toBe('passNoEntry');
    }
  },
);

kernelTest(
  'Zeek: what is shunted is dropped at once, counted per side, and passes when unshunted',
  ['xdpFrags', 'syscallProgram'],
  async () => {
    using gate = new PeerGate(['zeek'], { vlanKey: true });
    using client = Client.start('zeek', ZEEK);
    for (const net of NETS) {
      const { there, back, udp } = frames(net);
      const flow = `6 ${net.a} 40000 ${net.b} 443 ${net.vlans.join(' ')}`;
      expect(await client.ask(`stats ${flow}`)).toBe('none');
      expect(gate.verdict(there()), net.name).toBe('passNoEntry');
      expect(await client.ask(`shunt ${flow}`)).toBe('done');
      expect(await client.counts(`stats ${flow}`)).toEqual([0, 0, 0, 0, 0]);
      expect(gate.verdict(there()), net.name).toBe('shuntedPeer');
      expect(gate.verdict(back()), net.name).toBe('shuntedPeer');
      expect(gate.verdict(back('PA', 9)), net.name).toBe('shuntedPeer');
      expect(gate.verdict(udp()), net.name).toBe('passNoEntry');
      const counts = [1, length(there()), 2, length(back()) + length(back('PA', 9)), 1];
      expect(await client.counts(`stats ${flow}`), net.name).toEqual(counts);
      expect(await client.counts('walk')).toEqual([1, 3]);
      expect(await client.counts(`unshunt ${flow}`), net.name).toEqual(counts);
      expect(await client.ask(`unshunt ${flow}`)).toBe('none');
      expect(gate.verdict(there()), net.name).toBe('passNoEntry');
    }
  },
);

kernelTest(
  'Zeek: without --vlan-key a connection is one whatever its tags',
  ['xdpFrags', 'syscallProgram'],
  async () => {
    using gate = new PeerGate(['zeek']);
    using client = Client.start('zeek', ZEEK);
    const [untagged, tagged] = NETS;
    await client.ask(`shunt 17 ${tagged.a} 40000 ${tagged.b} 443 0 0`);
    expect(gate.verdict(frames(tagged).udp())).toBe('shuntedPeer');
    expect(gate.verdict(frames(untagged).udpBack())).toBe('shuntedPeer');
  },
);

kernelTest(
  'Zeek: a SYN, FIN or RST passes and ends the entry; shunting anew begins anew',
  ['xdpFrags', 'syscallProgram'],
  async () => {
    using gate = new PeerGate(['zeek']);
    using client = Client.start('zeek', ZEEK);
    const net = NETS[3];
    const { there, back } = frames(net);
    const flow = `6 ${net.a} 40000 ${net.b} 443 0 0`;
    for (const flags of ['S', 'SA', 'FA', 'RA']) {
      await client.ask(`shunt ${flow}`);
      expect(gate.verdict(there())).toBe('shuntedPeer');
      expect(gate.verdict(back(flags, 0)), flags).toBe('passClose');
      expect(gate.verdict(there()), flags).toBe('passEnding');
      expect(await client.counts(`stats ${flow}`)).toEqual([1, length(there()), 0, 0, 1]);
    }
    expect(await client.counts(`unshunt ${flow}`)).toEqual([1, length(there()), 0, 0, 1]);
  },
);

kernelTest(
  'Zeek: ICMP has no ports; address pairs hold back everything, fragments and ends too',
  ['xdpFrags', 'syscallProgram'],
  async () => {
    using gate = new PeerGate(['zeek']);
    using client = Client.start('zeek', ZEEK);
    const net = NETS[0];
    const { from, there, udp, back } = frames(net);
    const ping = from(net.a, net.b).icmp({ type: 8 }).payload(8);
    await client.ask(`shunt 1 ${net.a} 0 ${net.b} 0 0 0`);
    expect(gate.verdict(ping)).toBe('shuntedPeer');
    expect(await client.counts(`unshunt 1 ${net.a} 0 ${net.b} 0 0 0`)).toEqual([1, length(ping), 0, 0, 1]);
    const pair = `${net.a} ${net.b} 0 0`;
    expect(await client.ask(`pair ${pair}`)).toBe('done');
    for (const packet of [there(), there('FA'), there('S'), udp(), ping])
      expect(gate.verdict(packet)).toBe('shuntedPeer');
    expect(gate.verdict(back())).toBe('shuntedPeer');
    expect((await client.counts(`pair-stats ${pair}`)).filter((_, i) => i % 2 === 0)).toEqual([5, 1, 1]);
    expect((await client.counts(`unpair ${pair}`))[0]).toBe(5);
    expect(gate.verdict(there())).toBe('passNoEntry');
  },
);

kernelTest(
  'exceptions win over both, and our own entries come first',
  ['xdpFrags', 'syscallProgram'],
  async () => {
    using gate = new PeerGate(['zeek', 'suricata']);
    using zeek = Client.start('zeek', ZEEK);
    using suricata = Client.start('suricata', IFNAME, 'percpu');
    const [net] = NETS;
    const { there, back } = frames(net);
    const exceptions = new Exceptions(gate.gate.table('exceptions'));
    exceptions.add(`${net.b}/32`);
    await zeek.ask(`shunt 6 ${net.a} 40000 ${net.b} 443 0 0`);
    expect(gate.verdict(there())).toBe('passException');
    await suricata.ask(`add 4 tcp ${net.a} 40000 ${net.b} 443 0 0`);
    expect(gate.verdict(back())).toBe('passException');
    await zeek.ask(`pair ${net.a} ${net.b} 0 0`);
    expect(gate.verdict(frames(net).udp())).toBe('passException');
    exceptions.remove(`${net.b}/32`);
    expect(gate.verdict(there())).toBe('shuntedPeer');
    gate.shunt(gateKey(6, { addr: net.a, port: 40_000 }, { addr: net.b, port: 443 }), { seq: [0, 0] });
    expect(gate.verdict(there())).toBe('shunted');
  },
);

kernelTest(
  'a full table is told to who adds, and what has no room passes',
  ['xdpFrags', 'syscallProgram'],
  async () => {
    using gate = new PeerGate(['zeek', 'suricata-shared'], {}, 4);
    using zeek = Client.start('zeek', ZEEK);
    using suricata = Client.start('suricata', IFNAME, 'shared');
    const answers: string[] = [];
    for (let port = 1; port <= 4; port++) answers.push(await suricata.ask(`add ${suricataFlow(port)}`));
    // A table over its size by the elements that the CPUs hold ready is full later.
    expect(answers[0]).toBe('added added');
    const full = answers.findIndex((answer) => answer.includes('full'));
    expect(full).toBeGreaterThanOrEqual(2);
    const net: Net = { ...NETS[0], a: '10.0.0.1', b: '10.0.0.2' };
    const of = (sport: number): PacketBuilder =>
      frames(net).from(net.a, net.b).tcp({ sport, dport: 443, flags: 'A' });
    expect(gate.verdict(of(1))).toBe('shuntedPeer');
    expect(gate.verdict(of(full + 1))).toBe('passNoEntry');
    const zeekAnswers: string[] = [];
    for (let port = 11; port <= 16; port++)
      zeekAnswers.push(await zeek.ask(`shunt 6 10.0.0.1 ${port} 10.0.0.2 443 0 0`));
    expect(zeekAnswers[0]).toBe('done');
    expect(zeekAnswers.at(-1)).not.toBe('done');
    expect(gate.verdict(of(11))).toBe('shuntedPeer');
    expect(gate.verdict(of(16))).toBe('passNoEntry');
  },
);

kernelTest(
  'entries that come and go under packets: each packet has one verdict, and no count appears from nowhere',
  ['xdpFrags', 'syscallProgram'],
  async () => {
    using gate = new PeerGate(['zeek', 'suricata']);
    using zeek = Client.start('zeek', ZEEK);
    using suricata = Client.start('suricata', IFNAME, 'percpu');
    const [net] = NETS;
    const data = frames(net).there().bytes();
    for (const [client, flow, empty] of [
      [zeek, `6 ${net.a} 40000 ${net.b} 443 0 0`, 'walk'],
      [suricata, `4 tcp ${net.a} 40000 ${net.b} 443 0 0`, 'walk 4'],
    ] as const) {
      const before = gate.gate.ledger();
      const churned: { answer?: string } = {};
      const asked = client.ask(`churn ${flow}`).then((text) => (churned.answer = text));
      let sent = 0;
      for (; churned.answer === undefined; sent += 2000) {
        gate.gate.program.testRun({ data, repeat: 2000 });
        await new Promise((resolve) => setImmediate(resolve));
      }
      await asked;
      const [found, counted] = (churned.answer ?? '').split(' ').map(Number);
      const after = gate.gate.ledger();
      const since = (verdict: 'shuntedPeer' | 'passNoEntry'): number =>
        (after.reasons[verdict]?.pkts ?? 0) - (before.reasons[verdict]?.pkts ?? 0);
      expect(found).toBe(flow.startsWith('4') ? 1000 : 500);
      expect(since('shuntedPeer') + since('passNoEntry')).toBe(sent);
      expect(since('shuntedPeer')).toBeGreaterThan(0);
      // What was counted between the look and the deletion is gone with the entry, here as with the sensor's own program.
      expect(counted).toBeLessThanOrEqual(since('shuntedPeer'));
      expect(counted).toBeGreaterThan(0);
      expect((await client.counts(empty))[0]).toBe(0);
      expect(gate.run(data).verdict).toBe('passNoEntry');
    }
  },
);

kernelTest('the pins go with the gate', ['xdpFrags', 'syscallProgram'], () => {
  const gate = new PeerGate(['zeek', 'suricata']);
  const paths = gate.gate.peerPins;
  expect(paths).toHaveLength(9);
  expect(paths.filter((path) => !existsSync(path))).toEqual([]);
  gate[Symbol.dispose]();
  expect(paths.filter((path) => existsSync(path))).toEqual([]);
  expect(existsSync(ZEEK)).toBe(false);
});
