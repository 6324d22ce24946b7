import { connect, type Socket } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { HealthPort, isHealthy } from '../../src/sensor/health.ts';
import { Stat } from '../../src/sensor/setup.ts';
import type { Station } from '../../src/sensor/station.ts';
import { ownNetns, until } from '../support/kernel.ts';
import { freePort } from './mirror.ts';

// A port that nobody uses stays so.
ownNetns();

const stationWith = (...lastTurns: number[]): Station =>
  ({
    stats: lastTurns.map((at) => {
      const stats = new Float64Array(Stat.policies);
      stats[Stat.lastTurn] = at;
      return stats;
    }),
  }) as unknown as Station;

test('healthy: every worker of every source has finished a turn a short while ago', () => {
  expect(isHealthy([], 100)).toBe(false);
  expect(isHealthy([stationWith(99), stationWith()], 100)).toBe(false);
  expect(isHealthy([stationWith(99.9, 99), stationWith(98)], 100)).toBe(true);
  expect(isHealthy([stationWith(99.9, 99), stationWith(80)], 100)).toBe(false);
  // One that has not begun.
  expect(isHealthy([stationWith(99.9, 0)], 100)).toBe(false);
});

const open: HealthPort[] = [];
afterEach(async () => {
  for (const port of open.splice(0)) await port.close();
});

test('200 while it makes progress and 503 otherwise, whatever is asked for', async () => {
  const port = await freePort();
  let well = false;
  open.push(await HealthPort.open(port, () => well));
  const ask = async (method = 'GET', path = '/') =>
    (await fetch(`http://127.0.0.1:${port}${path}`, { method })).status;
  expect(await ask()).toBe(503);
  well = true;
  expect(await ask('GET', '/health?x=1')).toBe(200);
  expect(await ask('HEAD')).toBe(200);
  expect(await ask('POST')).toBe(200);
  await expect(HealthPort.open(port, () => true)).rejects.toMatchObject({ code: 'ADDRESS_IN_USE' });
});

test('connections are bounded, and what is no HTTP is turned away', async () => {
  const port = await freePort();
  open.push(await HealthPort.open(port, () => true));
  const sockets: Socket[] = [];
  let closed = 0;
  for (let i = 0; i < 100; i++) {
    const socket = connect(port, '127.0.0.1');
    socket.on('error', () => {});
    socket.on('close', () => closed++);
    sockets.push(socket);
  }
  await until(() => closed >= 36, 'more than 64 are kept');
  const [first] = sockets.filter((socket) => !socket.destroyed);
  let said = '';
  first.on('data', (data: Buffer) => {
    said += data.toString();
  });
  first.write('\0\u0001 no HTTP\r\n\r\n');
  await until(() => first.destroyed, 'it is kept');
  expect(said).toMatch(/^HTTP\/1\.1 400/);
  for (const socket of sockets) socket.destroy();
  await until(() => closed === 100, 'sockets are left');
});
