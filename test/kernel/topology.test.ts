import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { allowedCpus, coresFirst, nodeCpus, numaNode, parseCpuList } from '../../src/kernel/index.ts';

const sysfs = mkdtempSync(join(tmpdir(), 'sluice-sysfs-'));
afterAll(() => rmSync(sysfs, { recursive: true }));

function put(path: string, text: string): string {
  const whole = join(sysfs, path);
  mkdirSync(dirname(whole), { recursive: true });
  writeFileSync(whole, text);
  return whole;
}

describe('CPUs', () => {
  test('lists as the kernel writes them', () => {
    expect(parseCpuList('0-3,8\n')).toEqual([0, 1, 2, 3, 8]);
    expect(parseCpuList('5')).toEqual([5]);
    expect(parseCpuList('1,0-2')).toEqual([1, 0, 2]);
    expect(parseCpuList('')).toEqual([]);
    for (const text of ['3-1', 'a', '1-', '-1', '1,,2', '0-99999', '0-9000', '1;2'])
      expect(parseCpuList(text), text).toBeUndefined();
  });

  test('those that a process may run on', () => {
    expect(allowedCpus(put('status', 'Name:\tx\nCpus_allowed:\tff\nCpus_allowed_list:\t0-2,7\n'))).toEqual([
      0, 1, 2, 7,
    ]);
    expect(allowedCpus(join(sysfs, 'nowhere'))).toEqual([]);
    expect(allowedCpus().length).toBeGreaterThan(0);
  });

  test('the node of a card, and none of a virtual interface or on a machine with one node', () => {
    put('class/net/eth1/device/numa_node', '1\n');
    put('class/net/eth2/device/numa_node', '-1\n');
    put('devices/system/node/node1/cpulist', '4-7,12-15\n');
    expect(numaNode('eth1', sysfs)).toBe(1);
    expect(numaNode('eth2', sysfs)).toBeUndefined();
    expect(numaNode('veth0', sysfs)).toBeUndefined();
    expect(nodeCpus(1, sysfs)).toEqual([4, 5, 6, 7, 12, 13, 14, 15]);
    expect(nodeCpus(3, sysfs)).toEqual([]);
  });

  test('each core once before any is used twice', () => {
    for (const [cpu, siblings] of [
      [0, '0,4'],
      [4, '0,4'],
      [1, '1,5'],
      [5, '1,5'],
    ] as const)
      put(`devices/system/cpu/cpu${cpu}/topology/thread_siblings_list`, `${siblings}\n`);
    expect(coresFirst([0, 4, 1, 5, 9], sysfs)).toEqual([0, 1, 9, 4, 5]);
  });
});
