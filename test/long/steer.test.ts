import { describe, expect } from 'vitest';
import {
  back,
  fragmentsOf,
  numbered,
  numberOf,
  packetOf,
  randomEnds,
  randomOf,
  TUNNELS,
  WRAPPERS,
} from '../../bench/fanout-frames.ts';
import { FLOWS_WHOLE, Rings, sendAll } from '../../bench/fanout-rings.ts';
import { TUNNEL_KINDS } from '../../src/base/tunnels.ts';
import { emptyLedger } from '../../src/gate/ledger.ts';
import { onlineCpus } from '../../src/gate/steer.ts';
import type { GateTunnels } from '../../src/gate/tunnels.ts';
import { interfaceInfo, setThreadAffinity } from '../../src/kernel/index.ts';
import { eth } from '../../src/packet/build.ts';
import { conversation } from '../../src/packet/conversation.ts';
import { eventually, UpGate } from '../gate/daemon-support.ts';
import { TestGate } from '../gate/support.ts';
import { documentOf, Feed, LogDir, mixed, runOn, sumOf } from '../sensor/run.ts';
import { sluice } from '../support/command.ts';
import { ip, kernelTest, ownNetns, sh, until, untilOperational, vethPair } from '../support/kernel.ts';

ownNetns();

const LIVE = ['packetRing', 'xdpFrags', 'syscallProgram', 'xdpLink', 'xdpNativeVeth', 'cpumap'] as const;

const CPUS = onlineCpus().slice(0, 2);
const MTU = 9000;
const FLOWS = 200;
const ROUNDS = 10;
const TUNNELLED: GateTunnels = {
  kinds: TUNNEL_KINDS,
  inKey: false,
  ports: { vxlan: [4789], geneve: [6081] },
};

/** In generic mode the kernel spoils tagged frames that it hands to a CPU: they go on where they came. */
const isTagged = (flow: number): boolean => /VLAN|tag|QinQ/.test(WRAPPERS[flow % WRAPPERS.length].name);

/** Frames of many flows, as they come in by the two CPUs: one direction by each, and fragments by both. */
function traffic(inTunnels: boolean): [Uint8Array[], Uint8Array[]] {
  const random = randomOf(7);
  const there: Uint8Array[] = [];
  const here: Uint8Array[] = [];
  const tunnels = TUNNELS.filter(({ name }) => !name.startsWith('GTP'));
  for (let flow = 0; flow < FLOWS; flow++) {
    const ends = { ...randomEnds(random), protocol: flow % 2 === 0 ? 'udp' : 'tcp' } as const;
    const way = (forth: boolean) =>
      inTunnels
        ? tunnels[flow % tunnels.length].enter(numbered(flow), forth, flow)
        : WRAPPERS[flow % WRAPPERS.length].wrap(numbered(flow));
    // Some of the frames are in several buffers.
    there.push(packetOf(way(true), ends, flow % 5 === 0 ? 7000 : 100).bytes());
    here.push(packetOf(way(false), back(ends), 60).bytes());
    if (ends.protocol === 'udp') {
      there.push(...fragmentsOf(way(true), ends, flow, 1300));
      here.push(...fragmentsOf(way(false), back(ends), flow, 1300));
    }
  }
  return [there, here];
}

describe.each(['native', 'generic'] as const)('%s mode', (mode) => {
  for (const inTunnels of [false, true]) {
    kernelTest(
      `${inTunnels ? 'flows in tunnels' : 'flows'}: both directions and fragments on one CPU, none lost, all seen behind`,
      ['packetRing', 'xdpFrags', 'syscallProgram', 'xdpNativeVeth', 'cpumap'],
      async (context) => {
        if (CPUS.length < 2) context.skip('one CPU');
        const { a, b, remove } = vethPair();
        try {
          for (const name of [a, b]) ip(`link set ${name} mtu ${MTU}`);
          // Frames as they were sent: neither merged nor with their tags beside them.
          sh('ethtool', '-K', a, 'txvlan', 'off');
          sh('ethtool', '-K', b, 'gro', 'off', 'rxvlan', 'off');
          using gate = new TestGate({
            ifname: b,
            ifindex: interfaceInfo(b).index,
            steer: { cpus: CPUS, queue: 4096, tagged: false },
            ...(inTunnels ? { tunnels: TUNNELLED } : {}),
          });
          gate.gate.attach(mode);
          untilOperational(a, b);
          // Ring by CPU.
          using rings = new Rings(b, 2, { ...FLOWS_WHOLE, mode: 'cpu' }, { blocks: 64 });
          const seen = Array.from({ length: FLOWS }, () => new Set<number>());
          const shares = [0, 0];
          const drain = (): void =>
            rings.drain(({ u8, offset }, ring) => {
              seen[numberOf(u8, offset)].add(ring);
              shares[ring]++;
            });
          const parts = traffic(inTunnels);
          let sent = 0;
          /** No further than the gate has come: the queue of the interface is short. */
          const keepUp = async (): Promise<void> => {
            await until(
              () => {
                drain();
                return gate.gate.ledger().seen.pkts === sent && shares[0] + shares[1] === sent;
              },
              `sent ${sent}, got ${shares.join(' + ')}, ${JSON.stringify(gate.gate.steering())}`,
            );
          };
          for (let round = 0; round < ROUNDS; round++) {
            for (let at = 0; at < Math.max(parts[0].length, parts[1].length); at += 48) {
              for (const [index, frames] of parts.entries()) {
                setThreadAffinity(CPUS[index]);
                const some = frames.slice(at, at + 48);
                sendAll(a, some, { byCpu: true });
                sent += some.length;
              }
              await keepUp();
            }
          }
          const { steered, passed, seen: all } = gate.gate.ledger();
          const steering = gate.gate.steering();
          expect(rings.counts()).toMatchObject({ packets: sent, drops: 0 });
          const kept = (flow: number): boolean => mode === 'generic' && !inTunnels && isTagged(flow);
          expect(seen.filter((each, flow) => each.size !== 1 && !kept(flow))).toEqual([]);
          for (const share of shares) expect(share).toBeGreaterThan(0.2 * sent);
          const stayed = parts.flat().filter((frame) => kept(numberOf(frame, 0))).length;
          expect([all.pkts, steered.pkts, passed.pkts]).toEqual([
            sent,
            sent - ROUNDS * stayed,
            ROUNDS * stayed,
          ]);
          expect(steering).toMatchObject({ lost: 0, arrived: steered });
          expect(steering?.fragments.unknown).toBe(0);
        } finally {
          remove();
        }
      },
    );
  }
});

kernelTest(
  'what found its queue full is counted, and is all that is missing',
  ['packetRing', 'xdpFrags', 'syscallProgram', 'xdpNativeVeth', 'cpumap'],
  async () => {
    const { a, b, remove } = vethPair();
    try {
      sh('ethtool', '-K', b, 'gro', 'off');
      using gate = new TestGate({
        ifname: b,
        ifindex: interfaceInfo(b).index,
        steer: { cpus: CPUS.slice(0, 1), queue: 64, tagged: false },
      });
      gate.gate.attach('native');
      untilOperational(a, b);
      using rings = new Rings(b, 1, FLOWS_WHOLE, { blocks: 256 });
      const frames = Array.from({ length: 200 }, (_, i) =>
        packetOf(numbered(i), randomEnds(randomOf(i))).bytes(),
      );
      let received = 0;
      const drain = (): void => rings.drain(() => received++);
      // The queue is short and the senders are many: sooner or later it has no room.
      for (let round = 0; round < 500 && (gate.gate.steering()?.lost ?? 0) === 0; round++) {
        sendAll(a, frames, { byCpu: true });
        drain();
      }
      const done = (): boolean => {
        drain();
        const { arrived, lost } = gate.gate.steering() ?? { arrived: { pkts: 0 }, lost: 0 };
        return arrived.pkts + lost === gate.gate.ledger().steered.pkts && received === arrived.pkts;
      };
      await until(done, JSON.stringify([received, gate.gate.steering(), gate.gate.ledger().steered]));
    } finally {
      remove();
    }
  },
);

kernelTest('gate up --steer: what the status says; what does not go together', [...LIVE], async () => {
  await using gate = await UpGate.up('--steer', String(CPUS[0]), '--steer-queue', '1024');
  gate.send(eth().ipv4({ src: '10.0.0.1', dst: '10.0.0.2' }).udp({ sport: 1, dport: 2 }).payload('x'), 100);
  const status = await eventually(async () => {
    const now = await gate.status();
    return now.steering?.arrived.pkts === 100 ? now : undefined;
  }, 'not all have arrived');
  expect(status.steered.pkts).toBe(100);
  expect(status.features?.steer).toMatchObject({ cpus: CPUS.slice(0, 1), queue: 1024, tagged: true });
  expect(status.steering).toMatchObject({
    lost: 0,
    cpus: [{ cpu: CPUS[0], online: true, sent: { pkts: 100 } }],
  });
  const text = await sluice('gate', 'status', '-i', gate.ifname);
  expect(text.stdout).toMatch(/steered +100 packets/);
  for (const [args, code] of [
    [['gate', 'up', '-i', gate.peer, '--steer', '8000'], 2],
    [['gate', 'up', '-i', gate.peer, '--steer', 'x'], 2],
    [['run', '-i', gate.peer, '--tap', '--steer', '0', '--capture', 'afxdp'], 2],
    [['run', '-i', gate.peer, '--tap', '--steer', '0', '--mode', 'socket'], 2],
    [['run', '-i', gate.peer, '--tap', '--steer', '0', '--no-gate'], 2],
  ] as const)
    expect((await sluice(...args)).code, args.join(' ')).toBe(code);
});

kernelTest('sluice run --steer: whole records behind it, shunted ones too', [...LIVE], async () => {
  const { a, b, remove } = vethPair();
  using logs = new LogDir();
  try {
    const connections = 40;
    const frames = mixed(
      Array.from({ length: connections }, (_, i) =>
        conversation({
          client: { address: i % 2 === 0 ? '192.0.2.1' : '2001:db8::1', port: 5000 + i },
          server: { address: i % 2 === 0 ? '192.0.2.2' : '2001:db8::2', port: 80 },
          turns: [{ from: i % 4 < 2 ? 'server' : 'client', data: 300_000 }],
          mss: 1400,
        }),
      ),
    );
    const steer = ['--steer', CPUS.join(), '--workers', '2', '--fanout', 'cpu', '--policy', 'bulk=100kB'];
    await using run = await runOn(a, logs, ...steer).ready();
    await new Feed(b, frames, 4000, {
      from: frames.length >> 1,
      to: frames.length,
      until: () => logs.shunts('start') >= connections,
      what: 'not all are shunted',
    }).done;
    await until(() => logs.read('conn').length === connections, 'records are missing');
    const summary = documentOf(await run.stop());
    expect(summary).toMatchObject({ connections, shuntedConnections: connections });
    const { seen, passed, steered, shunted } = summary.ledger ?? emptyLedger();
    expect(seen.pkts).toBe(frames.length);
    expect([passed.pkts, steered.pkts + shunted.pkts]).toEqual([0, seen.pkts]);
    expect(summary.ring).toMatchObject({ packets: steered.pkts, drops: 0 });
    const conn = logs.read('conn');
    expect(sumOf(conn, 'orig_pkts', 'resp_pkts')).toBe(frames.length);
    expect(new Set(conn.map((record) => record.conn_state))).toEqual(new Set(['SF']));
  } finally {
    remove();
  }
});
