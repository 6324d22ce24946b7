import { addon } from './addon.ts';
import { attempt, check, closedError } from './errors.ts';
import { interfaceInfo } from './interfaces.ts';

/** Sends prepared Ethernet frames: for tests, the lab and replays. */
export class PacketSender {
  #fd: number;

  /** `qdiscBypass` hands frames to the driver directly: faster, and dropped when its queue is full. */
  constructor(target: string | number, options: { qdiscBypass?: boolean } = {}) {
    const index = typeof target === 'number' ? target : interfaceInfo(target).index;
    this.#fd = attempt('sender.open', `open a sender on interface ${target}`, () =>
      addon().packetSender(index, options.qdiscBypass ?? false),
    );
  }

  /**
   * Sends `count` frames from the `first` one on; frame i lies in `frames` from offsets[i] to offsets[i + 1]. Returns
   * how many went out: fewer when the queue is full or the interface went down after the first.
   */
  send(
    frames: Uint8Array,
    offsets: Uint32Array,
    first = 0,
    count: number = offsets.length - 1 - first,
  ): number {
    if (this.#fd < 0) throw closedError('the sender');
    const table = new Uint8Array(offsets.buffer, offsets.byteOffset, offsets.byteLength);
    return check(
      'sender.send',
      addon().packetSend(this.#fd, frames, table, first, count),
      () => 'send frames',
    );
  }

  close(): void {
    if (this.#fd < 0) return;
    addon().closeFd(this.#fd);
    this.#fd = -1;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
