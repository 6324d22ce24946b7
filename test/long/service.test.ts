import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Ledger } from '../../src/gate/index.ts';
import { packageRoot, UnixDatagrams } from '../../src/kernel/index.ts';
import { conversation } from '../../src/packet/conversation.ts';
import { documentOf, type Ended, Feed, LogDir, mixed, Run, SLUICE, sumOf } from '../sensor/run.ts';
import { kernelTest, ownNetns, until, vethPair } from '../support/kernel.ts';

ownNetns();

const FEATURES = ['xdpFrags', 'xdpNativeVeth', 'syscallProgram', 'packetRing'] as const;
const UNITS = ['sluice', 'sluice-gate'] as const;
const unit = (name: string): string =>
  readFileSync(join(packageRoot(), 'systemd', `${name}@.service`), 'utf8');
/** Exposure by systemd's own scale, 0 to 100. */
const MOST_EXPOSED = 30;
const NOBODY = 65_534;
/** Seconds that a step may take on a machine that is busy. */
const PATIENCE = 60;
const LACKING = 'systemd-analyze is not installed';

/** The summary of a run with a gate. */
function gateRun(ended: Ended): { ledger: Ledger } {
  const { ledger } = documentOf(ended);
  if (ledger === undefined) throw new Error('a run without a gate');
  return { ledger };
}

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'sluice-service-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

/** Listens as systemd does for its services. */
class Manager {
  readonly heard: string[] = [];
  readonly path: string;
  readonly #socket: UnixDatagrams;

  constructor(path: string) {
    this.path = path;
    const buffer = new Uint8Array(4096);
    this.#socket = new UnixDatagrams(path, () => {
      for (let size = this.#socket.receive(buffer); size >= 0; size = this.#socket.receive(buffer))
        this.heard.push(Buffer.from(buffer.subarray(0, size)).toString());
    });
  }

  count(beginning: string): number {
    return this.heard.filter((text) => text.startsWith(beginning)).length;
  }

  /** How systemd starts the main process of a unit. */
  get prefix(): string[] {
    return ['env', `NOTIFY_SOCKET=${this.path}`, 'WATCHDOG_USEC=3000000'];
  }

  [Symbol.dispose](): void {
    this.#socket.close();
  }
}

describe('the units', () => {
  const lacks = spawnSync('systemd-analyze', ['--version']).error !== undefined;

  test.for(UNITS)('%s@.service is valid', (name, { skip }) => {
    skip(lacks, LACKING);
    const path = join(dir, `${name}@.service`);
    // The program is not installed here.
    writeFileSync(path, unit(name).replaceAll('=sluice ', '=/bin/true '));
    const { status, stdout, stderr } = spawnSync('systemd-analyze', ['verify', path], { encoding: 'utf8' });
    expect({ status, said: stdout + stderr }).toEqual({ status: 0, said: '' });
  });

  test.for(UNITS)('%s@.service is confined', (name, { skip }) => {
    skip(lacks, LACKING);
    const path = join(dir, `${name}@.service`);
    copyFileSync(join(packageRoot(), 'systemd', `${name}@.service`), path);
    const args = ['security', '--offline=true', `--threshold=${MOST_EXPOSED}`, path];
    const { status, stdout } = spawnSync('systemd-analyze', args, { encoding: 'utf8' });
    expect(status, stdout).toBe(0);
    expect(stdout).toMatch(/✓ User=/);
  });

  test('grant the same, and start what the command line has', () => {
    const granted = UNITS.map((name) => /^AmbientCapabilities=(.*)$/m.exec(unit(name))?.[1]);
    expect(new Set(granted).size).toBe(1);
    for (const [name, command] of [
      ['sluice', ['run']],
      ['sluice-gate', ['gate', 'up']],
    ] as const) {
      const line = /^ExecStart=sluice (.*)$/m.exec(unit(name))?.[1] ?? '';
      const help = execFileSync(SLUICE[0], [SLUICE[1], ...command, '--help'], { encoding: 'utf8' });
      expect(line.startsWith(command.join(' '))).toBe(true);
      for (const [flag] of line.matchAll(/--[a-z-]+/g)) expect(help).toContain(flag);
    }
  });
});

/** What the unit allows its main process, and nothing else; in directories that it has made for it. */
function confined(): string[] {
  const names = /^AmbientCapabilities=(.*)$/m.exec(unit('sluice'))?.[1] ?? '';
  const caps = names.split(' ').map((name) => `+${name.slice('CAP_'.length).toLowerCase()}`);
  const list = ['-all', ...caps].join();
  // With the rights of root, and for the user that it is here.
  const before = [...unit('sluice').matchAll(/^ExecStartPre=\+(.*)$/gm)].map(([, command = '']) =>
    command.replaceAll(/-([og]) sluice\b/g, `-$1 ${NOBODY}`),
  );
  return [
    'unshare',
    '--mount',
    'sh',
    '-ec',
    [
      // As systemd mounts it: for root alone.
      'mount -t bpf -o mode=0700 bpf /sys/fs/bpf',
      `mount -t tmpfs tmpfs /run; mkdir /run/sluice; chown ${NOBODY}:${NOBODY} /run/sluice`,
      ...before,
      // Of a lab of root that was killed: it is in nobody's way.
      'mkdir -p /sys/fs/bpf/sluice/1-7/v1; : >/run/sluice/1-7.lock',
      'umask 0027; exec "$@"',
    ].join('; '),
    'sh',
    'setpriv',
    `--reuid=${NOBODY}`,
    `--regid=${NOBODY}`,
    '--clear-groups',
    '--no-new-privs',
    `--bounding-set=${list}`,
    `--inh-caps=${list}`,
    `--ambient-caps=${list}`,
  ];
}

/** Downloads, of which the second half of each is shunted where bulk says so. */
const downloads = (n: number, bytes: number) =>
  Array.from({ length: n }, (_, i) =>
    conversation({
      client: { address: '10.1.0.1', port: 20_000 + i },
      server: { address: '10.2.0.1', port: 8080 },
      turns: [
        { from: 'client', data: 200 },
        { from: 'server', data: bytes },
      ],
      mss: 1400,
    }),
  );

describe('a service', () => {
  kernelTest(
    'tells its manager how it is; a reload under traffic changes what may change, and loses nothing',
    [...FEATURES],
    async () => {
      using manager = new Manager(join(dir, 'notify'));
      using logs = new LogDir();
      const { a, b, remove } = vethPair();
      const file = join(dir, 'sluice.yaml');
      const write = (policy: string, more = ''): void =>
        writeFileSync(file, `interface: ${a}\ntap: true\npolicy: ${policy}\n${more}`);
      write('bulk=20kB');
      try {
        const args = ['run', '--config', file, '--json', '--log-dir', logs.path];
        await using run = await new Run(args, manager.prefix).ready();
        await until(() => manager.count('READY=1') === 1, 'not ready', PATIENCE);
        await until(() => manager.count('WATCHDOG=1') >= 2, 'no signs of life', PATIENCE);
        const conversations = downloads(300, 100_000);
        const frames = mixed(conversations);
        const feed = new Feed(b, frames, 6000);
        const notices = (text: RegExp): number =>
          logs.read('notice').filter(({ msg }) => text.test(String(msg))).length;
        // Again and again while the traffic goes on; each time another policy, once a file that is not valid.
        for (let n = 1; feed.sent < frames.length || n < 7; n++) {
          const bad = n % 3 === 0;
          write(bad ? 'bulk=many' : n % 2 === 0 ? 'bulk=20kB' : 'bulk=40kB', n === 2 ? 'lease: 3s\n' : '');
          run.process.kill('SIGUSR2');
          await until(() => manager.count('RELOADING=1') === n, 'no reload', PATIENCE);
          // The first one tells of the start.
          await until(() => manager.count('READY=1') === n + 1, 'the reload does not end', PATIENCE);
        }
        await feed.done;
        write('none');
        const reloads = manager.count('RELOADING=1');
        expect(reloads).toBeGreaterThan(3);
        run.process.kill('SIGUSR2');
        await until(() => manager.count('READY=1') === reloads + 2, 'the last reload does not end', PATIENCE);
        expect(run.running).toBe(true);
        const ended = await run.stop();
        await until(() => manager.count('STOPPING=1') === 1, 'no end is told', PATIENCE);
        expect(ended.code).toBe(0);
        expect(notices(/^lease: changed, and in force from the next start on$/)).toBe(1);
        expect(notices(/policies from before go on: .*many/)).toBeGreaterThan(0);
        expect(notices(/policies were loaded anew/)).toBeGreaterThan(2);
        const { ledger } = gateRun(ended);
        // Nothing but these frames is on the wire.
        expect(ledger.seen.pkts).toBe(frames.length);
        expect(ledger.shunted.pkts).toBeGreaterThan(0);
        const conn = logs.read('conn');
        expect(conn).toHaveLength(conversations.length);
        expect(sumOf(conn, 'orig_pkts', 'resp_pkts')).toBe(frames.length);
        expect(
          conn.every((record) => record['resp_bytes'] === 100_000 && record['conn_state'] === 'SF'),
        ).toBe(true);
        expect(sumOf(conn, 'orig_shunted_pkts', 'resp_shunted_pkts')).toBe(ledger.shunted.pkts);
      } finally {
        remove();
      }
    },
  );

  kernelTest(
    'needs no more than the capabilities of its unit: a run that shunts, a gate with a rule',
    [...FEATURES],
    async (context) => {
      const readable = spawnSync('test', ['-r', SLUICE[1]], { uid: NOBODY, gid: NOBODY }).status === 0;
      if (!readable) context.skip('this checkout is not readable by other users');
      chmodSync(dir, 0o755);
      using manager = new Manager(join(dir, 'notify'));
      chmodSync(manager.path, 0o666);
      const own = join(dir, 'logs');
      mkdirSync(own);
      chownSync(own, NOBODY, NOBODY);
      const { a, b, remove } = vethPair();
      const as = [...confined(), ...manager.prefix];
      try {
        const frames = mixed(downloads(20, 200_000));
        {
          const args = ['run', '-i', a, '--tap', '--policy', 'bulk=20kB', '--json', '--log-dir', own];
          await using run = await new Run(args, as).ready();
          const log = join(own, 'shunt.log');
          await new Feed(b, frames, 6000, {
            from: frames.length >> 2,
            to: frames.length,
            until: () => existsSync(log) && readFileSync(log, 'utf8').includes('"start"'),
            what: 'nothing is shunted',
          }).done;
          const { ledger } = gateRun(await run.stop());
          expect(ledger.seen.pkts).toBe(frames.length);
          expect(ledger.shunted.pkts).toBeGreaterThan(0);
        }
        await using gate = await new Run(
          ['gate', 'up', '--hold', '-i', a, '--tap', '--log-dir', own],
          as,
        ).ready();
        await until(
          () => manager.heard.includes(`READY=1\nSTATUS=the gate is up on ${a}`),
          'the gate is not ready',
          PATIENCE,
        );
        await until(() => manager.count('WATCHDOG=1\nSTATUS=the gate') >= 2, 'no signs of life', PATIENCE);
        // Its sockets and pins are in a mount namespace of their own.
        const inside = (...args: string[]): string =>
          execFileSync('nsenter', [`--mount=/proc/${gate.process.pid}/ns/mnt`, '--', ...SLUICE, ...args], {
            encoding: 'utf8',
          });
        inside('rule', 'add', 'tcp port 8080', '--action', 'drop');
        await new Feed(b, frames.slice(0, 500), 6000).done;
        const dropped = (): number => {
          const status = JSON.parse(inside('gate', 'status', '--json')) as { ruleDropped: { pkts: number } };
          return status.ruleDropped.pkts;
        };
        await until(() => dropped() >= 500, 'the rule does not drop all', PATIENCE);
        expect(dropped()).toBe(500);
        // By what is there everybody finds the socket; root may use it, whoever's it is.
        const modes = execFileSync(
          'nsenter',
          [
            `--mount=/proc/${gate.process.pid}/ns/mnt`,
            '--',
            'sh',
            '-c',
            'stat -c %a /run/sluice/*.json /run/sluice/*.sock',
          ],
          { encoding: 'utf8' },
        );
        expect(modes).toBe('644\n600\n');
        inside('gate', 'down', '-i', a);
        const ended = await gate.end();
        expect(ended.code).toBe(0);
        await until(() => manager.count('STOPPING=1') === 2, 'no end is told', PATIENCE);
      } finally {
        remove();
      }
    },
  );
});
