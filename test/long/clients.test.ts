import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { expect } from 'vitest';
import { GateClient, GateError, type GateEvent } from '../../clients/typescript/src/index.ts';
import { findPlace } from '../../src/gate/control-places.ts';
import { packageRoot } from '../../src/kernel/index.ts';
import { eth } from '../../src/packet/build.ts';
import { eventually, UpGate } from '../gate/daemon-support.ts';
import { kernelTest, ownNetns } from '../support/kernel.ts';

ownNetns();

const A = '10.9.0.1';
const B = '10.9.0.2';
const flow = (port: number) => ({ proto: 'udp', a: { addr: A, port }, b: { addr: B, port: 6000 } });
const udp = (sport: number) => eth().ipv4({ src: A, dst: B }).udp({ sport, dport: 6000 }).payload('abc');
const codeOf = (answer: unknown): unknown => (answer instanceof GateError ? answer.code : answer);

/** A process that says what it does in lines; killed when its scope ends. */
class Client {
  readonly process: ChildProcess;
  readonly lines: string[] = [];
  stderr = '';

  constructor(command: string, args: readonly string[], env: Record<string, string> = {}) {
    this.process = spawn(command, args, { stdio: 'pipe', env: { ...process.env, ...env } });
    createInterface({ input: this.process.stdout as NodeJS.ReadableStream }).on('line', (line) =>
      this.lines.push(line),
    );
    this.process.stderr?.on('data', (text: Buffer) => (this.stderr += text.toString()));
    this.process.stdin?.on('error', () => undefined);
  }

  /** A script that talks to the socket as it likes. */
  static raw(gate: UpGate, script: string): Client {
    const prelude = `const socket = require('node:net').connect(${JSON.stringify(findPlace(gate.ifname).socket)});
      socket.on('error', () => {}); let id = 0;
      const ask = (op, fields) => socket.write(JSON.stringify({ id: ++id, op, ...fields }) + '\\n');`;
    return new Client(process.execPath, ['-e', `${prelude}\n${script}`]);
  }

  async said(line: string): Promise<void> {
    await eventually(
      async () => {
        if (this.lines.includes(line)) return true;
        if (this.process.exitCode !== null) throw new Error(`ended before '${line}': ${this.stderr}`);
        return undefined;
      },
      `not said: ${line}`,
      240,
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return;
    this.process.kill('SIGKILL');
    await once(this.process, 'exit');
  }
}

/** Its process is gone, its gate is not; then another daemon takes it over. */
async function restart(gate: UpGate): Promise<void> {
  const { daemon } = await gate.status();
  process.kill(daemon.pid as number, 'SIGKILL');
  await eventually(async () => ((await gate.status()).daemon.alive ? undefined : true), 'the daemon lives');
  expect(await gate.start()).toMatchObject({ code: 0 });
}

kernelTest('the client for Node.js: all requests, errors by code, and what it sets again', [], async () => {
  await using gate = await UpGate.up();
  using client = await GateClient.connect({ interface: gate.ifname });
  await client.own({ name: 'node', lease: 60, idle: 300 }, { renew: true });
  expect(await client.add([flow(1), flow(2)], { owner: 'node' })).toEqual([undefined, undefined]);
  expect((await client.add([flow(1), { ...flow(3), ttl: 300 }])).map(codeOf)).toEqual(['EXISTS', undefined]);
  expect((await client.list()).map(({ a }) => a.port).toSorted((x, y) => x - y)).toEqual([1, 2, 3]);
  expect(await client.hold([{ ...flow(3), ttl: 300 }, flow(4)], { why: 'a file' })).toEqual([
    { released: true },
    { released: false },
  ]);
  expect((await client.add([flow(4)])).map(codeOf)).toEqual(['HELD']);
  expect((await client.holds()).map(({ a, kept }) => [a.port, kept])).toEqual([
    [3, 0],
    [4, 1],
  ]);
  expect((await client.release([flow(3), flow(9)])).map(codeOf)).toEqual([undefined, 'NOT_FOUND']);
  expect(await client.except(`${A}/32`)).toBe(2);
  expect(await client.exceptions()).toContain(`${A}/32`);
  expect((await client.add([flow(1)])).map(codeOf)).toEqual(['REFUSED']);
  await client.unexcept(`${A}/32`);
  await expect(client.request('nonsense')).rejects.toMatchObject({ code: 'CONTROL' });
  await expect(GateClient.connect({ interface: 'none' })).rejects.toMatchObject({ code: 'GATE_DOWN' });

  // More than the gate takes: this one waits, and is not refused.
  using hasty = await GateClient.connect({ interface: gate.ifname, requestsPerSecond: 5000 });
  await eventually(async () => {
    // On a busy machine they may come so slowly that all are taken.
    await Promise.all(Array.from({ length: 4000 }, () => hasty.exceptions()));
    return ((await gate.status()).control?.limited ?? 0) > 0 ? true : undefined;
  }, 'so many requests are never too many');

  const events: GateEvent[] = [];
  const watching = await client.watch((event) => events.push(event), 0);
  await restart(gate);
  await eventually(async () => {
    try {
      return codeOf((await client.add([flow(7)], { owner: 'node' }))[0]) === undefined ? true : undefined;
    } catch (error) {
      // One that was under way when the daemon died.
      expect(error).toMatchObject({ code: 'GATE_DOWN' });
      return undefined;
    }
  }, 'the gate is not back');
  await eventually(
    async () => events.find(({ event }) => event === 'start'),
    'no event after the gate was away',
  );
  expect((await client.holds()).map(({ a }) => a.port)).toEqual([4]);
  await watching.stop();
  expect(await client.disown('node')).toBeGreaterThan(0);
});

const python = spawnSync('python3', ['-c', 'import sys; sys.exit(sys.version_info < (3, 11))']);

kernelTest('the client for Python: the same', [], async (context) => {
  if (python.status !== 0) context.skip('there is no Python 3.11');
  await using gate = await UpGate.up();
  const here = join(packageRoot(), 'clients/python');
  await using client = new Client(
    'python3',
    ['-W', 'error', join(here, 'tests/session.py'), findPlace(gate.ifname).socket],
    { PYTHONPATH: join(here, 'src'), PYTHONDONTWRITEBYTECODE: '1' },
  );
  await client.said('done');
  await client.said('patient');
  await client.said('watching');
  await restart(gate);
  client.process.stdin?.write('go on\n');
  await client.said('back');
});

kernelTest(
  'clients that flood, crash, renew nothing or send garbage harm nobody else’s entries',
  [],
  async () => {
    await using gate = await UpGate.up();
    using good = await GateClient.connect({ interface: gate.ifname });
    await good.own({ name: 'good', lease: 30 }, { renew: true });
    expect(await good.add([flow(1), flow(2)], { owner: 'good' })).toEqual([undefined, undefined]);
    await good.hold([{ ...flow(3), ttl: 600 }]);

    await using flood = Client.raw(
      gate,
      `socket.on('data', () => {}); const many = () => { for (let i = 0; i < 500; i++) ask('list', {}); setTimeout(many, 5); }; many();
       setTimeout(() => console.log('flooding'), 500);`,
    );
    // Takes all that one owner may have, and never renews.
    await using hog = Client.raw(
      gate,
      `socket.on('data', () => {}); ask('owner.register', { name: 'hog', lease: 2 });
       let port = 1000; const more = () => { for (let n = 0; n < 4; n++) ask('add', { owner: 'hog', flows: Array.from({ length: 256 }, () =>
         ({ proto: 'udp', a: { addr: '10.8.0.1', port: port++ % 60000 + 1 }, b: { addr: '10.8.0.2', port: 1 } })) });
         if (port < 9000) setTimeout(more, 20); else console.log('full'); }; more();`,
    );
    await using crash = Client.raw(
      gate,
      `ask('owner.register', { name: 'crash', lease: 2 }); ask('add', { owner: 'crash', flows: [${JSON.stringify(flow(50))}] });
       ask('hold.add', { owner: 'crash', flows: [${JSON.stringify(flow(51))}] });
       socket.on('data', (text) => { if (String(text).includes('"id":3')) console.log('added'); });`,
    );
    await using garbage = Client.raw(
      gate,
      `const crypto = require('node:crypto'); socket.on('data', () => {});
       const more = () => { socket.write(crypto.randomBytes(3000)); socket.write('\\n{"id":1}\\n{"id":{}}\\n[[[[\\n'); setTimeout(more, 5); }; more();
       setTimeout(() => console.log('talking'), 300);`,
    );
    // Speaks for others, and for what is not its own.
    await using liar = Client.raw(
      gate,
      `socket.on('data', (text) => { if (String(text).includes('"id":4')) console.log('lied'); });
       ask('owner.register', { name: 'liar', lease: 'off', idle: 'off' }); ask('renew', { owner: 'nobody' });
       ask('hold.remove', { owner: 'nobody', flows: [${JSON.stringify(flow(3))}] }); ask('resize', { maxShunts4: 0 });`,
    );
    await crash.said('added');
    crash.process.kill('SIGKILL');
    await Promise.all([flood.said('flooding'), hog.said('full'), garbage.said('talking'), liar.said('lied')]);

    // All the while others are served, and what they have holds.
    for (let i = 0; i < 20; i++) {
      gate.send(udp(1));
      gate.send(udp(2));
      await good.renew('good');
    }
    expect(
      (await good.list('good')).map(({ ab, a }) => [a.port, ab.pkts]).toSorted(([x], [y]) => x - y),
    ).toEqual([
      [1, 20],
      [2, 20],
    ]);
    expect((await good.add([flow(3)])).map(codeOf)).toEqual(['HELD']);
    // What nobody renews lets go, and no more than that; under a flood it is taken out of the table later.
    await eventually(async () => {
      const { control } = await gate.status();
      return (control?.limited ?? 0) > 0 && (control?.malformed ?? 0) > 0 ? true : undefined;
    }, 'nothing of it is refused');
    flood.process.kill('SIGKILL');
    await eventually(
      async () => {
        const { owners, holds } = await gate.status();
        const left = owners.filter(({ name, entries }) => name !== 'good' && entries > 0);
        return left.length === 0 && holds?.live === 1 ? true : undefined;
      },
      'entries and holds of those who are gone stay',
      120,
    );
    const status = await gate.status();
    expect(status).toMatchObject({
      daemon: { alive: true },
      holds: { live: 1 },
      tables: { flows4: { entries: 2 } },
      shunted: { pkts: 40 },
    });
    expect(status.control?.limited).toBeGreaterThan(0);
    expect(status.control?.malformed).toBeGreaterThan(0);
    expect(status.owners.find(({ name }) => name === 'good')).toMatchObject({ entries: 2, lapsed: false });
    expect((await good.holds()).map(({ a }) => a.port)).toEqual([3]);
  },
);
