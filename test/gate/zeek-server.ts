import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer, type IncomingHttpHeaders, type Server } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { join } from 'node:path';
import { packageRoot } from '../../src/kernel/index.ts';

/** RFC 6455 */
const GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';

const value = (type: string, data: unknown) => ({ '@data-type': type, data });

/** As Zeek's WebSocket behaves (its documentation, version 1): first the topics, then an acknowledgement, then messages. */
export class ZeekServer {
  readonly #server: Server;
  #socket: Socket | undefined;
  #bytes = Buffer.alloc(0);
  readonly port: number;
  /** What clients have sent, parsed. */
  readonly messages: unknown[] = [];
  /** Of each client: what it subscribed to. */
  readonly subscriptions: string[][] = [];
  headers: IncomingHttpHeaders = {};
  path = '';
  /** Accepts, and says nothing. */
  silent = false;

  private constructor(server: Server, port: number) {
    this.#server = server;
    this.port = port;
    server.on('upgrade', (request, socket: Socket) => {
      this.headers = request.headers;
      this.path = request.url ?? '';
      const accept = createHash('sha1')
        .update(`${request.headers['sec-websocket-key']}${GUID}`)
        .digest('base64');
      socket.write(
        `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`,
      );
      this.#socket = socket;
      this.#bytes = Buffer.alloc(0);
      let first = true;
      socket.on('error', () => {});
      socket.on('data', (chunk: Buffer) => {
        this.#bytes = Buffer.concat([this.#bytes, chunk]);
        for (let text = this.#frame(); text !== undefined; text = this.#frame()) {
          if (first) {
            this.subscriptions.push(JSON.parse(text) as string[]);
            if (!this.silent) this.say({ type: 'ack', endpoint: 'test', version: '8.0.0-test' });
          } else this.messages.push(JSON.parse(text));
          first = false;
        }
      });
    });
  }

  static async listen(port = 0): Promise<ZeekServer> {
    const server = createServer();
    server.listen(port, '127.0.0.1');
    await once(server, 'listening');
    return new ZeekServer(server, (server.address() as AddressInfo).port);
  }

  get url(): string {
    return `ws://127.0.0.1:${this.port}`;
  }

  get connected(): boolean {
    return this.#socket?.destroyed === false;
  }

  /** The next text of what has come; control frames are passed over. */
  #frame(): string | undefined {
    const b = this.#bytes;
    if (b.length < 6) return undefined;
    const short = b[1] & 0x7f;
    const head = short === 126 ? 4 : short === 127 ? 10 : 2;
    if (b.length < head + 4) return undefined;
    const size = short === 126 ? b.readUInt16BE(2) : short === 127 ? Number(b.readBigUInt64BE(2)) : short;
    if (b.length < head + 4 + size) return undefined;
    const mask = b.subarray(head, head + 4);
    const data = Buffer.from(b.subarray(head + 4, head + 4 + size));
    for (let i = 0; i < size; i++) data[i] ^= mask[i & 3];
    this.#bytes = b.subarray(head + 4 + size);
    return (b[0] & 15) === 1 ? data.toString() : this.#frame();
  }

  say(message: unknown): void {
    this.raw(typeof message === 'string' ? message : JSON.stringify(message));
  }

  raw(text: string): void {
    const data = Buffer.from(text);
    const head = Buffer.alloc(data.length < 126 ? 2 : data.length < 65_536 ? 4 : 10);
    head[0] = 0x81;
    if (head.length === 2) head[1] = data.length;
    else if (head.length === 4) {
      head[1] = 126;
      head.writeUInt16BE(data.length, 2);
    } else {
      head[1] = 127;
      head.writeBigUInt64BE(BigInt(data.length), 2);
    }
    this.#socket?.write(Buffer.concat([head, data]));
  }

  /** An event as Zeek publishes it, arguments as [type, value]. */
  event(name: string, ...args: [string, unknown][]): void {
    this.say({
      type: 'data-message',
      topic: 'sluice.request',
      '@data-type': 'vector',
      data: [
        value('count', 1),
        value('count', 1),
        value('vector', [
          value('string', name),
          value(
            'vector',
            args.map(([type, data]) => value(type, data)),
          ),
          value('vector', []),
        ]),
      ],
    });
  }

  /** What has been told, as [topic, name, ...arguments]. */
  get events(): unknown[][] {
    interface Value {
      data: unknown;
    }
    return this.messages.map((message) => {
      const { topic, data } = message as {
        topic: string;
        data: [Value, Value, { data: [Value, { data: Value[] }] }];
      };
      const [name, args] = data[2].data;
      return [topic, name.data, ...args.data.map((each) => each.data)];
    });
  }

  /** Names of events with the types of their arguments. */
  get types(): [string, string[]][] {
    interface Value {
      '@data-type': string;
      data: unknown;
    }
    return this.messages.map((message) => {
      const { data } = message as { data: [Value, Value, { data: [Value, { data: Value[] }] }] };
      const [name, args] = data[2].data;
      return [String(name.data), args.data.map((each) => each['@data-type'])];
    });
  }

  /** Breaks the connection; whoever comes again is let in. */
  hangUp(): void {
    this.#socket?.destroy();
  }

  async close(): Promise<void> {
    this.hangUp();
    this.#server.close();
    await once(this.#server, 'close');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** Argument types of an event as the script package declares it, by Broker's names. */
export function declared(event: string): string[] {
  const script = readFileSync(join(packageRoot(), 'clients', 'zeek', 'scripts', 'main.zeek'), 'utf8');
  const [, args = ''] = new RegExp(`global ${event}: event\\(([^)]*)\\)`).exec(script) ?? [];
  const names: Readonly<Record<string, string>> = { time: 'timestamp', addr: 'address' };
  return args.split(',').map((arg) => {
    const type = arg.split(':')[1]?.trim() ?? '';
    return names[type] ?? type;
  });
}
