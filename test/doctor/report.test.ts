import { describe, expect, it } from 'vitest';
import { planOf } from '../../src/doctor/apply.ts';
import { budgetOf } from '../../src/doctor/budget.ts';
import { examine } from '../../src/doctor/checks/index.ts';
import { mapOf, mapSvg, mapText } from '../../src/doctor/map.ts';
import {
  budgetText,
  findingsText,
  planText,
  reportOf,
  reportSchema,
  summaryText,
} from '../../src/doctor/report.ts';
import { reviewSuricata } from '../../src/doctor/sensors/suricata.ts';
import { commandOf, isAllowedPath } from '../../src/doctor/settings.ts';
import { but, cloudGuest, server } from './fixtures/machines.ts';

const plain = (_: string, text: string): string => text;

const messy = () =>
  but((machine, nic) => {
    nic.features['rx-gro'] = { on: true, wanted: true, fixed: false };
    nic.features['rx-lro'] = { on: true, wanted: true, fixed: false };
    nic.coalescing = { adaptiveRx: true, rxUsecs: 50, rxFrames: 0 };
    machine.sysctls['kernel.nmi_watchdog'] = '1';
    machine.cpu.isolated = [];
  });

describe('text', () => {
  it('shows what is not as it should be, with why, fix and risk; all with --all', () => {
    const findings = examine(messy());
    const text = findingsText(findings, false, plain);
    expect(text).toContain('problem  nic.lro eth1: rx-lro: on\n         why   the card merges');
    expect(text).toContain('         fix   switch off rx-lro\n         risk  none for a tap');
    expect(text.indexOf('nic.lro')).toBeLessThan(text.indexOf('nic.gro'));
    expect(text).not.toContain('clock.source');
    expect(findingsText(findings, true, plain)).toContain('ok       clock.source: tsc');
    expect(summaryText(findings)).toMatch(/^1 problem, 2 warnings, 2 notes, \d+ ok$/);
  });

  it('the plan is a script, with what a person has to do as comments', () => {
    const findings = examine(messy());
    const text = planText(planOf(findings), findings);
    expect(text.split('\n')).toEqual([
      '# nic.coalescing',
      'ethtool -C eth1 adaptive-rx off',
      'ethtool -C eth1 rx-usecs 84',
      '# nic.gro',
      'ethtool -K eth1 rx-gro off',
      '# nic.lro',
      'ethtool -K eth1 rx-lro off',
      '# kernel.nmi-watchdog; risk: hard lock-ups of the kernel are no longer reported',
      'sysctl -w kernel.nmi_watchdog=0',
      expect.stringMatching(/^# by hand, cpu\.isolated: isolcpus=0-3/),
      '',
    ]);
    expect(planText([], [])).toBe('');
  });

  it('a setting that two checks want to change is changed once', () => {
    const both = but((_, nic) => {
      for (const queue of nic.queues) {
        queue.affinity = [4];
        queue.effective = [4];
      }
    });
    const findings = examine(both);
    expect(findings.filter(({ level }) => level === 'warning').map(({ check }) => check)).toEqual([
      'irq.affinity',
      'irq.node',
    ]);
    expect(planOf(findings).map(({ command }) => command)).toEqual(
      [0, 1, 2, 3].map((queue) => `echo ${8 + queue} > /proc/irq/${120 + queue}/smp_affinity_list`),
    );
  });
});

it('commands name what they change, quoted where a shell needs it', () => {
  const ifname = 'eth1';
  expect(
    [
      { setting: { kind: 'private-flag', ifname, name: 'a flag' } as const, value: 'off' },
      { setting: { kind: 'channels', ifname, name: 'combined' } as const, value: '4' },
      { setting: { kind: 'rss-key', ifname } as const, value: '6d5a6d5a' },
      { setting: { kind: 'rss-table', ifname } as const, value: '0,1,2,0,1,2' },
      { setting: { kind: 'hash-fields', ifname, name: 'udp4' } as const, value: 'sd' },
      { setting: { kind: 'pause', ifname } as const, value: 'autoneg on rx off tx off' },
      { setting: { kind: 'file', path: '/sys/x y' } as const, value: "it's" },
    ].map(commandOf),
  ).toEqual([
    "ethtool --set-priv-flags eth1 'a flag' off",
    'ethtool -L eth1 combined 4',
    'ethtool -X eth1 hkey 6d:5a:6d:5a',
    'ethtool -X eth1 equal 3',
    'ethtool -N eth1 rx-flow-hash udp4 sd',
    'ethtool -A eth1 autoneg on rx off tx off',
    "echo 'it'\\''s' > '/sys/x y'",
  ]);
});

it('only settings may be written', () => {
  for (const path of [
    '/proc/sys/net/core/rmem_max',
    '/proc/irq/3/smp_affinity_list',
    '/sys/class/net/eth0/x',
  ])
    expect(isAllowedPath(path)).toBe(true);
  for (const path of [
    '/etc/passwd',
    '/proc/sys/../../etc/passwd',
    'proc/sys/x',
    '/proc/sysrq-trigger',
    '/sys/../etc/x',
  ])
    expect(isAllowedPath(path)).toBe(false);
});

describe('budget', () => {
  it('is the arithmetic of the wire', () => {
    const { nics } = server();
    const budget = budgetOf(server(), nics[0]);
    expect(
      budget.rows.map(({ size, packets, ns }) => [size, Math.round(packets), Math.round(ns * 10) / 10]),
    ).toEqual([
      [64, 14_880_952, 67.2],
      [256, 4_528_986, 220.8],
      [512, 2_349_624, 425.6],
      [1024, 1_197_318, 835.2],
      [1518, 812_744, 1230.4],
      // 800 bytes and the checksum.
      ['average', 1_516_990, 659.2],
    ]);
    expect(budget.rows[0].nsEachQueue).toBeCloseTo(268.8);
    expect(budget.assumed).toBe(false);
  });

  it('against what was measured: 16 CPUs at a fifth of softirq for half a million packets, 1.2 s of the sensor', () => {
    const { measured } = budgetOf(server(), server().nics[0]);
    expect(measured.gate).toBe(26);
    expect(measured.softirq).toBeCloseTo((0.2 * 16 * 1e9) / 500_000);
    expect(measured.worker).toBeCloseTo(2400);
    expect(measured.instructionsPerCycle).toBe(1.8);
    expect(measured.cacheMissesPerPacket).toBe(3.2);
  });

  it('says why it does not know', () => {
    const quiet = but((machine) => {
      machine.cost.gate = 'EPERM';
      if (machine.sample !== undefined) {
        machine.sample.nics['eth1'].packets = 3;
        machine.sample.pmu = { none: 'there is no hardware PMU here' };
      }
    });
    const budget = budgetOf(quiet, quiet.nics[0]);
    expect(budget.measured).toEqual({
      gate: 'EPERM',
      softirq: 'too few packets while it was watched',
      worker: 'too few packets while it was watched',
      instructionsPerCycle: 'there is no hardware PMU here',
      cacheMissesPerPacket: 'there is no hardware PMU here',
    });
    expect(budgetText([budget])).toContain('gate: – (EPERM)');
    const cloud = cloudGuest();
    expect(budgetOf(cloud, cloud.nics[0])).toMatchObject({ mbps: 10_000, assumed: true });
  });
});

describe('map', () => {
  it('follows packets from the card to the workers', () => {
    const shared = but((machine, nic) => {
      nic.queues[0].effective = [0];
      nic.queues[1].effective = [5];
      machine.sensors.push({
        pid: 900,
        name: 'tcpdump',
        interfaces: [3],
        threads: [{ id: 900, name: 'tcpdump', cpus: [0, 1] }],
      });
    });
    expect(mapText(mapOf(shared)).split('\n')).toEqual([
      'eth1  (i40e, 10,000 Mbit/s)  node 0',
      ' ├ queue  0 → irq  120 → CPU   0 (core 0+8, node 0) → Suricata-Main (700) W#01-eth1',
      ' ├ queue  1 → irq  121 → CPU   5 (core 5+13, node 1) FAR',
      ' ├ queue  2 → irq  122 → CPU  10 (core 2+10, node 0)',
      ' ├ queue  3 → irq  123 → CPU  11 (core 3+11, node 0)',
      ' ├ CPU   1 (node 0) → Suricata-Main (700) W#02-eth1',
      ' ├ CPU   2 (node 0) → Suricata-Main (700) W#03-eth1',
      ' ├ CPU   3 (node 0) → Suricata-Main (700) W#04-eth1',
      ' └ any CPU → tcpdump (900), 1 threads, not pinned',
      '',
    ]);
  });

  it('the picture has every box once, and names are escaped', () => {
    const odd = but((machine) => {
      machine.sensors[0].threads[1].name = '<b>&"';
    });
    const svg = mapSvg(mapOf(odd));
    expect(svg.match(/<g class="queue">/g)).toHaveLength(4);
    expect(svg.match(/<g class="worker">/g)).toHaveLength(4);
    expect(svg).toContain('&lt;b&gt;&amp;&quot;');
    expect(svg).not.toContain('<b>');
    expect(svg.match(/<g /g)).toHaveLength(svg.match(/<\/g>/g)?.length ?? -1);
  });

  it('without known interrupts', () => {
    const none = but((machine, nic) => {
      nic.queues = [];
      machine.sensors = [];
    });
    expect(mapText(mapOf(none))).toContain(' └ its interrupts are not known');
  });
});

it.each([
  ['a server', server()],
  ['one with findings', messy()],
  ['a guest', cloudGuest()],
])('the document of %s is as the schema says', (_, machine) => {
  const findings = examine(machine);
  const report = reportOf({
    interfaces: machine.nics.map(({ name }) => name),
    findings,
    budgets: machine.nics.map((nic) => budgetOf(machine, nic)),
    maps: mapOf(machine),
    sensor: reviewSuricata('', 'suricata.yaml', machine, machine.nics[0]),
    plan: planOf(findings),
  });
  expect(reportSchema.strict().parse(JSON.parse(JSON.stringify(report)))).toEqual(report);
});
