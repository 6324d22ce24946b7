import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { jetstream, jetstreamManager } from '@nats-io/jetstream';
import { afterAll, expect } from 'vitest';
import { connectOnce, natsPlace } from '../../src/fleet/nats-place.ts';
import type { RuleRow, StatusReport } from '../../src/gate/control-protocol.ts';
import { openSink, parseSink } from '../../src/log/sinks/index.ts';
import { eth } from '../../src/packet/build.ts';
import { Detector, PARTITIONS, shared } from '../detect/detector-process.ts';
import { eventually, UpGate } from '../gate/daemon-support.ts';
import { Desk } from '../support/desk.ts';
import { kernelTest, ownNetns } from '../support/kernel.ts';
import { NatsServer } from '../support/nats-server.ts';

ownNetns();

const directory = mkdtempSync(join(tmpdir(), 'sluice-reconnect-'));
afterAll(() => rmSync(directory, { recursive: true, force: true, maxRetries: 20 }));

const udp = (sport: number, dport: number, bytes: number) =>
  eth().ipv4({ src: '203.0.113.5', dst: '10.9.0.2' }).udp({ sport, dport }).payload('x'.repeat(bytes));
const RECORDS = 100;
/** Seconds: each asks again after up to 30, and on a busy machine more than one of these questions may fail. */
const PATIENCE = 300;

kernelTest(
  'a server is killed under an edge, a detector and a log sink: all come back, and nothing is lost that had time',
  ['xdpFrags', 'syscallProgram'],
  async () => {
    await using server = new NatsServer(directory);
    await server.start();
    const url = server.url('flood');
    const desk = await Desk.open(directory);
    await using detector = new Detector(directory, url, `${desk.key}.key`, '--min-pps', '500');
    await shared([detector]);
    await using gate = await UpGate.up('--samples-to', url, ...desk.options(url));
    const status = (good: (now: StatusReport) => boolean, what: string): Promise<StatusReport> =>
      eventually(
        async () => {
          const now = await gate.status();
          return good(now) ? now : undefined;
        },
        what,
        PATIENCE,
      );
    const drops = (id: RegExp): Promise<RuleRow> =>
      eventually(
        async () => {
          gate.send(udp(5000, 53, 20));
          return (await gate.rules()).find((row) => id.test(row.id) && row.dropped.pkts > 0);
        },
        `nothing is dropped by ${id.source}`,
        PATIENCE,
      );
    await desk.publish([await desk.sign('dns', 'udp dst port 53')], url);
    await drops(/^fleet-dns$/);
    await status(({ samples }) => samples?.connected === true, 'no samples go out');

    // What the sink sends is kept by the server, so that nobody has to be there to read it.
    const first = await connectOnce(natsPlace(url));
    await (await jetstreamManager(first)).streams.add({ name: 'LOGS', subjects: ['site.>'] });
    const told: (string | undefined)[] = [];
    const sink = await openSink(parseSink(server.url('site')), (_, problem) => told.push(problem));
    const append = (from: number): void => {
      for (let n = from; n < from + RECORDS; n++) sink.append('conn', Buffer.from(`{"uid":"C${n}"}\n`), 1);
    };
    const stored = async (connection: typeof first): Promise<string[]> => {
      const { state } = await (await jetstreamManager(connection)).streams.info('LOGS');
      const found = new Set<string>();
      const consumer = await jetstream(connection).consumers.get('LOGS');
      if (state.messages > 0)
        for await (const message of await consumer.fetch({ max_messages: state.messages, expires: 5000 }))
          found.add(message.string());
      return [...found];
    };
    append(0);
    await eventually(
      async () => ((await stored(first)).length === RECORDS ? true : undefined),
      'the records are not stored',
      PATIENCE,
    );
    await eventually(
      async () => (sink.totals().sent === RECORDS ? true : undefined),
      'the sink does not hear of it',
      PATIENCE,
    );
    await first.close();

    await server.stop();
    await status(
      ({ fleet, samples }) => fleet?.connected === false && samples?.connected === false,
      'the cut is not seen',
    );
    await eventually(
      async () => (detector.held.length === 0 ? true : undefined),
      'partitions are held',
      PATIENCE,
    );
    append(RECORDS);
    await eventually(async () => (told.length > 0 ? true : undefined), 'the sink does not tell', PATIENCE);
    expect(sink.totals()).toMatchObject({ sent: RECORDS, lost: 0, waiting: RECORDS });
    const before = (await gate.rules()).find(({ id }) => id === 'fleet-dns')?.dropped.pkts ?? 0;
    await eventually(
      async () => {
        gate.send(udp(5000, 53, 20));
        const now = (await gate.rules()).find(({ id }) => id === 'fleet-dns');
        return (now?.dropped.pkts ?? 0) > before ? true : undefined;
      },
      'the last good rule is not in force',
      PATIENCE,
    );

    await server.start();
    await desk.publish([await desk.sign('later', 'tcp dst port 7')], url);
    await status(
      ({ fleet, samples }) =>
        fleet?.problem === null &&
        fleet.inForce === 2 &&
        samples?.connected === true &&
        samples.problem === null,
      'the edge does not come back',
    );
    await shared([detector], PATIENCE);
    await eventually(
      async () => (sink.totals().waiting === 0 ? true : undefined),
      'the sink does not come back',
      PATIENCE,
    );
    expect(sink.totals()).toMatchObject({ sent: 2 * RECORDS, lost: 0 });
    expect(told.at(-1)).toBeUndefined();
    const second = await connectOnce(natsPlace(url));
    await eventually(
      async () => ((await stored(second)).length === 2 * RECORDS ? true : undefined),
      'not all records are stored',
      PATIENCE,
    );
    await second.close();
    await sink.close();

    // Nobody else had the partitions meanwhile: what was learned is gone on with.
    const resumed = detector
      .lines()
      .filter(({ event, resumed: again }) => event === 'held' && again === true);
    expect(new Set(resumed.map(({ partition }) => partition)).size).toBe(PARTITIONS + 1);
    // The way from a sample to a rule is whole again.
    const flood = setInterval(() => gate.send(udp(123, 40_000, 440), 100), 10);
    try {
      await eventually(
        async () =>
          (await gate.rules()).find(({ id, dropped }) => id.startsWith('fleet-auto-ntp') && dropped.pkts > 0),
        'no rule against the attack',
        PATIENCE,
      );
    } finally {
      clearInterval(flood);
    }
  },
  3_600_000,
);
