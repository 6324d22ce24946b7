import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { describe, expect } from 'vitest';
import { UdpSource } from '../../src/capture/udp.ts';
import { createFlowEngine } from '../../src/flow/index.ts';
import { interfaceCounters, UdpReceiver } from '../../src/kernel/index.ts';
import { DecapReason } from '../../src/packet/encap/index.ts';
import { addListener, KINDS, LISTENER } from '../capture/udp-support.ts';
import { kernelTest, ownNetns, until } from '../support/kernel.ts';
import type { NoiseSetup } from './fixtures/udp-noise.ts';

ownNetns();
addListener();

/** A minute in all. */
const SECONDS = 60 / (2 * KINDS.length);

describe.each(['recvmmsg', 'io_uring'] as const)(
  'random datagrams at full rate over %s',
  (implementation) => {
    for (const [kind, { name, encapsulation }] of KINDS.entries())
      kernelTest(`${name}: no crash, and all counted`, [], async () => {
        const before = interfaceCounters('lo');
        const receiver = new UdpReceiver({ address: LISTENER, port: 0, implementation });
        const source = new UdpSource(receiver, encapsulation, name);
        const engine = createFlowEngine(
          {},
          { beforePacket: () => {}, mayExpire: () => true, closed: () => {} },
        );
        let shown = 0;
        const sink: Parameters<UdpSource['drain']>[0] = (packet) => {
          shown++;
          engine.process(packet);
        };
        source.onReadable(() => source.drain(sink, 16_384));
        try {
          const setup: NoiseSetup = { kind, port: receiver.port, seed: kind, seconds: SECONDS };
          const worker = new Worker(new URL('./fixtures/udp-noise.ts', import.meta.url), {
            workerData: setup,
          });
          const [sent] = (await once(worker, 'message')) as [number];
          await until(() => {
            source.drain(sink, Number.MAX_SAFE_INTEGER);
            return (
              source.datagrams + source.counts().drops >= interfaceCounters('lo').rxPackets - before.rxPackets
            );
          }, 'datagrams are missing');
          const { rxPackets } = interfaceCounters('lo');
          const came = rxPackets - before.rxPackets;
          // The loopback interface itself may have had no room (net.core.netdev_max_backlog): those came nowhere.
          expect(came).toBeLessThanOrEqual(sent);
          expect(came).toBeGreaterThan(0.9 * sent);
          const { packets, drops } = source.counts();
          expect(source.datagrams + drops).toBe(came);
          expect(source.reasons.reduce((sum, count) => sum + count, 0)).toBe(source.datagrams);
          expect(source.reasons[DecapReason.frame]).toBe(source.packets);
          expect(source.packets).toBe(shown);
          expect(packets).toBe(shown + drops);
          expect(source.truncated).toBe(0);
          expect(shown).toBeGreaterThan(1000);
        } finally {
          source.close();
          engine.finish();
        }
      });
  },
);
