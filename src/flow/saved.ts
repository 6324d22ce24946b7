import { Tcp } from './endpoint.ts';
import type { Histories } from './history.ts';
import * as layout from './layout.ts';
import type { Streams } from './streams.ts';
import type { FlowTable } from './table.ts';
import { Timeout } from './timeouts.ts';
import type { TlsInfo } from './types.ts';

const { C_ENDPOINT, C_ENDPOINT_WORDS, C_GENERATION, C_HASH, C_HISTORY, C_HISTORY_LENGTH } = layout;
const { CEP_RANGES, COLD_BYTES, COLD_WORDS, Flag, FLAGS, HISTORY_BYTES, PROTOCOL_SHIFT, WORDS } = layout;

/** What is saved of the parts of a record begins behind the key. */
const HOT_SAVED = WORDS - FLAGS;
const COLD_FROM = C_HASH * 4;
const COLD_SAVED = COLD_BYTES - COLD_FROM;
const FINGERPRINT = 0;
const TEXT_LENGTH = 4;
const RECORD = 8;
const COLD = RECORD + HOT_SAVED * 4;
const TEXT = COLD + COLD_SAVED;

/** Bytes of a saved flow: what `FlowEngine.save` writes and `restore` takes. */
export const SAVED_FLOW_BYTES = 704;
const TEXT_BYTES = SAVED_FLOW_BYTES - TEXT;

/** What another flow has in the same place: neither these bits nor the slot's own words are taken over. */
const KEPT_FLAGS = ~(
  Flag.open |
  Flag.wide |
  Flag.marked |
  (Flag.payloadWanted * 3) |
  Flag.news |
  Flag.settled
);

/** Tells layouts of records apart: another version of the engine must not misread what this one has saved. */
const LAYOUT = fingerprint(JSON.stringify([layout, Tcp, Timeout]));

/** FNV-1a. */
function fingerprint(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}

/** What of a flow is not in its record. */
interface Beside {
  service?: string | undefined;
  /** Letters of the history beyond those in the record. */
  more?: string | undefined;
  tls?: TlsInfo | undefined;
}

/** Texts of a handshake in the order in which they are left out when there is no room for all. */
const LEFT_OUT = ['ja3', 'ja3s', 'ja4', 'alpn', 'serverName'] as const;

function besideText(beside: Beside): Uint8Array {
  const { tls } = beside;
  const encode = (): Uint8Array => Buffer.from(JSON.stringify(beside));
  let text = encode();
  if (tls !== undefined && text.length > TEXT_BYTES) {
    const less: TlsInfo = { ...tls };
    beside.tls = less;
    for (const name of LEFT_OUT) {
      less[name] = undefined;
      text = encode();
      if (text.length <= TEXT_BYTES) return text;
    }
    beside.tls = undefined;
  }
  if (text.length > TEXT_BYTES) {
    beside.more = undefined;
    text = encode();
  }
  return text.length <= TEXT_BYTES ? text : new Uint8Array(0);
}

/** Writes SAVED_FLOW_BYTES of the flow in `slot` to `out`. What payload is being recognized is not among them. */
export function saveFlow(
  table: FlowTable,
  slot: number,
  histories: Histories,
  streams: Streams,
  out: Uint8Array,
): void {
  const view = new DataView(out.buffer, out.byteOffset, SAVED_FLOW_BYTES);
  const history = histories.text(slot);
  const text = besideText({
    service: streams.service(slot),
    more: history.length > HISTORY_BYTES ? history.slice(HISTORY_BYTES) : undefined,
    tls: streams.info(slot),
  });
  view.setUint32(FINGERPRINT, LAYOUT, true);
  view.setUint32(TEXT_LENGTH, text.length, true);
  const hot = slot * WORDS + FLAGS;
  for (let i = 0; i < HOT_SAVED; i++) view.setInt32(RECORD + i * 4, table.words[hot + i], true);
  const cold = slot * COLD_BYTES;
  out.set(table.coldBytes.subarray(cold + COLD_FROM, cold + COLD_BYTES), COLD);
  out.fill(0, TEXT, SAVED_FLOW_BYTES);
  out.set(text, TEXT);
}

/** Whether these bytes are a flow that this version of the engine has saved, of this protocol. */
export function isSavedFlow(saved: Uint8Array, protocol: number): boolean {
  if (saved.length < SAVED_FLOW_BYTES) return false;
  const view = new DataView(saved.buffer, saved.byteOffset, SAVED_FLOW_BYTES);
  return (
    view.getUint32(FINGERPRINT, true) === LAYOUT &&
    view.getUint32(RECORD, true) >>> PROTOCOL_SHIFT === protocol &&
    view.getUint32(TEXT_LENGTH, true) <= TEXT_BYTES &&
    beside(saved) !== undefined
  );
}

function beside(saved: Uint8Array): Beside | undefined {
  const view = new DataView(saved.buffer, saved.byteOffset, SAVED_FLOW_BYTES);
  const text = saved.subarray(TEXT, TEXT + view.getUint32(TEXT_LENGTH, true));
  if (text.length === 0) return {};
  try {
    return JSON.parse(Buffer.from(text).toString()) as Beside;
  } catch {
    return undefined;
  }
}

/** Makes the fresh record in `slot` the one that was saved (`isSavedFlow`), with the identity of the slot. */
export function restoreFlow(
  table: FlowTable,
  slot: number,
  histories: Histories,
  streams: Streams,
  saved: Uint8Array,
): void {
  const { words, cold, coldBytes } = table;
  const view = new DataView(saved.buffer, saved.byteOffset, SAVED_FLOW_BYTES);
  const hot = slot * WORDS + FLAGS;
  const at = slot * COLD_WORDS;
  const flags = words[hot];
  const hash = cold[at + C_HASH];
  const generation = cold[at + C_GENERATION];
  const record = slot * COLD_BYTES;
  for (let i = 0; i < HOT_SAVED; i++) words[hot + i] = view.getInt32(RECORD + i * 4, true);
  coldBytes.set(saved.subarray(COLD, COLD + COLD_SAVED), record + COLD_FROM);
  words[hot] = flags | (words[hot] & KEPT_FLAGS);
  cold[at + C_HASH] = hash;
  cold[at + C_GENERATION] = generation;
  // What had come above a hole is not known any more: it is missed unless it comes again.
  for (let side = 0; side < 2; side++) cold[at + C_ENDPOINT + side * C_ENDPOINT_WORDS + CEP_RANGES] = 0;
  const { service, more = '', tls } = beside(saved) ?? {};
  const length = Math.max(0, Math.min(cold[at + C_HISTORY_LENGTH], HISTORY_BYTES));
  cold[at + C_HISTORY_LENGTH] = length;
  coldBytes.fill(0, record + C_HISTORY + length, record + C_HISTORY + HISTORY_BYTES);
  if (length === HISTORY_BYTES) for (const letter of more) histories.addLetter(slot, letter.charCodeAt(0));
  if (service !== undefined || tls !== undefined) streams.known(slot, service, tls);
}
