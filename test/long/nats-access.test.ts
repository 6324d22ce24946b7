import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Kvm } from '@nats-io/kv';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { subjects } from '../../src/detect/partition.ts';
import { SampleSender } from '../../src/detect/sample-sender.ts';
import { agreeSettings } from '../../src/detect/settings.ts';
import { natsAccess } from '../../src/fleet/nats-access.ts';
import { NatsDesk } from '../../src/fleet/nats-desk.ts';
import { connectOnce, type NatsPlace, natsPlace } from '../../src/fleet/nats-place.ts';
import { NatsSource } from '../../src/fleet/nats-source.ts';
import type { StatusReport } from '../../src/gate/control-protocol.ts';
import { openSink, parseSink } from '../../src/log/sinks/index.ts';
import { eventually, UpGate } from '../gate/daemon-support.ts';
import { sluice } from '../support/command.ts';
import { Desk, LONGEST } from '../support/desk.ts';
import { kernelTest, ownNetns } from '../support/kernel.ts';
import { NatsAccounts } from '../support/nats-accounts.ts';
import { NatsServer } from '../support/nats-server.ts';

ownNetns();

const directory = mkdtempSync(join(tmpdir(), 'sluice-nats-'));
afterAll(() => rmSync(directory, { recursive: true, force: true, maxRetries: 20 }));
const file = (name: string): string => join(directory, name);
const written = (name: string, text: string): string => {
  writeFileSync(file(name), text);
  return file(name);
};

const EC = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
const openssl = (...args: string[]): void => void execFileSync('openssl', args, { stdio: 'ignore' });

function authority(name: string): void {
  const out = ['-keyout', file(`${name}.key`), '-out', file(`${name}.pem`)];
  openssl('req', '-x509', ...EC, ...out, '-days', '30', '-subj', `/CN=${name}`);
}

/** A certificate, and its key. */
function certificate(name: string, by: string, names: string, days = 30): void {
  const request = file(`${name}.csr`);
  openssl('req', ...EC, '-keyout', file(`${name}.key`), '-out', request, '-subj', `/CN=${name}`);
  const about = ['-extfile', written(`${name}.ext`, `subjectAltName=${names}\n`), '-days', String(days)];
  const signer = ['-CA', file(`${by}.pem`), '-CAkey', file(`${by}.key`), '-CAcreateserial'];
  openssl('x509', '-req', '-in', request, ...signer, ...about, '-out', file(`${name}.pem`));
}

beforeAll(() => {
  for (const name of ['ca', 'other-ca']) authority(name);
  certificate('server', 'ca', 'IP:127.0.0.1');
  certificate('elsewhere', 'ca', 'DNS:elsewhere.example');
  // Until now.
  certificate('expired', 'ca', 'IP:127.0.0.1', 0);
  certificate('edge', 'ca', 'DNS:edge');
  certificate('stranger', 'other-ca', 'DNS:edge');
  written('login', 'sluice:sec:ret\n');
  written('wrong', 'sluice:wrong\n');
});

const USERS = 'authorization { user: sluice, password: "sec:ret" }';
const tls = (name: string, mutual = false): string =>
  [
    'tls {',
    `  cert_file: "${file(`${name}.pem`)}"`,
    `  key_file: "${file(`${name}.key`)}"`,
    ...(mutual ? [`  ca_file: "${file('ca.pem')}"`, '  verify: true'] : []),
    '}',
  ].join('\n');
const login = (name = 'login'): string[] => ['--nats-login', file(name)];
const ca = (name = 'ca'): string[] => ['--nats-ca', file(`${name}.pem`)];
const cert = (name: string): string[] => [
  '--nats-cert',
  file(`${name}.pem`),
  '--nats-key',
  file(`${name}.key`),
];

const creds = (name: string, text: string): string[] => ['--nats-creds', written(`${name}.creds`, text)];

/** What a desk is told there: an error's code and message, or nothing. */
async function asked(url: string, ...options: string[]): Promise<string> {
  const { stdout } = await sluice('rule', 'publish', written('none', ''), '--to', url, '--json', ...options);
  const { error } = JSON.parse(stdout) as { error?: { code: string; message: string } };
  return error === undefined ? 'good' : `${error.code} ${error.message.replace(`${url}: `, '')}`;
}

test('user, TLS, mutual TLS: what is right works, what is wrong is said', async () => {
  await using server = new NatsServer(directory);
  const plain = server.bareUrl('fleet');
  const safe = server.bareUrl('fleet', 'nats+tls');
  const refused = 'FLEET the server refuses who we are';
  await server.start(USERS);
  expect(await asked(plain, ...login())).toBe('good');
  expect(await asked(plain)).toBe(refused);
  expect(await asked(plain, ...login('wrong'))).toBe(refused);
  // Who says that there has to be TLS does not talk without.
  expect(await asked(plain, ...login(), ...ca())).toBe('FLEET the server offers no TLS');
  expect(await asked(safe, ...login())).toBe('FLEET the server offers no TLS');
  await server.stop();

  await server.start(`${USERS}\n${tls('server')}`);
  const unknown = 'FLEET the server has a certificate of an authority that is not known here';
  expect(await asked(safe, ...login(), ...ca())).toBe('good');
  expect(await asked(plain, ...login(), ...ca())).toBe('good');
  expect(await asked(safe, ...login('wrong'), ...ca())).toBe(refused);
  expect(await asked(safe, ...login(), ...ca('other-ca'))).toBe(unknown);
  // Nothing is sent to a server that is not known, also where nobody has asked for TLS.
  expect(await asked(plain, ...login())).toBe(unknown);
  await server.stop();

  await server.start(`${USERS}\n${tls('elsewhere')}`);
  expect(await asked(safe, ...login(), ...ca())).toBe(
    'FLEET the certificate of the server is for another name',
  );
  await server.stop();

  await server.start(`${USERS}\n${tls('expired')}`);
  expect(
    await eventually(async () => {
      const said = await asked(safe, ...login(), ...ca());
      return said === 'good' ? undefined : said;
    }, 'a certificate of no time is still good'),
  ).toBe('FLEET the certificate of the server has expired');
  await server.stop();

  await server.start(`${USERS}\n${tls('server', true)}`);
  expect(await asked(safe, ...login(), ...ca(), ...cert('edge'))).toBe('good');
  // It says why and ends the connection at once, which may reach us first.
  const ended = 'the server has ended the connection before anything was said';
  expect(await asked(safe, ...login(), ...ca())).toMatch(
    new RegExp(`^FLEET (the server wants a certificate of ours|${ended})$`),
  );
  expect(await asked(safe, ...login(), ...ca(), ...cert('stranger'))).toMatch(
    new RegExp(`^FLEET (the server refuses our certificate|${ended})`),
  );
  await server.stop();
});

test('a credentials file, of a server with accounts', async () => {
  await using server = new NatsServer(directory);
  const accounts = new NatsAccounts();
  await server.start(accounts.access);
  const url = server.bareUrl('fleet');
  expect(await asked(url, ...creds('edge', accounts.user('edge')))).toBe('good');
  expect(await asked(url, ...creds('old', accounts.user('old', -60)))).toBe(
    'FLEET our credentials have expired',
  );
  expect(await asked(url, ...creds('stranger', new NatsAccounts().user('edge')))).toBe(
    'FLEET the server refuses who we are',
  );

  // The same file for all else that asks a fleet, and for logs.
  const results = await sluice(
    'rule',
    'results',
    '--from',
    url,
    '--json',
    '--nats-creds',
    file('edge.creds'),
  );
  expect(JSON.parse(results.stdout)).toEqual([]);
  const attacks = await sluice('attack', 'ls', '--from', url, '--json', '--nats-creds', file('old.creds'));
  expect(JSON.parse(attacks.stdout)).toMatchObject({
    error: { code: 'FLEET', message: `${url}: our credentials have expired` },
  });
  const access = natsAccess({ natsCreds: file('edge.creds') });
  const reader = await connectOnce(natsPlace(url, access));
  const messages = reader.subscribe('site.conn');
  await reader.flush();
  const problems: (string | undefined)[] = [];
  const sink = await openSink(parseSink(server.bareUrl('site'), access), (_, problem) =>
    problems.push(problem),
  );
  sink.append('conn', Buffer.from('{"uid":"C1"}\n'), 1);
  for await (const message of messages) {
    expect(message.string()).toBe('{"uid":"C1"}');
    break;
  }
  await sink.close();
  expect(sink.totals()).toMatchObject({ sent: 1, lost: 0 });
  expect(problems).toEqual([]);
  await reader.close();
});

/** Of docs/fleet.md, for the fleet `sluice`. */
function edgeRights(): string {
  const text = readFileSync(new URL('../../docs/fleet.md', import.meta.url), 'utf8');
  const [block] = /permissions: \{[^}]*\}/.exec(text) ?? [];
  if (block === undefined) throw new Error('docs/fleet.md has no permissions of an edge');
  return block;
}

test('an edge with the rights that the docs give it follows, reports and sends samples, and changes no rule', async () => {
  await using server = new NatsServer(directory);
  await server.start(
    `authorization { users: [ { user: desk, password: d }, { user: edge, password: e, ${edgeRights()} } ] }`,
  );
  const as = (who: string): NatsPlace => natsPlace(server.bareUrl('sluice').replace('//', `//${who}@`));
  const signer = await Desk.open(directory);
  await signer.publish(
    [await signer.sign('dns', 'udp dst port 53')],
    server.bareUrl('sluice').replace('//', '//desk:d@'),
  );
  const compile = ['--trust', `${signer.key}.pub`, '--key', `${signer.key}.key`];
  const { stdout: programs } = await sluice('rule', 'compile', signer.rules, ...compile);
  await new NatsDesk(as('desk:d')).publish([programs.trim()]);
  const desk = await connectOnce(as('desk:d'));
  const detectors = await new Kvm(desk).create(subjects('sluice').detectors, { history: 1 });
  await agreeSettings(detectors, 4);
  const edge = new NatsSource(as('edge:e'), 'host.eth1', true);
  const keys: string[] = [];
  const problems: string[] = [];
  edge.report(
    JSON.stringify({ node: 'host', interface: 'eth1', site: null, roles: [], ts: 1, rules: [], refused: [] }),
  );
  edge.start({
    lines: async (lines) => void keys.push(...lines.map(({ where }) => where)),
    heard: () => {},
    failed: (reason) => problems.push(reason),
  });
  const sender = new SampleSender(as('edge:e'), (text) => problems.push(text));
  sender.start();
  await eventually(
    async () => ((await new NatsDesk(as('desk:d')).results()).length === 1 ? true : undefined),
    'its report does not come',
    LONGEST,
  );
  await eventually(
    async () => (keys.join() === 'sluice_programs/head,dns' ? true : undefined),
    'it gets no programs, or no rules',
    LONGEST,
  );
  await eventually(
    async () => (sender.status().connected ? true : undefined),
    'it sends no samples',
    LONGEST,
  );
  const samples = desk.subscribe('sluice.samples.3', { max: 1 });
  await desk.flush();
  const meddler = await connectOnce(as('edge:e'));
  meddler.publish('sluice.samples.3', 'x');
  for await (const message of samples) expect(message.string()).toBe('x');
  const rules = await new Kvm(meddler).open('sluice_rules');
  await expect(rules.put('dns', 'nothing')).rejects.toThrow('Permissions Violation');
  await expect(rules.delete('dns')).rejects.toThrow('Permissions Violation');
  const compiled = await new Kvm(meddler).open('sluice_programs');
  await expect(compiled.put('head', 'nothing')).rejects.toThrow('Permissions Violation');
  expect(problems).toEqual([]);
  await Promise.all([meddler.close(), edge.close(), sender.close()]);
  await desk.close();
});

test('files that cannot work are refused at once, and none of them is quoted', async () => {
  const secret = 'SUAOYXBLPV6TP3VLB5IFTFFAUN6NCU4AFYYJE5TKFSAYU2W33AU67SFOVY';
  const url = 'nats://127.0.0.1:1/fleet';
  for (const [options, code] of [
    [['--nats-ca', file('absent')], 'FILE'],
    [['--nats-ca', file('login')], 'FILE_FORMAT'],
    [['--nats-cert', file('edge.pem')], 'USAGE'],
    [['--nats-cert', file('edge.pem'), '--nats-key', file('server.key')], 'FILE_FORMAT'],
    [['--nats-login', written('half', `${secret}\n`)], 'FILE_FORMAT'],
    [['--nats-creds', file('half')], 'FILE_FORMAT'],
    [[...login(), '--nats-creds', file('edge.creds')], 'USAGE'],
  ] as const) {
    const { stdout, stderr } = await sluice('rule', 'results', '--from', url, '--json', ...options);
    expect((JSON.parse(stdout) as { error: { code: string } }).error.code).toBe(code);
    expect(stdout + stderr).not.toContain(secret);
  }
  // The same of who would begin something.
  const detect = await sluice('detect', '--from', url, '--dry-run', '--json', '--nats-creds', file('half'));
  expect(JSON.parse(detect.stdout)).toMatchObject({ error: { code: 'FILE_FORMAT' } });
});

kernelTest(
  'an edge with mutual TLS and a login: what is wrong is in its status, and files that are put right are enough',
  [],
  async () => {
    const desk = await Desk.open(directory);
    await using server = new NatsServer(directory);
    const url = server.bareUrl('flood', 'nats+tls');
    await server.start(`${USERS}\n${tls('server', true)}`);
    await desk.publish(
      [await desk.sign('dns', 'udp dst port 53')],
      url,
      ...login(),
      ...ca(),
      ...cert('edge'),
    );
    // Its own files: they are put right below.
    const access = ['--nats-ca', file('edge-ca.pem'), '--nats-login', file('edge-login'), ...cert('edge')];
    execFileSync('cp', [file('other-ca.pem'), file('edge-ca.pem')]);
    execFileSync('cp', [file('wrong'), file('edge-login')]);
    await using gate = await UpGate.up(...desk.options(url), '--samples-to', url, ...access);
    const problem = (text: string): Promise<StatusReport> =>
      eventually(
        async () => {
          const status = await gate.status();
          return status.fleet?.problem === text && status.samples?.problem === text ? status : undefined;
        },
        `not in the status: ${text}`,
        LONGEST,
      );
    await problem('the server has a certificate of an authority that is not known here');
    execFileSync('cp', [file('ca.pem'), file('edge-ca.pem')]);
    await problem('the server refuses who we are');
    execFileSync('cp', [file('login'), file('edge-login')]);
    const status = await eventually(
      async () => {
        const now = await gate.status();
        return now.fleet?.connected === true && now.fleet.inForce === 1 ? now : undefined;
      },
      'the rule does not come into force',
      LONGEST,
    );
    expect(status.fleet).toMatchObject({ source: url, problem: null });
    const { stdout } = await sluice('gate', 'status', '-i', gate.ifname);
    expect(`${stdout}${JSON.stringify(status)}${JSON.stringify(gate.audit())}`).not.toContain('sec:ret');
  },
);
