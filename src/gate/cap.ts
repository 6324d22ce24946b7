import { SluiceError } from '../base/errors.ts';
import type { CbpfProgram } from '../ebpf/index.ts';
import { BpfMap, MapType, RingBuffer, realtimeOffset } from '../kernel/index.ts';
import { type CapturedPacket, NO_COMMENT, PacketBlocks } from './cap-blocks.ts';
import { ACTIONS, type Action, type ActionCounts, CaptureHook } from './cap-hook.ts';
import { SlCapRecord } from './cap-layout.gen.ts';
import { NoteTexts } from './cap-notes.ts';
import { CaptureOutput, type OutputOptions } from './cap-output.ts';

export interface CaptureOptions {
  /** Where hooks are pinned, and how people call them. */
  hooks: readonly { path: string; name: string }[];
  actions: readonly Action[];
  /** Undefined: everything. */
  filter: CbpfProgram | undefined;
  /** As it was written, for the head of the file. */
  filterText: string;
  snaplen: number;
  /** One matching packet in so many. */
  sample: number;
  /** Bytes of packets that wait to be read: a power of two, at least a page. */
  ringBytes: number;
  /** Ends after so many packets. */
  count: number | undefined;
  output: Omit<OutputOptions, 'header' | 'trailer'>;
  application: string;
}

/** Packets of one action: `seen` is the sum of the others. */
export interface VerdictCounts {
  seen: number;
  notMatched: number;
  notSampled: number;
  /** In the files. */
  captured: number;
  /** No room in the ring, or written too slowly. */
  lost: number;
  /** Came after the last one that was asked for. */
  surplus: number;
}

const R = SlCapRecord.members;
const EMPTY: ActionCounts = { seen: 0, unsampled: 0, captured: 0, lost: 0 };

/** What one hook adds. */
interface Source {
  hook: CaptureHook;
  notes: NoteTexts;
  name: string;
  /** By XDP action. */
  interfaceIds: number[];
  written: number[];
  dropped: number[];
  surplus: number[];
  /** Comments by what was noted. */
  comments: Map<number, Uint8Array>;
}

/** A capture from one or more exit hooks into a file. */
export class Capture {
  /** Packets in the files so far. */
  packets = 0;
  /** Resolves when enough has been captured, nobody reads any more, or writing has failed. */
  readonly ended: Promise<SluiceError | undefined>;
  readonly output: CaptureOutput;
  readonly #sources: Source[] = [];
  readonly #blocks: PacketBlocks;
  readonly #ringMap: BpfMap;
  readonly #ring: RingBuffer;
  readonly #limit: number;
  readonly #packet: CapturedPacket;
  readonly #end: (error: SluiceError | undefined) => void;
  #begun = performance.now();
  #seconds = 0;

  /**
   * Begins to capture. A file that is there already is overwritten once nothing else can go wrong.
   * @throws SluiceError NOT_FOUND, PIN_FOREIGN, INTERFACE_BUSY when somebody captures there, FILE, PRIVILEGE, PROGRAM_UNFIT,
   * FILTER_UNSUPPORTED
   */
  constructor(options: CaptureOptions) {
    this.#limit = options.count ?? Number.POSITIVE_INFINITY;
    const { actions, filter, snaplen, sample, filterText } = options;
    this.#ringMap = BpfMap.create({
      type: MapType.ringbuf,
      name: 'cap_ring',
      keySize: 0,
      valueSize: 0,
      maxEntries: options.ringBytes,
    });
    let output: CaptureOutput | undefined;
    try {
      for (const [number, { path, name }] of options.hooks.entries()) {
        const hook = new CaptureHook({ path, number, actions, filter, snaplen, sample, ring: this.#ringMap });
        this.#sources.push({
          hook,
          notes: new NoteTexts(hook.meta, path),
          name,
          interfaceIds: [],
          ...perAction(),
          comments: new Map(),
        });
      }
      const interfaces = this.#sources.flatMap((source) =>
        source.hook.actions.map((action) => ({ source, action })),
      );
      for (const [id, { source, action }] of interfaces.entries())
        source.interfaceIds[ACTIONS.indexOf(action)] = id;
      this.#blocks = new PacketBlocks(
        interfaces.map(({ source, action }) => ({
          name: `XDP${action}`,
          comment: 'XDP action',
          description: source.name,
          snaplen,
          ...(filterText === '' ? {} : { filter: filterText }),
        })),
        options.application,
      );
      this.#blocks.setClock(realtimeOffset());
      for (const { hook } of this.#sources) hook.start();
      output = new CaptureOutput({
        ...options.output,
        header: this.#blocks.header,
        trailer: () => this.#statistics(),
      });
      this.output = output;
      this.#ring = new RingBuffer(this.#ringMap, (view, offset) => this.#record(view, offset));
    } catch (error) {
      for (const { hook } of this.#sources) hook.close();
      this.#ringMap.close();
      void output?.close();
      throw error;
    }
    this.#packet = {
      interfaceId: 0,
      action: 0,
      timeHigh: 0,
      timeLow: 0,
      length: 0,
      captured: 0,
      offset: 0,
      memory: NO_COMMENT,
      comment: NO_COMMENT,
    };
    const { promise, resolve } = Promise.withResolvers<SluiceError | undefined>();
    this.#end = resolve;
    this.ended = Promise.race([promise, output.ended]);
  }

  /** Whether every gate among the hooks has begun to leave notes. */
  get noted(): boolean {
    return this.#sources.every(({ hook }) => hook.meta === undefined || hook.noted);
  }

  /** To be called every second or so: clock, owners, files whose time is over, hooks that have gone. */
  tick(): void {
    for (const { hook, name } of this.#sources) if (!hook.there) this.#end(gone(name));
    this.#blocks.setClock(realtimeOffset());
    for (const { notes, comments } of this.#sources) {
      notes.refresh();
      comments.clear();
    }
    this.output.tick();
    this.output.flush();
  }

  #record(view: DataView, at: number): void {
    const packet = this.#packet;
    const source = this.#sources[view.getUint8(at + R.hook)];
    const action = view.getUint8(at + R.action);
    if (this.packets >= this.#limit) {
      source.surplus[action]++;
      return;
    }
    if (packet.memory.buffer !== view.buffer)
      packet.memory = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
    packet.interfaceId = source.interfaceIds[action];
    packet.action = action;
    packet.timeLow = view.getUint32(at + R.time, true);
    packet.timeHigh = view.getUint32(at + R.time + 4, true);
    packet.length = view.getUint32(at + R.frame_len, true);
    packet.captured = view.getUint32(at + R.captured, true);
    packet.offset = at + SlCapRecord.size;
    packet.comment = this.#comment(source, view, at);
    const to = this.output.reserve(this.#blocks.size(packet));
    if (to < 0) {
      source.dropped[action]++;
      return;
    }
    this.#blocks.write(packet, this.output.bytes, this.output.view, to);
    source.written[action]++;
    this.packets++;
    if (this.packets >= this.#limit) this.#end(undefined);
    this.output.flush();
  }

  #comment(source: Source, view: DataView, at: number): Uint8Array {
    const noted = view.getUint8(at + R.noted);
    if (noted === 0) return NO_COMMENT;
    const verdict = view.getUint8(at + R.verdict);
    const rule = view.getUint32(at + R.rule, true);
    const owner = view.getUint32(at + R.owner, true) & 0xff;
    // Below 2^53: 2 bits, 8 bits, 8 bits, 32 bits.
    const key = (((noted & 3) << 16) | (verdict << 8) | owner) * 2 ** 32 + rule;
    let comment = source.comments.get(key);
    if (comment === undefined) {
      const text = source.notes.text(noted, verdict, rule, owner);
      comment = text === undefined ? NO_COMMENT : this.#blocks.comment(text);
      source.comments.set(key, comment);
    }
    return comment;
  }

  #statistics(): Uint8Array {
    const now = Date.now() / 1000;
    return Buffer.concat(
      this.#sources.flatMap((source) =>
        source.hook.actions.map((action) => {
          const counts = this.#verdict(source, action);
          return this.#blocks.statistics(
            source.interfaceIds[ACTIONS.indexOf(action)],
            { received: counts.seen, dropped: counts.lost, accepted: counts.seen - counts.notMatched },
            now,
          );
        }),
      ),
    );
  }

  #verdict(source: Source, action: Action): VerdictCounts {
    const kernel = source.hook.actions.includes(action) ? source.hook.counts(action) : EMPTY;
    const slot = ACTIONS.indexOf(action);
    return {
      seen: kernel.seen,
      notMatched: kernel.seen - kernel.unsampled - kernel.captured - kernel.lost,
      notSampled: kernel.unsampled,
      captured: source.written[slot],
      lost: kernel.lost + source.dropped[slot],
      surplus: source.surplus[slot],
    };
  }

  /** By action, all hooks together. While packets come the parts are read one after the other. */
  counts(): Partial<Record<Action, VerdictCounts>> {
    const sum: Partial<Record<Action, VerdictCounts>> = {};
    for (const source of this.#sources) {
      for (const action of source.hook.actions) {
        const one = this.#verdict(source, action);
        const all = sum[action];
        sum[action] =
          all === undefined
            ? one
            : {
                seen: all.seen + one.seen,
                notMatched: all.notMatched + one.notMatched,
                notSampled: all.notSampled + one.notSampled,
                captured: all.captured + one.captured,
                lost: all.lost + one.lost,
                surplus: all.surplus + one.surplus,
              };
      }
    }
    return sum;
  }

  get seconds(): number {
    return this.#seconds;
  }

  /** Leaves the slots as they were found, and reads what is still in the ring. */
  async stop(): Promise<void> {
    for (const { hook } of this.#sources) await hook.stop();
    this.#seconds = (performance.now() - this.#begun) / 1000;
    this.#ring.poll();
  }

  /** After `stop`: ends the file. */
  async finish(): Promise<void> {
    await this.output.close();
  }

  /** Lets go of everything; the counts are gone then. */
  close(): void {
    for (const { hook } of this.#sources) hook.close();
    this.#ring.close();
    this.#ringMap.close();
  }
}

const zeros = (): number[] => ACTIONS.map(() => 0);
const perAction = () => ({ written: zeros(), dropped: zeros(), surplus: zeros() });

function gone(name: string): SluiceError {
  return new SluiceError('GATE_DOWN', `the hook of ${name} has gone, and the capture with it`, {
    help: 'what was captured is in the file; start again once the gate or the program is back',
  });
}
