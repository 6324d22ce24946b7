import { expect } from 'vitest';
import { FrameStage } from '../../src/gate/frame-stage.ts';
import {
  attachXdp,
  interfaceInfo,
  PacketSender,
  Promiscuity,
  rxQueues,
  XdpSocket,
} from '../../src/kernel/index.ts';
import { ip, kernelTest, ownNetns, until, vethPair } from '../support/kernel.ts';

ownNetns();

const BYTES = 1 << 18;

function key(n: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(n).buffer);
}

kernelTest('a queue has one socket, which says that it copies', ['xdpSocket', 'xdpNativeVeth'], async () => {
  const { a, remove } = vethPair();
  const { index } = interfaceInfo(a);
  try {
    const socket = XdpSocket.open({ ifindex: index, queue: 0, bytes: BYTES });
    expect(socket.zeroCopy).toBe(false);
    expect(socket.chunks * socket.chunk).toBe(BYTES);
    expect(socket.stats()).toEqual({ dropped: 0, ringFull: 0, fillEmpty: 0 });
    expect(() => XdpSocket.open({ ifindex: index, queue: 0, bytes: BYTES })).toThrow(
      expect.objectContaining({ code: 'INTERFACE_BUSY' }),
    );
    socket.close();
    expect(() => socket.fd).toThrow(expect.objectContaining({ code: 'CLOSED' }));
    // The kernel lets go of the queue some time after the socket.
    let again: XdpSocket | undefined;
    await until(() => {
      try {
        again = XdpSocket.open({ ifindex: index, queue: 0, bytes: BYTES });
      } catch (error) {
        expect(error).toMatchObject({ code: 'INTERFACE_BUSY' });
      }
      return again !== undefined;
    }, 'the queue stays taken');
    again?.close();
  } finally {
    remove();
  }
});

kernelTest('what an interface cannot do is told', ['xdpSocket', 'xdpNativeVeth'], () => {
  const { a, remove } = vethPair();
  const { index } = interfaceInfo(a);
  try {
    expect(() => XdpSocket.open({ ifindex: index, queue: 0, bytes: BYTES, mode: 'zerocopy' })).toThrow(
      expect.objectContaining({ code: 'KERNEL_FEATURE', help: expect.stringContaining('copy mode') }),
    );
    expect(() => XdpSocket.open({ ifindex: index, queue: 7, bytes: BYTES })).toThrow(
      expect.objectContaining({ errnoName: 'EINVAL', help: expect.stringContaining('queue') }),
    );
    expect(() => XdpSocket.open({ ifindex: 99_999, queue: 0, bytes: BYTES })).toThrow(
      expect.objectContaining({ code: 'INTERFACE_UNKNOWN' }),
    );
    expect(() => XdpSocket.open({ ifindex: index, queue: 0, bytes: 100 })).toThrow(RangeError);
  } finally {
    remove();
  }
});

kernelTest('queues that are in use are counted', ['xdpNativeVeth'], () => {
  ip('link add tq0 numrxqueues 3 numtxqueues 3 type veth peer name tq1 numrxqueues 2 numtxqueues 2');
  try {
    expect(rxQueues('tq0')).toBe(3);
    expect(rxQueues('tq1')).toBe(2);
    expect(rxQueues('lo')).toBe(1);
    expect(() => rxQueues('nothing')).toThrow(expect.objectContaining({ code: 'INTERFACE_UNKNOWN' }));
  } finally {
    ip('link del tq0');
  }
});

kernelTest('a frame wakes whoever waits for it', ['xdpSocket', 'xdpNativeVeth', 'xdpFrags'], async () => {
  const { a, b, remove } = vethPair();
  const { index } = interfaceInfo(a);
  using stage = new FrameStage(1, 'veth');
  using socket = XdpSocket.open({ ifindex: index, queue: 0, bytes: BYTES });
  const link = attachXdp({ program: stage.program, ifindex: index, mode: 'native' });
  try {
    stage.sockets.set(key(0), key(socket.fd));
    let woken = 0;
    socket.onReadable((error) => {
      expect(error).toBe(0);
      woken++;
      socket.pause();
    });
    using sender = new PacketSender(b);
    expect(woken).toBe(0);
    sender.send(new Uint8Array(100).fill(0xff), Uint32Array.of(0, 100));
    await until(() => woken > 0, 'nobody was woken');
    expect(Atomics.load(socket.rx.words, socket.rx.producer)).toBe(1);
    // Paused: no more calls, although the frame is still there.
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(woken).toBe(1);
  } finally {
    link.close();
    remove();
  }
});

kernelTest('promiscuous mode lasts as long as its handle, and hears of the end', [], async () => {
  const { a, remove } = vethPair();
  const { index } = interfaceInfo(a);
  try {
    const promiscuity = new Promiscuity(index);
    expect(ip(`-d link show ${a}`)).toContain('promiscuity 1');
    const errors: number[] = [];
    promiscuity.onError((error) => errors.push(error));
    ip(`link set ${a} down`);
    await until(() => errors.length > 0, 'the interface went down and nobody said so');
    expect(errors[0]).toBe(-100); // ENETDOWN
    ip(`link set ${a} up`);
    promiscuity.close();
    expect(ip(`-d link show ${a}`)).toContain('promiscuity 0');
  } finally {
    remove();
  }
});
