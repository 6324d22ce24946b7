import { expect } from 'vitest';
import { eth } from '../../src/packet/build.ts';
import { kernelTest, ownNetns } from '../support/kernel.ts';
import { eventually, UpGate } from './daemon-support.ts';

ownNetns();

const A = '10.9.0.1';
const B = '10.9.0.2';

kernelTest('TCP by hand: learned from the first packets, and exact when the state is given', [], async () => {
  await using gate = await UpGate.up();
  using client = await gate.connect();
  const ends = { a: { addr: A, port: 40_000 }, b: { addr: B, port: 443 } };
  const there = (seq: number, ack: number, bytes: number) =>
    eth()
      .ipv4({ src: A, dst: B })
      .tcp({ sport: 40_000, dport: 443, seq, ack, flags: 'A', window: 100 })
      .payload('x'.repeat(bytes));
  const back = (seq: number, ack: number, bytes: number) =>
    eth()
      .ipv4({ src: B, dst: A })
      .tcp({ sport: 443, dport: 40_000, seq, ack, flags: 'A', window: 100 })
      .payload('y'.repeat(bytes));
  const HIGH = 0xf000_0000;
  const talk = (): void => {
    gate.send(there(HIGH, 0x9000_0000, 100));
    gate.send(there(HIGH + 100, 0x9000_0000, 100));
    gate.send(back(0x9000_0000, HIGH + 200, 50));
    gate.send(there(HIGH + 100, 0x9000_0032, 100));
  };
  await gate.shunt('add', '--flow', `tcp ${A}:40000 ${B}:443`);
  talk();
  expect(await gate.rows()).toMatchObject([
    {
      ab: { pkts: 3, payloadBytes: 300 },
      ba: { pkts: 1, payloadBytes: 50 },
      // The one that repeats itself, and not the first.
      tcp: {
        seq: [HIGH + 200, 0x9000_0032],
        ack: [0x9000_0032, HIGH + 200],
        rexmits: [1, 0],
        zeroWindows: [0, 0],
        exact: false,
      },
    },
  ]);
  await gate.shunt('rm', '--flow', `tcp ${A}:40000 ${B}:443`);
  const state = { seq: [HIGH, 0x9000_0000], ack: [0x9000_0000, HIGH] };
  await client.ask('add', { flows: [{ proto: 'tcp', ...ends, ...state }] });
  talk();
  expect(await gate.rows()).toMatchObject([
    { ab: { pkts: 3, payloadBytes: 200 }, ba: { payloadBytes: 50 }, tcp: { rexmits: [1, 0], exact: true } },
  ]);
  gate.send(
    eth()
      .ipv4({ src: A, dst: B })
      .tcp({ sport: 40_000, dport: 443, seq: HIGH + 200, flags: 'FA' }),
  );
  const end = await eventually(
    async () => gate.audit().find(({ op, reason }) => op === 'end' && reason === 'fin'),
    'a FIN did not end it',
  );
  expect(end).toMatchObject({ pkts: 4 });
});
