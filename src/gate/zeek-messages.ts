import { isIP } from 'node:net';

/**
 * Events as they go over Zeek's WebSocket (version 1, `/v1/messages/json`): Broker's values in JSON, each with its type. Nothing
 * here throws, whatever the bytes.
 */

/** What Zeek publishes, and what the gate publishes: to the node that asked, and to all. */
export const TOPIC = { requests: 'sluice.request', reply: 'sluice.reply.', all: 'sluice.all.' } as const;

/** Characters of a message that are looked at: larger ones are none of ours. */
export const MAX_MESSAGE = 16_384;
const MAX_TEXT = 128;

export interface BrokerValue {
  '@data-type': string;
  data: unknown;
}

export type ZeekMessage =
  | { kind: 'ack'; version: string }
  | { kind: 'event'; topic: string; name: string; args: readonly BrokerValue[] }
  | { kind: 'error'; code: string; context: string };

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const isValue = (value: unknown): value is BrokerValue =>
  isObject(value) && typeof value['@data-type'] === 'string' && 'data' in value;

const short = (value: unknown): string => (typeof value === 'string' ? value.slice(0, MAX_TEXT) : '');

/** Undefined: no message that concerns us. */
export function parseMessage(text: string): ZeekMessage | undefined {
  if (text.length > MAX_MESSAGE) return undefined;
  let message: unknown;
  try {
    message = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (!isObject(message)) return undefined;
  switch (message['type']) {
    case 'ack':
      return { kind: 'ack', version: short(message['version']) };
    case 'error':
      return { kind: 'error', code: short(message['code']), context: short(message['context']) };
    case 'data-message':
      return parseEvent(message);
    default:
      return undefined;
  }
}

/** [format 1, type 1 (event), [name, arguments (, metadata)]] */
function parseEvent(message: Record<string, unknown>): ZeekMessage | undefined {
  const { topic, data } = message;
  if (typeof topic !== 'string' || message['@data-type'] !== 'vector' || !Array.isArray(data))
    return undefined;
  const [format, type, body] = data as unknown[];
  if (!isValue(format) || format.data !== 1 || !isValue(type) || type.data !== 1) return undefined;
  const [name, args] = vectorOf(body) ?? [];
  const values = vectorOf(args);
  if (!isValue(name) || name['@data-type'] !== 'string' || values === undefined) return undefined;
  return { kind: 'event', topic, name: short(name.data), args: values };
}

function vectorOf(value: unknown): BrokerValue[] | undefined {
  if (!isValue(value) || value['@data-type'] !== 'vector' || !Array.isArray(value.data)) return undefined;
  const elements = value.data as unknown[];
  return elements.every(isValue) ? elements : undefined;
}

export const broker = {
  string: (data: string): BrokerValue => ({ '@data-type': 'string', data }),
  count: (data: number): BrokerValue => ({ '@data-type': 'count', data }),
  /** Seconds since the epoch. */
  timestamp: (seconds: number): BrokerValue => ({
    '@data-type': 'timestamp',
    data: new Date(seconds * 1000).toISOString().slice(0, -1),
  }),
  vector: (data: readonly BrokerValue[]): BrokerValue => ({ '@data-type': 'vector', data }),
} as const;

/** An event as a message. */
export function eventMessage(topic: string, name: string, ...args: BrokerValue[]): string {
  const { count, string, vector } = broker;
  const event = vector([count(1), count(1), vector([string(name), vector(args)])]);
  return JSON.stringify({ type: 'data-message', topic, ...event });
}

/** A connection as Zeek names it, and what it wants of it. */
export interface ZeekWish {
  /** Of which node it is: what comes of it is published there. */
  node: string;
  /** Its uid, or what else the script calls it. */
  key: string;
  proto: 'tcp' | 'udp';
  orig: { addr: string; port: number };
  resp: { addr: string; port: number };
  vlan: number;
  innerVlan: number;
}

const NODE = /^[A-Za-z0-9][A-Za-z0-9._-]{0,26}$/;
const PORT = /^(\d{1,5})\/(tcp|udp)$/;

const text = (value: BrokerValue | undefined): string | undefined =>
  value?.['@data-type'] === 'string' && typeof value.data === 'string' && value.data.length <= MAX_TEXT
    ? value.data
    : undefined;

/** The name of a node: it becomes part of an owner's name and of a topic. */
export function nodeOf(value: BrokerValue | undefined): string | undefined {
  const name = text(value);
  return name !== undefined && NODE.test(name) ? name : undefined;
}

function endpoint(
  addr: BrokerValue | undefined,
  port: BrokerValue | undefined,
): { addr: string; port: number; proto: 'tcp' | 'udp' } | undefined {
  if (addr?.['@data-type'] !== 'address' || typeof addr.data !== 'string' || isIP(addr.data) === 0)
    return undefined;
  const found =
    port?.['@data-type'] === 'port' && typeof port.data === 'string' ? PORT.exec(port.data) : null;
  if (found === null || addr.data.includes('%')) return undefined;
  const number = Number(found[1]);
  return number > 65_535 ? undefined : { addr: addr.data, port: number, proto: found[2] as 'tcp' | 'udp' };
}

function vlanOf(value: BrokerValue | undefined): number | undefined {
  const id = value?.['@data-type'] === 'count' ? value.data : undefined;
  return typeof id === 'number' && Number.isInteger(id) && id >= 0 && id < 4096 ? id : undefined;
}

/** From the arguments (node, key, orig_h, orig_p, resp_h, resp_p, vlan, inner_vlan, …); undefined when they are not that. */
export function wishOf(args: readonly BrokerValue[]): ZeekWish | undefined {
  const node = nodeOf(args[0]);
  const key = text(args[1]);
  const orig = endpoint(args[2], args[3]);
  const resp = endpoint(args[4], args[5]);
  const vlan = vlanOf(args[6]);
  const innerVlan = vlanOf(args[7]);
  if (node === undefined || key === undefined || vlan === undefined || innerVlan === undefined)
    return undefined;
  if (orig === undefined || resp === undefined || orig.proto !== resp.proto) return undefined;
  return {
    node,
    key,
    proto: orig.proto,
    orig: { addr: orig.addr, port: orig.port },
    resp: { addr: resp.addr, port: resp.port },
    vlan,
    innerVlan,
  };
}

/** Why: the last argument of a request; empty when there is none. */
export const triggerOf = (args: readonly BrokerValue[]): string => text(args[8]) ?? '';
