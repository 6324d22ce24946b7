import { existsSync, readdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { Feed, LogDir, mixed } from '../sensor/run.ts';
import { kernelTest, ownNetns, sh, until, vethPair } from '../support/kernel.ts';
import {
  count,
  FEATURES,
  feedShunted,
  ledgerOf,
  long,
  PATIENCE,
  ports,
  RATE,
  records,
  runInto,
  short,
} from './disk-support.ts';

ownNetns();

/** A small disk on a directory, until the end of the scope. */
function smallDisk(dir: string, size: string): Disposable & { grow(size: string): void } {
  sh('mount', '-t', 'tmpfs', '-o', `size=${size}`, 'sluice-test', dir);
  return {
    grow: (larger) => void sh('mount', '-o', `remount,size=${larger}`, dir),
    [Symbol.dispose]: () => void sh('umount', '--lazy', dir),
  };
}

kernelTest(
  'a disk that is full: the gate goes on, nothing that was captured is lost, and the logs are whole again',
  [...FEATURES],
  async () => {
    using logs = new LogDir();
    const dir = logs.path;
    const { a, b, remove } = vethPair();
    using disk = smallDisk(dir, '512k');
    try {
      await using run = await runInto(dir, a);
      const before = short(20_000, 100);
      await new Feed(b, mixed(before), RATE).done;
      const written = (): boolean =>
        existsSync(join(dir, 'conn.log')) && records('conn', dir).length === before.length;
      await until(written, 'no records', PATIENCE);
      const { bavail, bsize } = statfsSync(dir);
      writeFileSync(join(dir, 'ballast'), Buffer.alloc((bavail - 4) * bsize));
      // Some 800 kB of records and a connection that is shunted, while there is room for 16 kB.
      const during = [...short(30_000, 2000), long(50_000)];
      await feedShunted({ a, b }, during);
      await until(
        () => /^the logs cannot be written: ENOSPC/m.test(run.stderr),
        'the full disk is not told of',
        PATIENCE,
      );
      expect(statfsSync(dir).bavail).toBeLessThan(4);
      expect(run.running).toBe(true);
      disk.grow('64m');
      await until(
        () => /^the logs are being written again$/m.test(run.stderr),
        'the logs stay as they were',
        PATIENCE,
      );
      const after = short(40_000, 100);
      await new Feed(b, mixed(after), RATE).done;
      const ended = await run.stop();
      expect(ended.code).toBe(0);
      const ledger = ledgerOf(ended);
      expect(ledger.seen.pkts).toBe([...before, ...during, ...after].flat().length);
      expect(ledger.shunted.pkts).toBeGreaterThan(0);
      const conn = records('conn', dir);
      expect(ports(conn)).toEqual([
        ...count(20_000, 100),
        ...count(30_000, 2000),
        ...count(40_000, 100),
        50_000,
      ]);
      expect(conn.find((line) => line['id.orig_p'] === 50_000)).toMatchObject({
        is_shunted: true,
        resp_bytes: 1_000_000,
        conn_state: 'SF',
      });
      expect(records('stats', dir).at(-1)).toMatchObject({ log_lost: 0, pkts_dropped: 0 });
      const told = records('notice', dir).filter(({ note }) => note === 'Sluice::Log_Disk');
      expect(told.map(({ msg }) => String(msg).slice(0, 14))).toEqual(['the logs canno', 'the logs are b']);
    } finally {
      remove();
    }
  },
);

kernelTest(
  'a directory of logs that is removed under a run is made again; what went with it is said and counted',
  [...FEATURES],
  async () => {
    using logs = new LogDir();
    const dir = logs.path;
    const { a, b, remove } = vethPair();
    try {
      await using run = await runInto(dir, a);
      await new Feed(b, mixed(short(20_000, 100)), RATE).done;
      await until(
        () => existsSync(join(dir, 'conn.log')) && records('conn', dir).length === 100,
        'no records',
        PATIENCE,
      );
      // Again for as long as the run makes files in it.
      rmSync(dir, { recursive: true, maxRetries: 20 });
      await until(
        () => /conn\.log was moved away and is begun anew/.test(run.stderr),
        'nobody has noticed',
        PATIENCE,
      );
      await new Feed(b, mixed(short(30_000, 100)), RATE).done;
      const ended = await run.stop();
      expect(ended.code).toBe(0);
      expect(ports(records('conn', dir))).toEqual(count(30_000, 100));
      expect(records('notice', dir).some(({ note }) => note === 'Sluice::Log_Moved')).toBe(true);
      expect(ledgerOf(ended).seen.pkts).toBe([...short(0, 100), ...short(0, 100)].flat().length);
    } finally {
      remove();
    }
  },
);

kernelTest(
  'files that are begun anew all the time under load lose no record and cut none',
  [...FEATURES],
  async () => {
    using logs = new LogDir();
    const dir = logs.path;
    const { a, b, remove } = vethPair();
    try {
      await using run = await runInto(dir, a, '--log-rotate-size', '20kB');
      const load = [...short(20_000, 3000), ...Array.from({ length: 20 }, (_, i) => long(50_000 + i))];
      await new Feed(b, mixed(load), RATE).done;
      const ended = await run.stop();
      expect(ended.code).toBe(0);
      expect(ports(records('conn', dir))).toEqual([...count(20_000, 3000), ...count(50_000, 20)]);
      expect(readdirSync(dir).filter((name) => name.startsWith('conn.')).length).toBeGreaterThan(10);
      expect(ledgerOf(ended).seen.pkts).toBe(load.flat().length);
      expect(records('stats', dir).at(-1)).toMatchObject({ log_lost: 0, pkts_dropped: 0 });
    } finally {
      remove();
    }
  },
);
