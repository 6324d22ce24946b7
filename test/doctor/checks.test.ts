import { describe, expect, it } from 'vitest';
import { CHECKS, examine, worst } from '../../src/doctor/checks/index.ts';
import { AREAS } from '../../src/doctor/finding.ts';
import { commandOf } from '../../src/doctor/settings.ts';
import { CASES } from './fixtures/cases.ts';
import { cloudGuest, server } from './fixtures/machines.ts';

it('every check has a good and a bad machine, and every machine a check', () => {
  expect(Object.keys(CASES).toSorted()).toEqual(CHECKS.map(({ id }) => id).toSorted());
  for (const [id, { bad }] of Object.entries(CASES)) expect(bad.length, id).toBeGreaterThan(0);
});

it('every check is of a known area, once', () => {
  expect(new Set(CHECKS.map(({ id }) => id)).size).toBe(CHECKS.length);
  for (const { id, area } of CHECKS) {
    expect(AREAS).toContain(area);
    expect(id.startsWith(`${area}.`)).toBe(true);
  }
});

describe.each(CHECKS.map((check) => [check.id, check] as const))('%s', (id, check) => {
  it('has nothing to say of a good machine, and says what it saw', () => {
    const findings = check.run(CASES[id].good);
    expect(findings.length).toBeGreaterThan(0);
    for (const finding of findings) {
      expect(finding).toMatchObject({ check: id, level: 'ok', reason: '' });
      expect(finding.evidence).not.toBe('');
      expect(finding.fix).toBeUndefined();
    }
  });

  it.each(CASES[id].bad.map((one) => [one.name, one] as const))('%s', (_, { machine, level, says, sets }) => {
    const findings = check.run(machine).filter((finding) => finding.level !== 'ok');
    expect(findings.length).toBe(1);
    const [finding] = findings;
    expect(finding.level).toBe(level);
    expect(finding.evidence).toMatch(says);
    expect(finding.reason.length).toBeGreaterThan(20);
    if (sets !== undefined) expect(finding.fix?.changes.map(({ value }) => value)).toEqual(sets);
    for (const change of finding.fix?.changes ?? []) {
      expect(finding.fix?.risk).not.toBe('reboot');
      expect(commandOf(change)).toMatch(/^(ethtool -|sysctl -w |echo )/);
    }
    if (finding.fix !== undefined) {
      expect(finding.fix.text).not.toBe('');
      expect(finding.fix.riskText).not.toBe('');
    }
  });
});

it('a server that is set up well has no finding at all', () => {
  const findings = examine(server());
  expect(findings.filter(({ level }) => level !== 'ok')).toEqual([]);
  expect(worst(findings)).toBe('ok');
});

it('a guest of a cloud is told what counts there, and nothing of what it does not have', () => {
  const findings = examine(cloudGuest());
  expect(findings.filter(({ level }) => level === 'problem').map(({ check }) => check)).toEqual([
    'nic.xdp-queues',
    'nic.limit',
  ]);
  for (const absent of ['pcie.aspm', 'numa.clusters', 'cpu.iommu', 'memory.channels', 'cpu.cstates'])
    expect(findings.map(({ check }) => check)).not.toContain(absent);
  expect(worst(findings)).toBe('problem');
});

const lack = (id: string): (string | undefined)[] =>
  CASES[id].bad.flatMap(({ machine }) =>
    examine(machine)
      .filter(({ check, level }) => check === id && level === 'problem')
      .map(({ lacking }) => lacking),
  );

it('what is lacking is told apart from what is set wrongly', () => {
  expect(lack('bpf.capabilities')).toEqual(['PRIVILEGE']);
  expect(lack('kernel.features')).toEqual(['KERNEL_FEATURE']);
  expect(lack('nic.lro')).toEqual([undefined]);
});
