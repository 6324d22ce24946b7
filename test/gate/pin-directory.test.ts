import {
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'vitest';
import { LAYOUT_VERSION } from '../../src/gate/layout.ts';
import { ensureBpffs, netnsInode } from '../../src/kernel/index.ts';
import { kernelTest, ownNetns } from '../support/kernel.ts';
import { TestGate } from './support.ts';

ownNetns();

kernelTest(
  'a directory or link that another user has put in the place of the pins is not followed',
  ['xdpFrags'],
  () => {
    const parent = join(ensureBpffs(), 'sluice', `${netnsInode()}-1`);
    const victim = mkdtempSync(join(tmpdir(), 'sluice-test-'));
    writeFileSync(join(victim, 'flows4'), 'precious');
    const place = join(parent, `v${LAYOUT_VERSION}`);
    try {
      mkdirSync(parent, { recursive: true });
      symlinkSync(victim, place);
      expect(() => new TestGate()).toThrow(expect.objectContaining({ code: 'PIN_FOREIGN' }));
      expect(existsSync(join(victim, 'flows4'))).toBe(true);
      unlinkSync(place);
      mkdirSync(place);
      chownSync(place, 65_534, 65_534);
      expect(() => new TestGate()).toThrow(expect.objectContaining({ code: 'PIN_FOREIGN' }));
    } finally {
      rmSync(parent, { recursive: true });
      rmSync(victim, { recursive: true });
    }
    using gate = new TestGate();
    expect(existsSync(gate.gate.pins['flows4'] ?? '')).toBe(true);
  },
);

kernelTest('what gates of a network namespace that is gone have left is removed', ['xdpFrags'], () => {
  // No namespace has that number.
  const name = '1-7';
  const pins = join(ensureBpffs(), 'sluice', name);
  const files = ['lock', 'json', 'rules', 'baseline', 'attacks'].map((ending) =>
    join('/run/sluice', `${name}.${ending}`),
  );
  mkdirSync(pins, { recursive: true });
  mkdirSync('/run/sluice', { recursive: true });
  for (const file of files) writeFileSync(file, '');
  using gate = new TestGate();
  expect([pins, ...files].filter((path) => existsSync(path))).toEqual([]);
  expect(gate.gate.pins['flows4']).toBeDefined();
});
