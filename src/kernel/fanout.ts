import { addon } from './addon.ts';
import { attempt, check, closedError } from './errors.ts';
import type { BpfProgram } from './program.ts';

export interface FanoutOptions {
  ifindex: number;
  /** Fanout.*, with FanoutFlag.* added. */
  mode: number;
  /** Of a group that is there; without one the kernel picks a free id for a new group. */
  id?: number;
  /** Most rings of a new group. */
  members: number;
  /** The socket filter that chooses the ring, for Fanout.ebpf. */
  program?: BpfProgram;
}

/**
 * A place in a fanout group, by a socket that receives nothing. The group lasts as long as it has members, and keeps its
 * program. While this one is in it, what is meant for its place is lost: let go of it before the packets count.
 * (packet(7), Documentation/networking/packet_mmap.rst)
 */
export class FanoutPlace {
  /** 16 bits, per network namespace. */
  readonly id: number;
  #fd: number;

  constructor({ ifindex, mode, id = -1, members, program }: FanoutOptions) {
    const what = id < 0 ? 'make a fanout group' : `join the fanout group ${id}`;
    const fd = attempt('fanout', what, () =>
      addon().packetFanout(ifindex, id, mode, members, program?.fd ?? -1),
    );
    this.#fd = fd;
    try {
      this.id = check('fanout', addon().packetFanoutId(fd), () => what);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  get fd(): number {
    if (this.#fd < 0) throw closedError('the fanout group');
    return this.#fd;
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
