import type { Server, Socket } from 'node:net';
import type { SluiceError } from '../base/errors.ts';
import type { Packet } from '../packet/packet.ts';
import { PcapWriter } from '../packet/pcap.ts';
import { connectStream, listeningUrl, listenStream, type StreamEnd, streamError } from './tcp-stream.ts';

/** Receivers at the same time; more are turned away. */
const MOST_RECEIVERS = 64;
/** Bytes that wait for one receiver: beyond the first, it is waited for; beyond the second, it is dropped. */
const WAIT_BYTES = 2 ** 20;
const MOST_BYTES = 16 * 2 ** 20;
const RECORD_HEADER = 16;

export interface SenderOptions {
  /**
   * Seconds without progress after which a receiver that keeps what can wait (a file at full speed) from going on is dropped,
   * and after which the rest is not waited for at the end.
   */
  patience: number;
  /** What is sent cannot wait: a receiver for which too much waits is dropped at once. */
  urgent: boolean;
  /** Ends every wait. */
  stop: AbortSignal;
  onReceiver?: (peer: string) => void;
  onListening?: (url: string) => void;
}

/** What became of the receivers and of the packets. */
export interface SenderCounts {
  /** Receivers so far, and those among them that were dropped for being slow, that left before the end, that were turned away. */
  receivers: number;
  slow: number;
  left: number;
  refused: number;
  /** Packets of another link type than the first, for which a pcap file has no place. */
  otherLinkType: number;
}

interface Receiver {
  socket: Socket;
  /** It has had the file header. */
  greeted: boolean;
  /** When its buffer last became smaller, and what was in it then. */
  moved: number;
  waiting: number;
}

/**
 * Sends packets as PCAP-over-IP: to one receiver that it connects to, or to all that connect to it. Whoever comes later gets
 * a file header and what is sent from then on.
 */
export class PcapSender {
  readonly counts: SenderCounts = { receivers: 0, slow: 0, left: 0, refused: 0, otherLinkType: 0 };
  /** The receiver that was connected to could not be reached, or has gone away. */
  problem: SluiceError | undefined;
  readonly #end: StreamEnd;
  readonly #options: SenderOptions;
  readonly #server: Server | undefined;
  readonly #receivers = new Set<Receiver>();
  #header: Uint8Array | undefined;
  #writer = new PcapWriter();
  #linkType = -1;
  #finishing = false;
  #wake: () => void = () => {};

  constructor(end: StreamEnd, options: SenderOptions) {
    this.#end = end;
    this.#options = options;
    options.stop.addEventListener('abort', () => this.#wake(), { once: true });
    if (!end.listen) {
      const socket = connectStream(end);
      socket.once('connect', () => this.#welcome(socket));
      socket.on('error', (error) => this.#fail(error));
      return;
    }
    this.#server = listenStream(end, (socket) => {
      socket.on('error', () => {});
      if (this.#receivers.size >= MOST_RECEIVERS) {
        this.counts.refused++;
        socket.destroy();
      } else this.#welcome(socket);
    });
    this.#server.on('listening', () => options.onListening?.(listeningUrl(this.#server as Server)));
    this.#server.on('error', (error) => this.#fail(error));
  }

  get receivers(): number {
    return this.#receivers.size;
  }

  /**
   * Resolves when something has changed (a receiver came, left, or has taken something), after some milliseconds, or at the
   * wish to stop. For one caller at a time.
   */
  async changed(milliseconds: number): Promise<void> {
    if (this.#options.stop.aborted) return;
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
      timer = setTimeout(resolve, milliseconds);
    });
    clearTimeout(timer);
  }

  /** The packets of one batch, to everybody who is there. */
  send(packets: readonly Packet[], count: number): void {
    if (this.#linkType < 0) this.#begin(packets[0].linkType);
    let bytes = 0;
    for (let i = 0; i < count; i++)
      if (packets[i].linkType === this.#linkType) bytes += RECORD_HEADER + packets[i].caplen;
    const chunk = Buffer.allocUnsafe(bytes);
    let at = 0;
    for (let i = 0; i < count; i++) {
      const { u8, offset, caplen, wirelen, ts, linkType } = packets[i];
      if (linkType !== this.#linkType) {
        this.counts.otherLinkType++;
        continue;
      }
      at = this.#writer.recordInto({ ts, wirelen, bytes: u8.subarray(offset, offset + caplen) }, chunk, at);
    }
    for (const receiver of this.#receivers) {
      const { socket } = receiver;
      if (!receiver.greeted) {
        receiver.greeted = true;
        socket.write(this.#header as Uint8Array);
      }
      socket.write(chunk);
      if (socket.writableLength > MOST_BYTES) this.#drop(receiver);
    }
  }

  /** Whether somebody has to be waited for; drops those who have kept it waiting for too long. */
  get blocked(): boolean {
    if (this.#options.urgent) return false;
    const time = performance.now();
    let blocked = false;
    for (const receiver of this.#receivers) {
      const waiting = receiver.socket.writableLength;
      if (waiting < receiver.waiting || waiting <= WAIT_BYTES) receiver.moved = time;
      receiver.waiting = waiting;
      if (waiting <= WAIT_BYTES) continue;
      if (time - receiver.moved < this.#options.patience * 1000) blocked = true;
      else this.#drop(receiver);
    }
    return blocked;
  }

  /** Ends the streams after everything in them has been taken, or nothing of it for too long. */
  async finish(): Promise<void> {
    this.#finishing = true;
    this.#server?.close();
    for (const { socket } of this.#receivers) socket.end();
    let last = performance.now();
    let waiting = Number.POSITIVE_INFINITY;
    while (this.#receivers.size > 0 && !this.#options.stop.aborted) {
      let now = 0;
      for (const { socket } of this.#receivers) now += socket.writableLength + 1;
      if (now < waiting) last = performance.now();
      else if (performance.now() - last >= this.#options.patience * 1000) break;
      waiting = now;
      await this.changed(100);
    }
    for (const receiver of this.#receivers) this.#drop(receiver);
  }

  close(): void {
    this.#server?.close();
    for (const { socket } of this.#receivers) socket.destroy();
    this.#receivers.clear();
    this.#wake();
  }

  #begin(linkType: number): void {
    this.#linkType = linkType;
    this.#writer = new PcapWriter({ linkType: linkTypeOf(linkType) });
    this.#header = this.#writer.header();
  }

  #welcome(socket: Socket): void {
    const receiver: Receiver = {
      socket,
      greeted: this.#header !== undefined,
      moved: performance.now(),
      waiting: 0,
    };
    this.counts.receivers++;
    this.#receivers.add(receiver);
    if (this.#header !== undefined) socket.write(this.#header);
    // Nothing is expected from there, but its end has to be seen.
    socket.resume();
    socket.on('drain', () => this.#wake());
    socket.on('close', () => {
      if (!this.#receivers.delete(receiver)) return;
      if (!this.#finishing || !socket.writableFinished) {
        this.counts.left++;
        if (!this.#end.listen) this.#fail(Object.assign(new Error('broken off'), { code: 'ECONNRESET' }));
      }
      this.#wake();
    });
    this.#options.onReceiver?.(`${socket.remoteAddress}:${socket.remotePort}`);
    this.#wake();
  }

  #drop(receiver: Receiver): void {
    this.#receivers.delete(receiver);
    this.counts.slow++;
    receiver.socket.destroy();
    this.#wake();
  }

  #fail(error: Error): void {
    this.problem ??= streamError(this.#end, error);
    this.#wake();
  }
}

/** What files call the link type that the API calls 12 on Linux (pcap-linktype(7)). */
function linkTypeOf(dlt: number): number {
  return dlt === 12 ? 101 : dlt;
}
