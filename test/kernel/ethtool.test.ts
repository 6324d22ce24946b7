import { closeSync, openSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect } from 'vitest';
import {
  c1Latency,
  channelCounts,
  clockSynchronized,
  coalescing,
  deviceFeatures,
  driverCounters,
  driverInfo,
  enterNetns,
  FanoutPlace,
  interfaceInfo,
  KernelError,
  linkSpeed,
  netnsCookie,
  Pmu,
  packetSockets,
  privateFlags,
  ringSizes,
  rssSettings,
  setChannels,
  setFeature,
  setRxRing,
  unshareNetns,
  xdpFeatures,
} from '../../src/kernel/index.ts';
import { kernelTest, ownNetns, privileged, vethPair } from '../support/kernel.ts';

let pair: { a: string; b: string; remove: () => void } | undefined;
const name = (): string => pair?.a ?? '';

beforeAll(() => {
  ownNetns();
  if (privileged()) pair = vethPair();
});
afterAll(() => pair?.remove());

describe('ethtool of a veth', () => {
  kernelTest('driver, link, queues, counters', [], () => {
    expect(driverInfo(name())).toEqual({ driver: 'veth', version: '1.0', firmware: '', bus: '' });
    expect(linkSpeed(name())).toBe(10_000);
    const queues = channelCounts(name());
    expect(queues?.rx).toBeGreaterThan(0);
    expect(driverCounters(name())).toHaveProperty('peer_ifindex', interfaceInfo(pair?.b ?? '').index);
  });

  kernelTest('what the driver does not have is undefined', [], () => {
    expect(ringSizes(name())).toBeUndefined();
    expect(coalescing(name())).toBeUndefined();
    expect(rssSettings(name())).toBeUndefined();
    expect(privateFlags(name())).toBeUndefined();
    expect(driverInfo('nosuch0')).toBeUndefined();
    expect(deviceFeatures('nosuch0')).toBeUndefined();
  });

  kernelTest('a feature goes off and on again; no other changes', [], () => {
    const before = deviceFeatures(name());
    const gro = before?.['rx-gro'];
    expect(gro?.fixed).toBe(false);
    setFeature(name(), 'rx-gro', gro?.on !== true);
    expect(deviceFeatures(name())?.['rx-gro']?.on).toBe(gro?.on !== true);
    setFeature(name(), 'rx-gro', gro?.on === true);
    expect(deviceFeatures(name())).toEqual(before);
  });

  kernelTest('what cannot be set is an error that says so', [], () => {
    expect(() => setRxRing(name(), 512)).toThrow(/EOPNOTSUPP/);
    expect(() => setFeature(name(), 'no-such-feature', true)).toThrow(KernelError);
    expect(() => setChannels(name(), 'rx', 100_000)).toThrow(KernelError);
  });

  kernelTest('XDP features come from the driver itself', ['xdpNativeVeth'], () => {
    const told = xdpFeatures(interfaceInfo(name()).index);
    // Kernels before 6.3 have no such question.
    if (told !== undefined) expect(told).toMatchObject({ basic: true, offload: false });
    expect(xdpFeatures(123_456)).toBeUndefined();
  });
});

kernelTest('packet sockets are listed with their fanout group', ['packetRing'], () => {
  const { index } = interfaceInfo(name());
  using place = new FanoutPlace({ ifindex: index, mode: 0, members: 2 });
  const listed = packetSockets();
  if (listed === undefined) return;
  expect(listed.filter(({ ifindex }) => ifindex === index)).toEqual([
    { inode: expect.any(Number), ifindex: index, fanout: { id: place.id, mode: 0 } },
  ]);
});

kernelTest('hardware counters count, or say why they are not there', [], () => {
  const pmu = Pmu.open([0]);
  if (typeof pmu === 'string') {
    expect(pmu).toMatch(/PMU|perf_event_open answers E/);
    return;
  }
  const first = pmu.read();
  expect(pmu.read().instructions).toBeGreaterThanOrEqual(first.instructions);
  pmu.close();
});

kernelTest('a namespace has a number of its own, also when its inode has been used before', [], () => {
  const before = netnsCookie();
  expect(netnsCookie()).toBe(before);
  const home = openSync('/proc/thread-self/ns/net', 'r');
  unshareNetns();
  const other = netnsCookie();
  enterNetns(`/proc/self/fd/${home}`);
  closeSync(home);
  expect(other).not.toBe(before);
  expect(netnsCookie()).toBe(before);
});

kernelTest('whether the clock is kept right is known', [], () => {
  expect(typeof clockSynchronized()).toBe('boolean');
});

const state = (name: string, latency: number) => ({ name, latency, disabled: false });

describe('the latency that allows C1', () => {
  kernelTest('is that of C1, of a virtual machine that of its halt, and never 0', [], () => {
    expect(c1Latency([state('POLL', 0), state('C1', 2), state('C1E', 10), state('C6', 133)])).toBe(2);
    expect(c1Latency([state('POLL', 0), state('haltpoll idle', 1)])).toBe(1);
    expect(c1Latency([])).toBe(2);
    expect(c1Latency([state('C1', 0)])).toBe(2);
  });
});
