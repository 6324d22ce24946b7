import { addon } from './addon.ts';
import { check, closedError } from './errors.ts';
import { Watch } from './watch.ts';

const EAGAIN = 11;

/** A Unix datagram socket bound to a path, which Node.js does not have. The path stays when it is closed. */
export class UnixDatagrams {
  #fd: number;
  readonly #watch: Watch;

  /** `ready` is called while there is something to receive. */
  constructor(path: string, ready: () => void) {
    this.#fd = check(
      'unix.datagrams',
      addon().unixDatagrams(path),
      () => `bind a datagram socket to ${path}`,
    );
    this.#watch = new Watch(this.#fd, () => ready());
  }

  /** Bytes of the next datagram in `buffer`, cut to its size; -1 when there is none. */
  receive(buffer: Uint8Array): number {
    if (this.#fd < 0) throw closedError('datagram socket');
    const size = addon().receiveDatagram(this.#fd, buffer);
    if (size === -EAGAIN) return -1;
    return check('unix.datagrams', size, () => 'receive a datagram');
  }

  close(): void {
    if (this.#fd < 0) return;
    this.#watch.stop();
    addon().closeFd(this.#fd);
    this.#fd = -1;
  }
}
