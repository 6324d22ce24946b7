import { mkdirSync, rmdirSync, unlinkSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { describe, expect, test } from 'vitest';
import {
  BatchCursor,
  BpfMap,
  ensureBpffs,
  KernelError,
  loadObject,
  MapFlag,
  MapType,
  membarrier,
  possibleCpus,
  RingBuffer,
  UpdateFlag,
} from '../../src/kernel/index.ts';
import { bpfObject, kernelTest, until } from '../support/kernel.ts';

const OBJECT = bpfObject('test_kernel');

function key(value: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(value).buffer);
}

function value64(value: bigint): Uint8Array {
  return new Uint8Array(BigUint64Array.of(value).buffer);
}

function hash(entries: number, flags = 0): BpfMap {
  return BpfMap.create({
    type: MapType.hash,
    keySize: 4,
    valueSize: 8,
    maxEntries: entries,
    flags,
    name: 'hash',
  });
}

describe('elements', () => {
  kernelTest('set, get, delete and their answers', [], () => {
    using map = hash(4);
    expect(map).toMatchObject({
      type: MapType.hash,
      keySize: 4,
      valueSize: 8,
      valueBytes: 8,
      maxEntries: 4,
      name: 'hash',
    });
    const out = new Uint8Array(8);
    expect(map.get(key(1), out)).toBe(false);
    map.set(key(1), value64(77n));
    expect(map.get(key(1), out)).toBe(true);
    expect(out).toEqual(value64(77n));
    expect(map.trySet(key(1), value64(1n), UpdateFlag.noExist)).toBe(-17);
    expect(() => map.set(key(2), value64(1n), UpdateFlag.exist)).toThrow(KernelError);
    expect(map.delete(key(1))).toBe(true);
    expect(map.delete(key(1))).toBe(false);
  });

  kernelTest('walking the keys', [], () => {
    using map = hash(100);
    for (let i = 0; i < 100; i++) map.set(key(i), value64(BigInt(i)));
    const seen = new Set<number>();
    const at = new Uint8Array(4);
    for (let more = map.nextKey(undefined, at); more; more = map.nextKey(at, at)) {
      seen.add(new Uint32Array(at.buffer)[0] ?? -1);
    }
    expect(seen.size).toBe(100);
  });

  kernelTest('buffers that are too small are refused, never overrun', [], () => {
    using map = hash(4);
    map.set(key(1), value64(1n));
    expect(() => map.get(key(1), new Uint8Array(7))).toThrow(KernelError);
    expect(() => map.get(new Uint8Array(3), new Uint8Array(8))).toThrow(KernelError);
    expect(() => map.set(key(1), new Uint8Array(4))).toThrow(KernelError);
    expect(() => map.nextKey(key(1), new Uint8Array(2))).toThrow(KernelError);
  });

  kernelTest('a per-CPU value has a slot for each possible CPU', ['xdpFrags'], () => {
    using object = loadObject(OBJECT);
    const map = object.map('per_cpu');
    expect(map.valueBytes).toBe(8 * possibleCpus());
    object.program('test_xdp').testRun({ data: new Uint8Array(64), repeat: 9 });
    const out = new Uint8Array(map.valueBytes);
    expect(map.get(key(0), out)).toBe(true);
    const words = new Uint32Array(out.buffer);
    let sum = 0;
    for (let cpu = 0; cpu < possibleCpus(); cpu++) sum += words[cpu * 2] ?? 0;
    expect(sum).toBe(9);
  });
});

describe('batches', () => {
  kernelTest('every element is read once, whatever the batch size', ['batchOperations'], async () => {
    using map = hash(5000);
    for (let i = 0; i < 3000; i++) map.set(key(i), value64(BigInt(i) * 3n));
    for (const max of [64, 1000, 5000]) {
      const keys = new Uint8Array(max * 4);
      const values = new Uint8Array(max * 8);
      const cursor = new BatchCursor();
      const seen = new Map<number, bigint>();
      for (let done = false; !done; ) {
        const batch = await map.readBatch(cursor, keys, values, max);
        done = batch.done;
        const k = new Uint32Array(keys.buffer);
        const v = new BigUint64Array(values.buffer);
        for (let i = 0; i < batch.count; i++) {
          expect(seen.has(k[i] ?? -1)).toBe(false);
          seen.set(k[i] ?? -1, v[i] ?? 0n);
        }
      }
      expect(seen.size).toBe(3000);
      expect([...seen].every(([k, v]) => v === BigInt(k) * 3n)).toBe(true);
    }
  });

  kernelTest(
    'the event loop does not wait while a batch is read',
    ['batchOperations', 'membarrier'],
    async () => {
      using map = hash(100_000);
      for (let i = 0; i < 100_000; i++) map.set(key(i), value64(1n));
      const values = new Uint8Array(800_000);
      // Every thread of the pool has something to do first, so a call that has read anything by now read it itself.
      const busy = Array.from({ length: 8 }, () => membarrier());
      const read = map.readBatch(new BatchCursor(), new Uint8Array(400_000), values, 100_000);
      expect(values[0]).toBe(0);
      expect((await read).count).toBe(100_000);
      expect(values[0]).toBe(1);
      await Promise.all(busy);
    },
  );

  kernelTest('an empty map is done at once; an array is read by index', ['batchOperations'], async () => {
    using empty = hash(8);
    expect(await empty.readBatch(new BatchCursor(), new Uint8Array(32), new Uint8Array(64), 8)).toEqual({
      count: 0,
      done: true,
    });
    using array = BpfMap.create({ type: MapType.array, keySize: 4, valueSize: 8, maxEntries: 5 });
    array.set(key(4), value64(9n));
    const values = new Uint8Array(64);
    const cursor = new BatchCursor();
    const first = await array.readBatch(cursor, new Uint8Array(32), values, 8);
    expect(first).toEqual({ count: 5, done: true });
    expect(new BigUint64Array(values.buffer)[4]).toBe(9n);
  });

  kernelTest('buffers that are too small are refused', ['batchOperations'], async () => {
    using map = hash(8);
    await expect(map.readBatch(new BatchCursor(), new Uint8Array(4), new Uint8Array(64), 8)).rejects.toThrow(
      KernelError,
    );
    await expect(map.readBatch(new BatchCursor(), new Uint8Array(32), new Uint8Array(8), 8)).rejects.toThrow(
      KernelError,
    );
  });
});

describe('memory', () => {
  kernelTest('a mapped array is shared with the kernel, until it is closed', ['mmapableArray'], () => {
    const object = loadObject(OBJECT);
    const map = object.map('counters');
    const memory = map.mmap(true);
    const words = new BigUint64Array(memory);
    object.program('test_xdp').testRun({ data: new Uint8Array(64), repeat: 3 });
    expect(words[0]).toBe(3n);
    words[2] = 42n;
    const out = new Uint8Array(8);
    map.get(key(2), out);
    expect(out).toEqual(value64(42n));
    const second = new Uint8Array(map.mmap(false));
    expect(second[16]).toBe(42);
    object.close();
    expect(memory.byteLength).toBe(0);
    expect(words.length).toBe(0);
    expect(words[0]).toBeUndefined();
    expect(second.length).toBe(0);
  });

  kernelTest('memory that was moved away reads as zeros after the release', ['mmapableArray'], () => {
    const map = BpfMap.create({
      type: MapType.array,
      keySize: 4,
      valueSize: 8,
      maxEntries: 512,
      flags: MapFlag.mmapable,
    });
    map.set(key(0), value64(5n));
    const memory = map.mmap(true) as ArrayBuffer & { transfer: () => ArrayBuffer };
    let moved: ArrayBuffer | undefined;
    try {
      moved = memory.transfer();
    } catch {
      // This engine refuses to move external memory, which is as good.
    }
    map.close();
    if (moved !== undefined && moved.byteLength > 0) {
      const words = new BigUint64Array(moved);
      expect(words[0] === 5n || words[0] === 0n).toBe(true);
    }
    expect(memory.byteLength).toBe(0);
  });

  kernelTest('only mmapable arrays can be mapped', [], () => {
    using map = hash(4);
    expect(() => map.mmap(true)).toThrow(RangeError);
  });
});

describe('sharing', () => {
  kernelTest('by pin, by id and by descriptor in a worker', [], async () => {
    const folder = `${ensureBpffs()}/sluice-test-${process.pid}`;
    mkdirSync(folder);
    const map = hash(4);
    try {
      map.set(key(1), value64(10n));
      map.pin(`${folder}/map`);
      expect(() => map.pin(`${folder}/map`)).toThrow(KernelError);
      using pinned = BpfMap.openPinned(`${folder}/map`);
      using byId = BpfMap.fromId(map.id);
      expect([pinned.id, byId.id]).toEqual([map.id, map.id]);
      expect(pinned.fd).not.toBe(map.fd);

      const worker = new Worker(new URL('./fixtures/adopt-worker.ts', import.meta.url), {
        workerData: { fd: map.fd },
      });
      const code = await new Promise<number>((resolve, reject) => {
        worker.once('exit', resolve);
        worker.once('error', reject);
      });
      expect(code).toBe(0);
      const out = new Uint8Array(8);
      // The worker has ended, and with it its handle; the descriptor is ours and still open.
      expect(map.get(key(2), out)).toBe(true);
      expect(out).toEqual(value64(11n));
    } finally {
      map.close();
      unlinkSync(`${folder}/map`);
      rmdirSync(folder);
    }
  });

  kernelTest('what is not pinned or has another kind says so', [], () => {
    expect(() => BpfMap.openPinned(`${ensureBpffs()}/sluice-test-none`)).toThrow(/ENOENT/);
    expect(() => BpfMap.fromId(0x7fffffff)).toThrow(KernelError);
  });
});

/** The context of test_syscall. */
function args(events: number, discarded = 0): Uint8Array {
  const bytes = new Uint8Array(24);
  new DataView(bytes.buffer).setUint32(16, events, true);
  new DataView(bytes.buffer).setUint32(20, discarded, true);
  return bytes;
}

describe('ring buffer', () => {
  kernelTest(
    'records come in order over many rounds of the ring, without the discarded ones',
    ['ringBuffer'],
    async () => {
      using object = loadObject(OBJECT);
      const program = object.program('test_syscall');
      const seen: number[] = [];
      const ring = new RingBuffer(object.map('events'), (view, offset, length) => {
        expect(length).toBe(12);
        expect(view.getUint32(offset + 4, true)).toBe(~view.getUint32(offset, true) >>> 0);
        seen.push(view.getUint32(offset, true));
      });
      try {
        const expected: number[] = [];
        for (let round = 0; round < 50; round++) {
          const count = 50 + round;
          expect(program.runSyscall(args(count, 7))).toBe(count);
          for (let i = 0; i < count; i++) if (i % 7 !== 0) expected.push(i);
          await until(() => seen.length === expected.length, 'records are missing');
        }
        expect(seen).toEqual(expected);
      } finally {
        ring.close();
        ring.close();
      }
    },
  );

  kernelTest('a full ring refuses the producer and loses nothing that is in it', ['ringBuffer'], () => {
    using object = loadObject(OBJECT);
    let records = 0;
    using ring = new RingBuffer(object.map('events'), () => void records++, { keepAlive: false });
    expect(object.program('test_syscall').runSyscall(args(1000))).toBe(-11);
    expect(ring.poll()).toBe(170); // 24 bytes each in 4096, one of which the kernel leaves free
    expect(records).toBe(170);
    expect(ring.poll()).toBe(0);
  });

  kernelTest(
    'closing from within the callback is fine, and a second handle sees the rest',
    ['ringBuffer'],
    () => {
      using object = loadObject(OBJECT);
      object.program('test_syscall').runSyscall(args(10));
      let first = 0;
      const ring: RingBuffer = new RingBuffer(object.map('events'), () => {
        first++;
        ring.close();
      });
      ring.poll();
      expect(first).toBe(1);
      expect(() => ring.poll()).toThrow(/closed/);
    },
  );

  test('only a ring buffer will do', () => {
    expect(() => new RingBuffer({ type: MapType.hash, name: 'x' } as BpfMap, () => {})).toThrow(RangeError);
  });
});
