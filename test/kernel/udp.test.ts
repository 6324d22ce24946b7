import { spawnSync } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { describe, expect, it, type TestContext } from 'vitest';
import { packageRoot, type UdpImplementation, type UdpOptions, UdpReceiver } from '../../src/kernel/index.ts';
import { addListener, DatagramSender, LISTENER } from '../capture/udp-support.ts';
import { kernelTest, ownNetns, sh, until } from '../support/kernel.ts';

ownNetns();
addListener();

const IMPLEMENTATIONS: UdpImplementation[] = ['recvmmsg', 'io_uring'];
const NOBODY = 65_534;
const IO_URING_SETUP = '425';
const EPERM = '1';

/** Why io_uring cannot be had here. */
function lackOf(implementation: UdpImplementation): string | undefined {
  try {
    new UdpReceiver({ address: '127.0.0.1', port: 0, implementation }).close();
    return undefined;
  } catch (error) {
    if ((error as { code?: string }).code === 'KERNEL_FEATURE') return (error as Error).message;
    throw error;
  }
}

interface Datagram {
  bytes: Uint8Array;
  length: number;
  time: number;
  dropped: number;
}

function take(receiver: UdpReceiver): Datagram[] {
  const out: Datagram[] = [];
  for (let rows = receiver.receive(); rows > 0; rows = receiver.receive())
    for (let row = 0; row < rows; row++) {
      const at = receiver.offsets[row];
      out.push({
        bytes: new Uint8Array(receiver.memory.slice(at, at + receiver.captured[row])),
        length: receiver.lengths[row],
        time: receiver.times[row],
        dropped: receiver.dropped[row],
      });
    }
  return out;
}

/** Bytes that tell the number and the length. */
function numbered(number: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length).fill(number & 0xff);
  if (length >= 4) new DataView(bytes.buffer).setUint32(0, number);
  return bytes;
}

/**
 * Until what arrives is stamped as it does: the kernel begins with that some time after somebody has asked for it
 * (net_enable_timestamp), and what came before has the time at which it was read.
 */
async function stamped(receiver: UdpReceiver, sender: DatagramSender): Promise<void> {
  for (let attempt = 0; attempt < 500; attempt++) {
    sender.send([numbered(0, 4)], () => 4000);
    const sent = Date.now() / 1000;
    await pause(20);
    let one: Datagram | undefined;
    await until(() => (one = take(receiver).at(-1)) !== undefined, 'a datagram is missing');
    if (one !== undefined && one.time < sent + 0.01) return;
  }
  throw new Error('what arrives is not stamped');
}

/** The drops column of the socket on this port. */
function dropsColumn(port: number): number {
  const line = ['udp', 'udp6']
    .flatMap((name) => readFileSync(`/proc/thread-self/net/${name}`, 'utf8').split('\n'))
    .find((each) => each.includes(`:${port.toString(16).toUpperCase().padStart(4, '0')} `));
  return Number(line?.trim().split(/\s+/).at(-1));
}

describe.each(IMPLEMENTATIONS)('%s', (implementation) => {
  const lack = lackOf(implementation);
  const open = (context: TestContext, options: Partial<UdpOptions> = {}) => {
    if (lack !== undefined) context.skip(lack);
    return new UdpReceiver({ address: LISTENER, port: 0, implementation, ...options });
  };

  kernelTest('every datagram once, in order, with its bytes and its time', [], async (context) => {
    using receiver = open(context, { slots: 64 });
    using sender = new DatagramSender(receiver.port);
    const lengths = Array.from({ length: 3000 }, (_, n) => (n % 10 === 0 ? 0 : 4 + ((n * 37) % 1400)));
    const payloads = lengths.map((length, n) => numbered(n, length));
    await stamped(receiver, sender);
    const begin = Date.now() / 1000;
    const got: Datagram[] = [];
    for (let n = 0; n < payloads.length; n += 500) {
      sender.send(payloads.slice(n, n + 500), () => 4000);
      got.push(...take(receiver));
    }
    await until(() => got.push(...take(receiver)) >= payloads.length, 'datagrams are missing');
    expect(receiver.empty).toBe(true);
    expect(got.map(({ bytes }) => bytes)).toEqual(payloads);
    expect(got.map(({ length }) => length)).toEqual(lengths);
    for (const [n, { time, dropped }] of got.entries()) {
      expect(time).toBeGreaterThan(begin - 0.01);
      expect(time).toBeLessThan(Date.now() / 1000 + 0.01);
      expect(dropped).toBe(0);
      if (n > 0) expect(time).toBeGreaterThanOrEqual(got[n - 1]?.time ?? 0);
    }
    expect(receiver.drops()).toBe(0);
  });

  kernelTest(
    'over IPv4 and IPv6, whole datagrams of any length; cut ones tell how long they were',
    [],
    async (context) => {
      using receiver = open(context, { address: '::' });
      using small = open(context, { address: '::1', slotBytes: 100 });
      const [four, six] = [createSocket('udp4'), createSocket('udp6')];
      try {
        for (const length of [65_507, 0, 9000]) four.send(numbered(1, length), receiver.port, '127.0.0.1');
        six.send(numbered(2, 65_527), receiver.port, '::1');
        for (const length of [99, 100, 101, 60_000]) six.send(numbered(length, length), small.port, '::1');
        const [got, cut]: [Datagram[], Datagram[]] = [[], []];
        await until(
          () => got.push(...take(receiver)) >= 4 && cut.push(...take(small)) >= 4,
          'datagrams are missing',
        );
        expect(got.map(({ length }) => length).toSorted((a, b) => a - b)).toEqual([0, 9000, 65_507, 65_527]);
        for (const { bytes, length } of got) {
          expect(bytes.length).toBe(length);
          if (length > 0) expect(bytes).toEqual(numbered(length === 65_527 ? 2 : 1, length));
        }
        expect(cut.map(({ bytes }) => bytes.length)).toEqual([99, 100, 100, 100]);
        expect(cut.map(({ length }) => length)).toEqual([99, 100, 101, 60_000]);
      } finally {
        four.close();
        six.close();
      }
    },
  );

  kernelTest(
    'what finds no room is counted: sent = received + drops, also behind the last one',
    [],
    async (context) => {
      using receiver = open(context, { bufferBytes: 20_000, slots: 16 });
      using sender = new DatagramSender(receiver.port);
      const payloads = Array.from({ length: 1000 }, (_, n) => numbered(n, 200));
      const got: Datagram[] = [];
      for (let round = 0; round < 3; round++) {
        sender.send(payloads, () => 4000);
        // Half of what is there, so that the next ones find less room.
        for (let left = 2; left > 0; left--) receiver.receive();
      }
      const before = receiver.drops();
      expect(before).toBeGreaterThan(0);
      got.push(...take(receiver));
      sender.send(payloads, () => 4000);
      const last = take(receiver);
      expect(last.length).toBeGreaterThan(0);
      expect(last.length).toBeLessThan(1000);
      const drops = receiver.drops();
      expect(last.length + drops - before).toBe(1000);
      expect(drops).toBe(dropsColumn(receiver.port));
      // What the kernel says with each datagram was so when it came: the drops behind the last one are not in it.
      expect(last[0]?.dropped).toBe(before);
      expect(last.at(-1)?.dropped).toBeGreaterThanOrEqual(before);
      expect(last.at(-1)?.dropped).toBeLessThan(drops);
    },
  );

  kernelTest('it takes no more when it was stopped, and counts none of it', [], async (context) => {
    using receiver = open(context);
    using sender = new DatagramSender(receiver.port);
    const payloads = [1, 2, 3].map((n) => numbered(n, 10));
    sender.send(payloads, () => 4000);
    receiver.stopReceiving();
    sender.send(payloads, () => 4000);
    await until(() => dropsColumn(receiver.port) === 3, 'the filter is not there');
    expect(take(receiver)).toHaveLength(3);
    expect(receiver.receive()).toBe(0);
    expect(receiver.empty).toBe(true);
    expect(receiver.drops()).toBe(0);
  });

  kernelTest('it calls back when there is something, as often as there is', [], async (context) => {
    using receiver = open(context);
    using sender = new DatagramSender(receiver.port);
    const got: Datagram[] = [];
    receiver.onReadable((error) => {
      expect(error).toBe(0);
      got.push(...take(receiver));
    });
    for (let round = 1; round <= 3; round++) {
      sender.send([numbered(round, 50)], () => 4000);
      await until(() => got.length === round, 'it was not told');
    }
    expect(receiver.waiting()).toBe(0);
  });

  kernelTest('what was asked for is granted to the privileged', [], (context) => {
    using receiver = open(context);
    expect(receiver.bufferBytes).toBe(16 << 20);
    using large = open(context, { bufferBytes: 64 << 20 });
    expect(large.bufferBytes).toBe(64 << 20);
  });

  kernelTest('close detaches the memory, twice is fine, and using it is CLOSED', [], (context) => {
    const receiver = open(context);
    const view = new Uint8Array(receiver.memory);
    receiver.onReadable(() => {});
    receiver.close();
    receiver.close();
    expect(view.length).toBe(0);
    expect(receiver.closed).toBe(true);
    expect(receiver.drops()).toBe(0);
    for (const use of [() => receiver.receive(), () => receiver.fd, () => receiver.onReadable(() => {})])
      expect(use).toThrow(expect.objectContaining({ code: 'CLOSED' }) as Error);
  });

  kernelTest('a thread that ends while datagrams come in takes nothing else with it', [], async (context) => {
    using mine = open(context, { reusePort: true });
    using sender = new DatagramSender(mine.port);
    const source = `
      const { workerData, parentPort } = require('node:worker_threads');
      import(workerData.kernel).then(({ UdpReceiver }) => {
        const receiver = new UdpReceiver(workerData.options);
        receiver.onReadable(() => receiver.receive());
        parentPort.postMessage('open');
      });`;
    for (let round = 0; round < 3; round++) {
      const worker = new Worker(source, {
        eval: true,
        workerData: {
          kernel: join(packageRoot(), 'src/kernel/index.ts'),
          options: { address: LISTENER, port: mine.port, implementation, reusePort: true },
        },
      });
      await once(worker, 'message');
      const payloads = Array.from({ length: 500 }, (_, n) => numbered(n, 500));
      sender.send(payloads, (n) => 3000 + n);
      const ended = worker.terminate();
      sender.send(payloads, (n) => 3000 + n);
      await ended;
    }
    take(mine);
    // The kernel takes its time with what an io_uring held.
    await until(() => {
      sender.send([numbered(1, 9)], () => 5);
      return take(mine).length > 0;
    }, 'the socket that is left gets nothing');
  });

  kernelTest(
    'a process without privileges listens, shares its port by the flows inside, and loses nothing',
    [],
    (context) => {
      if (lack !== undefined) context.skip(lack);
      const script = join(packageRoot(), 'test/kernel/fixtures/udp-nobody.ts');
      const run = (...args: string[]) =>
        spawnSync(process.execPath, args, {
          uid: NOBODY,
          gid: NOBODY,
          cwd: '/',
          encoding: 'utf8',
          timeout: 30_000,
        });
      if (run('-e', `require('node:fs').readFileSync(${JSON.stringify(script)})`).status !== 0)
        context.skip('this checkout is not readable by other users');
      const { stdout, stderr, status } = run(script, implementation);
      expect(stderr).toBe('');
      expect(status).toBe(0);
      const { came, ...rest } = JSON.parse(stdout) as { came: number[][]; bufferBytes: number };
      expect(rest).toMatchObject({
        uid: NOBODY,
        capable: false,
        drops: [0, 0],
        refused: 'PRIVILEGE',
        noEbpf: 'PRIVILEGE',
      });
      const max = Number(readFileSync('/proc/sys/net/core/rmem_max', 'utf8'));
      expect(rest.bufferBytes).toBe(Math.min(max, 16 << 20));
      const [first = [], second = []] = came;
      expect(first.length).toBeGreaterThan(10);
      expect(second.length).toBeGreaterThan(10);
      // Both directions of a flow, or none.
      expect(new Set(first).size + new Set(second).size).toBe(40);
    },
  );
});

/** The code of the error, if there is one. */
function refusal(options: Partial<UdpOptions>): string | undefined {
  try {
    new UdpReceiver({ address: '127.0.0.1', port: 0, ...options }).close();
  } catch (error) {
    return (error as { code?: string }).code;
  }
  return undefined;
}

describe('an address that cannot be had', () => {
  it('says why', () => {
    expect(refusal({})).toBeUndefined();
    expect(refusal({ address: '192.0.2.99' })).toBe('ADDRESS_UNKNOWN');
    expect(refusal({ address: 'localhost' })).toBe('USAGE');
    expect(refusal({ address: '::g' })).toBe('USAGE');
    using receiver = new UdpReceiver({ address: '127.0.0.1', port: 0 });
    expect(refusal({ port: receiver.port })).toBe('ADDRESS_IN_USE');
    expect(refusal({ port: receiver.port, reusePort: true })).toBe('ADDRESS_IN_USE');
    expect(refusal({ slots: 3 })).toBeDefined();
  });

  kernelTest('a kernel without io_uring is named, with the way out', [], () => {
    const directory = mkdtempSync(join(tmpdir(), 'sluice-udp-'));
    try {
      const lacking = join(directory, 'lacking');
      sh('cc', '-o', lacking, join(packageRoot(), 'test/support/lacking.c'));
      expect(existsSync(lacking)).toBe(true);
      const script = `import { UdpReceiver } from ${JSON.stringify(join(packageRoot(), 'src/kernel/index.ts'))};
        for (const implementation of ['recvmmsg', 'io_uring'])
          try {
            new UdpReceiver({ address: '127.0.0.1', port: 0, implementation }).close();
            console.log(implementation);
          } catch (error) { console.log(error.code, error.help); }`;
      const out = sh(
        lacking,
        IO_URING_SETUP,
        '-',
        EPERM,
        process.execPath,
        '--input-type=module',
        '-e',
        script,
      );
      const [first, second] = out.split('\n');
      expect(first).toBe('recvmmsg');
      expect(second).toMatch(/^KERNEL_FEATURE .*impl=recvmmsg$/);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});
