import { expect } from 'vitest';
import { AfPacketSource } from '../../src/capture/afpacket.ts';
import {
  attachXdp,
  type BpfProgram,
  interfaceCounters,
  interfaceInfo,
  loadInstructions,
  openPacketRing,
  ProgramType,
  XdpAction,
} from '../../src/kernel/index.ts';
import { kernelTest, ownNetns, until, vethPair } from '../support/kernel.ts';

ownNetns();

const BPF_REDIRECT = 23;
const FRAME = Uint8Array.from({ length: 300 }, (_, i) => (i < 6 ? 0xff : i % 251));

function program(...instructions: [code: number, registers: number, value: number][]): BpfProgram {
  const bytes = new Uint8Array(instructions.length * 8);
  const view = new DataView(bytes.buffer);
  for (const [i, [code, registers, value]] of instructions.entries()) {
    bytes.set([code, registers], i * 8);
    view.setInt32(i * 8 + 4, value, true);
  }
  return loadInstructions(bytes, { type: ProgramType.xdp, name: 'live' });
}

const MOV = 0xb7;
const CALL = 0x85;
const EXIT = [0x95, 0, 0] as const;

kernelTest('live frames go out where the program sends them', [], async () => {
  const { a, b, remove } = vethPair();
  const source = new AfPacketSource(
    openPacketRing({ interface: b, blockSize: 1 << 18, blocks: 16, retireMs: 1 }),
    b,
  );
  using redirect = program([MOV, 1, interfaceInfo(a).index], [MOV, 2, 0], [CALL, 0, BPF_REDIRECT], [...EXIT]);
  using pass = program([MOV, 0, XdpAction.pass], [...EXIT]);
  // A veth takes redirected frames only if there is a program at its other end.
  const link = attachXdp({ program: pass, ifindex: interfaceInfo(b).index, mode: 'native' });
  try {
    redirect.testRun({ data: FRAME, repeat: 7 });
    expect(interfaceCounters(b).rxPackets).toBe(0);
    redirect.testRun({ data: FRAME, repeat: 100, live: { batch: 10 } });
    redirect.testRun({ data: FRAME, repeat: 65, live: true });
    const arrived: Uint8Array[] = [];
    await until(() => {
      source.drain(({ u8, offset, caplen }) => void arrived.push(u8.slice(offset, offset + caplen)), 1000);
      return arrived.length >= 165;
    }, 'frames are missing');
    expect(arrived.length).toBe(165);
    for (const bytes of arrived) expect(bytes).toEqual(FRAME);
    expect(interfaceCounters(b)).toMatchObject({ rxPackets: 165, rxDropped: 0 });
    const refused = (options: object) => () =>
      redirect.testRun({ data: FRAME, live: true, repeat: 1, ...options });
    expect(refused({ dataOut: new Uint8Array(300) })).toThrow(RangeError);
    expect(refused({ live: { batch: 257 } })).toThrow(/E2BIG/);
  } finally {
    link.close();
    source.close();
    remove();
  }
});
