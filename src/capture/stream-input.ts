import type { Socket } from 'node:net';
import type { SluiceError } from '../base/errors.ts';
import type { ByteInput } from './input.ts';

/** A pipe or a socket: what has arrived is read, for the rest the event loop goes on. */
export class StreamInput implements ByteInput {
  readBytes = 0;
  readonly #socket: Socket;
  #rest: Buffer | undefined;
  #ended = false;
  #error: SluiceError | undefined;
  #wake: (() => void) | undefined;

  /** @param errorOf what an error of the socket means here */
  constructor(socket: Socket, errorOf: (error: Error) => SluiceError) {
    this.#socket = socket;
    const wake = () => this.#wake?.();
    socket.on('readable', wake);
    socket.on('end', () => {
      this.#ended = true;
      wake();
    });
    socket.on('error', (error) => {
      this.#error = errorOf(error);
      wake();
    });
  }

  read(buffer: Uint8Array, at: number): number {
    let filled = at;
    while (filled < buffer.length) {
      this.#rest ??= (this.#socket.read() as Buffer | null) ?? undefined;
      const rest = this.#rest;
      if (rest === undefined) break;
      const part = rest.subarray(0, buffer.length - filled);
      buffer.set(part, filled);
      filled += part.length;
      this.#rest = part.length < rest.length ? rest.subarray(part.length) : undefined;
    }
    const n = filled - at;
    this.readBytes += n;
    if (n > 0) return n;
    if (this.#error !== undefined) throw this.#error;
    return this.#ended ? -1 : 0;
  }

  async wait(): Promise<void> {
    if (
      this.#rest !== undefined ||
      this.#ended ||
      this.#error !== undefined ||
      this.#socket.readableLength > 0
    )
      return;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
      // A stream says that it can be read only after somebody has found it empty.
      this.#socket.read(0);
    });
    this.#wake = undefined;
  }

  close(): void {
    this.#socket.destroy();
    this.#wake?.();
  }
}
