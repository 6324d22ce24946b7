import { appendFileSync, existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { expect } from 'vitest';
import type { ShuntRow } from '../../src/gate/control-protocol.ts';
import { eth, type PacketBuilder } from '../../src/packet/build.ts';
import { Client } from '../gate/clients/client.ts';
import { eventually, UpGate } from '../gate/daemon-support.ts';
import { eveFlow, eveHttp, eveTls } from '../gate/eve-records.ts';
import { sluice } from '../support/command.ts';
import { kernelTest, ownNetns, sh, until } from '../support/kernel.ts';

ownNetns();

const A = '10.0.0.1';
const B = '10.0.0.2';
const there = (flags = 'A', dport = 443): PacketBuilder =>
  eth().ipv4({ src: A, dst: B }).tcp({ sport: 40_000, dport, flags }).payload(100);
const back = (flags = 'A'): PacketBuilder =>
  eth().ipv4({ src: B, dst: A }).tcp({ sport: 443, dport: 40_000, flags }).payload(300);

const suricataPins = (ifname: string): string => `/sys/fs/bpf/suricata-${ifname}-flow_table_v4`;

/** The rows of an owner, once there are so many. */
async function rowsOf(gate: UpGate, owner: string, count: number): Promise<ShuntRow[]> {
  return await eventually(async () => {
    const rows = (await gate.rows()).filter((row) => row.owner === owner);
    return rows.length === count ? rows : undefined;
  }, `${count} rows of ${owner}`);
}

/** Waits until the gate has seen so many packets more than it had. */
async function seen(gate: UpGate, pkts: number): Promise<void> {
  await eventually(
    async () => ((await gate.status()).seen.pkts >= pkts ? true : undefined),
    `${pkts} packets`,
  );
}

kernelTest(
  "Suricata's shunts: records by its name, exceptions win, the daemon's death changes nothing, the next one goes on",
  ['xdpFrags', 'syscallProgram'],
  async () => {
    await using gate = await UpGate.up('--tap', '--abi', 'suricata');
    const client = Client.start('suricata', gate.ifname, 'percpu');
    const flow = `4 tcp ${A} 40000 ${B} 443 0 0`;
    expect(await client.ask(`add ${flow}`)).toBe('added added');
    const before = (await gate.status()).seen.pkts;
    gate.send(there(), 5);
    gate.send(back(), 3);
    await seen(gate, before + 8);
    expect(await client.counts(`read ${flow}`)).toEqual([
      5,
      5 * there().bytes().length,
      3,
      3 * back().bytes().length,
    ]);
    await eventually(async () => {
      const [row] = await rowsOf(gate, 'suricata', 1);
      return row.ab.pkts + row.ba.pkts === 8 ? row : undefined;
    }, 'both counts');
    expect((await gate.status()).peers?.suricata).toMatchObject({ flows4: 1, flows6: 0 });

    expect((await gate.exception('add', `${B}/32`)).code).toBe(0);
    gate.send(there());
    await eventually(
      async () => ((await gate.status()).reasons.passException?.pkts === 1 ? true : undefined),
      'the exception',
    );
    expect((await gate.exception('rm', `${B}/32`)).code).toBe(0);

    process.kill((await gate.status()).daemon.pid ?? 0, 'SIGKILL');
    await eventually(
      async () => ((await gate.status()).daemon.alive ? undefined : true),
      'the daemon to be dead',
    );
    gate.send(there(), 2);
    await eventually(
      async () => ((await client.counts(`read ${flow}`))[0] === 7 ? true : undefined),
      'counts without a daemon',
    );
    const again = await gate.start('--tap', '--abi', 'suricata');
    expect(again.code, again.stderr).toBe(0);
    expect((await client.counts(`read ${flow}`))[0]).toBe(7);
    await rowsOf(gate, 'suricata', 1);
    expect(await client.ask(`delete ${flow}`)).toBe('deleted 2');
    await rowsOf(gate, 'suricata', 0);
    const told = () => gate.audit().filter(({ owner }) => owner === 'suricata');
    await until(() => told().at(-1)?.op === 'end', 'the end is not in audit.log');
    expect(told().map(({ op }) => op)).toEqual(['add', 'add', 'end']);
    expect(gate.audit().at(-1)).toMatchObject({ op: 'end', reason: 'removed', pkts: 10 });
    // Written after the other one.
    const shunts = (): string[] =>
      readFileSync(join(gate.logDir, 'shunt.log'), 'utf8').split('\n').slice(0, -1);
    await until(() => shunts().length >= 3, 'the end is not in shunt.log');
    const records = shunts();
    expect(records.map((line) => (JSON.parse(line) as { event: string }).event)).toEqual([
      'start',
      'start',
      'end',
    ]);
    expect(JSON.parse(records[2])).toMatchObject({
      'id.orig_h': A,
      'id.resp_h': B,
      'id.resp_p': 443,
      shunt_trigger: 'suricata',
      reason: 'removed',
      orig_shunted_pkts: 7,
      resp_shunted_pkts: 3,
      community_id: expect.stringMatching(/^1:/),
    });
    client[Symbol.dispose]();
    const pins = suricataPins(gate.ifname);
    expect(existsSync(pins)).toBe(true);
    await sluice('gate', 'down', '-i', gate.ifname);
    expect(existsSync(pins)).toBe(false);
  },
);

kernelTest(
  'Zeek: two gates serve one table, which goes with the last of them; a dead gate is taken down with its pins',
  ['xdpFrags', 'syscallProgram'],
  async () => {
    const directory = `/sys/fs/bpf/sluice-test-long-${process.pid}`;
    const options = ['--tap', '--abi', 'zeek', '--zeek-pins', directory];
    await using first = await UpGate.up(...options);
    await using second = await UpGate.up(...options);
    using client = Client.start('zeek', directory);
    expect(await client.ask(`shunt 6 ${A} 40000 ${B} 443 0 0`)).toBe('done');
    first.send(there(), 2);
    second.send(back(), 3);
    await eventually(async () => {
      const [orig, , resp] = await client.counts(`stats 6 ${A} 40000 ${B} 443 0 0`);
      return orig === 2 && resp === 3 ? true : undefined;
    }, 'both gates to count');
    await sluice('gate', 'down', '-i', first.ifname);
    expect(existsSync(join(directory, 'shunt_map'))).toBe(true);
    process.kill((await second.status()).daemon.pid ?? 0, 'SIGKILL');
    await eventually(
      async () => ((await second.status()).daemon.alive ? undefined : true),
      'the daemon to be dead',
    );
    expect((await sluice('gate', 'down', '-i', second.ifname)).code).toBe(0);
    expect(existsSync(directory)).toBe(false);
  },
);

kernelTest(
  'what is pinned there and is no such table is left alone',
  ['xdpFrags', 'syscallProgram'],
  async () => {
    await using gate = await UpGate.up('--tap', '--abi', 'suricata');
    const { code, stderr } = await gate.start('--tap', '--abi', 'suricata-shared');
    expect(code).not.toBe(0);
    expect(stderr).toContain('INTERFACE_BUSY');
    const pins = suricataPins(gate.ifname);
    process.kill((await gate.status()).daemon.pid ?? 0, 'SIGKILL');
    await eventually(
      async () => ((await gate.status()).daemon.alive ? undefined : true),
      'the daemon to be dead',
    );
    const other = await gate.start('--tap', '--abi', 'suricata-shared');
    expect(other.code).not.toBe(0);
    expect(other.stderr).toContain('PIN_FOREIGN');
    expect(existsSync(pins)).toBe(true);
  },
);

for (const kind of ['unix_stream', 'unix_dgram', 'file'] as const) {
  kernelTest(
    `EVE by ${kind}: what a policy takes is shunted at once, everything else is counted`,
    ['xdpFrags', 'syscallProgram'],
    async () => {
      await using gate = UpGate.interfaces();
      const path = join(gate.logDir, 'eve');
      if (kind === 'file') writeFileSync(path, `${JSON.stringify({ ...eveTls, src_port: 1 })}\n`);
      const source = kind === 'file' ? path : `${kind}:${path}`;
      const up = await gate.start('--tap', '--eve', source, '--eve-policy', 'tls,bulk=100kB');
      expect(up.code, up.stderr).toBe(0);
      const write = async (...lines: string[]): Promise<void> => {
        if (kind === 'file') appendFileSync(path, lines.map((line) => `${line}\n`).join(''));
        else if (kind === 'unix_stream')
          await new Promise<void>((resolve, reject) => {
            const socket = connect(path);
            socket.on('error', reject);
            socket.end(lines.map((line) => `${line}\n`).join(''), resolve);
          });
        else
          sh(
            'python3',
            '-c',
            'import socket,sys\ns=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM)\nfor l in sys.argv[2:]: s.sendto(l.encode(),sys.argv[1])',
            path,
            ...lines,
          );
      };
      await write('{"event_type":"stats"}', 'garbage', '['.repeat(1000), JSON.stringify(eveHttp));
      await write(JSON.stringify(eveTls));
      const [row] = await rowsOf(gate, 'eve', 1);
      expect(row).toMatchObject({ trigger: 'TLS_ESTABLISHED', proto: 'tcp', a: { addr: A, port: 40_000 } });
      gate.send(there(), 4);
      await eventually(
        async () => ((await gate.status()).shunted.pkts === 4 ? true : undefined),
        'four shunted packets',
      );
      // The host's own address, and a connection that Suricata has let go of.
      await write(JSON.stringify({ ...eveTls, dest_ip: '127.0.0.1' }));
      await write(JSON.stringify({ ...eveFlow, src_port: 5, flow: { ...eveFlow.flow, state: 'closed' } }));
      const { eve } = await eventually(async () => {
        const status = await gate.status();
        return status.eve?.records === 4 && status.eve.taken === 2 ? status : undefined;
      }, 'four records, of which two are taken');
      expect(eve).toMatchObject({ others: 1, bad: 2, taken: 2, dropped: 0 });
      await eventually(
        async () => (gate.audit().some(({ refused }) => refused === 'REFUSED') ? true : undefined),
        'the refusal',
      );
      if (kind === 'file') {
        renameSync(path, `${path}.1`);
        writeFileSync(path, `${JSON.stringify({ ...eveTls, src_port: 41_000 })}\n`);
        await rowsOf(gate, 'eve', 2);
      }
      // The FIN passes and ends it; what comes later is decided anew.
      gate.send(there('FA'));
      await rowsOf(gate, 'eve', kind === 'file' ? 1 : 0);
    },
  );
}

kernelTest('what is wrong with --eve and --abi is said', ['xdpFrags', 'syscallProgram'], async () => {
  await using gate = UpGate.interfaces();
  for (const [options, text] of [
    [['--abi', 'bro'], 'none of zeek'],
    [['--abi', 'suricata,suricata-shared'], 'different forms'],
    [['--abi', 'zeek', '--zeek-pins', '/tmp/zeek'], 'below /sys/fs/bpf'],
    [['--abi-entries', '0', '--abi', 'zeek'], 'must be a whole number'],
    [['--eve', 'unix:/tmp/x'], 'unix_stream:PATH'],
    [['--eve-policy', 'tls'], 'no --eve'],
    [['--eve', gate.logDir], 'is no file'],
    [['--eve', join(gate.logDir, 'eve.json'), '--eve-policy', 'nothing-of-this-name'], 'there is no policy'],
  ] as const) {
    const { code, stderr } = await gate.start('--tap', ...options);
    expect(code, options.join(' ')).not.toBe(0);
    expect(stderr, options.join(' ')).toContain(text);
  }
});
