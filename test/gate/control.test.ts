import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { anything, assert, constantFrom, dictionary, letrec, oneof, property, string } from 'fast-check';
import { expect, it } from 'vitest';
import { findPlace } from '../../src/gate/control-places.ts';
import {
  LIMITS,
  type OwnerRow,
  parseRequest,
  type StatusReport,
  type WatchEvent,
} from '../../src/gate/control-protocol.ts';
import { flowKey, flowOfKey, flowText, parseFlow } from '../../src/gate/flow-key.ts';
import { packageRoot } from '../../src/kernel/index.ts';
import { eth } from '../../src/packet/build.ts';
import { kernelTest, ownNetns } from '../support/kernel.ts';
import { eventually, UpGate } from './daemon-support.ts';
import { gateKey } from './support.ts';

ownNetns();

const NOBODY = 65_534;
const A = '10.9.0.1';
const B = '10.9.0.2';
const flow = (port = 5000) => ({ proto: 'udp', a: { addr: A, port }, b: { addr: B, port: 6000 } });
const udp = (sport = 5000) => eth().ipv4({ src: A, dst: B }).udp({ sport, dport: 6000 }).payload('abc');
const plain = { vlan: 0, innerVlan: 0, vni: 0 };

interface Results {
  results: { error?: { code: string } }[];
}
const codesOf = ({ results }: Results): string[] => results.map(({ error }) => error?.code ?? 'ok');
const codeOf = (error: unknown): string => (error as { code: string }).code;

/** A connection without any manners: what comes back is kept as lines. */
class Raw {
  readonly socket: Socket;
  readonly lines: string[] = [];
  readonly closed: Promise<void>;
  #rest = '';

  constructor(gate: UpGate) {
    this.socket = connect(findPlace(gate.ifname).socket);
    this.socket.setEncoding('utf8');
    this.socket.on('error', () => {});
    this.socket.on('data', (text: string) => {
      const parts = (this.#rest + text).split('\n');
      this.#rest = parts.pop() ?? '';
      this.lines.push(...parts);
    });
    this.closed = new Promise((resolve) => this.socket.once('close', () => resolve()));
  }

  async answers(count: number): Promise<{ id: unknown; error?: { code: string }; result?: unknown }[]> {
    await eventually(async () => (this.lines.length >= count ? true : undefined), `no ${count} answers`);
    return this.lines.map((line) => JSON.parse(line) as { id: unknown });
  }

  [Symbol.dispose](): void {
    this.socket.destroy();
  }
}

it('reads flows as people write them, into the keys of the gate', () => {
  const tcp = parseFlow('tcp 10.0.0.1:443 10.0.0.2:51000', plain);
  const expected = gateKey(6, { addr: '10.0.0.1', port: 443 }, { addr: '10.0.0.2', port: 51_000 });
  expect(flowKey(tcp).bytes).toEqual(expected.bytes);
  const swapped = parseFlow('TCP 10.0.0.2:51000 10.0.0.1:443', plain);
  expect(flowKey(swapped)).toEqual({ ...flowKey(tcp), sideOfA: 1 });
  const wide = parseFlow('udp [2001:db8::1]:53 [2001:db8::2]:4000', { vlan: 9, innerVlan: 8, vni: 0 });
  const wideKey = gateKey(17, { addr: '2001:db8::1', port: 53 }, { addr: '2001:db8::2', port: 4000 }, 9, 8);
  expect(flowKey(wide).bytes).toEqual(wideKey.bytes);
  const echo = parseFlow('icmp 10.0.0.1 10.0.0.2', plain);
  expect(flowKey(echo).bytes).toEqual(
    gateKey(1, { addr: '10.0.0.1', port: 8 }, { addr: '10.0.0.2', port: 0 }).bytes,
  );
  expect(flowText(wide)).toBe('udp [2001:db8::1]:53 [2001:db8::2]:4000 vlan 9.8');
  for (const each of [tcp, wide, echo]) {
    const { tcp: _, ...back } = flowOfKey(flowKey(each).family, flowKey(each).bytes);
    expect(back).toEqual(each);
  }
  for (const bad of [
    '',
    'tcp',
    'tcp 1.2.3.4:1',
    'tcp 1.2.3.4 5.6.7.8',
    'tcp 1.2.3.4:1 5.6.7.8:65536',
    'foo 1.2.3.4:1 5.6.7.8:2',
    'tcp 2001:db8::1:1 2001:db8::2:2',
    'tcp 01.2.3.4:1 5.6.7.8:2',
  ])
    expect(() => parseFlow(bad, plain), bad).toThrow();
});

it('takes any line for a request or a problem, and throws at none', () => {
  assert(property(string({ maxLength: 300 }), (line) => void parseRequest(line)));
  const words = constantFrom('id', 'op', 'flows', 'owner', 'name', 'lease', 'a', 'b', 'version', '__proto__');
  const { tree } = letrec<{ tree: unknown }>((tie) => ({
    tree: oneof(
      { maxDepth: 4 },
      anything({ maxDepth: 1 }),
      constantFrom('add', 'list', 'hello', 'off', 1, 'x'),
      dictionary(words, tie('tree')),
    ),
  }));
  assert(
    property(tree, (value) => {
      const line = JSON.stringify(value);
      if (line !== undefined) void parseRequest(line);
    }),
  );
});

kernelTest(
  'garbage, floods and endless lines are answered or cut off, and nobody else notices',
  [],
  async () => {
    await using gate = await UpGate.up();
    const pid = (await gate.status()).daemon.pid;
    {
      using raw = new Raw(gate);
      raw.socket.write('hello\n{}\n[]\nnull\n{"id":7,"op":"nonsense"}\n{"id":8,"op":"list","page":-1}\n\n');
      raw.socket.write(Buffer.from([0xff, 0xfe, 0x00, 0x0a]));
      raw.socket.write('{"id":9,"op":"hello","version":99}\n{"id":10,"op":"hello","version":1}\n');
      const answers = await raw.answers(9);
      expect(answers.map(({ id, error }) => [id, error?.code ?? 'ok'])).toEqual([
        [null, 'CONTROL'],
        [null, 'CONTROL'],
        [null, 'CONTROL'],
        [null, 'CONTROL'],
        [7, 'CONTROL'],
        [8, 'CONTROL'],
        [null, 'CONTROL'],
        [9, 'CONTROL'],
        [10, 'ok'],
      ]);
    }
    {
      using raw = new Raw(gate);
      raw.socket.write('x'.repeat(LIMITS.line * 4));
      await raw.closed;
      expect(JSON.parse(raw.lines[0])).toMatchObject({ error: { code: 'LIMIT' } });
    }
    {
      using raw = new Raw(gate);
      let many = 0;
      let refused = 0;
      let answers: Awaited<ReturnType<Raw['answers']>> = [];
      // A slow daemon may answer all of a few thousand at the rate that it allows: until it is more than that.
      for (let round = 0; refused === 0 && round < 20; round++) {
        many += LIMITS.burst * 3;
        raw.socket.write('{"id":1,"op":"hello","version":1}\n'.repeat(LIMITS.burst * 3));
        answers = await raw.answers(many);
        refused = answers.filter(({ error }) => error?.code === 'LIMIT').length;
      }
      expect(answers).toHaveLength(many);
      expect(refused).toBeGreaterThan(0);
      expect(answers.filter(({ result }) => result !== undefined)).toHaveLength(many - refused);
    }
    {
      // Asks, and never reads.
      using raw = new Raw(gate);
      raw.socket.pause();
      raw.socket.write('{"id":1,"op":"status"}\n'.repeat(1500));
      await gate.shunt('add', '--flow', `udp ${A}:5000 ${B}:6000`);
    }
    const crowd: Raw[] = [];
    for (let i = 0; i < LIMITS.clients + 5; i++) crowd.push(new Raw(gate));
    await eventually(
      async () => (crowd.some(({ lines }) => lines[0]?.includes('LIMIT')) ? true : undefined),
      'all of a crowd were let in',
    );
    for (const raw of crowd) raw[Symbol.dispose]();
    // Until the daemon has seen the crowd leave, the answer is the documented refusal: an error document.
    const status = await eventually(async () => {
      const { daemon, tables } = (await gate.status()) as Partial<StatusReport>;
      return daemon?.alive ? { daemon, tables } : undefined;
    }, 'no room again');
    expect(status).toMatchObject({ daemon: { pid }, tables: { flows4: { entries: 1 } } });
  },
);

kernelTest('an owner keeps its entries by its lease, within its limits', [], async () => {
  await using gate = await UpGate.up();
  using client = await gate.connect();
  await expect(client.ask('owner.register', { name: 'x', lease: 'off', idle: 'off' })).rejects.toThrow(
    'never both',
  );
  await expect(client.ask('add', { owner: 'x', flows: [flow()] })).rejects.toThrow('no owner x');
  await client.ask('owner.register', { name: 'fast', lease: 2, maxEntries: 2 });
  await client.ask('owner.register', { name: 'slow', lease: 'off', idle: 1 });
  const first = await client.ask<Results>('add', { owner: 'fast', flows: [flow(1), flow(2), flow(3)] });
  expect(codesOf(first)).toEqual(['ok', 'ok', 'LIMIT']);
  expect(codesOf(await client.ask<Results>('add', { owner: 'slow', flows: [flow(3), flow(1)] }))).toEqual([
    'ok',
    'EXISTS',
  ]);
  for (let i = 0; i < 8; i++) {
    await client.ask('renew', { owner: 'fast' });
    for (const port of [1, 2]) gate.send(udp(port));
    // Longer than the lease in all.
    await new Promise((resolve) => setTimeout(resolve, 300));
  }
  expect(await gate.status()).toMatchObject({
    shunted: { pkts: 16 },
    passed: { pkts: 0 },
    owners: [
      { name: 'fast', entries: 2, lapsed: false },
      { name: 'slow', lease: 'off', age: null },
    ],
  });
  // Nobody renews any more; the other one has no packets.
  const owners = await eventually(async () => {
    const { owners: now } = await gate.status();
    return now.every(({ entries }: OwnerRow) => entries === 0) ? now : undefined;
  }, 'entries stay');
  expect(owners.map(({ name, lapsed }) => [name, lapsed])).toEqual([
    ['fast', true],
    ['slow', false],
  ]);
  const ends = gate.audit().filter(({ op }) => op === 'end');
  expect(
    ends
      .map(({ owner, reason }) => `${String(owner)} ${String(reason)}`)
      .toSorted((x, y) => (x < y ? -1 : 1)),
  ).toEqual(['fast lease', 'fast lease', 'slow idle']);
  await client.ask('renew', { owner: 'fast' });
  await client.ask('add', { owner: 'fast', flows: [flow(1)] });
  expect(await client.ask('owner.unregister', { name: 'fast' })).toEqual({ ended: 1 });
  gate.send(udp(1));
  expect(await gate.status()).toMatchObject({ passed: { pkts: 1 }, owners: [{ name: 'slow' }] });
});

kernelTest('whoever watches is told of each shunt and of the counters', [], async () => {
  await using gate = await UpGate.up();
  using client = await gate.connect();
  const events: WatchEvent[] = [];
  await client.watch(0.1, (event) => events.push(event));
  await gate.shunt('add', '--flow', `udp ${A}:5000 ${B}:6000`);
  gate.send(udp(), 7);
  await gate.shunt('rm', '--flow', `udp ${A}:5000 ${B}:6000`);
  const end = await eventually(async () => events.find(({ event }) => event === 'end'), 'no end');
  expect(events.find(({ event }) => event === 'start')).toMatchObject({ shunt: { a: { port: 5000 } } });
  expect(end).toMatchObject({ reason: 'asked', shunt: { ab: { pkts: 7 } } });
  const counters = await eventually(
    async () =>
      events.findLast((e) => e.event === 'counters' && e.shunts === 0 && e.ledger.shunted.pkts === 7),
    'no counters',
  );
  expect(counters).toMatchObject({ lost: 0, ledger: { seen: { pkts: 7 } } });
});

kernelTest('a long table comes in pages', [], async () => {
  await using gate = await UpGate.up();
  using client = await gate.connect();
  await client.ask('owner.register', { name: 'many', lease: 60 });
  for (let first = 1; first <= 1000; first += 200) {
    const flows = Array.from({ length: 200 }, (_, i) => flow(first + i));
    expect(codesOf(await client.ask<Results>('add', { owner: 'many', flows }))).toEqual(
      flows.map(() => 'ok'),
    );
  }
  const pages: number[] = [];
  const ports = new Set<number>();
  await client.ask('list', { page: 300 }, (rows) => {
    pages.push(rows.length);
    for (const row of rows as { a: { port: number } }[]) ports.add(row.a.port);
  });
  expect(pages).toEqual([300, 300, 300, 100]);
  expect(ports.size).toBe(1000);
  expect(await client.ask('owner.unregister', { name: 'many' })).toEqual({ ended: 1000 });
  expect(await gate.status()).toMatchObject({ tables: { flows4: { entries: 0 } } });
});

/** The command line as another user, who can read the checkout only through what it was given. */
function asNobody(gate: UpGate, ...args: string[]): ChildProcess {
  return spawn(
    process.execPath,
    [join(packageRoot(), 'test/support/sluice.ts'), ...args, '-i', gate.ifname],
    { uid: NOBODY, gid: NOBODY, stdio: ['ignore', 'pipe', 'pipe'] },
  );
}

async function outcome(
  child: ChildProcess,
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  let stdout = '';
  let stderr = '';
  child.stdout?.on('data', (data: Buffer) => (stdout += data.toString()));
  child.stderr?.on('data', (data: Buffer) => (stderr += data.toString()));
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
  return { code, stdout, stderr };
}

kernelTest(
  'an unprivileged user acts by the socket and reads the pins, when the group is given',
  [],
  async (context) => {
    const readable = spawnSync(process.execPath, ['--version'], { uid: NOBODY, gid: NOBODY, cwd: '/' });
    const seen = spawnSync('test', ['-r', join(packageRoot(), 'src/cli/main.ts')], {
      uid: NOBODY,
      gid: NOBODY,
      cwd: '/',
    });
    if (readable.status !== 0 || seen.status !== 0)
      context.skip('this checkout is not readable by other users');
    const FLOW = `udp ${A}:5000 ${B}:6000`;
    {
      await using gate = await UpGate.up();
      const add = await outcome(asNobody(gate, 'shunt', 'add', '--flow', FLOW, '--json'));
      expect([add.code, add.stdout]).toEqual([3, expect.stringContaining('"PRIVILEGE"')]);
      const ls = await outcome(asNobody(gate, 'shunt', 'ls', '--json'));
      expect([ls.code, ls.stdout]).toEqual([3, expect.stringContaining('"PRIVILEGE"')]);
    }
    await using gate = await UpGate.up('--pin-group', String(NOBODY));
    expect(await outcome(asNobody(gate, 'shunt', 'add', '--flow', FLOW))).toMatchObject({ code: 0 });
    gate.send(udp(), 3);
    const ls = await outcome(asNobody(gate, 'shunt', 'ls', '--json'));
    expect(JSON.parse(ls.stdout)).toMatchObject([{ ab: { pkts: 3 } }]);
    expect(gate.audit().find(({ op }) => op === 'add')).toMatchObject({ uid: NOBODY });
    // What is another's, or rules the gate, is not for them.
    using client = await gate.connect();
    await client.ask('owner.register', { name: 'root', lease: 60 });
    await client.ask('add', { owner: 'root', flows: [flow(7)] });
    const rm = await outcome(asNobody(gate, 'shunt', 'rm', '--flow', `udp ${A}:7 ${B}:6000`, '--json'));
    expect(rm.stdout).toContain('"DENIED"');
    const down = await outcome(asNobody(gate, 'gate', 'down', '--json'));
    expect(down.stdout).toContain('"DENIED"');
    // Without the daemon the pins are still there to be read.
    process.kill((await gate.status()).daemon.pid as number, 'SIGKILL');
    await client.closed;
    const dead = await outcome(asNobody(gate, 'gate', 'status', '--json'));
    expect(JSON.parse(dead.stdout)).toMatchObject({ daemon: { alive: false }, shunted: { pkts: 3 } });
  },
);

kernelTest('a request of another version, and one that was closed on', [], async () => {
  await using gate = await UpGate.up();
  using client = await gate.connect();
  await expect(client.ask('hello', { version: 2 }).catch(codeOf)).resolves.toBe('CONTROL');
  const hanging = client.ask('stop');
  await hanging;
  await client.closed;
  await expect(client.ask('status').catch(codeOf)).resolves.toBe('GATE_DOWN');
});
