import { createSocket } from 'node:dgram';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { attackOf } from '../../bench/attack-traffic.ts';
import { LiveTraffic, Stream } from '../../bench/live-traffic.ts';
import { usualTraffic } from '../../bench/usual-traffic.ts';
import { eventually } from '../gate/daemon-support.ts';
import { LogDir, Run } from '../sensor/run.ts';
import { kernelTest, ownNetns, vethPair } from '../support/kernel.ts';

ownNetns();

/** Seconds for what takes one or two when the machine is quiet. */
const PATIENCE = 120;
const MIRROR = 'udp://127.0.0.1:14789?encap=vxlan';
const VXLAN = Uint8Array.of(8, 0, 0, 0, 0, 0, 7, 0);

interface Line {
  event: string;
  kind: string;
  target: string;
  attack: boolean;
  dryRun: boolean;
  rules: { expr: string }[];
}

const toldOf = (logs: LogDir): Promise<Line> =>
  eventually(
    async () => {
      const path = join(logs.path, 'mitigation.log');
      if (!existsSync(path)) return undefined;
      const whole = readFileSync(path, 'utf8').split('\n').slice(0, -1);
      return whole
        .map((text) => JSON.parse(text) as Line)
        .find(({ attack: is, kind, rules }) => is && kind === attack.kind && rules.length > 0);
    },
    'no attack is told of',
    PATIENCE,
  );

const usual = usualTraffic(5, '198.51.100');
const attack = attackOf('ntp-amplification', 4, usual.servers[0]);
/** While what is usual is learned an attack has to be five times as strong: these rates are. */
const OPTIONS = ['--mitigate-dry-run', '--min-pps', '100'];

const expectTold = (line: Line): void => {
  expect(line).toMatchObject({ target: usual.servers[0], dryRun: true });
  expect(line.rules[0].expr).toContain('udp src port 123');
};

const expectEnd = async (run: Run, logs: LogDir): Promise<void> => {
  expect((await run.stop()).code).toBe(0);
  expect(logs.read('notice').map(({ note }) => note)).toContain('Sluice::Attack');
};

kernelTest('attacks in a mirror over UDP are told of', [], async () => {
  using logs = new LogDir();
  await using run = await new Run([
    'run',
    '--source',
    MIRROR,
    '--json',
    '--log-dir',
    logs.path,
    ...OPTIONS,
  ]).ready();
  const socket = createSocket('udp4');
  const timer = setInterval(() => {
    for (let i = 0; i < 100; i++)
      socket.send(
        Buffer.concat([VXLAN, i % 10 === 0 ? usual.packet(0) : attack.packet(i)]),
        14_789,
        '127.0.0.1',
      );
  }, 10);
  try {
    expectTold(await toldOf(logs));
  } finally {
    clearInterval(timer);
    socket.close();
  }
  await expectEnd(run, logs);
});

kernelTest('attacks on an interface without a gate are told of', ['packetRing'], async () => {
  const pair = vethPair();
  using logs = new LogDir();
  await using run = await new Run([
    'run',
    '-i',
    pair.a,
    '--no-gate',
    '--json',
    '--log-dir',
    logs.path,
    ...OPTIONS,
  ]).ready();
  const traffic = new LiveTraffic({ near: pair.a, far: pair.b });
  try {
    traffic.begin(new Stream(1, 500, 1e6, () => usual.packet(0)));
    traffic.begin(new Stream(2, 8000, 1e7, () => attack.packet(0)));
    expectTold(await toldOf(logs));
  } finally {
    traffic.close();
  }
  await expectEnd(run, logs);
});
