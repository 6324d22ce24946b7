import { parseMessage, TOPIC, type ZeekMessage } from './zeek-messages.ts';

const FIRST_RETRY_MS = 500;
const LAST_RETRY_MS = 30_000;
/** Milliseconds for the server to let us in. */
const ACK_MS = 10_000;
/** Bytes on their way; more waits here. */
const MAX_BUFFERED = 1 << 20;
const MAX_WAITING = 8192;
const DRAIN_MS = 5;

export interface ZeekSocketEvents {
  message: (message: ZeekMessage) => void;
  /** Let in by a server of this version. */
  open: (version: string) => void;
  /** Not connected any more, or not yet, and why; tried again after so many seconds. */
  lost: (why: string, seconds: number) => void;
}

/** A connection to Zeek's WebSocket that is made anew whenever it breaks, later each time and not at the same moment as others. */
export class ZeekSocket {
  readonly #url: string;
  readonly #events: ZeekSocketEvents;
  #socket: WebSocket | undefined;
  #isOpen = false;
  #failures = 0;
  #timer: NodeJS.Timeout | undefined;
  #drain: NodeJS.Timeout | undefined;
  #waiting: string[] = [];
  #closed = false;
  /** Messages for which there was no room while Zeek did not read, or was not there. */
  lost = 0;

  constructor(url: string, events: ZeekSocketEvents) {
    this.#url = url;
    this.#events = events;
    this.#connect();
  }

  get isOpen(): boolean {
    return this.#isOpen;
  }

  /** Something is not with the kernel yet. */
  get isBehind(): boolean {
    return this.#waiting.length > 0 || (this.#socket?.bufferedAmount ?? 0) > 0;
  }

  #connect(): void {
    // For its cluster.log; the web's own type knows no headers.
    const options = { headers: { 'X-Application-Name': 'sluice' } } as unknown as string[];
    const socket = new WebSocket(this.#url, options);
    this.#socket = socket;
    let why = 'no answer';
    this.#timer = setTimeout(() => this.#broken(socket, why), ACK_MS);
    socket.addEventListener('open', () => socket.send(JSON.stringify([TOPIC.requests])));
    socket.addEventListener('message', ({ data }) => {
      if (socket !== this.#socket) return;
      const message = typeof data === 'string' ? parseMessage(data) : undefined;
      if (message === undefined) return;
      if (message.kind === 'error') why = `${message.code} ${message.context}`;
      if (message.kind === 'ack') this.#acknowledged(message.version);
      else this.#events.message(message);
    });
    socket.addEventListener('error', (event) => {
      const { message } = event as Event & { message?: unknown };
      if (typeof message === 'string' && message !== '') why = message;
    });
    socket.addEventListener('close', () => this.#broken(socket, why));
  }

  #acknowledged(version: string): void {
    if (this.#isOpen) return;
    clearTimeout(this.#timer);
    this.#isOpen = true;
    this.#failures = 0;
    this.#events.open(version);
    this.#flush();
  }

  #broken(socket: WebSocket, why: string): void {
    if (socket !== this.#socket) return;
    clearTimeout(this.#timer);
    this.#socket = undefined;
    this.#isOpen = false;
    socket.close();
    if (this.#closed) return;
    const longest = Math.min(LAST_RETRY_MS, FIRST_RETRY_MS * 2 ** Math.min(this.#failures++, 10));
    const ms = longest / 2 + (Math.random() * longest) / 2;
    this.#events.lost(why, ms / 1000);
    this.#timer = setTimeout(() => this.#connect(), ms);
  }

  /** Sends when there is room; the oldest make way for the newest. */
  send(message: string): void {
    this.#waiting.push(message);
    if (this.#waiting.length > MAX_WAITING) {
      this.lost += this.#waiting.length - MAX_WAITING;
      this.#waiting = this.#waiting.slice(-MAX_WAITING);
    }
    this.#flush();
  }

  #flush(): void {
    const socket = this.#socket;
    if (socket === undefined || !this.#isOpen) return;
    let sent = 0;
    while (sent < this.#waiting.length && socket.bufferedAmount < MAX_BUFFERED)
      socket.send(this.#waiting[sent++]);
    this.#waiting.splice(0, sent);
    if (this.#waiting.length === 0 || this.#drain !== undefined) return;
    this.#drain = setTimeout(() => {
      this.#drain = undefined;
      this.#flush();
    }, DRAIN_MS);
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    clearTimeout(this.#drain);
    const socket = this.#socket;
    this.#socket = undefined;
    this.#isOpen = false;
    socket?.close();
  }
}
