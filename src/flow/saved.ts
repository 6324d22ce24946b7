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

/** Another number with each change of what stands behind the record. */
const BESIDE_VERSION = 2;

/** Tells layouts of records apart: another version of the engine must not misread what this one has saved. */
const LAYOUT = fingerprint(JSON.stringify([layout, Tcp, Timeout, BESIDE_VERSION]));

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

// Behind the record: numbers of a handshake, then texts, each behind its length in 16 bits.
const TLS_FLAGS = 0;
const TLS_ALERT = 2;
const TLS_VERSION = 4;
const TLS_CIPHER = 6;
const TLS_CURVE = 8;
const TLS_TIME = 10;
const TEXTS = 18;
const TLS_KNOWN = 1;
const TLS_ESTABLISHED = 2;
const TLS_RESUMED = 4;
/** In place of the length of a text that there is not. */
const NO_TEXT = 0xffff;
/** Places of texts. */
const [SERVICE, MORE, HISTORY, SERVER_NAME, ALPN, JA4, JA3S, JA3] = [0, 1, 2, 3, 4, 5, 6, 7];
const TEXT_COUNT = 8;
/** Texts in the order in which they are left out when there is no room for all; before MORE the handshake as a whole goes. */
const LEFT_OUT = [JA3, JA3S, JA4, ALPN, SERVER_NAME, HISTORY, MORE, SERVICE];

const texts = Array.from<string | undefined>({ length: TEXT_COUNT });

/** Bytes of `texts`; all of them are ASCII. */
function textBytes(): number {
  let bytes = TEXTS;
  for (let i = 0; i < TEXT_COUNT; i++) bytes += 2 + (texts[i]?.length ?? 0);
  return bytes;
}

/** Writes what is beside the record, as much of it as there is room for, and answers how many bytes that took. */
function writeBeside(
  service: string | undefined,
  more: string | undefined,
  tls: TlsInfo | undefined,
  out: Buffer,
): number {
  texts[SERVICE] = service;
  texts[MORE] = more;
  texts[HISTORY] = tls?.history;
  texts[SERVER_NAME] = tls?.serverName;
  texts[ALPN] = tls?.alpn;
  texts[JA4] = tls?.ja4;
  texts[JA3S] = tls?.ja3s;
  texts[JA3] = tls?.ja3;
  let flags = tls === undefined ? 0 : TLS_KNOWN;
  let bytes = textBytes();
  for (let i = 0; bytes > TEXT_BYTES && i < LEFT_OUT.length; i++) {
    texts[LEFT_OUT[i]] = undefined;
    if (LEFT_OUT[i] === HISTORY) flags = 0;
    bytes = textBytes();
  }
  if (tls?.established === true) flags |= TLS_ESTABLISHED;
  if (tls?.resumed === true) flags |= TLS_RESUMED;
  out.writeUInt16LE(flags, TLS_FLAGS);
  out.writeInt16LE(tls?.lastAlert ?? -1, TLS_ALERT);
  out.writeUInt16LE(tls?.version ?? 0, TLS_VERSION);
  out.writeUInt16LE(tls?.cipher ?? 0, TLS_CIPHER);
  out.writeUInt16LE(tls?.curve ?? 0, TLS_CURVE);
  out.writeDoubleLE(tls?.ts ?? 0, TLS_TIME);
  let at = TEXTS;
  for (let i = 0; i < TEXT_COUNT; i++) {
    const text = texts[i];
    out.writeUInt16LE(text?.length ?? NO_TEXT, at);
    at += 2;
    if (text !== undefined) at += out.write(text, at, 'latin1');
  }
  return at;
}

/** Undefined when it is not what `writeBeside` writes. */
function readBeside(bytes: Buffer): Beside | undefined {
  if (bytes.length < TEXTS) return undefined;
  const read: (string | undefined)[] = [];
  let at = TEXTS;
  for (let i = 0; i < TEXT_COUNT; i++) {
    if (at + 2 > bytes.length) return undefined;
    const length = bytes.readUInt16LE(at);
    at += 2;
    if (length === NO_TEXT) {
      read.push(undefined);
      continue;
    }
    if (at + length > bytes.length) return undefined;
    read.push(bytes.toString('latin1', at, at + length));
    at += length;
  }
  const flags = bytes.readUInt16LE(TLS_FLAGS);
  const tls: TlsInfo | undefined =
    (flags & TLS_KNOWN) === 0
      ? undefined
      : {
          ts: bytes.readDoubleLE(TLS_TIME),
          version: bytes.readUInt16LE(TLS_VERSION),
          cipher: bytes.readUInt16LE(TLS_CIPHER),
          curve: bytes.readUInt16LE(TLS_CURVE),
          serverName: read[SERVER_NAME],
          alpn: read[ALPN],
          established: (flags & TLS_ESTABLISHED) !== 0,
          resumed: (flags & TLS_RESUMED) !== 0,
          history: read[HISTORY] ?? '',
          lastAlert: bytes.readInt16LE(TLS_ALERT),
          ja3: read[JA3],
          ja3s: read[JA3S],
          ja4: read[JA4],
        };
  return { service: read[SERVICE], more: read[MORE], tls };
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
  const text = Buffer.from(out.buffer, out.byteOffset + TEXT, TEXT_BYTES);
  const length = writeBeside(streams.service(slot), histories.more(slot), streams.info(slot), text);
  view.setUint32(FINGERPRINT, LAYOUT, true);
  view.setUint32(TEXT_LENGTH, length, true);
  const hot = slot * WORDS + FLAGS;
  for (let i = 0; i < HOT_SAVED; i++) view.setInt32(RECORD + i * 4, table.words[hot + i], true);
  const cold = slot * COLD_BYTES;
  out.set(table.coldBytes.subarray(cold + COLD_FROM, cold + COLD_BYTES), COLD);
  text.fill(0, length);
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
  const bytes = Buffer.from(saved.buffer, saved.byteOffset + TEXT, TEXT_BYTES);
  return readBeside(bytes.subarray(0, view.getUint32(TEXT_LENGTH, true)));
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
