import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import * as fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { maskText } from '../../src/doctor/checks/irq.ts';
import { cpuFacts } from '../../src/doctor/facts/cpu.ts';
import { Files } from '../../src/doctor/facts/files.ts';
import { interruptNames, nicQueues, queueOfName } from '../../src/doctor/facts/irq.ts';
import { parseCpuMask } from '../../src/doctor/facts/nic.ts';
import { pciFacts } from '../../src/doctor/facts/pci.ts';
import { cpuTicks, processTicks, ratesBetween } from '../../src/doctor/facts/sample.ts';
import { groupsOf, packetTable } from '../../src/doctor/facts/sensors.ts';
import { channelOf, memoryModules } from '../../src/doctor/facts/smbios.ts';
import { softnet } from '../../src/kernel/index.ts';

const roots: string[] = [];
afterAll(() => {
  for (const root of roots) rmSync(root, { recursive: true });
});

/** A copy of parts of procfs and sysfs. */
function tree(files: Readonly<Record<string, string>>): { files: Files; root: string } {
  const root = mkdtempSync(join(tmpdir(), 'sluice-facts-'));
  roots.push(root);
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }
  return { files: new Files(root), root };
}

describe('interrupts', () => {
  const text = `           CPU0       CPU1
 38:          0      42052 PCI-MSIX-0000:00:03.0   1-edge      virtio2-input.0
 39:      30516          0 PCI-MSIX-0000:00:03.0   2-edge      virtio2-output.0
 40:      30516          0 PCI-MSIX-0000:00:04.0   2-edge      virtio3-input.0
LOC:   20591360   20070835   Local timer interrupts
`;
  it('have names by number', () => {
    expect([...interruptNames(text)]).toEqual([
      [38, 'virtio2-input.0'],
      [39, 'virtio2-output.0'],
      [40, 'virtio3-input.0'],
    ]);
  });

  it.each([
    ['eth0-TxRx-3', 3],
    ['i40e-ens1f0-TxRx-12', 12],
    ['ice-ens2-TxRx-0', 0],
    ['eth0-Tx-Rx-7', 7],
    ['eth0-rx-1', 1],
    ['virtio2-input.5', 5],
    ['mlx5_comp9@pci:0000:3b:00.0', 9],
    ['mlx4-2@0000:04:00.0', 2],
    ['virtio2-output.0', undefined],
    ['mlx5_async0@pci:0000:3b:00.0', undefined],
    ['ena-mgmnt@pci:0000:00:05.0', undefined],
  ])('%s', (name, queue) => {
    expect(queueOfName(name)).toBe(queue);
  });

  it('are those of the card, by queue', () => {
    const { files } = tree({
      'proc/interrupts': text,
      'sys/bus/pci/devices/0000:00:03.0/msi_irqs/38': 'msix',
      'sys/bus/pci/devices/0000:00:03.0/msi_irqs/39': 'msix',
      'proc/irq/38/smp_affinity_list': '0-1\n',
      'proc/irq/38/effective_affinity_list': '1\n',
    });
    expect(nicQueues(files, '0000:00:03.0', 'virtio2')).toEqual([
      { queue: 0, irq: 38, irqName: 'virtio2-input.0', affinity: [0, 1], effective: [1] },
    ]);
    expect(nicQueues(files, '0000:00:09.0', undefined)).toEqual([]);
  });
});

describe('PCI', () => {
  const { files } = tree({
    'sys/bus/pci/devices/0000:3b:00.0/vendor': '0x8086\n',
    'sys/bus/pci/devices/0000:3b:00.0/device': '0x1572\n',
    'sys/bus/pci/devices/0000:3b:00.0/current_link_speed': '8.0 GT/s PCIe\n',
    'sys/bus/pci/devices/0000:3b:00.0/current_link_width': '4\n',
    'sys/bus/pci/devices/0000:3b:00.0/max_link_speed': '8.0 GT/s PCIe\n',
    'sys/bus/pci/devices/0000:3b:00.0/max_link_width': '8\n',
    'sys/bus/pci/devices/0000:3b:00.0/numa_node': '1\n',
    'sys/bus/pci/devices/0000:3b:00.0/net/eth1/ifindex': '3\n',
    'sys/bus/pci/devices/0000:3b:00.1/net/eth2/ifindex': '4\n',
    'sys/bus/pci/devices/0000:5e:00.0/net/eth9/ifindex': '9\n',
    'sys/bus/pci/devices/0000:00:03.0/vendor': '0x1af4\n',
    'sys/bus/pci/devices/0000:00:03.0/numa_node': '-1\n',
    'sys/bus/pci/devices/0000:00:03.0/current_link_speed': 'Unknown\n',
    'sys/bus/pci/devices/0000:00:03.0/current_link_width': '0\n',
  });

  it('tells speed, width, node and the ports of the card', () => {
    expect(pciFacts(files, '0000:3b:00.0', (name) => (name === 'eth2' ? 10_000 : undefined))).toEqual({
      address: '0000:3b:00.0',
      vendor: '8086',
      device: '1572',
      speed: 8,
      width: 4,
      maxSpeed: 8,
      maxWidth: 8,
      node: 1,
      ports: [
        { address: '0000:3b:00.0', mbps: undefined },
        { address: '0000:3b:00.1', mbps: 10_000 },
      ],
    });
  });

  it('of a guest, nothing that it does not say', () => {
    expect(pciFacts(files, '0000:00:03.0', () => undefined)).toMatchObject({
      vendor: '1af4',
      node: undefined,
      speed: undefined,
      width: undefined,
    });
    expect(pciFacts(files, '', () => undefined)).toBeUndefined();
    expect(pciFacts(files, '../../etc', () => undefined)).toBeUndefined();
  });
});

it('processors: nodes, cores, governors, idle states, turbo, IOMMU', () => {
  const cpu = 'sys/devices/system/cpu';
  const { files, root } = tree({
    'proc/cpuinfo': 'processor : 0\nvendor_id\t: GenuineIntel\nmodel name\t: Xeon\n',
    [`${cpu}/online`]: '0-1\n',
    [`${cpu}/isolated`]: '1\n',
    [`${cpu}/smt/control`]: 'off\n',
    [`${cpu}/intel_pstate/status`]: 'active\n',
    [`${cpu}/intel_pstate/no_turbo`]: '1\n',
    [`${cpu}/cpu0/topology/physical_package_id`]: '0\n',
    [`${cpu}/cpu0/topology/thread_siblings_list`]: '0\n',
    [`${cpu}/cpu0/cpufreq/scaling_governor`]: 'powersave\n',
    [`${cpu}/cpu0/cpufreq/scaling_driver`]: 'intel_pstate\n',
    [`${cpu}/cpu0/cpuidle/state0/name`]: 'POLL\n',
    [`${cpu}/cpu0/cpuidle/state0/latency`]: '0\n',
    [`${cpu}/cpu0/cpuidle/state1/name`]: 'C1\n',
    [`${cpu}/cpu0/cpuidle/state1/latency`]: '2\n',
    [`${cpu}/cpu0/cpuidle/state1/disable`]: '1\n',
    'sys/devices/system/node/node1/cpulist': '1\n',
    'sys/devices/system/node/node0/cpulist': '0\n',
    'sys/class/iommu/dmar0/x': '',
    'sys/module/pcie_aspm/parameters/policy': 'default [powersave] performance\n',
  });
  expect(cpuFacts(files, join(root, 'sys'))).toEqual({
    vendor: 'GenuineIntel',
    model: 'Xeon',
    list: [
      { id: 0, node: 0, package: 0, siblings: [0], governor: 'powersave' },
      { id: 1, node: 1, package: 0, siblings: [] },
    ],
    isolated: [1],
    nohzFull: [],
    smt: 'off',
    idle: [
      { name: 'POLL', latency: 0, disabled: false },
      { name: 'C1', latency: 2, disabled: true },
    ],
    latencyRequest: undefined,
    frequencyDriver: 'intel_pstate',
    pstate: 'active',
    turbo: false,
    prefetchersOff: undefined,
    iommu: true,
    aspm: 'powersave',
  });
});

function device(size: number, locator: string, bank: string, extended = 0): Uint8Array {
  const body = new Uint8Array(0x28);
  const view = new DataView(body.buffer);
  view.setUint8(0, 17);
  view.setUint8(1, body.length);
  view.setUint16(0x0c, size, true);
  view.setUint8(0x10, 1);
  view.setUint8(0x11, 2);
  view.setUint32(0x1c, extended, true);
  return Buffer.concat([body, Buffer.from(`${locator}\0${bank}\0\0`)]);
}

describe('memory modules of the firmware', () => {
  const other = Buffer.from([1, 4, 0, 0, 0, 0]);
  const end = Buffer.from([127, 4, 0, 0, 0, 0]);

  it('sizes in all their forms, empty slots, channels', () => {
    const table = Buffer.concat([
      other,
      device(16_384, 'CPU1_DIMM_A1', 'Bank 0'),
      device(0x7fff, 'P0_Node0_Channel2_Dimm0', '-', 65_536),
      device(0, 'DIMM_B2', 'P0 CHANNEL B'),
      end,
      device(1, 'behind the end', '-'),
    ]);
    expect(memoryModules(table)).toEqual([
      { locator: 'CPU1_DIMM_A1', size: 16_384, channel: '1/A' },
      { locator: 'P0_Node0_Channel2_Dimm0', size: 65_536, channel: '0/2' },
      { locator: 'DIMM_B2', size: 0, channel: '0/B' },
    ]);
    expect(channelOf('somewhere', '')).toBe('0/SOMEWHERE');
  });

  it('any bytes are taken', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => {
        expect(memoryModules(bytes).length).toBeLessThan(200);
      }),
    );
  });
});

describe('counters', () => {
  it('softnet: hexadecimal, its CPU in the 13th column', () => {
    const row = `0000000a 00000002 00000003 ${Array.from({ length: 9 }, () => '00000000').join(' ')} 00000005 00000000`;
    expect(softnet(`${row}\n`)).toEqual([{ cpu: 5, processed: 10, dropped: 2, squeezed: 3 }]);
    expect(softnet('')).toEqual([]);
  });

  it('processors and processes', () => {
    expect(cpuTicks('cpu  9 9\ncpu3 10 1 5 70 4 2 7 1 0 0\nintr 5\n')).toEqual([
      { id: 3, busy: 26, softirq: 7, idle: 74 },
    ]);
    const rest = Array.from({ length: 20 }, (_, i) => i).join(' ');
    expect(processTicks(`12 (a name) with ) S ${rest}`)).toBe(10 + 11);
  });

  it('of interfaces: what was added, and what of it was lost', () => {
    const before = {
      packets: 100,
      bytes: 1000,
      lost: { rx_dropped: 5, 'port.rx_dropped': 9, rx_alloc_fail: 7 },
    };
    const now = {
      packets: 150,
      bytes: 4000,
      lost: { rx_dropped: 8, 'port.rx_dropped': 9, rx_alloc_fail: 1 },
    };
    expect(ratesBetween(before, now)).toEqual({ packets: 50, bytes: 3000, lost: { rx_dropped: 3 } });
  });

  it('masks of CPUs, there and back', () => {
    expect(parseCpuMask('00000101')).toEqual([0, 8]);
    expect(parseCpuMask('1,00000003')).toEqual([0, 1, 32]);
    expect(parseCpuMask('nonsense')).toEqual([]);
    fc.assert(
      fc.property(fc.uniqueArray(fc.nat(200), { minLength: 1 }), (cpus) => {
        expect(parseCpuMask(maskText(cpus))).toEqual(cpus.toSorted((a, b) => a - b));
      }),
    );
  });
});

it('packet sockets: the table of procfs, and the groups they are in', () => {
  const text =
    'sk       RefCnt Type Proto  Iface R Rmem   User   Inode\n0000 3      3    0003   2     1 0      0      4711\n';
  expect(packetTable(text)).toEqual([{ inode: 4711, ifindex: 2, fanout: undefined }]);
  expect(
    groupsOf(
      [
        { inode: 1, ifindex: 3, fanout: { id: 23, mode: 0 } },
        { inode: 2, ifindex: 3, fanout: { id: 23, mode: 0 } },
        { inode: 3, ifindex: 4, fanout: undefined },
      ],
      new Map([
        [1, 'zeek (1)'],
        [2, 'zeek (2)'],
      ]),
    ),
  ).toEqual([{ id: 23, mode: 0, interfaces: [3], processes: ['zeek (1)', 'zeek (2)'] }]);
});

it('files that are not there, and links, are what they are', () => {
  const { files, root } = tree({ 'sys/x': ' 12 \n' });
  symlinkSync('../../devices/virtio2', join(root, 'sys/link'));
  expect(files.number('/sys/x')).toBe(12);
  expect(files.link('/sys/link')).toBe('../../devices/virtio2');
  expect(files.text('/sys/none')).toBeUndefined();
  expect(files.bytes('/sys/none')).toBeUndefined();
  expect(files.part('/sys/x', 0, 100)).toBeUndefined();
  expect(files.list('/sys/none')).toEqual([]);
  expect(files.link('/sys/x')).toBeUndefined();
});
