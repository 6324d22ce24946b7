import { spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { expect } from 'vitest';
import { AfPacketSource } from '../../src/capture/afpacket.ts';
import { AfXdpSource } from '../../src/capture/afxdp.ts';
import { FrameStage } from '../../src/gate/frame-stage.ts';
import {
  attachTcx,
  attachXdp,
  type BpfLink,
  BpfMap,
  type BpfProgram,
  interfaceInfo,
  loadInstructions,
  loadObject,
  MapType,
  openPacketRing,
  PacketSender,
  ProgramFlag,
  ProgramType,
  rxQueues,
  XdpSocket,
} from '../../src/kernel/index.ts';
import { eth } from '../../src/packet/build.ts';
import { Checksum, type Packet } from '../../src/packet/packet.ts';
import { bpfObject, ip, kernelTest, ownNetns, until, untilOperational, vethPair } from '../support/kernel.ts';

ownNetns();

const FEATURES = ['xdpSocket', 'xdpNativeVeth', 'xdpFrags'] as const;
const DEEP = 1e6;

/** A frame with a number in it. */
function numbered(n: number, payload = 60): Uint8Array {
  const body = new Uint8Array(payload);
  new DataView(body.buffer).setUint32(0, n);
  return eth()
    .ipv4({ src: '192.0.2.1', dst: '192.0.2.2' })
    .udp({ sport: 1024 + (n % 1000), dport: 2 })
    .payload(body)
    .bytes();
}

const numberOf = (p: Packet): number =>
  new DataView(p.u8.buffer, p.u8.byteOffset + p.offset + 42).getUint32(0);

function send(sender: PacketSender, frames: readonly Uint8Array[]): void {
  let at = 0;
  const offsets = Uint32Array.of(0, ...frames.map(({ length }) => (at += length)));
  expect(sender.send(Buffer.concat(frames), offsets)).toBe(frames.length);
}

const range = (from: number, count: number): number[] => Array.from({ length: count }, (_, i) => from + i);

/** A program that redirects by the queue's number and leaves no note: what is to be had where a driver has no metadata. */
function plainRedirect(map: BpfMap): BpfProgram {
  const code: [opcode: number, registers: number, offset: number, imm: number][] = [
    [0x61, 0x12, 16, 0], // r2 = ctx->rx_queue_index
    [0x18, 0x11, 0, map.fd], // r1 = the map
    [0, 0, 0, 0],
    [0xb7, 0x03, 0, 2], // r3 = XDP_PASS
    [0x85, 0, 0, 51], // bpf_redirect_map
    [0x95, 0, 0, 0],
  ];
  const bytes = new Uint8Array(code.length * 8);
  const view = new DataView(bytes.buffer);
  for (const [i, [opcode, registers, offset, imm]] of code.entries()) {
    view.setUint8(i * 8, opcode);
    view.setUint8(i * 8 + 1, registers);
    view.setInt16(i * 8 + 2, offset, true);
    view.setInt32(i * 8 + 4, imm, true);
  }
  return loadInstructions(bytes, { type: ProgramType.xdp, flags: ProgramFlag.xdpHasFrags });
}

/** Sockets on every queue of one end of a veth, and a sender at the other. */
class Rig {
  readonly a: string;
  readonly b: string;
  readonly stage: FrameStage;
  readonly source: AfXdpSource;
  readonly sender: PacketSender;
  readonly sockets: XdpSocket[];
  readonly #link: BpfLink;
  readonly #remove: () => void;

  constructor({
    bytes = 1 << 18,
    queues = 1,
    mtu = 1500,
    multiBuffer = true,
    mode = 'native' as const,
  } = {}) {
    if (queues === 1) {
      const { a, b, remove } = vethPair();
      this.a = a;
      this.b = b;
      this.#remove = remove;
    } else {
      const both = `numtxqueues ${queues} numrxqueues ${queues}`;
      this.a = 'tx0';
      this.b = 'tx1';
      ip(`link add tx0 ${both} type veth peer name tx1 ${both}`);
      for (const name of ['tx0', 'tx1']) {
        ip(`link set ${name} addrgenmode none`);
        ip(`link set ${name} up`);
      }
      untilOperational('tx0', 'tx1');
      this.#remove = () => void ip('link del tx0');
    }
    for (const name of [this.a, this.b]) ip(`link set ${name} mtu ${mtu}`);
    const { index, kind } = interfaceInfo(this.a);
    this.stage = new FrameStage(rxQueues(this.a), kind);
    this.sockets = range(0, rxQueues(this.a)).map((queue) =>
      XdpSocket.open({ ifindex: index, queue, bytes, multiBuffer }),
    );
    this.source = new AfXdpSource(this.sockets, this.a, { map: this.stage.sockets });
    this.#link = attachXdp({ program: this.stage.program, ifindex: index, mode });
    this.stage.attached(mode);
    this.sender = new PacketSender(this.b);
  }

  send(...numbers: number[]): void {
    send(
      this.sender,
      numbers.map((n) => numbered(n)),
    );
  }

  /** Waits until so many pieces have come in all. */
  async received(count: number): Promise<void> {
    await until(() => this.source.received() >= count, `${this.source.received()} of ${count} have come`);
  }

  /** Numbers of the frames that it hands out. */
  drain(max = DEEP): number[] {
    const found: number[] = [];
    this.source.drain((p) => found.push(numberOf(p)), max);
    return found;
  }

  [Symbol.dispose](): void {
    this.sender.close();
    this.source.close();
    this.#link.close();
    this.stage.close();
    this.#remove();
  }
}

kernelTest('frames come whole, in order and with their times', FEATURES, async () => {
  using rig = new Rig();
  const tagged = eth().vlan(7).ipv4({ src: '192.0.2.1', dst: '192.0.2.2' }).udp().payload(18).bytes();
  const before = Date.now() / 1000;
  rig.send(...range(0, 100));
  send(rig.sender, [tagged]);
  await rig.received(101);
  const times: number[] = [];
  const numbers: number[] = [];
  rig.source.drain((p) => {
    const n = numbers.length;
    numbers.push(numberOf(p));
    times.push(p.ts);
    const sent = n === 100 ? tagged : numbered(n);
    expect(Buffer.from(p.u8.subarray(p.offset, p.offset + p.caplen))).toEqual(Buffer.from(sent));
    expect([p.wirelen, p.linkType, p.vlanTci, p.outgoing]).toEqual([p.caplen, 1, -1, false]);
  }, DEEP);
  expect(numbers.slice(0, 100)).toEqual(range(0, 100));
  expect(times).toEqual(times.toSorted((x, y) => x - y));
  // Each frame has a time of its own, and it is that of its coming: not that of this look at it.
  expect(new Set(times).size).toBeGreaterThan(90);
  expect(times[0]).toBeGreaterThan(before - 0.01);
  expect(times[100]).toBeLessThan(Date.now() / 1000 + 0.01);
  expect(rig.source).toMatchObject({ packets: 101, bytes: 100 * numbered(0).length + tagged.length });
  expect(rig.source.counts()).toEqual({ packets: 101, drops: 0, freezes: 0 });
});

kernelTest('how far a source has come says what has been handed out', FEATURES, async () => {
  using rig = new Rig({ bytes: 1 << 21 });
  const { source } = rig;
  rig.send(...range(0, 10));
  await rig.received(10);
  expect(source.openBlock()).toBe(10);
  expect(source.sequence).toBe(0);
  const barrier = source.received();
  const positions: number[] = [];
  source.drain(() => positions.push(source.position), DEEP);
  expect(positions).toEqual(range(1, 10));
  expect(source.position).toBeGreaterThanOrEqual(barrier);
  // All of it, but not what may be on its way: only what comes behind shows that.
  const block = source.openBlock();
  expect(source.sequence).not.toBeGreaterThan(block);
  rig.send(...range(10, 600));
  await rig.received(610);
  // In pieces: a worker has other things to do in between.
  expect(rig.drain(1)).toHaveLength(256);
  expect(source.sequence).toBeGreaterThan(block);
  expect(source.received()).toBe(610);
  expect(source.position).toBe(266);
  // Frames that have not been handed out are counted.
  expect(source.counts().packets).toBe(610);
  expect(rig.drain()).toEqual(range(266, 344));
  expect(rig.drain()).toEqual([]);
  expect(source.sequence).toBe(610);
});

kernelTest('frames for which there is no chunk are counted, and it goes on', FEATURES, async () => {
  using rig = new Rig({ bytes: 64 * 4096 });
  const room = rig.sockets[0].chunks;
  rig.send(...range(0, room + 50));
  await until(() => rig.source.counts().packets === room + 50, 'frames are missing');
  expect(rig.source.counts()).toMatchObject({ packets: room + 50, drops: 50 });
  expect(rig.source.counts().freezes).toBeGreaterThan(0);
  expect(rig.drain()).toEqual(range(0, room));
  rig.send(...range(1000, 20));
  await rig.received(room + 20);
  expect(rig.drain()).toEqual(range(1000, 20));
  expect(rig.source.counts()).toMatchObject({ packets: room + 70, drops: 50 });
  // Many times around the rings.
  for (let round = 0; round < 40; round++) {
    rig.send(...range(round * 100, 100));
    await rig.received(room + 20 + (round + 1) * 100);
    expect(rig.drain()).toEqual(range(round * 100, 100));
  }
  expect(rig.source.counts()).toMatchObject({ packets: room + 4070, drops: 50 });
});

kernelTest('long frames come in several pieces, or are counted as lost', FEATURES, async () => {
  const long = numbered(5, 7000);
  {
    using rig = new Rig({ mtu: 9000 });
    send(rig.sender, [numbered(4), long, numbered(6)]);
    await until(() => rig.source.counts().packets === 3, 'frames are missing');
    const found: Uint8Array[] = [];
    const times: number[] = [];
    rig.source.drain((p) => {
      found.push(p.u8.slice(p.offset, p.offset + p.caplen));
      times.push(p.ts);
    }, DEEP);
    expect(found.map(({ length }) => length)).toEqual([numbered(4).length, long.length, numbered(6).length]);
    expect(Buffer.from(found[1])).toEqual(Buffer.from(long));
    expect(times).toEqual(times.toSorted((x, y) => x - y));
    expect(rig.source.position).toBe(rig.source.received());
    expect(rig.source.packets).toBe(3);
  }
  using rig = new Rig({ mtu: 9000, multiBuffer: false });
  send(rig.sender, [numbered(4), long, numbered(6)]);
  await until(() => rig.source.counts().packets === 3, 'frames are missing');
  expect(rig.source.counts()).toMatchObject({ packets: 3, drops: 1 });
  expect(rig.drain()).toEqual([4, 6]);
});

kernelTest('several queues are handed out in the order of time', FEATURES, async () => {
  using rig = new Rig({ queues: 3, bytes: 1 << 20 });
  const served = new Set<number>();
  for (let round = 0; round < 5; round++) {
    rig.send(...range(round * 60, 60));
    await rig.received((round + 1) * 60);
    for (const { queue, rx } of rig.sockets) if (rx.words[rx.producer] > 0) served.add(queue);
    const times: number[] = [];
    const barrier = rig.source.received();
    rig.source.drain((p) => times.push(p.ts), DEEP);
    expect(times).toHaveLength(60);
    expect(times).toEqual(times.toSorted((x, y) => x - y));
    expect(rig.source.position).toBe(barrier);
  }
  expect(served.size).toBeGreaterThan(1);
  expect(rig.source.counts()).toEqual({ packets: 300, drops: 0, freezes: 0 });
});

kernelTest('what has come by a look is handed out before what comes later', FEATURES, async () => {
  using rig = new Rig({ queues: 2, bytes: 1 << 20 });
  const { source } = rig;
  rig.send(...range(0, 100));
  await rig.received(100);
  const barrier = source.received();
  const block = source.openBlock();
  rig.send(...range(100, 100));
  await until(() => source.counts().packets === 200, 'frames are missing');
  const early: number[] = [];
  const late: number[] = [];
  source.drain((p) => (source.position <= barrier ? early : late).push(numberOf(p)), DEEP);
  expect(early.toSorted((x, y) => x - y)).toEqual(range(0, 100));
  expect(late.toSorted((x, y) => x - y)).toEqual(range(100, 100));
  expect(source.sequence).toBeGreaterThan(block);
});

kernelTest(
  'of what a veth brings from this host, tag and checksum are known',
  [...FEATURES, 'tcx'],
  async () => {
    using rig = new Rig();
    const { b, source } = rig;
    ip(`addr add 192.0.2.1/24 dev ${b}`);
    ip(`neigh add 192.0.2.2 lladdr 02:00:00:00:00:02 dev ${b}`);
    const tagger = loadObject(bpfObject('lab_vlan'), { constants: { cfg_inner_tci: 5 } });
    const socket = createSocket('udp4');
    const tags: BpfLink[] = [];
    const found: { tci: number; checksum: number; etherType: number }[] = [];
    try {
      socket.send(Buffer.alloc(40), 9, '192.0.2.2');
      await rig.received(1);
      // A tag beside the frame, as with those of VLAN interfaces.
      tags.push(attachTcx(tagger.program('lab_vlan'), interfaceInfo(b).index, 'egress'));
      socket.send(Buffer.alloc(40), 9, '192.0.2.2');
      await rig.received(2);
      source.drain((p) => {
        const etherType = new DataView(p.u8.buffer, p.u8.byteOffset + p.offset).getUint16(12);
        found.push({ tci: p.vlanTci, checksum: p.checksum, etherType });
      }, DEEP);
    } finally {
      for (const link of tags) link.close();
      tagger.close();
      socket.close();
      await once(socket, 'close');
    }
    expect(found).toEqual([
      { tci: -1, checksum: Checksum.notReady, etherType: 0x0800 },
      { tci: 5, checksum: Checksum.notReady, etherType: 0x0800 },
    ]);
  },
);

kernelTest('in generic mode frames come with the time of the program', FEATURES, async () => {
  using rig = new Rig({ mode: 'generic' as 'native' });
  const before = Date.now() / 1000;
  rig.send(...range(0, 20));
  await rig.received(20);
  const after = Date.now() / 1000;
  const times: number[] = [];
  const numbers: number[] = [];
  rig.source.drain((p) => {
    times.push(p.ts);
    numbers.push(numberOf(p));
  }, DEEP);
  expect(numbers).toEqual(range(0, 20));
  expect(times).toEqual(times.toSorted((x, y) => x - y));
  expect(times[0]).toBeGreaterThan(before - 0.01);
  expect(times[19]).toBeLessThan(after + 0.01);
});

kernelTest('frames without a note get the time of the look', FEATURES, async () => {
  const { a, b, remove } = vethPair();
  const { index } = interfaceInfo(a);
  const map = BpfMap.create({ type: MapType.xskmap, keySize: 4, valueSize: 4, maxEntries: 1 });
  using program = plainRedirect(map);
  const socket = XdpSocket.open({ ifindex: index, queue: 0, bytes: 1 << 18 });
  const source = new AfXdpSource([socket], a, { map });
  const link = attachXdp({ program, ifindex: index, mode: 'native' });
  try {
    using sender = new PacketSender(b);
    send(
      sender,
      range(0, 20).map((n) => numbered(n)),
    );
    await until(() => source.received() === 20, 'frames are missing');
    const before = Date.now() / 1000;
    const found: { n: number; ts: number; checksum: number }[] = [];
    source.drain((p) => found.push({ n: numberOf(p), ts: p.ts, checksum: p.checksum }), DEEP);
    const after = Date.now() / 1000;
    expect(found.map(({ n }) => n)).toEqual(range(0, 20));
    for (const { ts, checksum } of found) {
      expect(ts).toBeGreaterThan(before - 0.002);
      expect(ts).toBeLessThan(after + 0.002);
      expect(checksum).toBe(Checksum.unknown);
    }
  } finally {
    source.close();
    link.close();
    remove();
  }
});

kernelTest('readiness: the first frame and those behind it', FEATURES, async () => {
  using rig = new Rig();
  const found: number[] = [];
  let calls = 0;
  rig.source.onReadable((error) => {
    expect(error).toBe(0);
    calls++;
    found.push(...rig.drain());
  });
  for (let burst = 0; burst < 3; burst++) {
    rig.send(...range(burst * 10, 10));
    await until(() => found.length === (burst + 1) * 10, `burst ${burst} has not been told of`);
    // Until it waits for the socket again.
    const quiet = calls;
    await until(() => calls > quiet + 2, 'it looks no more at once');
    for (let before = -1; before !== calls; ) {
      before = calls;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
  expect(found).toEqual(range(0, 30));
  const idle = calls;
  await new Promise((resolve) => setTimeout(resolve, 30));
  expect(calls).toBe(idle);
});

kernelTest('what is no longer received goes to the kernel', [...FEATURES, 'packetRing'], async () => {
  using rig = new Rig();
  const stack = new AfPacketSource(
    openPacketRing({ interface: rig.a, blockSize: 1 << 16, blocks: 4, retireMs: 5 }),
    rig.a,
  );
  try {
    rig.send(...range(0, 10));
    await rig.received(10);
    rig.source.stopReceiving();
    rig.send(...range(10, 10));
    const passed: number[] = [];
    await until(() => {
      stack.drain((p) => passed.push(numberOf(p)), DEEP);
      return passed.length >= 10;
    }, 'the kernel gets nothing');
    expect(passed).toEqual(range(10, 10));
    expect(rig.drain()).toEqual(range(0, 10));
    expect(rig.source.counts()).toEqual({ packets: 10, drops: 0, freezes: 0 });
  } finally {
    stack.close();
  }
});

kernelTest('a killed sensor leaves the traffic to the kernel', [...FEATURES, 'packetRing'], async () => {
  const { a, b, remove } = vethPair();
  const { index } = interfaceInfo(a);
  const stage = new FrameStage(1, 'veth');
  const link = attachXdp({ program: stage.program, ifindex: index, mode: 'native' });
  using sender = new PacketSender(b);
  const stack = new AfPacketSource(
    openPacketRing({ interface: a, blockSize: 1 << 16, blocks: 4, retireMs: 5 }),
    a,
  );
  const pin = `/sys/fs/bpf/sluice-test-${process.pid}-xsks`;
  try {
    stage.sockets.pin(pin);
    const holder = spawn(process.execPath, [join(import.meta.dirname, 'xsk-holder.ts'), String(index), pin], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const lines = createInterface(holder.stdout)[Symbol.asyncIterator]();
    const taken = async (): Promise<number> => Number((await lines.next()).value);
    expect(await taken()).toBe(0);
    send(
      sender,
      range(0, 10).map((n) => numbered(n)),
    );
    while ((await taken()) < 10);
    stack.drain(() => expect.unreachable(), DEEP);
    holder.kill('SIGKILL');
    await once(holder, 'exit');
    let passed = 0;
    await until(() => {
      send(sender, [numbered(1)]);
      stack.drain(() => passed++, DEEP);
      return passed > 10;
    }, 'the kernel gets nothing');
  } finally {
    stack.close();
    link.close();
    stage.close();
    rmSync(pin, { force: true });
    remove();
  }
});
