import { mkdtempSync, readFileSync, renameSync, rmSync, symlinkSync, unlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { AuditLog } from '../../src/gate/daemon-audit.ts';

let dir: string;
const ops = (name: string): unknown[] =>
  readFileSync(join(dir, name), 'utf8')
    .split('\n')
    .slice(0, -1)
    .map((line) => (JSON.parse(line) as { op: unknown }).op);

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'sluice-audit-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

describe('the audit log of a gate', () => {
  test('a disk that takes nothing is told of once, and at its end with what it cost', () => {
    const path = join(dir, 'audit.log');
    symlinkSync('/dev/full', path);
    const told: string[] = [];
    const log = new AuditLog(dir, (text) => told.push(text));
    for (const op of ['one', 'two', 'three']) log.write({ op });
    expect(told).toEqual([expect.stringMatching(/audit\.log cannot be written: ENOSPC/)]);
    unlinkSync(path);
    log.write({ op: 'four' });
    log.write({ op: 'five' });
    log.close();
    expect(told.slice(1)).toEqual([`${path} is written again; 3 lines were lost`]);
    expect(ops('audit.log')).toEqual(['four', 'five']);
  });

  test('is begun anew where it was moved away, or went with its directory', () => {
    const told: string[] = [];
    const log = new AuditLog(dir, (text) => told.push(text));
    log.write({ op: 'one' });
    renameSync(join(dir, 'audit.log'), join(dir, 'audit.log.old'));
    log.write({ op: 'two' });
    expect([ops('audit.log.old'), ops('audit.log')]).toEqual([['one'], ['two']]);
    rmSync(dir, { recursive: true });
    log.write({ op: 'three' });
    log.close();
    expect(ops('audit.log')).toEqual(['three']);
    expect(told).toEqual([]);
  });
});
