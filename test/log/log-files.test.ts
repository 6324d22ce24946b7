import { execFileSync, spawn } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Disk, systemDisk, tornBytes } from '../../src/log/disk.ts';
import { LogFiles, type LogFilesOptions } from '../../src/log/log-files.ts';
import { LogWriter } from '../../src/log/log-writer.ts';
import { until } from '../support/kernel.ts';

let dir: string;
let clock: number;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'sluice-log-'));
  clock = 1_700_000_000;
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const conn = () => readFileSync(join(dir, 'conn.log'), 'utf8');
const rotated = () =>
  readdirSync(dir)
    .filter((name) => /^conn\.\d{4}-/.test(name))
    .sort();
const bytes = (...lines: string[]) => Buffer.from(lines.map((line) => `${line}\n`).join(''));
const open = (options: Partial<LogFilesOptions> = {}) => new LogFiles({ dir, now: () => clock, ...options });

/** A disk that fails as told, and takes at most `room` more bytes. */
class BadDisk implements Disk {
  room = Number.POSITIVE_INFINITY;
  code = 'ENOSPC';
  /** Bytes that one write takes at most: short writes. */
  most = Number.POSITIVE_INFINITY;
  failTruncate = false;
  failOpen = false;
  failRename = false;
  mkdir = systemDisk.mkdir;
  stat = systemDisk.stat;
  read = systemDisk.read;
  close = systemDisk.close;
  whereabouts = systemDisk.whereabouts;

  #error(): Error {
    return Object.assign(new Error(`${this.code}: refused`), { code: this.code });
  }
  open(path: string): number {
    if (this.failOpen) throw this.#error();
    return systemDisk.open(path);
  }
  rename(from: string, to: string): void {
    if (this.failRename) throw this.#error();
    systemDisk.rename(from, to);
  }
  truncate(fd: number, size: number): void {
    if (this.failTruncate) throw this.#error();
    systemDisk.truncate(fd, size);
  }
  write(fd: number, data: Uint8Array, from: number): number {
    if (this.room <= 0) throw this.#error();
    const n = Math.min(this.room, this.most, data.length - from);
    this.room -= n;
    return systemDisk.write(fd, data.subarray(0, from + n), from);
  }
}

describe('log files', () => {
  it('are appended to, in order', () => {
    const logs = open();
    logs.append('conn', bytes('one', 'two'), 2);
    logs.append('conn', bytes('three'), 1);
    logs.append('stats', bytes('s'), 1);
    expect(logs.close()).toMatchObject({ lines: 4, bytes: 16, lost: 0, waiting: 0, failures: 0 });
    const more = open();
    more.append('conn', bytes('four'), 1);
    more.close();
    expect(conn()).toBe('one\ntwo\nthree\nfour\n');
    expect(readdirSync(dir).sort()).toEqual(['conn.log', 'stats.log']);
  });

  it('keep the files of an earlier run aside when asked', () => {
    writeFileSync(join(dir, 'conn.log'), 'old\n');
    const logs = open({ keepAside: true });
    logs.append('conn', bytes('new'), 1);
    logs.close();
    expect(conn()).toBe('new\n');
    expect(rotated().map((name) => readFileSync(join(dir, name), 'utf8'))).toEqual(['old\n']);
    // A second one within the same second does not overwrite the first.
    open({ keepAside: true }).close();
    expect(rotated()).toHaveLength(2);
  });

  it('fail with FILE when the directory cannot be made', () => {
    writeFileSync(join(dir, 'file'), '');
    expect(() => new LogFiles({ dir: join(dir, 'file', 'logs') })).toThrow(
      expect.objectContaining({ code: 'FILE' }),
    );
  });

  it('do not look at the end of what is no regular file', () => {
    symlinkSync('/dev/null', join(dir, 'conn.log'));
    const logs = open({ keepAside: true, rotateSize: 1 });
    logs.append('conn', bytes('gone'), 1);
    expect(logs.close()).toMatchObject({ lines: 1, lost: 0, rotations: 0 });
  });
});

describe('a torn last line', () => {
  it.each([
    ['half a line', 'one\ntwo\nthr', 'one\ntwo\n', 3],
    ['nothing but half a line', 'thr', '', 3],
    ['a line longer than any block', `one\n${'x'.repeat(200_000)}`, 'one\n', 200_000],
  ])('is cut off when the log is opened: %s', (_, before, after, cut) => {
    writeFileSync(join(dir, 'conn.log'), before);
    const logs = open();
    expect(logs.torn).toEqual([{ path: join(dir, 'conn.log'), bytes: cut }]);
    logs.append('conn', bytes('next'), 1);
    logs.close();
    expect(conn()).toBe(`${after}next\n`);
  });

  it('is not seen where there is none', () => {
    writeFileSync(join(dir, 'conn.log'), 'one\ntwo\n');
    const logs = open();
    expect(logs.torn).toEqual([]);
    logs.close();
    expect(conn()).toBe('one\ntwo\n');
  });

  it('is found wherever the last newline lies', () => {
    for (const [whole, tail] of [
      [65_535, 1],
      [65_536, 65_536],
      [1, 65_535],
      [65_537, 131_071],
    ] as const) {
      const path = join(dir, 'x');
      writeFileSync(path, `${'a'.repeat(whole - 1)}\n${'b'.repeat(tail)}`);
      const fd = systemDisk.open(path);
      expect(tornBytes(systemDisk, fd, whole + tail)).toBe(tail);
      systemDisk.close(fd);
    }
  });

  it('is what SIGKILL leaves at most: the next run repairs it', async () => {
    // A line of 1 MB in writes of 8 MB: a kill at any moment lands inside a line nearly always.
    const script = `
      import { LogFiles } from ${JSON.stringify(new URL('../../src/log/log-files.ts', import.meta.url).href)};
      const logs = new LogFiles({ dir: ${JSON.stringify(dir)} });
      const line = Buffer.alloc(1000003, 'x'); line[line.length - 1] = 10;
      const chunk = Buffer.concat(Array(8).fill(line));
      process.stdout.write('ready');
      for (let n = 0; n < 100; n++) logs.append('conn', chunk, 8);
      process.stdout.write('done'); setTimeout(() => {}, 60000);`;
    for (let round = 0; round < 3; round++) {
      const child = spawn(process.execPath, ['--input-type=module-typescript', '-e', script], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      await new Promise((resolve) => child.stdout.once('data', resolve));
      const ended = new Promise((resolve) => child.once('exit', resolve));
      await until(() => existsSync(join(dir, 'conn.log')), 'it writes nothing');
      await new Promise((resolve) => setTimeout(resolve, 10 + round * 15));
      child.kill('SIGKILL');
      await ended;
      const size = statSync(join(dir, 'conn.log')).size;
      const logs = open();
      expect(logs.torn.map((torn) => torn.bytes)).toEqual(size % 1_000_003 === 0 ? [] : [size % 1_000_003]);
      logs.close();
      expect(statSync(join(dir, 'conn.log')).size % 1_000_003).toBe(0);
      truncateSync(join(dir, 'conn.log'), 0);
    }
  });
});

describe('rotation', () => {
  it('begins a new file before one outgrows its size, and loses no line', () => {
    const logs = open({ rotateSize: 100 });
    const writer = new LogWriter(logs);
    for (let n = 0; n < 100; n++) {
      writer.write('conn', String(n).padStart(19, '.'));
      writer.flush();
      clock += 0.1;
    }
    expect(logs.close()).toMatchObject({ lines: 100, lost: 0, rotations: 19 });
    const parts = [...rotated(), 'conn.log'].map((name) => readFileSync(join(dir, name), 'utf8'));
    for (const part of parts) expect(part.length).toBeLessThanOrEqual(100);
    const numbers = parts
      .join('')
      .trim()
      .split('\n')
      .map((line) => Number(line.replaceAll('.', '')));
    expect(numbers.sort((a, b) => a - b)).toEqual(Array.from({ length: 100 }, (_, n) => n));
  });

  it('begins a new file at each multiple of its time, also when nothing is written', () => {
    clock = 1_700_000_000 - (1_700_000_000 % 3600) + 3599;
    const logs = open({ rotateTime: 3600 });
    logs.append('conn', bytes('before'), 1);
    clock += 2;
    logs.tick();
    expect(rotated()).toHaveLength(1);
    logs.append('conn', bytes('after'), 1);
    clock += 10;
    logs.tick();
    logs.close();
    expect(conn()).toBe('after\n');
  });

  it('notices at the start that the file is from an earlier period', () => {
    writeFileSync(join(dir, 'conn.log'), 'yesterday\n');
    utimesSync(join(dir, 'conn.log'), clock - 86_400, clock - 86_400);
    const logs = open({ rotateTime: 3600 });
    logs.append('conn', bytes('today'), 1);
    logs.close();
    expect(conn()).toBe('today\n');
    expect(rotated()).toHaveLength(1);
  });

  it('that fails leaves the old file to write to', () => {
    const disk = new BadDisk();
    const logs = open({ disk, rotateSize: 10 });
    logs.append('conn', bytes('12345678'), 1);
    disk.failRename = true;
    logs.append('conn', bytes('abcdefgh'), 1);
    disk.failRename = false;
    disk.failOpen = true;
    logs.append('conn', bytes('ABCDEFGH'), 1);
    disk.failOpen = false;
    logs.append('conn', bytes('end'), 1);
    expect(logs.close()).toMatchObject({ lines: 4, lost: 0, failures: 2, rotations: 1 });
    expect(readFileSync(join(dir, rotated()[0]), 'utf8')).toBe('12345678\nabcdefgh\nABCDEFGH\n');
    expect(conn()).toBe('end\n');
  });
});

describe('a log that somebody moves away', () => {
  it('is begun anew under its name; lines that went with a removed one are counted', () => {
    const logs = open();
    logs.append('conn', bytes('one'), 1);
    expect(logs.tick()).toEqual([]);
    logs.append('conn', bytes('two', 'three'), 2);
    rmSync(dir, { recursive: true });
    expect(logs.tick()).toEqual([{ path: join(dir, 'conn.log'), lost: 2 }]);
    logs.append('conn', bytes('four'), 1);
    expect(conn()).toBe('four\n');
    expect(logs.tick()).toEqual([]);
    expect(logs.close()).toMatchObject({ lines: 2, lost: 2, failures: 0 });
  });

  it('and keeps by another name, as logrotate does, has lost nothing', () => {
    const logs = open();
    logs.append('conn', bytes('one'), 1);
    renameSync(join(dir, 'conn.log'), join(dir, 'conn.log.1'));
    logs.append('conn', bytes('two'), 1);
    expect(logs.tick()).toEqual([{ path: join(dir, 'conn.log'), lost: 0 }]);
    logs.append('conn', bytes('three'), 1);
    expect(logs.close()).toMatchObject({ lines: 3, lost: 0 });
    expect(readFileSync(join(dir, 'conn.log.1'), 'utf8')).toBe('one\ntwo\n');
    expect(conn()).toBe('three\n');
  });

  it('makes lines wait until its directory can be made again', () => {
    const disk = new BadDisk();
    const logs = open({ disk });
    logs.append('conn', bytes('one'), 1);
    logs.tick();
    rmSync(dir, { recursive: true });
    disk.failOpen = true;
    expect(logs.tick()).toHaveLength(1);
    logs.append('conn', bytes('two'), 1);
    expect(logs.totals()).toMatchObject({ lines: 1, waiting: 1, lost: 0 });
    expect(logs.problem?.message).toContain('ENOSPC');
    disk.failOpen = false;
    expect(logs.flush()).toBe(true);
    expect(logs.problem).toBeUndefined();
    expect(conn()).toBe('two\n');
    expect(logs.close()).toMatchObject({ lines: 2, lost: 0 });
  });
});

describe.each(['ENOSPC', 'EIO', 'EDQUOT'])('a disk that says %s', (code) => {
  it('makes lines wait, whole and in order, until it takes them again', () => {
    const disk = new BadDisk();
    disk.code = code;
    const logs = open({ disk });
    disk.room = 10;
    logs.append('conn', bytes('first', 'second', 'third'), 3);
    expect(conn()).toBe('first\n');
    expect(logs.totals()).toMatchObject({ lines: 1, waiting: 2, lost: 0 });
    expect(logs.problem?.message).toContain(code);
    logs.append('conn', bytes('fourth'), 1);
    logs.append('stats', bytes('s'), 1);
    expect(conn()).toBe('first\n');
    disk.room = Number.POSITIVE_INFINITY;
    expect(logs.flush()).toBe(true);
    expect(logs.problem).toBeUndefined();
    expect(conn()).toBe('first\nsecond\nthird\nfourth\n');
    expect(logs.close()).toMatchObject({ lines: 5, waiting: 0, lost: 0 });
  });

  it('is tried again after a while, not at every line', () => {
    const disk = new BadDisk();
    disk.code = code;
    disk.room = 0;
    const logs = open({ disk, retryAfter: 1 });
    for (let n = 0; n < 50; n++) logs.append('conn', bytes(`line ${n}`), 1);
    expect(logs.totals()).toMatchObject({ failures: 1, waiting: 50 });
    disk.room = Number.POSITIVE_INFINITY;
    clock += 1.5;
    logs.append('conn', bytes('line 50'), 1);
    expect(conn().split('\n')).toHaveLength(52);
    expect(logs.close()).toMatchObject({ lines: 51, lost: 0 });
  });

  it('leaves no half line even when it refuses to cut one off at first', () => {
    const disk = new BadDisk();
    disk.code = code;
    const logs = open({ disk });
    disk.room = 8;
    disk.failTruncate = true;
    logs.append('conn', bytes('first', 'second'), 2);
    expect(conn()).toBe('first\nse');
    disk.room = Number.POSITIVE_INFINITY;
    expect(logs.flush()).toBe(false);
    disk.failTruncate = false;
    expect(logs.flush()).toBe(true);
    logs.close();
    expect(conn()).toBe('first\nsecond\n');
  });

  it('costs counted lines when the queue is full or the logs are closed', () => {
    const disk = new BadDisk();
    disk.code = code;
    const logs = open({ disk, queueBytes: 20 });
    disk.room = 0;
    logs.append('conn', bytes('1234567', '1234567', '1234567', '1234567'), 4);
    expect(logs.totals()).toMatchObject({ waiting: 2, lost: 2 });
    logs.append('conn', bytes('1234567'), 1);
    expect(logs.totals()).toMatchObject({ waiting: 2, lost: 3 });
    expect(logs.close()).toMatchObject({ lines: 0, lost: 5, waiting: 0 });
    expect(conn()).toBe('');
  });

  it('that takes short pieces makes no difference', () => {
    const disk = new BadDisk();
    disk.most = 3;
    const logs = open({ disk });
    logs.append('conn', bytes('a long line', 'another'), 2);
    logs.close();
    expect(conn()).toBe('a long line\nanother\n');
  });
});

const isRoot = process.getuid?.() === 0;
describe.skipIf(!isRoot)('a real disk that is full', () => {
  it('keeps whole lines, and the rest comes when there is room', () => {
    const small = join(dir, 'small');
    mkdirSync(small);
    // A mount namespace of its own: the file system is gone with the process.
    const script = `
      import { readFileSync, rmSync, writeFileSync } from 'node:fs';
      import { LogFiles } from ${JSON.stringify(new URL('../../src/log/log-files.ts', import.meta.url).href)};
      const dir = ${JSON.stringify(small)};
      writeFileSync(dir + '/ballast', Buffer.alloc(64 * 1024));
      const logs = new LogFiles({ dir });
      for (let n = 0; n < 3000; n++) logs.append('conn', Buffer.from(String(n).padStart(99, '.') + '\\n'), 1);
      const full = readFileSync(dir + '/conn.log', 'utf8');
      const during = logs.totals();
      rmSync(dir + '/ballast');
      const small = logs.flush();
      const after = readFileSync(dir + '/conn.log', 'utf8');
      const end = logs.close();
      console.log(JSON.stringify({ wholeWhenFull: full.endsWith('\\n') && full.length % 100 === 0, during, whole: after.endsWith('\\n') && after.length % 100 === 0, lines: after.length / 100, end }));`;
    const output = execFileSync(
      'unshare',
      [
        '-m',
        'sh',
        '-c',
        'mount -t tmpfs -o size=256k tmpfs "$1" && shift && exec "$@"',
        'sh',
        small,
        process.execPath,
        '--input-type=module-typescript',
        '-e',
        script,
      ],
      { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] },
    );
    const result = JSON.parse(output);
    expect(result).toMatchObject({ wholeWhenFull: true, whole: true });
    expect(result.during.failures).toBeGreaterThan(0);
    expect(result.during.lines + result.during.waiting).toBe(3000);
    expect(result.lines).toBe(result.end.lines);
    expect(result.end.lines + result.end.lost).toBe(3000);
    expect(result.end.lines).toBeGreaterThan(result.during.lines);
  });
});

const opening = (stamp: string) =>
  `#separator \\x09\n#set_separator\t,\n#empty_field\t(empty)\n#unset_field\t-\n#path\tconn\n#open\t${stamp}\n#fields\tts\tuid\n#types\ttime\tstring\n`;

describe("Zeek's heading", () => {
  const heading = { path: 'conn', fields: ['ts', 'uid'], types: ['time', 'string'] };

  it('begins and ends each file, also of a log without records', () => {
    const logs = open({ zeek: [heading] });
    logs.append('conn', bytes('1\tC1'), 1);
    clock += 60;
    logs.append('notice', bytes('{}'), 1);
    logs.close();
    expect(conn()).toBe(`${opening('2023-11-14-22-13-20')}1\tC1\n#close\t2023-11-14-22-14-20\n`);
    expect(readFileSync(join(dir, 'notice.log'), 'utf8')).toBe('{}\n');
  });

  it('begins and ends the files of a rotation, which counts records and not headings', () => {
    const logs = open({ zeek: [heading], rotateSize: 1 });
    for (const n of [1, 2, 3]) {
      clock += 1;
      logs.append('conn', bytes(`${n}\tC`), 1);
    }
    logs.close();
    const files = [...rotated().map((name) => readFileSync(join(dir, name), 'utf8')), conn()];
    expect(files).toHaveLength(3);
    files.forEach((text, n) => {
      expect(text).toMatch(/^#separator [^]*\n#close\t[-\d]+\n$/);
      expect(text.split('\n').filter((line) => line !== '' && !line.startsWith('#'))).toEqual([
        `${n + 1}\tC`,
      ]);
    });
  });

  it('is not put behind what another run has left', () => {
    writeFileSync(join(dir, 'conn.log'), 'of another run\n');
    open({ zeek: [heading] }).close();
    expect(conn().startsWith('#separator')).toBe(true);
    expect(rotated()).toHaveLength(1);
  });

  it('is whole or not there when the disk is full, and comes when there is room', () => {
    const disk = new BadDisk();
    disk.room = 20;
    expect(() => open({ zeek: [heading], disk })).toThrow(expect.objectContaining({ code: 'FILE' }));
    expect(conn()).toBe('');
    disk.room = Number.POSITIVE_INFINITY;
    open({ zeek: [heading], disk }).close();
    expect(conn()).toContain('#types');
    expect(rotated()).toEqual([]);
  });
});
