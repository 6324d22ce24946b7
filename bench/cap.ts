import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { CbpfProgram } from '../src/ebpf/index.ts';
import { compileFilterText } from '../src/filter/index.ts';
import { CaptureHook } from '../src/gate/cap-hook.ts';
import { entryProgram } from '../src/gate/cap-program.ts';
import { entryName, STAGES } from '../src/gate/cap-slots.ts';
import { bpfObjectPath } from '../src/gate/index.ts';
import { HookSlot } from '../src/gate/layout.ts';
import { writeMeta } from '../src/gate/pinned.ts';
import { occupy } from '../src/gate/slots.ts';
import {
  BpfMap,
  ensureBpffs,
  loadInstructions,
  MapType,
  ProgramFlag,
  ProgramType,
  RingBuffer,
  setThreadAffinity,
} from '../src/kernel/index.ts';
import { eth } from '../src/packet/build.ts';
import { type BenchIo, difference, interleaved, median, paired, quantile, type Table } from './measure.ts';
import { GateTables } from './tables.ts';

/** Packets of a run: of the largest ones so many fit into the ring. */
const REPEAT = 20_000;
const RING = 64 << 20;
const SMALL_RING = 4096;
const TELL_NOTES = 2;

const SRC = '10.0.0.1';
const DST = '192.168.0.1';
const segment = (payload: number) =>
  eth()
    .ipv4({ src: SRC, dst: DST })
    .tcp({ sport: 12_345, dport: 444, seq: 1000, ack: 5000, flags: 'A', window: 100 })
    .payload(payload)
    .bytes();

/** One state of the hook of a gate of its own. */
interface State {
  name: string;
  data: Uint8Array;
  notes?: boolean;
  /** Undefined: no capture. */
  capture?: { filter?: CbpfProgram; sample?: number; ring?: number; snaplen?: number } | 'killed';
}

/** A gate with its hook pinned, and what is in its pass slot. */
class Stand {
  readonly name: string;
  readonly #data: Uint8Array;
  readonly #tables: GateTables;
  readonly #hook: CaptureHook | undefined;
  readonly #ring: RingBuffer | undefined;
  readonly #maps: BpfMap[] = [];
  #read = 0;

  constructor({ name, data, notes = false, capture }: State, dir: string) {
    this.name = name;
    this.#data = data;
    this.#tables = new GateTables(bpfObjectPath('gate'), 1024, 1024, notes ? { cfg_trace: TELL_NOTES } : {});
    const { object } = this.#tables;
    if (capture === undefined) return;
    if (capture === 'killed') {
      this.#killed();
      return;
    }
    mkdirSync(dir);
    writeMeta(object.map('meta'), 1, { vlanKey: false, tunnelKey: false });
    for (const map of ['hook', 'next', 'scratch', 'meta']) object.map(map).pin(join(dir, map));
    const { filter, sample = 1, ring: maxEntries = RING, snaplen = 65_535 } = capture;
    const ring = BpfMap.create({ type: MapType.ringbuf, keySize: 0, valueSize: 0, maxEntries });
    this.#maps.push(ring);
    this.#ring = new RingBuffer(ring, () => this.#read++, { keepAlive: false });
    this.#hook = new CaptureHook({
      path: join(dir, 'hook'),
      number: 0,
      actions: ['pass'],
      filter,
      snaplen,
      sample,
      ring,
    });
    this.#hook.start();
  }

  /** What the kernel leaves of a capture whose process has gone. */
  #killed(): void {
    const { object } = this.#tables;
    const stages = BpfMap.create({
      type: MapType.progArray,
      name: STAGES.name,
      keySize: 4,
      valueSize: 4,
      maxEntries: STAGES.size,
    });
    this.#maps.push(stages);
    const code = entryProgram(HookSlot.pass, stages.fd, object.map('next').fd);
    using entry = loadInstructions(code, {
      type: ProgramType.xdp,
      name: entryName(stages.id),
      flags: ProgramFlag.xdpHasFrags,
    });
    occupy(object.map('hook'), HookSlot.pass, entry);
  }

  run(): number {
    const { durationNs } = this.#tables.object
      .program('sluice_gate')
      .testRun({ data: this.#data, repeat: REPEAT });
    this.#ring?.poll();
    return durationNs;
  }

  close(): void {
    this.#ring?.close();
    this.#hook?.close();
    for (const map of this.#maps) map.close();
    this.#tables.close();
  }
}

const STATES = (): State[] => {
  const ack = segment(0);
  const full = segment(1400);
  const none = compileFilterText('udp port 53', 'tcpdump');
  const all = compileFilterText('tcp port 444', 'tcpdump');
  return [
    { name: 'no capture', data: ack },
    { name: 'left of a killed capture', data: ack, capture: 'killed' },
    { name: 'no match', data: ack, capture: { filter: none } },
    { name: 'no match, with notes of the gate', data: ack, notes: true, capture: { filter: none } },
    { name: 'match, one in 1,000', data: ack, notes: true, capture: { filter: all, sample: 1000 } },
    { name: 'captured, 54 bytes', data: ack, notes: true, capture: { filter: all } },
    { name: 'captured, 1,454 bytes', data: full, notes: true, capture: { filter: all } },
    { name: 'captured, 128 of 1,454 bytes', data: full, notes: true, capture: { filter: all, snaplen: 128 } },
    { name: 'no room', data: ack, notes: true, capture: { filter: all, ring: SMALL_RING } },
  ];
};

/** What a capture at the gate's hook costs a packet that passes, by test run. */
export async function benchCap(rounds: number, io: BenchIo): Promise<{ tables: Table[]; notes: string[] }> {
  setThreadAffinity(0);
  const dir = mkdtempSync(join(ensureBpffs(), 'sluice-bench-'));
  const stands: Stand[] = [];
  try {
    for (const [at, state] of STATES().entries()) stands.push(new Stand(state, join(dir, String(at))));
    const values = await interleaved(stands, rounds, io, (stand) => stand.run());
    const [floor = []] = values;
    return {
      tables: [
        {
          title: 'ns per packet that passes (IPv4 TCP, no entry)',
          columns: [
            { key: 'state', title: 'hook' },
            { key: 'ns', title: 'ns', digits: 1 },
            { key: 'over', title: 'over none', digits: 1 },
            { key: 'least', title: 'least', digits: 1 },
            { key: 'most', title: 'most', digits: 1 },
          ],
          rows: stands.map(({ name }, at) => ({
            state: name,
            ns: median(values[at]),
            over: at === 0 ? undefined : paired(values[at], floor, difference),
            least: quantile(values[at], 0),
            most: quantile(values[at], 1),
          })),
        },
      ],
      notes: [],
    };
  } finally {
    for (const stand of stands) stand.close();
    rmSync(dir, { recursive: true });
  }
}
