import { appendFileSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Kvm } from '@nats-io/kv';
import { afterAll, expect } from 'vitest';
import { readSigningKey } from '../../src/fleet/keys.ts';
import type { EdgeResult } from '../../src/fleet/nats-desk.ts';
import { connectOnce, natsPlace } from '../../src/fleet/nats-place.ts';
import { signStatement } from '../../src/fleet/statement.ts';
import type { RuleRow } from '../../src/gate/control-protocol.ts';
import { eth } from '../../src/packet/build.ts';
import { eventually, UpGate } from '../gate/daemon-support.ts';
import { sluice } from '../support/command.ts';
import { Desk, fleetStatus, LONGEST } from '../support/desk.ts';
import { kernelTest, ownNetns } from '../support/kernel.ts';
import { NatsServer } from '../support/nats-server.ts';

ownNetns();

const directory = mkdtempSync(join(tmpdir(), 'sluice-fleet-'));
afterAll(() => rmSync(directory, { recursive: true, force: true, maxRetries: 20 }));
const udp = (dport: number) =>
  eth().ipv4({ src: '10.9.0.1', dst: '10.9.0.2' }).udp({ sport: 5000, dport }).payload('x'.repeat(100));

/** What a desk without our checks might sign. */
function signBad(desk: Desk, id: string): string {
  const issued = Math.floor(Date.now() / 1000);
  const rule = { expr: 'no such thing', action: { kind: 'drop' } } as const;
  const about = {
    version: 1,
    id,
    revision: Date.now(),
    author: 'a',
    issued,
    expires: issued + 600,
  } as const;
  return signStatement({ ...about, rule }, readSigningKey(readFileSync(`${desk.key}.key`, 'utf8'), 'key'));
}

const ids = async (gate: UpGate): Promise<string[]> => (await gate.rules()).map(({ id }) => id).sort();
const inForce = (gate: UpGate, wanted: string[]): Promise<true> =>
  eventually(
    async () => ((await ids(gate)).join() === wanted.join() ? true : undefined),
    `not exactly ${wanted.join()} in force`,
    LONGEST,
  );
const dropped = (gate: UpGate, id: string): Promise<RuleRow> =>
  eventually(async () => {
    gate.send(udp(53));
    return (await gate.rules()).find((row) => row.id === id && row.dropped.pkts > 0);
  }, `${id} drops nothing`);

kernelTest(
  'signed rules of a file: in force, changed, withdrawn, forged, bad, out of scope',
  [],
  async () => {
    const desk = await Desk.open(directory);
    const stranger = await Desk.open(directory);
    writeFileSync(desk.rules, await desk.sign('dns', 'udp dst port 53'));
    await using gate = await UpGate.up(...desk.options(desk.rules), '--site', 'fra1');
    await inForce(gate, ['fleet-dns']);
    await dropped(gate, 'fleet-dns');

    const first = await desk.sign('ntp', 'udp src port 123', '--site', 'fra1', '--revision', '1');
    appendFileSync(desk.rules, first);
    appendFileSync(desk.rules, await desk.sign('far', 'udp', '--site', 'ams1'));
    appendFileSync(desk.rules, await stranger.sign('evil', 'tcp'));
    appendFileSync(desk.rules, first.replace('port 123', 'port 443'));
    appendFileSync(desk.rules, '{"half":');
    await inForce(gate, ['fleet-dns', 'fleet-ntp']);
    const status = await fleetStatus(
      gate,
      ({ lines }) => lines.length === 3,
      'three lines that do not count',
    );
    expect(status.lines.map(({ where, id, refused }) => `${where} ${id} ${refused}`)).toEqual([
      'rules.jsonl:4 evil unknown key',
      'rules.jsonl:5 ntp forged',
      'rules.jsonl:6 null malformed',
    ]);
    expect(status).toMatchObject({ connected: true, rules: 3, inForce: 2 });
    expect(status.age).toBeLessThan(20);

    // Whole files in place of it, as an editor writes them: what is missing stays, what is withdrawn goes.
    const replace = (text: string): void => {
      writeFileSync(`${desk.rules}.new`, text);
      renameSync(`${desk.rules}.new`, desk.rules);
    };
    const before = (await gate.rules()).find(({ id }) => id === 'fleet-dns') as RuleRow;
    replace(await desk.sign('dns', 'udp dst port 53 or udp dst port 54'));
    await eventually(async () => {
      const row = (await gate.rules()).find(({ id }) => id === 'fleet-dns') as RuleRow;
      return row.expr.endsWith('54') && row.dropped.pkts >= before.dropped.pkts ? row : undefined;
    }, 'the rule did not change, or lost its counts');
    expect(await ids(gate)).toEqual(['fleet-dns', 'fleet-ntp']);

    // A bad rule is named, keeps none of the others away, and the one before it stays.
    const many = await Promise.all(['a', 'b', 'c'].map((id, at) => desk.sign(id, `tcp dst port ${80 + at}`)));
    const refused = await sluice(
      'rule',
      'sign',
      'no such',
      '--ttl',
      '1h',
      '--key',
      `${desk.key}.key`,
      '--json',
    );
    expect(JSON.parse(refused.stdout)).toMatchObject({ error: { code: 'FILTER_INVALID' } });
    replace(`${many[0]}${many[1]}${signBad(desk, 'dns')}\n${many[2]}`);
    await inForce(gate, ['fleet-a', 'fleet-b', 'fleet-c', 'fleet-dns', 'fleet-ntp']);
    const { bad } = await fleetStatus(gate, (now) => now.bad.length > 0, 'the bad rule is not named');
    expect(bad).toMatchObject([{ id: 'dns', why: expect.stringContaining('syntax error') as string }]);
    expect((await gate.rules()).find(({ id }) => id === 'fleet-dns')?.expr).toContain('port 54');

    replace((await desk.withdraw('ntp')) + first);
    await inForce(gate, ['fleet-a', 'fleet-b', 'fleet-c', 'fleet-dns']);
    // Whoever is at the gate has the last word, until there is a new revision.
    expect((await sluice('rule', 'rm', 'fleet-a', '-i', gate.ifname)).code).toBe(0);
    replace(await desk.sign('d', 'tcp dst port 99'));
    await inForce(gate, ['fleet-b', 'fleet-c', 'fleet-d', 'fleet-dns']);
    replace(await desk.sign('a', 'tcp dst port 98'));
    await inForce(gate, ['fleet-a', 'fleet-b', 'fleet-c', 'fleet-d', 'fleet-dns']);
    const ops = gate.audit().map(({ op, key }) => `${op} ${String(key)}`);
    expect(ops).toEqual(
      expect.arrayContaining([
        'fleet.accepted dns',
        'fleet.live dns',
        'fleet.withdrawn ntp',
        'fleet.refused evil',
      ]),
    );
  },
);

kernelTest('a web server that fails: the rules stay, also over a restart of the gate', [], async () => {
  const desk = await Desk.open(directory);
  let text = await desk.sign('dns', 'udp dst port 53');
  let failing = false;
  let unchanged = 0;
  const server = createServer((request, response) => {
    if (request.headers.authorization !== `Basic ${btoa('edge:pass word')}`) response.writeHead(401).end();
    else if (failing) response.writeHead(503).end();
    else if (request.headers['if-none-match'] === `"${text.length}"`) {
      unchanged++;
      response.writeHead(304).end();
    } else response.writeHead(200, { etag: `"${text.length}"` }).end(text);
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  try {
    const { port } = server.address() as { port: number };
    const options = desk.options(`http://edge:pass%20word@127.0.0.1:${port}/rules`);
    await using gate = await UpGate.up(...options);
    await inForce(gate, ['fleet-dns']);
    await eventually(async () => (unchanged > 0 ? true : undefined), 'it is always read whole');
    failing = true;
    const cut = await fleetStatus(gate, ({ connected }) => !connected, 'the failure is not seen');
    expect(cut).toMatchObject({ problem: expect.stringContaining('503') as string, rules: 1, inForce: 1 });
    expect(cut.source).toBe(`http://127.0.0.1:${port}/rules`);
    await dropped(gate, 'fleet-dns');

    await sluice('gate', 'down', '-i', gate.ifname);
    expect((await gate.start(...options)).code).toBe(0);
    await inForce(gate, ['fleet-dns']);
    const { stdout } = await sluice('gate', 'status', '-i', gate.ifname);
    expect(stdout).toMatch(/rules from +http:.*heard of \d+ s ago, not there now/);
    failing = false;
    text = (await desk.withdraw('dns')) + (await desk.sign('ntp', 'udp src port 123'));
    await inForce(gate, ['fleet-ntp']);
  } finally {
    server.closeAllConnections();
    server.close();
  }
});

const result = (url: string, good: (edge: EdgeResult) => boolean, what: string): Promise<EdgeResult> =>
  eventually(
    async () => {
      const { stdout } = await sluice('rule', 'results', '--from', url, '--json');
      return (JSON.parse(stdout) as EdgeResult[]).find(good);
    },
    what,
    LONGEST,
  );

/** Somebody who may write into the bucket and has no key. */
async function meddle(url: string, key: string, text: string | undefined): Promise<void> {
  const place = natsPlace(url);
  const connection = await connectOnce(place);
  const bucket = await new Kvm(connection).open(place.rules);
  if (text === undefined) await bucket.delete(key);
  else await bucket.put(key, text);
  await connection.close();
}

kernelTest(
  'a fleet over NATS: watched, reported, meddled with, its server dies and comes back',
  [],
  async () => {
    const desk = await Desk.open(directory);
    const stranger = await Desk.open(directory);
    await using server = new NatsServer(directory);
    await server.start();
    const url = server.url('flood');
    const first = await desk.sign('dns.a', 'udp dst port 53', '--revision', '1');
    const second = await desk.sign('dns.a', 'udp dst port 53', '--revision', '2');
    expect(await desk.publish([second], url)).toEqual({ published: ['dns.a'], older: [], canary: [] });
    expect(await desk.publish([first, second], url)).toEqual({
      published: [],
      older: ['dns.a', 'dns.a'],
      canary: [],
    });

    await using gate = await UpGate.up(...desk.options(url), '--role', 'edge');
    await inForce(gate, ['fleet-dns.a']);
    await dropped(gate, 'fleet-dns.a');
    const told = await result(url, ({ rules: [row] }) => row?.dropped.pkts > 0, 'no counts are told');
    expect(told).toMatchObject({
      interface: gate.ifname,
      roles: ['edge'],
      rules: [{ id: 'dns.a', revision: 2, state: 'in force' }],
    });

    await desk.publish(
      [`${signBad(desk, 'bad')}\n`, await desk.sign('far', 'udp', '--site', 'elsewhere')],
      url,
    );
    await meddle(url, 'evil', (await stranger.sign('evil', 'tcp')).trim());
    await meddle(url, 'dns=a', first.trim());
    const named = await result(
      url,
      ({ refused, rules: all }) => refused.length === 2 && all.length === 3,
      'not all named',
    );
    expect(named.rules.map(({ id, state }) => `${id} ${state}`).sort()).toEqual([
      'bad refused',
      'dns.a in force',
      'far not for here',
    ]);
    expect(named.refused.map(({ id, refused }) => `${id} ${refused}`)).toEqual([
      'evil unknown key',
      'dns.a older',
    ]);

    // A key that is gone says nothing.
    await meddle(url, 'dns=a', undefined);

    await server.stop();
    const cut = await fleetStatus(gate, ({ connected }) => !connected, 'the cut is not seen');
    expect(cut.source).toBe(server.bareUrl('flood'));
    expect(await ids(gate)).toEqual(['fleet-dns.a']);
    // Its daemon has only what it kept.
    await sluice('gate', 'down', '-i', gate.ifname);
    expect((await gate.start(...desk.options(url))).code).toBe(0);
    await inForce(gate, ['fleet-dns.a']);
    expect(
      (await fleetStatus(gate, ({ problem }) => problem !== null, 'no problem is told')).age,
    ).toBeGreaterThan(0);

    await server.start();
    await desk.publish([await desk.sign('ntp', 'udp src port 123'), await desk.withdraw('dns.a')], url);
    await inForce(gate, ['fleet-ntp']);
    await fleetStatus(
      gate,
      ({ connected, problem }) => connected && problem === null,
      'it is not said to be back',
    );
  },
);
