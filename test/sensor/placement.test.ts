import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { workerCpus } from '../../src/sensor/placement.ts';

const sysfs = mkdtempSync(join(tmpdir(), 'sluice-sysfs-'));
afterAll(() => rmSync(sysfs, { recursive: true }));

function put(path: string, text: string): void {
  mkdirSync(dirname(join(sysfs, path)), { recursive: true });
  writeFileSync(join(sysfs, path), text);
}

put('class/net/eth1/device/numa_node', '1\n');
put('devices/system/node/node1/cpulist', '2-3,6-7\n');
for (const [cpu, siblings] of [
  [2, '2,6'],
  [3, '3,7'],
  [6, '2,6'],
  [7, '3,7'],
] as const)
  put(`devices/system/cpu/cpu${cpu}/topology/thread_siblings_list`, `${siblings}\n`);

const machine = { allowed: [0, 1, 2, 3, 6, 7], sysfs };

test('workers run near their card, on cores of their own first', () => {
  expect(workerCpus('auto', 'eth1', machine)).toEqual([2, 3, 6, 7]);
  expect(workerCpus('auto', 'eth1', { allowed: [0, 7], sysfs })).toEqual([7]);
});

test('where there is no node, or none of its CPUs is allowed: all that are', () => {
  expect(workerCpus('auto', 'veth0', machine)).toEqual([0, 1, 2, 3, 6, 7]);
  expect(workerCpus('auto', 'eth1', { allowed: [0, 1], sysfs })).toEqual([0, 1]);
});

test('a list is taken as it is, and a CPU that is not allowed is refused', () => {
  expect(workerCpus('off', 'eth1', machine)).toBeUndefined();
  expect(workerCpus('7,0-1', 'eth1', machine)).toEqual([7, 0, 1]);
  expect(() => workerCpus('0,5,9', 'eth1', machine)).toThrow(
    expect.objectContaining({ code: 'USAGE', message: expect.stringContaining('CPU 5, 9') as string }),
  );
  expect(() => workerCpus('3-1', 'eth1', machine)).toThrow(/3-1/);
});
