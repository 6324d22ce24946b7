import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import type { HoldRow, ShuntRow, StatusReport } from '../../src/gate/control-protocol.ts';
import { eth, type PacketBuilder } from '../../src/packet/build.ts';
import { eventually, UpGate } from '../gate/daemon-support.ts';
import { sluice } from '../support/command.ts';
import { kernelTest, ownNetns } from '../support/kernel.ts';

ownNetns();

const FEATURES = ['xdpFrags', 'syscallProgram', 'xdpLink', 'xdpNativeVeth'] as const;
const A = { addr: '2001:db8::1', port: 51_000 };
const B = { addr: '2001:db8::2', port: 443 };
const FLOW = `tcp [${A.addr}]:${A.port} [${B.addr}]:${B.port}`;
const PAYLOAD = 1000;
/** IP bytes of a packet of IPv6 and TCP with that payload. */
const SIZE = PAYLOAD + 60;
/** However slow the machine. */
const SECONDS = 60;

type Start = (packet: PacketBuilder) => PacketBuilder;
const plain: Start = (packet) => packet;
/** Both directions by the same two ends. */
const vxlan: Start = (packet) =>
  packet
    .ipv4({ src: '192.0.2.1', dst: '192.0.2.2' })
    .udp({ sport: 50_000, checksum: 0 })
    .vxlan({ vni: 7 })
    .eth();

/** A TCP connection from A to B as its segments. */
class Talk {
  readonly #start: Start;
  readonly #seq: [number, number] = [1000, 5000];

  constructor(start: Start = plain) {
    this.#start = start;
  }

  segment(side: 0 | 1, data: Uint8Array | number, flags = 'A'): PacketBuilder {
    const other = side === 0 ? 1 : 0;
    const [src, dst] = side === 0 ? [A, B] : [B, A];
    const seq = this.#seq[side];
    this.#seq[side] += typeof data === 'number' ? data : data.length;
    return this.#start(eth())
      .ipv6({ src: src.addr, dst: dst.addr })
      .tcp({ sport: src.port, dport: dst.port, seq, ack: this.#seq[other], flags, window: 100 })
      .payload(data);
  }
}

function record(type: number, length: number, first = 0xaa): Uint8Array {
  const bytes = new Uint8Array(5 + length).fill(0xaa);
  bytes.set([type, 3, 3, length >> 8, length & 0xff, first]);
  return bytes;
}

/** Of TLS 1.3, up to the packet that shows that both sides are done. */
const HANDSHAKE: readonly [0 | 1, Uint8Array][] = [
  [0, record(22, 500, 1)],
  [1, record(22, 122, 2)],
  [1, record(23, 900)],
  [0, record(23, 53)],
  [1, record(23, 250)],
];

/** The books, once the gate has seen so many packets. */
async function seen(gate: UpGate, pkts: number): Promise<StatusReport> {
  return await eventually(
    async () => {
      const status = await gate.status();
      return status.seen.pkts >= pkts ? status : undefined;
    },
    `${pkts} packets`,
    SECONDS,
  );
}

/** What the gate has seen by now: a new interface may have said something itself. */
const soFar = async (gate: UpGate): Promise<StatusReport> => await gate.status();

async function onlyRow(gate: UpGate, is: (row: ShuntRow) => boolean = () => true): Promise<ShuntRow> {
  return await eventually(
    async () => {
      const [row, ...others] = await gate.rows();
      return others.length === 0 && row !== undefined && is(row) ? row : undefined;
    },
    'the row',
    SECONDS,
  );
}

type Line = Record<string, unknown>;
const shuntLog = (gate: UpGate): Line[] =>
  readFileSync(join(gate.logDir, 'shunt.log'), 'utf8')
    .split('\n')
    // Behind the last whole line.
    .slice(0, -1)
    .map((line) => JSON.parse(line) as Line);

async function killDaemon(gate: UpGate): Promise<void> {
  process.kill((await gate.status()).daemon.pid ?? 0, 'SIGKILL');
  await eventually(
    async () => ((await gate.status()).daemon.alive ? undefined : true),
    'the daemon to be dead',
    SECONDS,
  );
}

kernelTest(
  'shunt add --after: passes up to the threshold, then is dropped, through the death of the daemon and to the end',
  [...FEATURES],
  async () => {
    await using gate = await UpGate.up();
    const talk = new Talk();
    expect((await gate.shunt('add', '--flow', FLOW, '--after', '10kB')).code).toBe(0);
    expect(await onlyRow(gate)).toMatchObject({ state: 'armed', trigger: 'manual' });
    const before = await soFar(gate);
    // 9,540 bytes of one direction, and as many of the other: none has had 10,000.
    for (let i = 0; i < 9; i++) for (const side of [0, 1] as const) gate.send(talk.segment(side, PAYLOAD));
    const armed = await seen(gate, before.seen.pkts + 18);
    expect(armed.shunted.pkts).toBe(0);
    expect((await onlyRow(gate)).state).toBe('armed');
    // The one that reaches it passes.
    gate.send(talk.segment(1, PAYLOAD));
    gate.send(talk.segment(1, PAYLOAD), 4);
    gate.send(talk.segment(0, 0), 3);
    const shunted = await seen(gate, before.seen.pkts + 26);
    expect(shunted.shunted.pkts).toBe(7);
    const row = await onlyRow(gate, ({ state }) => state === 'shunted');
    expect([row.ab.pkts, row.ba.pkts]).toEqual([3, 4]);
    expect([row.ab.ipBytes, row.ba.ipBytes]).toEqual([3 * 60, 4 * SIZE]);

    await killDaemon(gate);
    gate.send(talk.segment(0, PAYLOAD), 2);
    expect((await seen(gate, before.seen.pkts + 28)).shunted.pkts).toBe(9);
    const again = await gate.start();
    expect(again.code, again.stderr).toBe(0);
    expect((await onlyRow(gate)).ab.pkts).toBe(5);
    gate.send(talk.segment(0, 0, 'FA'));
    await eventually(async () => ((await gate.rows()).length === 0 ? true : undefined), 'its end', SECONDS);
    expect(shuntLog(gate).map(({ event, reason }) => reason ?? event)).toEqual(['start', 'fin']);
    expect(shuntLog(gate)[1]).toMatchObject({
      shunt_trigger: 'manual',
      'id.orig_h': A.addr,
      'id.resp_p': B.port,
      orig_shunted_pkts: 5,
      orig_shunted_bytes: 3 * 60 + 2 * SIZE,
      resp_shunted_pkts: 4,
      resp_shunted_bytes: 4 * SIZE,
    });
  },
);

kernelTest(
  '--alone: TLS inside of tunnels is shunted by itself, and outside, each for itself',
  [...FEATURES],
  async () => {
    for (const [name, start] of [
      ['in VXLAN', vxlan],
      ['in no tunnel', plain],
    ] as const) {
      await using gate = await UpGate.up('--alone', 'tls,packets=100', '--tunnels', 'vxlan');
      const before = await soFar(gate);
      const talk = new Talk(start);
      for (const [side, data] of HANDSHAKE) gate.send(talk.segment(side, data));
      const done = await seen(gate, before.seen.pkts + HANDSHAKE.length);
      expect(done.shunted.pkts, name).toBe(0);
      expect(done.watch?.made, name).toEqual({ tls: 1, bytes: 0, packets: 0 });
      gate.send(talk.segment(1, PAYLOAD), 5);
      gate.send(talk.segment(0, 0), 2);
      const status = await seen(gate, before.seen.pkts + HANDSHAKE.length + 7);
      expect(status.shunted.pkts, name).toBe(7);
      expect(status.watch?.made, name).toEqual({ tls: 1, bytes: 0, packets: 0 });
      const row = await onlyRow(gate);
      expect(row, name).toMatchObject({ owner: 'alone', trigger: 'TLS_ESTABLISHED', a: A, b: B });
      expect([row.ab.ipBytes, row.ba.ipBytes], name).toEqual([2 * 60, 5 * SIZE]);
      // What is shunted when the gate goes has its last line too.
      expect((await sluice('gate', 'down', '-i', gate.ifname)).code).toBe(0);
      expect(shuntLog(gate).at(-1), name).toMatchObject({
        event: 'end',
        reason: 'down',
        'id.orig_h': A.addr,
        orig_shunted_pkts: 2,
        resp_shunted_pkts: 5,
      });
      expect(
        gate.audit().map(({ op }) => op),
        name,
      ).toEqual(['gate.up', 'gate.down', 'end']);
    }
  },
);

kernelTest(
  '--alone after the daemon was killed: nothing new is shunted, all passes once the lease is over, the next one goes on with the counts',
  [...FEATURES],
  async () => {
    const options = ['--alone', 'packets=5'];
    await using gate = await UpGate.up(...options);
    const before = await soFar(gate);
    const talk = new Talk();
    gate.send(talk.segment(0, PAYLOAD), 5);
    gate.send(talk.segment(0, PAYLOAD), 10);
    expect((await seen(gate, before.seen.pkts + 15)).shunted.pkts).toBe(10);
    await onlyRow(gate);
    await killDaemon(gate);
    // Sooner or later the lease is over: what comes then passes.
    let sent = before.seen.pkts + 15;
    const passing = await eventually(
      async () => {
        gate.send(talk.segment(0, 0));
        const status = await seen(gate, ++sent);
        return (status.reasons.passLease?.pkts ?? 0) > 0 ? status : undefined;
      },
      'the lease to be over',
      SECONDS,
    );
    // Another connection is not shunted now, however much it has.
    gate.send(eth().ipv4({ src: '10.0.0.1', dst: '10.0.0.2' }).udp({ sport: 1, dport: 2 }).payload(100), 20);
    const after = await seen(gate, sent + 20);
    expect(after.shunted.pkts).toBe(passing.shunted.pkts);

    const again = await gate.start(...options);
    expect(again.code, again.stderr).toBe(0);
    // Its end is told with all that was dropped, once.
    const ends = await eventually(
      async () => {
        const found = shuntLog(gate).filter(({ event }) => event === 'end');
        return found.length > 0 ? found : undefined;
      },
      'its end',
      SECONDS,
    );
    expect(ends).toHaveLength(1);
    expect(ends[0]).toMatchObject({
      shunt_trigger: 'PACKETS',
      reason: 'lease',
      orig_shunted_pkts: passing.shunted.pkts,
      resp_shunted_pkts: 0,
    });
    expect(shuntLog(gate).filter(({ event }) => event === 'start')).toHaveLength(1);
    // And the gate shunts again.
    gate.send(talk.segment(1, PAYLOAD), 6);
    expect((await seen(gate, sent + 26)).shunted.pkts).toBe(passing.shunted.pkts + 1);
    await onlyRow(gate);
  },
);

interface Results {
  results: { released?: boolean }[];
}

/** A flow of UDP by its first port, as the control socket names it, and as packets. */
const datagram = (port: number) => ({
  flow: { proto: 'udp', a: { addr: '10.0.0.1', port }, b: { addr: '10.0.0.2', port: 9 } },
  packet: eth().ipv4({ src: '10.0.0.1', dst: '10.0.0.2' }).udp({ sport: port, dport: 9 }).payload(100),
});

kernelTest(
  'a flow that a client holds is shunted neither by --alone nor after a threshold, until it is let go of; both are counted',
  [...FEATURES],
  async () => {
    await using gate = await UpGate.up('--alone', 'packets=5');
    using client = await gate.connect();
    let sent = (await soFar(gate)).seen.pkts;
    const send = async (packet: PacketBuilder, times: number): Promise<StatusReport> => {
      gate.send(packet, times);
      return await seen(gate, (sent += times));
    };
    const hold = async (op: 'hold.add' | 'hold.remove', flow: object, owner = {}): Promise<unknown> =>
      (await client.ask<Results>(op, { flows: [flow], ...owner })).results[0].released;
    const [first, made, armed, lent] = [1, 2, 3, 4].map(datagram);

    expect(await hold('hold.add', first.flow)).toBe(false);
    expect(await send(first.packet, 20)).toMatchObject({
      shunted: { pkts: 0 },
      watch: { held: 1, made: { packets: 0 } },
      holds: { live: 1, kept: 1, released: 0 },
    });
    const rows: HoldRow[] = [];
    await client.ask('hold.list', {}, (page) => rows.push(...(page as HoldRow[])));
    expect(rows.map(({ a, kept }) => [a.port, kept])).toEqual([[1, 1]]);
    // Tables of another size, and the same holds.
    await client.ask('resize', { maxShunts4: 2048 });
    expect(await send(first.packet, 20)).toMatchObject({
      shunted: { pkts: 0 },
      tables: { flows4: { max: 2048 } },
    });
    await hold('hold.remove', first.flow);
    expect(await send(first.packet, 4)).toMatchObject({ shunted: { pkts: 3 }, holds: { live: 0, kept: 1 } });

    // What the gate has made itself ends, whether the daemon has seen it yet or not.
    expect((await send(made.packet, 6)).shunted.pkts).toBe(4);
    expect(await hold('hold.add', made.flow)).toBe(true);
    expect(await send(made.packet, 20)).toMatchObject({ shunted: { pkts: 4 }, holds: { released: 1 } });

    await client.ask('add', { flows: [{ ...armed.flow, after: { packets: 10 } }] });
    expect(await hold('hold.add', armed.flow)).toBe(true);
    expect(await send(armed.packet, 20)).toMatchObject({ shunted: { pkts: 4 }, holds: { released: 2 } });

    // With its holder's lease a hold is over in the kernel too.
    await client.ask('owner.register', { name: 'short', lease: 2 });
    await hold('hold.add', lent.flow, { owner: 'short' });
    await eventually(
      async () => ((await send(lent.packet, 2)).shunted.pkts > 4 ? true : undefined),
      'a shunt once the holder is gone',
      SECONDS,
    );
  },
);
