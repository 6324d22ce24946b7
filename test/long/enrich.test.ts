import { spawn, spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import type { ControlClient } from '../../src/gate/control-client.ts';
import type { StatusReport } from '../../src/gate/control-protocol.ts';
import { eth, type PacketBuilder } from '../../src/packet/build.ts';
import { Client } from '../gate/clients/client.ts';
import { eventually, UpGate } from '../gate/daemon-support.ts';
import { eveFlow } from '../gate/eve-records.ts';
import { sluice } from '../support/command.ts';
import { kernelTest, ownNetns } from '../support/kernel.ts';

ownNetns();

const FEATURES = ['xdpFrags', 'syscallProgram', 'xdpNativeVeth'] as const;
const SECONDS = 60;
/** Fewer than a veth's ring takes. */
const BATCH = 32;
const ETHERNET = 14;
/** Data packets of the longest connection; those of length 0 to this are sent. */
const LONGEST = 30;
/** Packets with payload after which the gate shunts by itself. */
const PACKETS = 10;

type Line = Record<string, unknown>;
/** A connection as it was sent: packets and IP bytes of each side. */
interface Sent {
  frames: PacketBuilder[];
  orig: { pkts: number; bytes: number };
  resp: { pkts: number; bytes: number };
}

const lines = (path: string): Line[] =>
  readFileSync(path, 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Line);
const idOf = (line: Line): string =>
  `${String(line['proto'])} ${String(line['id.orig_p'])} ${String(line['id.resp_p'])}`;

/** A download over TCP, or an exchange over UDP, of so many data packets; of TCP every third has its originator on the low port. */
function exchange(proto: 'tcp' | 'udp', number: number, v6: boolean): [id: string, sent: Sent] {
  const high = 40_000 + number;
  const [sport, dport] = proto === 'tcp' && number % 3 === 0 ? [443, high] : [high, 443];
  const sides = v6
    ? [
        { src: '2001:db8::1', dst: '2001:db8::2' },
        { src: '2001:db8::2', dst: '2001:db8::1' },
      ]
    : [
        { src: '10.0.0.1', dst: '10.0.0.2' },
        { src: '10.0.0.2', dst: '10.0.0.1' },
      ];
  const seq = [1000, 9000];
  const sent: Sent = { frames: [], orig: { pkts: 0, bytes: 0 }, resp: { pkts: 0, bytes: 0 } };
  const send = (side: 0 | 1, size: number, flags = 'A'): void => {
    const ports = side === 0 ? { sport, dport } : { sport: dport, dport: sport };
    const ip = v6 ? eth().ipv6(sides[side]) : eth().ipv4(sides[side]);
    const ack = flags === 'S' ? 0 : seq[1 - side];
    const frame = (
      proto === 'udp' ? ip.udp(ports) : ip.tcp({ ...ports, seq: seq[side], ack, flags, window: 1000 })
    ).payload(size);
    seq[side] += size + (/[SF]/.test(flags) ? 1 : 0);
    const sum = side === 0 ? sent.orig : sent.resp;
    sum.pkts++;
    sum.bytes += frame.bytes().length - ETHERNET;
    sent.frames.push(frame);
  };
  if (proto === 'tcp') {
    send(0, 0, 'S');
    send(1, 0, 'SA');
    send(0, 0);
  }
  send(0, 100);
  for (let i = 0; i < number % (LONGEST + 1); i++) {
    send(1, 500);
    if (proto === 'tcp') send(0, 0);
  }
  if (proto === 'tcp') {
    send(0, 0, 'FA');
    send(1, 0, 'FA');
    send(0, 0);
  }
  return [`${proto} ${sport} ${dport}`, sent];
}

/** As Suricata writes it. */
const time = (seconds: number): string => new Date(seconds * 1000).toISOString().replace('Z', '000+0000');

/** Suricata 7's `flow` event of a connection that its conn.log would have like this. */
function eveOf(line: Line): object {
  const [start, end] = [Number(line['ts']), Number(line['ts']) + Number(line['duration'] ?? 0)];
  const frames = (side: 'orig' | 'resp') => {
    const pkts = Number(line[`${side}_pkts`]);
    return { pkts, bytes: Number(line[`${side}_ip_bytes`]) + pkts * ETHERNET };
  };
  const [orig, resp] = [frames('orig'), frames('resp')];
  const { bypass: _, bypassed: __, ...flow } = eveFlow.flow;
  return {
    ...eveFlow,
    timestamp: time(end + 60),
    src_ip: line['id.orig_h'],
    src_port: line['id.orig_p'],
    dest_ip: line['id.resp_h'],
    dest_port: line['id.resp_p'],
    proto: String(line['proto']).toUpperCase(),
    flow: {
      ...flow,
      pkts_toserver: orig.pkts,
      pkts_toclient: resp.pkts,
      bytes_toserver: orig.bytes,
      bytes_toclient: resp.bytes,
      start: time(start),
      end: time(end),
      state: 'closed',
      reason: 'timeout',
    },
  };
}

/** tcpdump behind the gate, in `path`; resolves once it listens. */
async function behind(ifname: string, path: string): Promise<{ stop: (packets: number) => Promise<void> }> {
  const process = spawn('tcpdump', ['-i', ifname, '-n', '-Z', 'root', '-B', '8192', '-U', '-w', path]);
  let said = '';
  process.stderr.on('data', (text: Buffer) => (said += text.toString()));
  const ended = new Promise((resolve) => process.once('close', resolve));
  await eventually(async () => (said.includes('listening on') ? true : undefined), 'tcpdump', SECONDS);
  return {
    stop: async (packets) => {
      await eventually(
        async () => {
          said = '';
          process.kill('SIGUSR1');
          await eventually(
            async () => (said.includes('dropped by kernel') ? true : undefined),
            'its counts',
            SECONDS,
          );
          return Number(/(\d+) packets captured/.exec(said)?.[1]) >= packets ? true : undefined;
        },
        `tcpdump to see ${packets} packets`,
        SECONDS,
      );
      process.kill('SIGTERM');
      await ended;
      expect(said).toMatch(/^0 packets dropped by kernel/m);
    },
  };
}

const statusOf = async (client: ControlClient): Promise<StatusReport> =>
  await client.ask<StatusReport>('status');

/** A few at a time, none of which the interface loses. */
async function sendAll(gate: UpGate, client: ControlClient, frames: readonly PacketBuilder[]): Promise<void> {
  let { seen } = await statusOf(client);
  const begin = seen.pkts;
  for (let from = 0; from < frames.length; from += BATCH) {
    const batch = frames.slice(from, from + BATCH);
    for (const frame of batch) gate.send(frame);
    await eventually(
      async () => {
        ({ seen } = await statusOf(client));
        return seen.pkts >= begin + from + batch.length ? true : undefined;
      },
      'the gate to see what was sent',
      SECONDS,
    );
  }
}

async function enrich(log: string, gate: UpGate, meaning: string, out: string): Promise<Line> {
  const shunts = join(gate.logDir, 'shunt.log');
  const { code, stdout, stderr } = await sluice(
    'enrich',
    log,
    '--shunts',
    shunts,
    '--meaning',
    meaning,
    '-w',
    out,
    '--json',
  );
  expect(code, stderr).toBe(0);
  return JSON.parse(stdout) as Line;
}

kernelTest(
  "added: what the sensor behind a gate that stands alone has seen, and that gate's shunt.log, are the whole of each connection",
  [...FEATURES],
  async (context) => {
    if (spawnSync('which', ['tcpdump']).status !== 0) context.skip('tcpdump is not installed');
    await using gate = await UpGate.up('--alone', `packets=${PACKETS}`, '--alone-idle', '5s');
    using client = await gate.connect();
    const sent = new Map<string, Sent>();
    for (let number = 0; number <= LONGEST; number++)
      for (const proto of ['tcp', 'udp'] as const) {
        const [id, one] = exchange(proto, number, number % 2 === 1);
        sent.set(id, one);
      }
    const trace = join(gate.logDir, 'behind.pcap');
    const tcpdump = await behind(gate.ifname, trace);
    await sendAll(
      gate,
      client,
      [...sent.values()].flatMap(({ frames }) => frames),
    );
    const { passed, shunted } = await statusOf(client);
    expect(shunted.pkts).toBeGreaterThan(500);
    await tcpdump.stop(passed.pkts);
    await eventually(
      async () => {
        const { flows4, flows6 } = (await statusOf(client)).tables;
        return flows4.entries + flows6.entries === 0 ? true : undefined;
      },
      'the end of all shunts',
      SECONDS,
    );
    const read = await sluice('read', trace, '--log-dir', gate.logDir, '--no-checksums', '--quiet');
    expect(read.code, read.stderr).toBe(0);

    const conn = join(gate.logDir, 'conn.log');
    const enriched = join(gate.logDir, 'conn.enriched.log');
    const known = lines(conn);
    expect(new Set(known.map(idOf))).toEqual(new Set(sent.keys()));
    const totals = await enrich(conn, gate, 'added', enriched);
    const long = [...sent].filter(([, { resp }]) => resp.pkts > PACKETS + 2).length;
    expect(totals).toMatchObject({ lines: sent.size, shuntsUnjoined: 0, shuntsAmbiguous: 0, malformed: 0 });
    expect(Number(totals['joined'])).toBeGreaterThanOrEqual(long);
    let dropped = 0;
    for (const line of lines(enriched)) {
      const whole = sent.get(idOf(line));
      const of = (field: string): number => Number(line[field] ?? 0);
      dropped += of('orig_shunted_pkts') + of('resp_shunted_pkts');
      expect(
        {
          orig: {
            pkts: of('orig_pkts') + of('orig_shunted_pkts'),
            bytes: of('orig_ip_bytes') + of('orig_shunted_bytes'),
          },
          resp: {
            pkts: of('resp_pkts') + of('resp_shunted_pkts'),
            bytes: of('resp_ip_bytes') + of('resp_shunted_bytes'),
          },
        },
        idOf(line),
      ).toEqual({ orig: whole?.orig, resp: whole?.resp });
      if (line['is_shunted'] === true)
        expect(line).toMatchObject({ shunt_trigger: 'PACKETS', shunt_meaning: 'added' });
    }
    expect(dropped).toBe(shunted.pkts);

    // The same connections as Suricata writes them, which counts frames.
    const eve = join(gate.logDir, 'eve.json');
    const eveOut = join(gate.logDir, 'eve.enriched.json');
    writeFileSync(eve, known.map((line) => `${JSON.stringify(eveOf(line))}\n`).join(''));
    expect(await enrich(eve, gate, 'added', eveOut)).toEqual(totals);
    for (const line of lines(eveOut)) {
      const proto = String(line['proto']).toLowerCase();
      const whole = sent.get(`${proto} ${String(line['src_port'])} ${String(line['dest_port'])}`);
      const [flow, more] = [line['flow'], line['shunted'] ?? {}] as Record<string, number>[];
      for (const [side, direction] of [
        ['orig', 'toserver'],
        ['resp', 'toclient'],
      ] as const) {
        const pkts = flow[`pkts_${direction}`] + (more[`pkts_${direction}`] ?? 0);
        const bytes = flow[`bytes_${direction}`] + (more[`bytes_${direction}`] ?? 0);
        expect({ pkts, bytes: bytes - pkts * ETHERNET }, `${proto} ${side}`).toEqual(whole?.[side]);
      }
    }
  },
);

kernelTest(
  "within: what Suricata has bypassed by its tables, and counts itself, is what the gate's shunt.log adds to its flow",
  [...FEATURES],
  async () => {
    await using gate = await UpGate.up('--tap', '--abi', 'suricata');
    using client = await gate.connect();
    using suricata = Client.start('suricata', gate.ifname, 'percpu');
    const key = '4 tcp 10.0.0.1 40000 10.0.0.2 443 0 0';
    const ip = { src: '10.0.0.1', dst: '10.0.0.2' };
    const there = eth().ipv4(ip).tcp({ sport: 40_000, dport: 443, flags: 'A' }).payload(100);
    const back = eth()
      .ipv4({ src: ip.dst, dst: ip.src })
      .tcp({ sport: 443, dport: 40_000, flags: 'A' })
      .payload(300);
    const start = Date.now() / 1000;
    // Seen by Suricata, which then bypasses the flow.
    await sendAll(gate, client, [there, back, there]);
    expect(await suricata.ask(`add ${key}`)).toBe('added added');
    await sendAll(gate, client, [there, ...Array.from({ length: 20 }, () => back), there]);
    const bypassed = await suricata.counts(`read ${key}`);
    expect(bypassed).toEqual([2, 2 * there.bytes().length, 20, 20 * back.bytes().length]);
    await eventually(
      async () => {
        const found: { ab: { pkts: number }; ba: { pkts: number } }[] = [];
        await client.ask('list', {}, (page) => found.push(...(page as typeof found)));
        return found[0]?.ab.pkts + found[0]?.ba.pkts === 22 ? true : undefined;
      },
      'the daemon to have both counts',
      SECONDS,
    );
    expect(await suricata.ask(`delete ${key}`)).toBe('deleted 2');
    const ends = (): Line[] =>
      lines(join(gate.logDir, 'shunt.log')).filter((line) => line['event'] === 'end');
    await eventually(async () => (ends().length === 1 ? true : undefined), 'the end in shunt.log', SECONDS);
    const whole = eveOf({
      ts: start,
      duration: Date.now() / 1000 - start,
      'id.orig_h': ip.src,
      'id.orig_p': 40_000,
      'id.resp_h': ip.dst,
      'id.resp_p': 443,
      proto: 'tcp',
      orig_pkts: 4,
      orig_ip_bytes: 4 * (there.bytes().length - ETHERNET),
      resp_pkts: 21,
      resp_ip_bytes: 21 * (back.bytes().length - ETHERNET),
    }) as { flow: object };
    const [toServer, bytesToServer, toClient, bytesToClient] = bypassed;
    const counts = {
      pkts_toserver: toServer,
      pkts_toclient: toClient,
      bytes_toserver: bytesToServer,
      bytes_toclient: bytesToClient,
    };
    const eve = join(gate.logDir, 'eve.json');
    const out = join(gate.logDir, 'eve.enriched.json');
    writeFileSync(
      eve,
      `${JSON.stringify({ ...whole, flow: { ...whole.flow, bypass: 'capture', bypassed: counts } })}\n`,
    );
    expect(await enrich(eve, gate, 'within', out)).toMatchObject({ joined: 1, shuntsJoined: 1 });
    const [{ shunted, flow }] = lines(out);
    expect(shunted).toEqual({ ...counts, trigger: 'suricata', meaning: 'within' });
    // A part of what was there, which stays.
    expect(flow).toMatchObject({ pkts_toserver: 4, pkts_toclient: 21, bypassed: counts });
  },
);
