import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { get as httpGet, type IncomingMessage, type RequestOptions } from 'node:http';
import { get as httpsGet } from 'node:https';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { ApiOptions } from '../../src/api/access.ts';
import { boardShape, flowShape, historyShape, sessionShape } from '../../src/api/board-shapes.ts';
import { METRICS } from '../../src/api/metrics.ts';
import { ApiServer } from '../../src/api/server.ts';
import {
  lossesShape,
  policiesShape,
  sourcesShape,
  statusShape,
  type Tick,
  tickShape,
} from '../../src/api/shapes.ts';
import { SluiceError } from '../../src/base/errors.ts';
import { emptyLedger } from '../../src/gate/ledger.ts';
import type { LineListener, LogWatch } from '../../src/log/log-watch.ts';
import type { LiveRun } from '../../src/sensor/live.ts';
import type { LossReport } from '../../src/sensor/losses/index.ts';
import type { Snapshot } from '../../src/sensor/snapshot.ts';
import { RunTallies } from '../../src/sensor/tallies.ts';
import { until } from '../support/kernel.ts';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'api-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const ledger = { ...emptyLedger(), seen: { pkts: 10, bytes: 1000 }, shunted: { pkts: 4, bytes: 400 } };
const snapshot: Snapshot = {
  at: 1,
  packets: 6,
  bytes: 600,
  activeFlows: 2,
  connections: 3,
  shuntedConnections: 1,
  shuntsLive: 1,
  shuntsStarted: 1,
  refused: 0,
  latePackets: 0,
  recovered: 0,
  notesLost: 0,
  ringPackets: 6,
  ringDrops: 5,
  ringFreezes: 0,
  cutConnections: 0,
  socketDrops: 0,
  judged: 2,
  oneWay: 1,
  logLinesLost: 0,
  cpu: 1.5,
  localBypass: { connections: 0, pkts: 0, bytes: 0 },
  policies: [{ name: 'tls', connections: 1, pkts: 4, bytes: 340, noted: 0, spared: {} as never }],
  ledger,
};

const losses: LossReport = {
  at: 1_790_000_001,
  seconds: 1,
  interval: 1,
  lost: { packets: 5, rate: 5 },
  wanted: { packets: 4, rate: 4 },
  rows: [
    { stage: 'gate', where: 'eth1', counter: 'shunted', kind: 'wanted', unit: 'packets', total: 4, rate: 4 },
    {
      stage: 'capture',
      where: 'eth1',
      counter: 'ringFull',
      kind: 'loss',
      unit: 'packets',
      total: 5,
      rate: 5,
    },
    { stage: 'softnet', where: '', counter: 'squeezed', kind: 'warning', unit: 'events', total: 7, rate: 0 },
  ],
  order: [
    {
      source: 'eth1',
      worker: 0,
      packets: 6,
      byTime: { packets: 2, share: 1 / 3, seconds: 0.01 },
      byTcp: { segments: 1, share: 1 / 6, bytes: 1448 },
    },
  ],
};

interface State {
  healthy: boolean;
  now: Snapshot;
  jsonLogs?: boolean;
  /** Told of lines, while somebody watches. */
  watching?: { logs: readonly string[]; seen: LineListener } | undefined;
}

/** A run that never was; `state` is what it says of itself. */
function madeUp(state: State): LiveRun {
  const worker = { packets: 6, bytes: 600, dropped: 5, cpuSeconds: 0.5, idle: 0.1 };
  return {
    started: 1_790_000_000,
    healthy: () => state.healthy,
    ready: () => state.healthy,
    snapshot: () => state.now,
    gates: () => [],
    tallies: new RunTallies(),
    logDir: dir,
    jsonLogs: state.jsonLogs ?? true,
    watchLogs: (logs, seen) => {
      state.watching = { logs, seen };
      const close = (): void => {
        state.watching = undefined;
      };
      return { skipped: 0, close } as unknown as LogWatch;
    },
    sources: () => [
      { name: 'eth1', kind: 'interface', mode: 'native', drop: 'xdp', capture: 'ring', workers: [worker] },
    ],
    losses: () => losses,
  };
}

const open = async (
  options: Partial<ApiOptions> = {},
  state: State = { healthy: true, now: snapshot },
): Promise<ApiServer> => await ApiServer.open(madeUp(state), '9.9.9', { listen: '127.0.0.1:0', ...options });

const asked = async (url: string, path: string, headers: Record<string, string> = {}) =>
  await fetch(`${url}${path}`, { headers });

/** Reads the stream, and keeps its events. */
function onlooker(url: string): {
  names: () => Set<string>;
  of: (name: string) => unknown[];
  close: () => void;
} {
  let text = '';
  const request = httpGet(url, (response) => {
    response.on('data', (data: Buffer) => (text += data.toString()));
    response.on('error', () => {});
  });
  request.on('error', () => {});
  const events = (): string[][] =>
    [...text.matchAll(/^event: (.*)\ndata: (.*)\n\n/gm)].map(([, name, data]) => [name, data]);
  return {
    names: () => new Set(events().map(([name]) => name)),
    of: (wanted) =>
      events()
        .filter(([name]) => name === wanted)
        .map(([, data]) => JSON.parse(data) as unknown),
    close: () => request.destroy(),
  };
}

/** A key and a certificate signed by it. */
function make(name: string): [string, string] {
  const [key, cert] = [join(dir, `${name}.key`), join(dir, `${name}.pem`)];
  const kind = ['-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'];
  execFileSync('openssl', ['req', ...kind, '-subj', `/CN=${name}`, '-keyout', key, '-out', cert], {
    stdio: 'pipe',
  });
  return [key, cert];
}

const flip = async (api: ApiServer, headers: Record<string, string>): Promise<[number, string]> => {
  const answer = await fetch(`${api.url}/v1/rules/switch`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify({ interface: 'eth1', id: 'spare', on: false }),
  });
  const { error } = (await answer.json()) as { error: { code: string } };
  return [answer.status, error.code];
};
const switches = async (api: ApiServer, headers: Record<string, string>): Promise<string> =>
  sessionShape.parse(await (await asked(api.url, '/v1/session', headers)).json()).switches;

describe('the API', () => {
  test('answers in the shapes that its document states', async () => {
    await using api = await open();
    const json = async (path: string): Promise<unknown> => await (await asked(api.url, path)).json();
    const status = statusShape.strict().parse(await json('/v1/status'));
    expect(status).toMatchObject({
      version: '9.9.9',
      ledger: { seen: { pkts: 10 }, shunted: { bytes: 400 } },
    });
    expect(status).toMatchObject({ losses: { ring: 5 }, connections: { open: 2, ended: 3, shunted: 1 } });
    expect(sourcesShape.parse(await json('/v1/sources'))).toMatchObject([
      { name: 'eth1', workers: [{ dropped: 5 }] },
    ]);
    expect(policiesShape.parse(await json('/v1/policies'))).toMatchObject([{ name: 'tls', pkts: 4 }]);
    expect(lossesShape.strict().parse(await json('/v1/losses'))).toEqual(losses);
    const document = (await json('/openapi.json')) as { paths: Record<string, unknown>; openapi: string };
    expect(document.openapi).toMatch(/^3\./);
    expect(Object.keys(document.paths).toSorted()).toEqual([
      '/health',
      '/metrics',
      '/ready',
      '/v1/board',
      '/v1/fleet',
      '/v1/flow',
      '/v1/history',
      '/v1/losses',
      '/v1/policies',
      '/v1/rules/switch',
      '/v1/session',
      '/v1/sources',
      '/v1/status',
      '/v1/stream',
    ]);
    const missing = await asked(api.url, '/v2');
    expect([missing.status, await missing.json()]).toMatchObject([404, { error: { code: 'NOT_FOUND' } }]);
  });

  test('health and readiness', async () => {
    const state = { healthy: true, now: snapshot };
    await using api = await open({}, state);
    expect((await asked(api.url, '/health')).status).toBe(200);
    state.healthy = false;
    const answer = await asked(api.url, '/health');
    expect([answer.status, await answer.json()]).toEqual([503, { healthy: false }]);
    expect((await asked(api.url, '/ready')).status).toBe(503);
  });

  test('metrics are those of the list, by its names', async () => {
    const state = { healthy: true, now: snapshot };
    await using api = await open({}, state);
    const text = await (await asked(api.url, '/metrics')).text();
    for (const { name, kind } of METRICS) expect(text).toContain(`# TYPE ${name} ${kind}\n`);
    for (const line of [
      'sluice_gate_packets_total{verdict="shunted"} 4',
      'sluice_gate_bytes_total{verdict="seen"} 1000',
      'sluice_capture_dropped_packets_total{source="eth1",worker="0"} 5',
      'sluice_policy_dropped_packets_total{policy="tls"} 4',
      'sluice_connections_open 2',
      'sluice_build_info{version="9.9.9"} 1',
    ])
      expect(text).toContain(`${line}\n`);
    // Totals are read anew, and a policy that went away has no series.
    state.now = { ...snapshot, connections: 7, policies: [] };
    const later = await (await asked(api.url, '/metrics')).text();
    expect(later).toContain('sluice_connections_total 7\n');
    expect(later).not.toContain('policy="tls"');
  });

  test("metrics keep to Prometheus' conventions, and what labels can be is bounded", async () => {
    await using api = await open();
    const text = await (await asked(api.url, '/metrics')).text();
    const help = new Map([...text.matchAll(/^# HELP (\S+) (.+)$/gm)].map(([, name, about]) => [name, about]));
    const kinds = [...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name, kind]) => ({ name, kind }));
    expect(kinds.length).toBeGreaterThan(METRICS.length);
    for (const { name, kind } of kinds) {
      expect(name).toMatch(/^[a-z][a-z0-9]*(?:_[a-z0-9]+)*$/);
      expect(help.get(name), name).toMatch(/\.$|[a-z]$/);
      // What only grows says so, nothing else does; units are base units, and no type stands in a name.
      expect([name, name.endsWith('_total')]).toEqual([name, kind === 'counter']);
      expect(name).not.toMatch(
        /_(?:counter|gauge|count|sum|bucket|milliseconds|microseconds|minutes|hours|kilobytes|megabytes|bits|percent)(?:_|$)/,
      );
    }
    // Nothing that traffic brings is a label: no address, no port, no name.
    const labels = new Set(METRICS.flatMap(({ labels: of = [] }) => of));
    expect([...labels].toSorted()).toEqual([
      'counter',
      'policy',
      'queue',
      'reason',
      'source',
      'stage',
      'verdict',
      'where',
      'worker',
    ]);
    const series = text.split('\n').filter((line) => line.startsWith('sluice_'));
    expect(new Set(series.map((line) => line.slice(0, line.lastIndexOf(' ')))).size).toBe(series.length);
  });

  test('the stream has rates', async () => {
    const state = { healthy: true, now: snapshot };
    await using api = await open({}, state);
    let text = '';
    const request = httpGet(`${api.url}/v1/stream`, (response) =>
      response.on('data', (data: Buffer) => (text += data.toString())),
    );
    const ticks = (): Tick[] =>
      [...text.matchAll(/^data: (.*)\n\n/gm)].map(([, data]) => tickShape.parse(JSON.parse(data)));
    await until(() => ticks().length >= 1, 'there is no first line');
    state.now = { ...snapshot, ledger: { ...ledger, seen: { pkts: 110, bytes: 2000 } } };
    // A line without the change may come first.
    const changed = (): Tick[] => ticks().filter(({ rates }) => rates.seenPkts > 0);
    await until(() => changed().length >= 1, 'there is no line with the change');
    const [tick] = changed();
    expect(tick.rates.seenPkts * tick.seconds).toBeCloseTo(100, 6);
    expect(tick.rates.seenBits * tick.seconds).toBeCloseTo(8000, 6);
    request.destroy();
  });

  test('the stream has what happens for who asks for it', async () => {
    const state: State = { healthy: true, now: snapshot };
    await using api = await open({}, state);
    const heard = onlooker(`${api.url}/v1/stream?with=flows,notices`);
    const others = onlooker(`${api.url}/v1/stream`);
    await until(() => state.watching !== undefined && others.names().has('tick'), 'nobody watches the logs');
    expect(state.watching?.logs).toEqual(['conn', 'notice']);
    state.watching?.seen('conn', Buffer.from('{"uid":"C1"}\n{"uid":"C2"}\n'), 2);
    await until(() => heard.of('flows').length === 1, 'no flows');
    expect(heard.of('flows')).toEqual([[{ uid: 'C1' }, { uid: 'C2' }]]);
    heard.close();
    await until(() => state.watching === undefined, 'it watches for nobody');
    expect(others.names()).toEqual(new Set(['tick']));
    others.close();
  });

  test('topics that there are not, and records of logs that are no JSON, are refused', async () => {
    await using api = await open({}, { healthy: true, now: snapshot, jsonLogs: false });
    const code = async (topics: string): Promise<unknown> => {
      const answer = await asked(api.url, `/v1/stream?with=${topics}`);
      return [answer.status, ((await answer.json()) as { error: { code: string } }).error.code];
    };
    expect(await code('flows')).toEqual([400, 'USAGE']);
    expect(await code('everything')).toEqual([400, 'USAGE']);
    const attacks = onlooker(`${api.url}/v1/stream?with=attacks`);
    await until(() => attacks.names().has('tick'), 'there is no stream');
    attacks.close();
    expect(await (await asked(api.url, '/openapi.json')).text()).toContain('text/event-stream');
  });

  test('the board, the history and what a look at a flow answers', async () => {
    await using api = await open();
    const json = async (path: string): Promise<unknown> => await (await asked(api.url, path)).json();
    const board = boardShape.strict().parse(await json('/v1/board'));
    expect(board).toMatchObject({ rules: null, attacks: null, policies: [{ name: 'tls' }] });
    expect(board.checks.find(({ name }) => name === 'Capture')).toMatchObject({ state: 'warning' });
    expect(historyShape.parse(await json('/v1/history')).seconds).toBe(1);
    const flow = encodeURIComponent('10.0.0.1:443 -> 10.0.0.2:51000');
    expect(flowShape.parse(await json(`/v1/flow?flow=${flow}`))).toMatchObject({
      why: 'unknown',
      conn: null,
    });
    const bad = await asked(api.url, '/v1/flow?flow=nonsense');
    expect([bad.status, await bad.json()]).toMatchObject([400, { error: { code: 'USAGE' } }]);
    expect((await asked(api.url, '/v1/flow')).status).toBe(400);
  });

  test('rules are switched by those with the other token alone', async () => {
    const tokenFile = join(dir, 'token');
    const controlTokenFile = join(dir, 'control');
    writeFileSync(tokenFile, '0123456789abcdef0123\n');
    writeFileSync(controlTokenFile, 'abcdef0123456789abcd\n');
    const reader = { authorization: 'Bearer 0123456789abcdef0123' };
    const controller = { authorization: 'Bearer abcdef0123456789abcd' };
    {
      await using api = await open({ tokenFile, controlTokenFile });
      expect(await flip(api, {})).toEqual([401, 'DENIED']);
      expect(await flip(api, reader)).toEqual([403, 'DENIED']);
      // It may, and there is no such gate.
      expect(await flip(api, controller)).toEqual([404, 'NOT_FOUND']);
      expect([await switches(api, reader), await switches(api, controller)]).toEqual(['token', 'yes']);
    }
    await using api = await open({ tokenFile });
    expect(await flip(api, reader)).toEqual([403, 'DENIED']);
    expect(await switches(api, reader)).toBe('no');
  });

  test('the page needs no token, lets nothing in from elsewhere, and is in no cache for long', async () => {
    const tokenFile = join(dir, 'token');
    writeFileSync(tokenFile, '0123456789abcdef0123\n');
    await using api = await open({ tokenFile });
    const page = await asked(api.url, '/');
    const text = await page.text();
    expect(page.status).toBe(200);
    expect(page.headers.get('content-security-policy')).toMatch(/^default-src 'none'; script-src 'self';/);
    expect(page.headers.get('cache-control')).toBe('no-store');
    const script = /src="\.(\/assets\/[^"]+\.js)"/.exec(text)?.[1] ?? '';
    const answer = await asked(api.url, script);
    expect([answer.status, answer.headers.get('content-type')]).toEqual([
      200,
      'text/javascript; charset=utf-8',
    ]);
    expect(text).not.toMatch(/<script(?! type="module" crossorigin src=)|<style|https?:/);
    expect((await asked(api.url, '/assets/..%2f..%2fpackage.json')).status).toBe(401);
    expect((await asked(api.url, '/v1/board')).status).toBe(401);
  });

  test('the last line of the stream has the last numbers', async () => {
    const state = { healthy: true, now: snapshot };
    const api = await open({}, state);
    let text = '';
    httpGet(`${api.url}/v1/stream`, (response) => {
      response.on('data', (data: Buffer) => (text += data.toString()));
      response.on('error', () => {});
    });
    await until(() => text.includes('event: tick'), 'there is no first line');
    state.now = { ...snapshot, packets: 77 };
    await api[Symbol.asyncDispose]();
    await until(() => /event: end\n.*\n\n$/.test(text), 'there is no last line');
    const data = /event: end\ndata: (.*)\n/.exec(text)?.[1] ?? '';
    expect(tickShape.parse(JSON.parse(data)).status.packets).toBe(77);
  });

  test('who asks without the token is not let in', async () => {
    const tokenFile = join(dir, 'token');
    writeFileSync(tokenFile, '0123456789abcdef0123\n');
    await using api = await open({ tokenFile });
    const code = async (path: string, headers = {}): Promise<number> =>
      (await asked(api.url, path, headers)).status;
    expect(await code('/v1/status')).toBe(401);
    expect(await code('/metrics', { authorization: 'Bearer 0123456789abcdef0124' })).toBe(401);
    expect(await code('/v1/stream?x=/health')).toBe(401);
    expect(await code('/v1/status', { authorization: 'Bearer 0123456789abcdef0123' })).toBe(200);
    expect(await code('/health')).toBe(200);
  });

  test('on loopback without a token only this host by its own name is answered', async () => {
    await using api = await open();
    const { port } = new URL(api.url);
    const code = async (host: string): Promise<number> =>
      await new Promise((resolve, reject) => {
        httpGet({ port, path: '/v1/status', headers: { host } }, (response) => {
          response.resume();
          resolve(response.statusCode ?? 0);
        }).on('error', reject);
      });
    expect(await code('localhost:1')).toBe(200);
    expect(await code('[::1]:1')).toBe(200);
    expect(await code('evil.example')).toBe(403);
    expect(await code('127.0.0.1.evil.example')).toBe(403);
  });

  test('mutual TLS lets in only the clients of an authority', async () => {
    const [key, cert] = make('server');
    const [clientKey, clientCert] = make('client');
    await using api = await open({ tlsCert: cert, tlsKey: key, tlsClientCa: clientCert });
    const code = async (options: RequestOptions): Promise<number> =>
      await new Promise((resolve, reject) => {
        httpsGet(`${api.url}/v1/status`, { rejectUnauthorized: false, ...options }, (response) => {
          response.resume();
          resolve(response.statusCode ?? 0);
        }).on('error', reject);
      });
    expect(
      await code({ key: readFileSync(clientKey), cert: readFileSync(clientCert) } as RequestOptions),
    ).toBe(200);
    await expect(code({})).rejects.toThrow();
    await expect(
      code({ key: readFileSync(key), cert: readFileSync(cert) } as RequestOptions),
    ).rejects.toThrow();
  });

  test('a socket is for its user, follows a dead one and never removes what is no socket', async () => {
    const path = join(dir, 'api.sock');
    const ask = async (): Promise<IncomingMessage> =>
      await new Promise((resolve, reject) =>
        httpGet({ socketPath: path, path: '/v1/status' }, resolve).on('error', reject),
      );
    {
      await using _api = await open({ listen: `unix:${path}` });
      expect(statSync(path).mode & 0o777).toBe(0o600);
      expect((await ask()).resume().statusCode).toBe(200);
      await expect(open({ listen: `unix:${path}` })).rejects.toMatchObject({ code: 'ADDRESS_IN_USE' });
    }
    expect(existsSync(path)).toBe(false);
    writeFileSync(path, 'mine');
    await expect(open({ listen: `unix:${path}` })).rejects.toMatchObject({ code: 'ADDRESS_IN_USE' });
    expect(statSync(path).size).toBe(4);
  });

  test('a flood of requests, broken ones and slow onlookers leave it answering', async () => {
    await using api = await open();
    const { port } = new URL(api.url);
    const broken = [
      '\0\0\0',
      'GET /v1/status HTTP/9.9\r\n\r\n',
      `GET /${'x'.repeat(20_000)} HTTP/1.1\r\n\r\n`,
      'POST /v1/status HTTP/1.1\r\nhost: localhost\r\ncontent-length: 999999\r\n\r\n',
    ];
    for (const text of broken) {
      const socket = connect(Number(port), '127.0.0.1', () => socket.write(text));
      socket.on('error', () => {});
      await new Promise((resolve) => socket.once('close', resolve).once('data', () => socket.destroy()));
    }
    // Onlookers that never read.
    const idle = Array.from({ length: 100 }, () => {
      const socket = connect(Number(port), '127.0.0.1', () =>
        socket.write('GET /v1/stream HTTP/1.1\r\nhost: localhost\r\n\r\n'),
      );
      socket.on('error', () => {});
      return socket.pause();
    });
    const answers = await Promise.all(
      Array.from({ length: 200 }, async () => (await asked(api.url, '/v1/status')).status),
    );
    expect(new Set(answers)).toEqual(new Set([200]));
    for (const socket of idle) socket.destroy();
  });

  test.each([
    [{ listen: 'everywhere' }, 'USAGE'],
    [{ listen: '127.0.0.1:70000' }, 'USAGE'],
    [{ listen: '0.0.0.0:0' }, 'USAGE'],
    [{ listen: '[::]:0' }, 'USAGE'],
    [{ tlsCert: '/nowhere' }, 'USAGE'],
    [{ tokenFile: '/nowhere' }, 'FILE'],
    [{ listen: '192.0.2.1:9', tokenFile: '/proc/sys/kernel/random/uuid' }, 'ADDRESS_UNKNOWN'],
  ])('%o is refused', async (options, code) => {
    const error = await open(options).then(
      async (api) => await api[Symbol.asyncDispose](),
      (thrown: unknown) => thrown,
    );
    expect(error).toBeInstanceOf(SluiceError);
    expect(error).toMatchObject({ code });
  });
});
