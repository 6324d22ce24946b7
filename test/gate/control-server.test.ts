import { mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { ControlServer } from '../../src/gate/control-server.ts';

const CLIENTS = 4;
const REQUESTS = 12;

it('requests that come together each have a turn of the event loop of their own', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'sluice-socket-'));
  const access = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0, mode: 0o600 };
  let inTurn = 0;
  let most = 0;
  let stopped = false;
  const order: unknown[] = [];
  const turn = (): void => {
    inTurn = 0;
    if (!stopped) setImmediate(turn);
  };
  turn();
  const server = await ControlServer.listen(join(directory, 'socket'), access, async ({ id }) => {
    most = Math.max(most, ++inTurn);
    order.push(id);
    return {};
  });
  const answered = Array.from({ length: CLIENTS }, async (_, c) => {
    const socket = connect(server.path);
    const lines = Array.from({ length: REQUESTS }, (__, n) => `{"id":${c * 100 + n},"op":"status"}\n`);
    socket.write(lines.join(''));
    let text = '';
    for await (const chunk of socket.setEncoding('utf8')) {
      text += chunk as string;
      if (text.split('\n').length > REQUESTS) break;
    }
    return text;
  });
  for (const text of await Promise.all(answered)) expect(text).not.toContain('error');
  stopped = true;
  await server.close();
  rmSync(directory, { recursive: true });
  expect(order).toHaveLength(CLIENTS * REQUESTS);
  // Two, for one may come before our own look at the turn and one after it.
  expect(most).toBeLessThanOrEqual(2);
  // And those of one client begin in its order.
  const first = order.filter((id) => Number(id) < 100);
  expect(first).toEqual(first.toSorted((x, y) => Number(x) - Number(y)));
});
