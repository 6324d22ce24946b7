import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { describe, expect } from 'vitest';
import { interfaceCounters } from '../../src/kernel/index.ts';
import type { Encapsulation } from '../../src/packet/encap/index.ts';
import { LinkType } from '../../src/packet/link/types.ts';
import { addListener, KINDS, LISTENER } from '../capture/udp-support.ts';
import { freePort } from '../sensor/mirror.ts';
import { documentOf, LogDir, Run } from '../sensor/run.ts';
import { kernelTest, ownNetns, until } from '../support/kernel.ts';
import type { NoiseSetup } from './fixtures/udp-noise.ts';

ownNetns();
addListener();

const SECONDS = 60;

const DLT: Record<number, string> = {
  [LinkType.ethernet]: '&dlt=en10mb',
  [LinkType.raw]: '&dlt=raw',
  [LinkType.ppp]: '&dlt=ppp',
};

const urlOf = ({ kind, skip, linkType }: Encapsulation, port: number, implementation: string): string =>
  `udp://${LISTENER}:${port}?encap=${kind}&skip=${skip}${DLT[linkType] ?? ''}&impl=${implementation}`;

/** What the kernel has counted of UDP in this namespace: datagrams that were received, and those that sockets could not take. */
function udpCounters(): { received: number; dropped: number } {
  const [names, values] = readFileSync('/proc/net/snmp', 'latin1')
    .split('\n')
    .filter((line) => line.startsWith('Udp: '))
    .map((line) => line.split(' '));
  const of = (name: string): number => Number(values[names.indexOf(name)]);
  return { received: of('InDatagrams'), dropped: of('InErrors') };
}

const sum = (numbers: readonly number[]): number => numbers.reduce((total, n) => total + n, 0);

describe.each(['recvmmsg', 'io_uring'])('a minute of random datagrams at full rate over %s', (impl) => {
  kernelTest('into every encapsulation at once: no crash, and all counted', [], async () => {
    const ports: number[] = [];
    while (ports.length < KINDS.length) {
      const port = await freePort();
      if (!ports.includes(port)) ports.push(port);
    }
    using logs = new LogDir();
    const sources = KINDS.map(({ encapsulation }, kind) => urlOf(encapsulation, ports[kind], impl));
    await using run = await new Run(['run', ...sources, '--json', '--log-dir', logs.path]).ready();
    const [link, udp] = [interfaceCounters('lo'), udpCounters()];
    const setup: NoiseSetup = { ports, seed: 1, seconds: SECONDS };
    const noise = new Worker(new URL('./fixtures/udp-noise.ts', import.meta.url), { workerData: setup });
    const [sent] = (await once(noise, 'message')) as [number];
    await once(noise, 'exit');
    // What the loopback interface had no room for (net.core.netdev_max_backlog) came nowhere, and is in its counters.
    const came = interfaceCounters('lo').rxPackets - link.rxPackets;
    expect(came + interfaceCounters('lo').rxDropped - link.rxDropped).toBe(sent);
    const since = (): { received: number; dropped: number } => {
      const { received, dropped } = udpCounters();
      return { received: received - udp.received, dropped: dropped - udp.dropped };
    };
    await until(() => since().received + since().dropped === came, 'datagrams are missing', 60);
    const ended = await run.stop();
    expect(ended.code, ended.stderr).toBe(0);
    expect(ended.stderr).not.toMatch(/^(error|#)/m);
    const books = documentOf(ended).udp;
    for (const { datagrams, frames, early, dropped, bad, cut } of books) {
      expect(frames + early + dropped + sum(Object.values(bad))).toBe(datagrams);
      expect(cut).toBe(0);
      expect(frames).toBeGreaterThan(1000);
    }
    expect(sum(books.map(({ datagrams }) => datagrams))).toBe(came);
    expect(sum(books.map(({ dropped }) => dropped))).toBe(since().dropped);
    expect(books.filter(({ bad }) => sum(Object.values(bad)) > 1000).length).toBeGreaterThan(10);
  });
});
