import { randomUUID } from 'node:crypto';
import { isIPv4 } from 'node:net';
import { asSluiceError, SluiceError } from '../base/errors.ts';
import { ControlClient } from './control-client.ts';
import type { Place } from './control-places.ts';
import type { ShuntRow, WatchEvent } from './control-protocol.ts';
import { flowKey, keyText } from './flow-key.ts';
import {
  type BrokerValue,
  broker,
  eventMessage,
  nodeOf,
  TOPIC,
  triggerOf,
  wishOf,
  type ZeekMessage,
  type ZeekWish,
} from './zeek-messages.ts';
import { ZeekSocket } from './zeek-socket.ts';

/** Seconds without a sign of life of a node after which its shunts stop matching. */
const LEASE = 10;
const IDLE = 300;
const MAX_NODES = 32;
/** Requests that wait; further ones are refused. */
const MAX_QUEUE = 4096;
const BATCH = 128;
/** Flows whose end somebody is to be told. */
const MAX_FLOWS = 262_144;
const RETRY_MS = 200;
const RETRIES = 10;
/** Milliseconds for Zeek to be told of what ends with the gate. */
const FAREWELL_MS = 3000;
const FAREWELL_STEP_MS = 10;

/** The default of a WebSocket URL's path. */
const PATH = '/v1/messages/json';

/**
 * A URL as it was given, with the path that Zeek serves.
 * @throws SluiceError USAGE
 */
export function zeekUrl(given: string): string {
  const help =
    'for instance ws://127.0.0.1:27759/v1/messages/json; elsewhere by wss:// or a tunnel of your own';
  let url: URL;
  try {
    url = new URL(given);
  } catch (cause) {
    throw new SluiceError('USAGE', `'${given}' is no URL`, { cause, help });
  }
  if (url.protocol !== 'ws:' && url.protocol !== 'wss:')
    throw new SluiceError('USAGE', `Zeek is reached over ws:// or wss://, not ${url.protocol}//`, { help });
  const { hostname } = url;
  const local =
    hostname === 'localhost' || hostname === '[::1]' || (isIPv4(hostname) && hostname.startsWith('127.'));
  if (url.protocol === 'ws:' && !local)
    throw new SluiceError(
      'USAGE',
      `${url.host} is another host, and ws:// neither asks nor tells who is there`,
      {
        help,
      },
    );
  if (url.pathname === '/') url.pathname = PATH;
  return url.href;
}

export interface ZeekBridgeOptions {
  /** As zeekUrl made it. */
  url: string;
  /** The gate that is driven, over its control socket. */
  place: Place;
  /** VLAN ids are part of its key: else connections are one whatever their tags, as in Zeek. */
  vlanKey: boolean;
  /** Told what people should know, one line at a time. */
  warn: (text: string) => void;
}

export interface ZeekStatus {
  url: string;
  connected: boolean;
  /** Nodes that have given a sign of life. */
  nodes: string[];
  shunted: number;
  refused: number;
  ended: number;
  /** Messages to Zeek for which there was no room. */
  lost: number;
}

interface Job {
  op: 'add' | 'remove';
  wish: ZeekWish;
  trigger: string;
}

interface Shunted {
  wish: ZeekWish;
}

/**
 * Between Zeek's scripts (clients/zeek) and the gate: takes requests to shunt from the WebSocket, adds them over the control
 * socket as an owner for each node of the cluster, and tells the node what the gate counted when a shunt has ended. A node's
 * sign of life renews its lease: the shunts of one that is gone or hangs stop matching, also when this process is dead.
 */
export class ZeekBridge {
  readonly #url: string;
  readonly #warn: (text: string) => void;
  readonly #vlanKey: boolean;
  readonly #client: ControlClient;
  readonly #socket: ZeekSocket;
  /** Tells scripts whether the gate that they know is still this one. */
  readonly #instance = randomUUID();
  readonly #nodes = new Map<string, Promise<boolean>>();
  readonly #flows = new Map<string, Shunted>();
  readonly #queue: Job[] = [];
  #working = false;
  #wasLost = false;
  #closing = false;
  #closed = false;
  readonly #counts = { shunted: 0, refused: 0, ended: 0 };

  private constructor(options: ZeekBridgeOptions, client: ControlClient) {
    this.#url = options.url;
    this.#warn = options.warn;
    this.#vlanKey = options.vlanKey;
    this.#client = client;
    this.#socket = new ZeekSocket(options.url, {
      message: (message) => this.#take(message),
      open: (version) => {
        if (this.#wasLost) this.#warn(`Zeek (${version}) is there again at ${this.#url}`);
        this.#wasLost = false;
        this.#tell(TOPIC.all, 'Sluice::bridge_up', broker.string(this.#instance));
      },
      lost: (why) => {
        if (!this.#wasLost)
          this.#warn(`Zeek at ${this.#url} is not there (${why}); it is tried again and again`);
        this.#wasLost = true;
      },
    });
  }

  /** @throws SluiceError GATE_DOWN */
  static async start(options: ZeekBridgeOptions): Promise<ZeekBridge> {
    const client = await ControlClient.connect(options.place);
    const bridge = new ZeekBridge(options, client);
    await client.watch(0, (event) => bridge.#watched(event));
    return bridge;
  }

  status(): ZeekStatus {
    return {
      url: this.#url,
      connected: this.#socket.isOpen,
      nodes: [...this.#nodes.keys()],
      ...this.#counts,
      lost: this.#socket.lost,
    };
  }

  #tell(topic: string, name: string, ...args: BrokerValue[]): void {
    if (!this.#closed) this.#socket.send(eventMessage(topic, name, ...args));
  }

  #answer({ node, key }: ZeekWish, name: string, ...args: BrokerValue[]): void {
    this.#tell(`${TOPIC.reply}${node}.`, name, broker.string(key), ...args);
  }

  #refuse(wish: ZeekWish, { code, message }: { code: string; message: string }): void {
    this.#counts.refused++;
    this.#answer(wish, 'Sluice::refused', broker.string(code), broker.string(message));
  }

  #take(message: ZeekMessage): void {
    if (message.kind === 'error') {
      this.#warn(`Zeek has not understood a message: ${message.code} ${message.context}`);
      return;
    }
    if (message.kind !== 'event') return;
    const { name, args } = message;
    if (name === 'Sluice::alive') {
      const node = nodeOf(args[0]);
      if (node !== undefined) this.#alive(node);
      return;
    }
    const op = name === 'Sluice::shunt' ? 'add' : name === 'Sluice::unshunt' ? 'remove' : undefined;
    const wish = op === undefined ? undefined : wishOf(args);
    if (op === undefined || wish === undefined) return;
    if (this.#queue.length >= MAX_QUEUE || (op === 'add' && this.#flows.size >= MAX_FLOWS)) {
      this.#refuse(wish, { code: 'LIMIT', message: 'too many requests at a time' });
      return;
    }
    if (!this.#vlanKey) wish.vlan = wish.innerVlan = 0;
    this.#queue.push({ op, wish, trigger: triggerOf(args) });
    void this.#work();
  }

  #owner(node: string): string {
    return `zeek-${node}`;
  }

  /** Whether the node may add. */
  #register(node: string): Promise<boolean> {
    const before = this.#nodes.get(node);
    if (before !== undefined) return before;
    if (this.#nodes.size >= MAX_NODES) return Promise.resolve(false);
    const wish = { name: this.#owner(node), lease: LEASE, idle: IDLE };
    const done = this.#client.ask('owner.register', wish).then(
      () => true,
      (error: Error) => {
        this.#nodes.delete(node);
        if (!this.#closing) this.#warn(`Zeek's node ${node} cannot shunt: ${error.message}`);
        return false;
      },
    );
    this.#nodes.set(node, done);
    return done;
  }

  /** A sign of life. */
  #alive(node: string): void {
    if (!this.#nodes.has(node)) {
      void this.#register(node);
      return;
    }
    this.#client.ask('renew', { owner: this.#owner(node) }).catch((error: Error) => {
      // Somebody has removed it.
      this.#nodes.delete(node);
      if (!this.#closing) this.#warn(`the lease of Zeek's node ${node} was not renewed: ${error.message}`);
    });
  }

  /** What has been asked for, in order, many at once. */
  async #work(): Promise<void> {
    if (this.#working) return;
    this.#working = true;
    try {
      for (let first = this.#queue[0]; first !== undefined && !this.#closed; first = this.#queue[0]) {
        const { op, wish } = first;
        let count = 1;
        while (count < BATCH && this.#queue[count]?.op === op && this.#queue[count]?.wish.node === wish.node)
          count++;
        await this.#perform(op, wish.node, this.#queue.splice(0, count));
      }
    } finally {
      this.#working = false;
    }
  }

  async #perform(op: Job['op'], node: string, jobs: readonly Job[]): Promise<void> {
    if (op === 'add' && !(await this.#register(node))) {
      for (const { wish } of jobs) this.#refuse(wish, { code: 'LIMIT', message: 'too many nodes' });
      return;
    }
    const flows = jobs.map(({ wish, trigger }) => ({
      ...nameOf(wish),
      ...(op === 'add' ? { trigger: `${trigger === '' ? 'zeek' : trigger} ${wish.key}`.slice(0, 256) } : {}),
    }));
    // Before it is asked for: a shunt may end before the answer is read.
    if (op === 'add') for (const { wish } of jobs) this.#remember(wish);
    for (let left = RETRIES; ; left--) {
      try {
        const request = op === 'add' ? { owner: this.#owner(node), flows } : { flows };
        type Results = { results: { error?: { code: string; message: string } }[] };
        const { results } = await this.#client.ask<Results>(op, request);
        for (const [i, { wish }] of jobs.entries()) this.#done(op, wish, results[i]?.error);
        return;
      } catch (thrown) {
        const error = asSluiceError(thrown);
        if (error.code === 'LIMIT' && left > 0) {
          await new Promise((again) => setTimeout(again, RETRY_MS));
          continue;
        }
        for (const { wish } of jobs) this.#done(op, wish, error);
        return;
      }
    }
  }

  #remember(wish: ZeekWish): void {
    const key = keyOf(wish);
    // Whoever has asked first is told.
    if (key !== undefined && !this.#flows.has(key)) this.#flows.set(key, { wish });
  }

  #done(op: Job['op'], wish: ZeekWish, error: { code: string; message: string } | undefined): void {
    const key = keyOf(wish);
    const known = key === undefined ? undefined : this.#flows.get(key);
    if (error !== undefined) {
      const mine = known?.wish.key === wish.key && known.wish.node === wish.node;
      // Asked for twice: it is shunted, and its end will be told.
      if (op === 'add' && error.code === 'EXISTS' && mine) this.#answer(wish, 'Sluice::shunted');
      else {
        if (op === 'add' && mine && key !== undefined) this.#flows.delete(key);
        this.#refuse(wish, error);
      }
    } else if (op === 'add') {
      this.#counts.shunted++;
      this.#answer(wish, 'Sluice::shunted');
    }
  }

  #watched(event: WatchEvent): void {
    if (event.event !== 'end') return;
    const { shunt, reason } = event;
    const key = keyText(flowKey(shunt).bytes);
    const known = this.#flows.get(key);
    if (known === undefined) return;
    this.#flows.delete(key);
    this.#counts.ended++;
    const { wish } = known;
    const [orig, resp] = isSide(wish.orig, shunt.a) ? [shunt.ab, shunt.ba] : [shunt.ba, shunt.ab];
    const { string, count, timestamp } = broker;
    const since = shunt.since ?? event.ts;
    this.#answer(
      wish,
      'Sluice::unshunted',
      string(reason),
      timestamp(since),
      timestamp(shunt.last ?? since),
      count(orig.pkts),
      count(orig.ipBytes),
      count(resp.pkts),
      count(resp.ipBytes),
    );
  }

  /** Ends that the gate is telling now are passed on first, if Zeek takes them. */
  async close(): Promise<void> {
    this.#closing = true;
    const late = performance.now() + FAREWELL_MS;
    while (this.#socket.isOpen && (this.#flows.size > 0 || this.#socket.isBehind) && performance.now() < late)
      await new Promise((again) => setTimeout(again, FAREWELL_STEP_MS));
    this.#closed = true;
    this.#socket.close();
    this.#client.close();
  }
}

const nameOf = ({ proto, orig, resp, vlan, innerVlan }: ZeekWish) => ({
  proto,
  a: orig,
  b: resp,
  vlan,
  innerVlan,
  vni: 0,
});

/** Undefined of what is no flow: addresses of two families. */
function keyOf(wish: ZeekWish): string | undefined {
  try {
    return keyText(flowKey(nameOf(wish)).bytes);
  } catch {
    return undefined;
  }
}

/** Addresses may be written in several ways. */
function isSide(end: ZeekWish['orig'], side: ShuntRow['a']): boolean {
  const other = { addr: end.addr.includes(':') ? '::' : '0.0.0.0', port: 0 };
  const key = (a: ZeekWish['orig']): string =>
    keyText(flowKey({ proto: 'tcp', a, b: other, vlan: 0, innerVlan: 0, vni: 0 }).bytes);
  return key(end) === key(side);
}
