import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ServiceManager, UnixDatagrams } from '../../src/kernel/index.ts';
import { until } from '../support/kernel.ts';

let dir: string;
let manager: UnixDatagrams;
let heard: string[];

/** Binds as systemd does; `@` stands for the abstract namespace. */
function listen(path: string): void {
  const buffer = new Uint8Array(4096);
  heard = [];
  manager = new UnixDatagrams(path, () => {
    for (let size = manager.receive(buffer); size >= 0; size = manager.receive(buffer))
      heard.push(Buffer.from(buffer.subarray(0, size)).toString());
  });
}

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'sluice-manager-'));
});
afterEach(() => {
  manager?.close();
  rmSync(dir, { recursive: true });
});

describe('the service manager', () => {
  test.each(['path', 'abstract'])(
    'hears of every step, and signs of life while there is progress (%s)',
    async (kind) => {
      const socket = kind === 'path' ? join(dir, 'notify') : `@sluice-${process.pid}`;
      listen(socket);
      const env: NodeJS.ProcessEnv = { NOTIFY_SOCKET: socket, WATCHDOG_USEC: '30000', PATH: '/bin' };
      using service = ServiceManager.from(env);
      // Nothing that this process starts is to speak for it.
      expect(env).toEqual({ PATH: '/bin' });
      let progress: string | undefined = 'two\nlines';
      service?.ready(() => progress);
      const alive = () => heard.filter((text) => text.startsWith('WATCHDOG=1\n')).length;
      await until(() => alive() >= 2, 'no signs of life');
      expect(heard[0]).toBe('READY=1\nSTATUS=two · lines');
      progress = undefined;
      service?.reloading();
      await until(() => heard.some((text) => text.startsWith('RELOADING=1')), 'no reload');
      const before = alive();
      await new Promise((resolve) => setTimeout(resolve, 60));
      expect(alive()).toBe(before);
      progress = 'again';
      await until(() => alive() > before, 'no signs of life after a pause');
      service?.reloaded();
      service?.stopping();
      await until(() => heard.includes('STOPPING=1'), 'no end');
      expect(heard.find((text) => text.startsWith('RELOADING'))).toMatch(/^RELOADING=1\nMONOTONIC_USEC=\d+$/);
      expect(heard.filter((text) => text === 'READY=1')).toHaveLength(1);
    },
  );

  test('is not there without a socket, and its watchdog is not ours when it names another process', async () => {
    expect(ServiceManager.from({})).toBeUndefined();
    expect(ServiceManager.from({ NOTIFY_SOCKET: 'relative' })).toBeUndefined();
    const socket = join(dir, 'notify');
    listen(socket);
    using service = ServiceManager.from({ NOTIFY_SOCKET: socket, WATCHDOG_USEC: '3000', WATCHDOG_PID: '1' });
    service?.ready(() => 'up');
    await until(() => heard.length > 0, 'not ready');
    await new Promise((resolve) => setTimeout(resolve, 30));
    expect(heard).toEqual(['READY=1\nSTATUS=up']);
    // Gone: what it is told then is nobody's loss.
    manager.close();
    rmSync(socket);
    service?.stopping();
  });
});
