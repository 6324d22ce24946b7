import { existsSync, statSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { expect } from 'vitest';
import { askLab, type LabInfo, serveLab, type TrafficReport } from '../../lab/index.ts';
import { labTest } from './support.ts';

/** What the lab says to a line that is no request. */
function sayRaw(path: string, line: string): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(path, () => socket.write(line));
    let answer = '';
    socket.on('data', (chunk) => {
      answer += chunk.toString('utf8');
    });
    socket.once('close', () => resolve(answer));
  });
}

labTest('another process of the owner uses a lab over its socket', {}, async (lab) => {
  const path = join(lab.directory, 'socket', 'lab.sock');
  let asked = 0;
  const close = await serveLab(lab, path, async () => {
    asked++;
  });
  expect(statSync(path).mode & 0o777).toBe(0o600);
  await expect(serveLab(lab, path, async () => undefined)).rejects.toMatchObject({ code: 'LAB' });

  const info = await askLab<LabInfo>(path, { command: 'info' });
  expect(info).toMatchObject({ pid: process.pid, taps: { a: { ifname: 'tapA', pid: lab.tap('a').pid } } });

  const report = await askLab<TrafficReport>(path, { command: 'traffic', preset: 'demo', seconds: 0.2 });
  expect(report).toMatchObject({ plan: 'demo', failures: 0 });
  expect(report.connections).toBeGreaterThan(0);

  const stop = new AbortController();
  const cut = askLab(
    path,
    { command: 'traffic', preset: 'demo', seconds: 60 },
    { signal: stop.signal, onProgress: () => stop.abort() },
  );
  await expect(cut).rejects.toMatchObject({ code: 'LAB' });

  await expect(askLab(path, { command: 'traffic', preset: 'toString', seconds: 1 })).rejects.toMatchObject({
    code: 'USAGE',
  });
  await expect(askLab(path, { command: 'replay', file: '/nowhere.pcap' })).rejects.toMatchObject({
    code: 'FILE',
  });
  for (const line of ['\n', '[]\n', '{"command":"rm"}\n', 'null\n', 'x'.repeat(70_000)]) {
    expect(JSON.parse(await sayRaw(path, line))).toMatchObject({ error: { code: 'USAGE' } });
  }

  expect(asked).toBe(0);
  await askLab(path, { command: 'down' });
  expect(asked).toBe(1);
  await close();
  expect(existsSync(path)).toBe(false);
  await expect(askLab(path, { command: 'info' })).rejects.toMatchObject({ code: 'LAB' });
});
