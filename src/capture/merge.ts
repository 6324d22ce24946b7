import { SluiceError } from '../base/errors.ts';
import type { BatchSink, Packet, PacketSink } from '../packet/packet.ts';
import { Read } from '../packet/reader.ts';
import { FileSource, type FileSourceOptions } from './file.ts';
import type { StoredSource } from './source.ts';

/** Files that overlap in time are open together; each has a buffer, so that memory is bounded too. */
export const MOST_OPEN = 128;
/** Bytes read of a file to see where in time it begins. */
const GLANCE_BYTES = 65_536;

/** A file whose turn has not come. */
interface Pending {
  path: string;
  /** Place among the arguments. */
  index: number;
  /** Time of the first packet. */
  first: number;
}

interface Open {
  source: FileSource;
  index: number;
  path: string;
}

/**
 * Several files as one capture in the order of their packets' times; of equal times the file named first comes first, and
 * each file keeps its own order. A file is opened when its first packet is due and closed at its end, so that pieces
 * which follow one another are read one after the other, whatever the order of their names.
 */
export class MergedSource implements StoredSource {
  readonly name: string;
  packets = 0;
  problem: SluiceError | undefined;
  /** What was met in the single files, in the order in which it was met. */
  readonly problems: SluiceError[] = [];

  /** By time, the earliest last. */
  readonly #pending: Pending[];
  /** A heap by time of the frame that each shows; open[0] is the earliest. */
  readonly #open: Open[] = [];
  /** Sources that cannot be opened twice: they wait here for their turn, with their first frame. */
  readonly #held: Map<number, Open>;
  /** A source whose next frame has not arrived; nothing can be handed out before it is known. */
  #late: Open | undefined;
  readonly #one: Packet[] = [];
  #closedBytes = 0;

  private constructor(name: string, pending: Pending[], held: Map<number, Open>) {
    this.name = name;
    this.#pending = pending.sort((a, b) => b.first - a.first || b.index - a.index);
    this.#held = held;
  }

  /**
   * Looks at the first packet of each file; waits for those of pipes, at most until `stop` fires. Files without packets
   * are passed over. Errors: FILE and FILE_FORMAT as of FileSource.open, for the first file that is no capture.
   */
  static async open(
    paths: readonly string[],
    stop?: AbortSignal,
    options: FileSourceOptions = {},
  ): Promise<MergedSource> {
    const pending: Pending[] = [];
    const held = new Map<number, Open>();
    const problems: SluiceError[] = [];
    let emptyBytes = 0;
    const stopped = aborted(stop);
    try {
      for (const [index, path] of paths.entries()) {
        const source = FileSource.open(path, { ...options, chunkBytes: GLANCE_BYTES });
        held.set(index, { source, index, path });
        while (source.pull() === Read.more) {
          await Promise.race([source.wait(), stopped]);
          if (stop?.aborted === true) break;
        }
        if (source.format === undefined && source.problem !== undefined) throw source.problem;
        if (source.packets > 0) pending.push({ path, index, first: source.packet.ts });
        else {
          if (source.problem !== undefined) problems.push(source.problem);
          emptyBytes += source.readBytes;
        }
        if (source.totalBytes === undefined && path !== '-' && source.packets > 0) continue;
        if (path === '-' && source.packets > 0) continue;
        source.close();
        held.delete(index);
      }
    } catch (error) {
      for (const { source } of held.values()) source.close();
      throw error;
    }
    const merged = new MergedSource(paths.join(', '), pending, held);
    merged.problems.push(...problems);
    merged.problem = problems[0];
    merged.#closedBytes = emptyBytes;
    return merged;
  }

  get readBytes(): number {
    let bytes = this.#closedBytes;
    for (const { source } of this.#open) bytes += source.readBytes;
    if (this.#late !== undefined) bytes += this.#late.source.readBytes;
    return bytes;
  }

  get starved(): boolean {
    return this.#late !== undefined;
  }

  async wait(): Promise<void> {
    await this.#late?.source.wait();
  }

  drain(sink: PacketSink, maxPackets: number): boolean {
    const until = this.packets + maxPackets;
    const open = this.#open;
    if (this.#late !== undefined && !this.#next(this.#late)) return true;
    for (;;) {
      if (!this.#admit()) return true;
      if (open.length === 0) return false;
      const top = open[0];
      const { source } = top;
      const { packet } = source;
      // As long as it stays before all others, it goes on without a look at them.
      const bound = this.#bound();
      for (;;) {
        if (this.packets >= until) return true;
        this.packets++;
        sink(packet);
        const state = source.pull();
        if (state !== Read.packet) {
          this.#pop();
          if (state === Read.more) this.#late = top;
          else this.#ended(top);
          break;
        }
        if (!(packet.ts < bound)) {
          this.#sink(0);
          break;
        }
      }
      if (this.#late !== undefined) return true;
    }
  }

  drainBatches(sink: BatchSink, maxPackets: number): boolean {
    return this.drain((packet) => {
      this.#one[0] = packet;
      sink(this.#one, 1);
    }, maxPackets);
  }

  close(): void {
    for (const { source } of this.#open) source.close();
    for (const { source } of this.#held.values()) source.close();
    this.#late?.source.close();
    this.#open.length = 0;
    this.#pending.length = 0;
    this.#held.clear();
  }

  /** Opens the files whose first packet is due; false when one of them makes wait. */
  #admit(): boolean {
    for (;;) {
      const next = this.#pending.at(-1);
      if (next === undefined || (this.#open.length > 0 && next.first > this.#open[0].source.packet.ts))
        return true;
      this.#pending.pop();
      const held = this.#held.get(next.index);
      if (held !== undefined) {
        this.#held.delete(next.index);
        this.#push(held);
        continue;
      }
      if (this.#open.length >= MOST_OPEN) {
        this.#fail(
          new SluiceError('FILE', `more than ${MOST_OPEN} files overlap in time: ${next.path} is left out`, {
            help: 'join some of them first, for example with: mergecap -w OUT IN…',
          }),
        );
        continue;
      }
      let source: FileSource;
      try {
        source = FileSource.open(next.path);
      } catch (error) {
        if (!(error instanceof SluiceError)) throw error;
        this.#fail(error);
        continue;
      }
      if (!this.#next({ source, index: next.index, path: next.path })) return false;
    }
  }

  /** Moves a source that is not in the heap to its next frame; false when that has not arrived. */
  #next(entry: Open): boolean {
    const state = entry.source.pull();
    this.#late = state === Read.more ? entry : undefined;
    if (state === Read.packet) this.#push(entry);
    else if (state === Read.damaged) this.#ended(entry);
    return state !== Read.more;
  }

  #ended({ source }: Open): void {
    this.#closedBytes += source.readBytes;
    if (source.problem !== undefined) this.#fail(source.problem);
    source.close();
  }

  #fail(problem: SluiceError): void {
    this.problem ??= problem;
    this.problems.push(problem);
  }

  /** The time that the earliest source has to stay below so that no other is due. */
  #bound(): number {
    const open = this.#open;
    let bound = this.#pending.at(-1)?.first ?? Number.POSITIVE_INFINITY;
    for (let i = 1; i < 3 && i < open.length; i++) bound = Math.min(bound, open[i].source.packet.ts);
    return bound;
  }

  #before(a: Open, b: Open): boolean {
    const earlier = a.source.packet.ts - b.source.packet.ts;
    return earlier < 0 || (earlier === 0 && a.index < b.index);
  }

  #push(entry: Open): void {
    const heap = this.#open;
    let at = heap.push(entry) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!this.#before(entry, heap[parent])) break;
      heap[at] = heap[parent];
      at = parent;
    }
    heap[at] = entry;
  }

  /** Takes the earliest out. */
  #pop(): void {
    const heap = this.#open;
    const last = heap.pop();
    if (heap.length === 0 || last === undefined) return;
    heap[0] = last;
    this.#sink(0);
  }

  /** Lets an entry that has become later down to its place. */
  #sink(from: number): void {
    const heap = this.#open;
    const entry = heap[from];
    let at = from;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && this.#before(heap[child + 1], heap[child])) child++;
      if (!this.#before(heap[child], entry)) break;
      heap[at] = heap[child];
      at = child;
    }
    heap[at] = entry;
  }
}

function aborted(stop: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve) => {
    if (stop?.aborted === true) resolve();
    stop?.addEventListener('abort', () => resolve(), { once: true });
  });
}
