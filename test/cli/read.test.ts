import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { LossTable } from '../../src/gate/losses/index.ts';
import { readLog } from '../../src/log/reader.ts';
import { conversation } from '../../src/packet/conversation.ts';
import { type FrameToWrite, pcapFile } from '../../src/packet/pcap.ts';
import { pcapngFile } from '../../src/packet/pcapng-writer.ts';
import { sluice, sluiceOn, start } from '../support/command.ts';
import { until } from '../support/kernel.ts';

let dir: string;
let logs: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'sluice-read-'));
  logs = join(dir, 'logs');
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const START = 1_700_000_000;

/** TCP connections one after the other, each 10 ms long at most, of known sizes. */
function trace(connections: number, offset = 0): FrameToWrite[] {
  return Array.from({ length: connections }, (_, n) =>
    conversation({
      client: { address: '192.0.2.1', port: 20_000 + offset + n },
      server: { address: '203.0.113.7', port: 80 },
      turns: [
        { from: 'client', data: 100 + n },
        { from: 'server', data: 3000 },
      ],
      start: START + (offset + n) * 0.01,
      gap: 0.0001,
    }),
  ).flat();
}

function write(name: string, bytes: Uint8Array): string {
  const path = join(dir, name);
  writeFileSync(path, bytes);
  return path;
}

const conn = (folder = logs) => readLog(join(folder, 'conn.log')).records;
/** What two runs have alike. */
const anyUid = (folder = logs) => conn(folder).map((record) => ({ ...record, uid: '' }));
/** Of conn.log, as far as it is written. */
const logged = (): number => (existsSync(join(logs, 'conn.log')) ? conn().length : 0);

describe('sluice read', () => {
  it('writes one line for each connection, and the summary of the contract', async () => {
    const frames = trace(20);
    const path = write('a.pcap', pcapFile(frames));
    const { code, stdout, stderr } = await sluice('read', path, '--log-dir', logs, '--json');
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const summary = JSON.parse(stdout) as Record<string, number>;
    expect(summary).toMatchObject({
      files: 1,
      packets: frames.length,
      bytes: frames.reduce((sum, { bytes }) => sum + bytes.length, 0),
      flows: 20,
      logDir: logs,
    });
    expect(summary.seconds).toBeGreaterThan(0);
    expect(summary.packetsPerSecond).toBeGreaterThan(0);
    const records = conn();
    expect(records).toHaveLength(20);
    for (const record of records) {
      expect(record).toMatchObject({
        'id.orig_h': '192.0.2.1',
        'id.resp_h': '203.0.113.7',
        'id.resp_p': 80,
        proto: 'tcp',
        orig_bytes: 100 + (record['id.orig_p'] as number) - 20_000,
        resp_bytes: 3000,
        conn_state: 'SF',
        ip_proto: 6,
      });
    }
    expect(readdirSync(logs).toSorted()).toEqual(['capture_loss.log', 'conn.log']);
  });

  it('reads pcapng, several files as one capture, and standard input', async () => {
    const frames = trace(3);
    const cut = Math.floor(frames.length / 2);
    const first = write('1.pcapng', pcapngFile(frames.slice(0, cut)));
    const second = write('2.pcap', pcapFile(frames.slice(cut)));
    const { stdout } = await sluice('read', first, second, '--log-dir', logs, '--json');
    expect(JSON.parse(stdout)).toMatchObject({ files: 2, packets: frames.length, flows: 3 });
    expect(conn().map(({ conn_state }) => conn_state)).toEqual(['SF', 'SF', 'SF']);

    const { child, outcome } = start('read', '-', '--log-dir', join(dir, 'piped'), '--json');
    child.stdin.end(pcapFile(frames));
    expect(await outcome).toMatchObject({ code: 0 });
    expect(conn(join(dir, 'piped'))).toHaveLength(3);
  });

  it('needs no addon, and writes the same without it', async () => {
    const path = write('a.pcap', pcapFile(trace(20)));
    const without = join(dir, 'without');
    vi.stubEnv('SLUICE_ADDON', join(dir, 'none.node'));
    const { outcome } = start('read', path, '--log-dir', without);
    vi.unstubAllEnvs();
    expect(await outcome).toMatchObject({ code: 0 });
    await sluice('read', path, '--log-dir', logs);
    expect(anyUid(without)).toHaveLength(20);
    expect(anyUid(without)).toEqual(anyUid());
  });

  it('takes several files in the order of time, packed or not', async () => {
    const frames = trace(6);
    const cut = Math.floor(frames.length / 2) + 1;
    const later = write('a.pcap.gz', gzipSync(pcapFile(frames.slice(cut))));
    const earlier = write('b.pcap', pcapFile(frames.slice(0, cut)));
    const { stdout, code } = await sluice('read', later, earlier, '--log-dir', logs, '--json');
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ files: 2, packets: frames.length, flows: 6 });
    expect(conn().map(({ conn_state }) => conn_state)).toEqual(Array(6).fill('SF'));
  });

  it('logs what came before the damage of a packed file, and fails', async () => {
    const packed = gzipSync(pcapFile(trace(200)));
    const path = write('cut.gz', packed.subarray(0, packed.length - 6));
    const { stdout, code } = await sluice('read', path, '--log-dir', logs, '--json');
    expect(code).toBe(1);
    expect(JSON.parse(stdout)).toMatchObject({ flows: 200, error: { code: 'FILE_FORMAT' } });
    expect(conn()).toHaveLength(200);
  });

  it("writes Zeek's TSV with the same values as JSON", async () => {
    const path = write('a.pcap', pcapFile(trace(5)));
    const flags = ['--community-id', '--vlan', '--log-dir', logs];
    await sluice('read', path, ...flags);
    const json = conn();
    await sluice('read', path, ...flags, '--log-format', 'zeek');
    const lines = readFileSync(join(logs, 'conn.log'), 'utf8').split('\n');
    const columns = (start: string) =>
      lines
        .find((line) => line.startsWith(start))
        ?.split('\t')
        .slice(1) ?? [];
    const fields = columns('#fields');
    expect(columns('#types')).toHaveLength(fields.length);
    expect(lines.at(-2)).toMatch(/^#close\t/);
    const rows = lines.filter((line) => line !== '' && !line.startsWith('#')).map((line) => line.split('\t'));
    expect(rows).toHaveLength(5);
    rows.forEach((row, n) => {
      expect(row).toHaveLength(fields.length);
      fields.forEach((field, i) => {
        if (field === 'uid') return;
        const value = json[n][field];
        if (value === undefined) expect([field, row[i]]).toEqual([field, '-']);
        else if (typeof value === 'boolean') expect(row[i]).toBe(value ? 'T' : 'F');
        else if (typeof value === 'number') expect(Number(row[i])).toBe(value);
        else expect(row[i]).toBe(value);
      });
    });
    expect(json[0].community_id).toMatch(/^1:[A-Za-z0-9+/]{27}=$/);
    expect(fields.slice(-3)).toEqual(['vlan', 'inner_vlan', 'community_id']);
  });

  it('stops at a signal while a pipe is silent', async () => {
    const { child, outcome } = start('read', '-', '--log-dir', logs, '--json');
    // Long after the end of the two a third one begins: once they are in the log, all has been read.
    const [later] = trace(1, 2);
    child.stdin.write(pcapFile([...trace(2), { ...later, ts: START + 3600 }]));
    await until(() => logged() >= 2, 'what is read is in no log');
    child.kill('SIGTERM');
    const { code, stdout } = await outcome;
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ flows: 3, interrupted: true });
  });

  it('says the same for people', async () => {
    const path = write('a.pcap', pcapFile(trace(1)));
    const { code, stdout } = await sluice('read', path, '--log-dir', logs);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^\d+ packets, .* 1 connection in .*logs in /);
  });

  it('takes packets with bad checksums only when told to', async () => {
    const frames = trace(1).map((frame) => {
      const bytes = frame.bytes.slice();
      // The TCP checksum: Ethernet 14, IPv4 20, offset 16.
      bytes[50] ^= 0xff;
      return { ...frame, bytes };
    });
    const path = write('bad.pcap', pcapFile(frames));
    await sluice('read', path, '--log-dir', logs);
    expect(conn()[0]).toMatchObject({ orig_pkts: 0, history: expect.stringMatching(/^C/i) });
    await sluice('read', path, '--log-dir', logs, '--no-checksums');
    expect(conn()[0]).toMatchObject({ orig_bytes: 100, conn_state: 'SF' });
  });

  it('obeys --local-nets, --vlan-key and the timeouts', async () => {
    const shape = {
      client: { address: '198.51.200.1', port: 1000 },
      server: { address: '198.51.201.1', port: 80 },
      close: 'none',
    } as const;
    const tagged = [10, 20].flatMap((vlan, n) =>
      conversation({ ...shape, vlans: [vlan], start: START + n * 0.0001, gap: 0.01 }),
    );
    const path = write('vlan.pcap', pcapFile(tagged.toSorted((a, b) => a.ts - b.ts)));
    await sluice('read', path, '--log-dir', logs, '--local-nets', '198.51.200.0/24');
    expect(conn()).toHaveLength(1);
    expect(conn()[0]).toMatchObject({ local_orig: true, local_resp: false });
    expect(conn()[0]).not.toHaveProperty('vlan');
    await sluice('read', path, '--log-dir', logs, '--vlan-key');
    expect(
      conn()
        .map(({ vlan }) => Number(vlan))
        .toSorted((a, b) => a - b),
    ).toEqual([10, 20]);

    const twice = [0, 100].flatMap((after) =>
      conversation({ ...shape, start: START + after, gap: 0.01 }).slice(2),
    );
    const silent = write('silent.pcap', pcapFile(twice));
    await sluice('read', silent, '--log-dir', logs);
    const patient = conn().length;
    await sluice('read', silent, '--log-dir', logs, '--timeout-tcp', '20s');
    expect([patient, conn().length]).toEqual([1, 2]);
  });

  it('takes settings from a file, and flags over it', async () => {
    const path = write('a.pcap', pcapFile(trace(1)));
    const config = join(dir, 'sluice.yaml');
    writeFileSync(config, `log-dir: ${join(dir, 'from-file')}\nlease: 3s\n`);
    await sluice('read', path, '--config', config);
    expect(conn(join(dir, 'from-file'))).toHaveLength(1);
    await sluice('read', path, '--config', config, '--log-dir', logs);
    expect(conn()).toHaveLength(1);
  });

  it('writes capture_loss.log by the time of the packets, tells of gaps, and has the ledger of losses', async () => {
    const at = (start: number): FrameToWrite[] =>
      conversation({
        client: { address: '192.0.2.1', port: 30_000 + start },
        server: { address: '203.0.113.7', port: 80 },
        turns: [
          { from: 'client', data: 100 },
          { from: 'server', data: 1000 },
          { from: 'client', data: 100 },
        ],
        start: START + start,
        gap: 0.001,
      });
    // Of the second what the server sent was not captured, though it is acknowledged; the third ends that interval.
    const lossy = at(65).filter(({ bytes }) => bytes.length < 900);
    const frames = [...at(0), ...lossy, ...at(130)];
    const path = write('gaps.pcap', pcapFile(frames));
    const flags = ['--capture-loss-interval', '60s', '--log-dir', logs];
    const { stdout, code } = await sluice('read', path, ...flags, '--json');
    expect(code).toBe(0);
    const of = { peer: 'sluice', acks: 3 };
    expect(readLog(join(logs, 'capture_loss.log')).records).toMatchObject([
      { ...of, ts: START + 65, ts_delta: 65, gaps: 0, percent_lost: 0 },
      { ...of, ts: START + 130, ts_delta: 65, gaps: 1, percent_lost: 33.333333 },
      { ...of, ts_delta: expect.closeTo(0.011, 2) as number, gaps: 0 },
    ]);
    // The end of what was captured is no news: the loss is not said to be over.
    expect(readLog(join(logs, 'notice.log')).records).toMatchObject([
      { ts: START + 130, note: 'CaptureLoss::Too_Much_Loss', peer_descr: 'sluice' },
    ]);
    const { losses } = JSON.parse(stdout) as { losses: LossTable };
    const row = { where: '', unit: 'events', rate: 0 };
    expect(losses.lost).toEqual({ packets: 0, rate: 0 });
    expect(losses.rows).toContainEqual({
      ...row,
      stage: 'worker',
      counter: 'handled',
      kind: 'count',
      unit: 'packets',
      total: frames.length,
    });
    expect(losses.rows).toContainEqual({
      ...row,
      stage: 'worker',
      counter: 'tcp.acks',
      kind: 'count',
      total: 9,
    });
    expect(losses.rows).toContainEqual({
      ...row,
      stage: 'worker',
      counter: 'tcp.gaps',
      kind: 'warning',
      total: 1,
    });
    const text = await sluice('read', path, '--log-dir', logs);
    expect(text.stdout).toMatch(/^noted: worker tcp\.gaps 1 events \(in no sum\)$/m);
  });

  it('keeps the log of an earlier run aside', async () => {
    const path = write('a.pcap', pcapFile(trace(2)));
    await sluice('read', path, '--log-dir', logs);
    await sluice('read', path, '--log-dir', logs);
    expect(conn()).toHaveLength(2);
    expect(readdirSync(logs).filter((name) => name.startsWith('conn.'))).toHaveLength(2);
  });

  it('notes a torn line that an earlier run left', async () => {
    const path = write('a.pcap', pcapFile(trace(1)));
    await sluice('read', path, '--log-dir', logs);
    writeFileSync(join(logs, 'conn.log'), '{"ts":1}\n{"ts":2,"ui');
    const { code, stderr } = await sluice('read', path, '--log-dir', logs);
    expect(code).toBe(0);
    expect(stderr).toContain('the last line was torn (11 bytes)');
    expect(readLog(join(logs, 'notice.log')).records[0]).toMatchObject({ note: 'Sluice::Torn_Line' });
  });
});

describe('bad input', () => {
  it('of a damaged file: everything before the damage is logged, exit 1, FILE_FORMAT', async () => {
    const bytes = pcapFile(trace(10));
    const path = write('cut.pcap', bytes.subarray(0, bytes.length - 700));
    const { code, stdout, stderr } = await sluice('read', path, '--log-dir', logs, '--json');
    expect(code).toBe(1);
    expect(stderr).toMatch(/^error\[FILE_FORMAT\]: .*cut\.pcap.*\nhelp: .+\n$/s);
    const document = JSON.parse(stdout) as { flows: number; error: { code: string; help: string } };
    expect(document).toMatchObject({ flows: 10, error: { code: 'FILE_FORMAT' } });
    expect(conn().filter(({ conn_state }) => conn_state === 'SF').length).toBeGreaterThanOrEqual(9);
  });

  it('of a damaged file among others: the others are read', async () => {
    const bytes = pcapFile(trace(5));
    const damaged = write('cut.pcap', bytes.subarray(0, bytes.length - 10));
    const good = write('good.pcap', pcapFile(trace(5, 100)));
    const { code, stdout } = await sluice('read', damaged, good, '--log-dir', logs, '--json');
    expect(code).toBe(1);
    expect(JSON.parse(stdout)).toMatchObject({ flows: 10, error: { code: 'FILE_FORMAT' } });
    expect(conn()).toHaveLength(10);
  });

  it.each<[string, string | Uint8Array | undefined, string]>([
    ['that is not there', undefined, 'FILE'],
    ['that is empty', '', 'FILE_FORMAT'],
    ['that is no capture', 'GET / HTTP/1.1\r\n', 'FILE_FORMAT'],
    ['that is compressed', Uint8Array.of(0x1f, 0x8b, 8, 0, 0, 0), 'FILE_FORMAT'],
  ])('of a file %s: exit 1 before anything is written', async (_, content, errorCode) => {
    const good = write('good.pcap', pcapFile(trace(1)));
    const path = join(dir, 'odd');
    if (content !== undefined) writeFileSync(path, content);
    const { code, stdout, stderr } = await sluice('read', good, path, '--log-dir', logs, '--json');
    expect(code).toBe(1);
    expect(stderr.startsWith(`error[${errorCode}]: `)).toBe(true);
    expect(stderr).toMatch(/^help: .+$/m);
    expect(JSON.parse(stdout)).toMatchObject({ error: { code: errorCode, help: expect.any(String) } });
    expect(readdirSync(dir)).not.toContain('logs');
  });

  it('of a log directory that cannot be made', async () => {
    const path = write('a.pcap', pcapFile(trace(1)));
    expect(await sluice('read', path, '--log-dir', join(path, 'logs'))).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('error[FILE]'),
    });
  });

  it('of any bytes behind a valid header: never a defect of ours', async () => {
    const header = pcapFile([]);
    for (let seed = 1; seed <= 20; seed++) {
      const noise = new Uint8Array(4000);
      let x = seed * 2_654_435_761;
      for (let i = 0; i < noise.length; i++) {
        x = (Math.imul(x, 1_664_525) + 1_013_904_223) >>> 0;
        // Small lengths now and then, so that frames are cut out of the noise.
        noise[i] = seed % 2 === 0 && i % 16 >= 9 && i % 16 < 16 ? 0 : x >>> 24;
      }
      const path = write('noise.pcap', Buffer.concat([header, noise]));
      const { code, stderr } = await sluice('read', path, '--log-dir', logs, '--quiet');
      expect([0, 1]).toContain(code);
      expect(stderr).not.toContain('INTERNAL');
    }
  });
});

describe('progress and streams', () => {
  it('on a terminal draws a bar and leaves nothing of it behind', async () => {
    const path = write('a.pcap', pcapFile(trace(5000)));
    const { stderr } = await sluiceOn({ terminal: true }, 'read', path, '--log-dir', logs);
    expect(stderr).toContain('[');
    expect(stderr.endsWith('\x1b[J')).toBe(true);
    expect(await sluiceOn({ terminal: true }, 'read', path, '--log-dir', logs, '--quiet')).toMatchObject({
      stderr: '',
    });
  });

  it('colours errors on a terminal only, and not with NO_COLOR, TERM=dumb or --no-color', async () => {
    const red = '\x1b[31m';
    expect((await sluiceOn({ terminal: true }, 'read', join(dir, 'x'))).stderr).toContain(red);
    expect(
      (await sluiceOn({ terminal: true, env: { NO_COLOR: '1' } }, 'read', join(dir, 'x'))).stderr,
    ).not.toContain(red);
    expect(
      (await sluiceOn({ terminal: true, env: { TERM: 'dumb' } }, 'read', join(dir, 'x'))).stderr,
    ).not.toContain(red);
    expect((await sluiceOn({ terminal: true }, 'read', '--no-color', join(dir, 'x'))).stderr).not.toContain(
      red,
    );
    expect((await sluice('read', join(dir, 'x'))).stderr).not.toContain(red);
  });

  it('is quiet about a reader of stdout that went away', async () => {
    const { child, outcome } = start('config', 'schema');
    child.stdout.destroy();
    expect(await outcome).toMatchObject({ code: 0, stderr: '' });
  });

  it('fails when stdout cannot be written', async () => {
    const full = openSync('/dev/full', 'w');
    const child = spawn(
      process.execPath,
      [fileURLToPath(new URL('../support/sluice.ts', import.meta.url)), 'config', 'schema'],
      {
        stdio: ['ignore', full, 'pipe'],
      },
    );
    let stderr = '';
    child.stderr?.on('data', (data: Buffer) => (stderr += data.toString()));
    const [code] = await once(child, 'close');
    closeSync(full);
    expect(code).toBe(1);
    expect(stderr).toContain('error[FILE]');
    expect(stderr).toContain('ENOSPC');
  });
});

/** A run that has read `frames` from a pipe which stays open. */
async function waiting(frames: FrameToWrite[]) {
  const fifo = join(dir, 'fifo');
  const mkfifo = spawn('mkfifo', [fifo]);
  await once(mkfifo, 'close');
  chmodSync(fifo, 0o600);
  // Endless input: the same connections again and again, so that no read waits for ever.
  const body = pcapFile(frames);
  const endless = `
    import { openSync, writeSync } from 'node:fs';
    const fd = openSync(process.argv[1], 'w');
    const body = Buffer.from(process.argv[2], 'base64');
    try { writeSync(fd, body); for (;;) writeSync(fd, body, 24); } catch {}`;
  const writer = spawn(
    process.execPath,
    ['--input-type=module', '-e', endless, fifo, Buffer.from(body).toString('base64')],
    {
      stdio: 'ignore',
    },
  );
  const { child, outcome } = start('read', fifo, '--log-dir', logs, '--json');
  await until(() => logged() > 0, 'what is read is in no log');
  return { child, outcome, writer };
}

describe('signals', () => {
  it.each([
    ['SIGINT', 130],
    ['SIGTERM', 0],
  ] as const)('%s stops cleanly with %d: what was read is logged and summed up', async (signal, code) => {
    const { child, outcome, writer } = await waiting(trace(3));
    child.kill(signal);
    const result = await outcome;
    writer.kill('SIGKILL');
    expect(result).toMatchObject({ code, signal: null, stderr: '' });
    const summary = JSON.parse(result.stdout) as { packets: number; flows: number; interrupted: boolean };
    expect(summary.interrupted).toBe(true);
    expect(summary.packets).toBeGreaterThan(0);
    const log = readLog(join(logs, 'conn.log'));
    expect(log.torn).toBeUndefined();
    expect(log.records).toHaveLength(summary.flows);
  });
});
