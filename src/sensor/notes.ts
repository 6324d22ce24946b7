import { isSavedFlow, SAVED_FLOW_BYTES } from '../flow/index.ts';
import type { FlowEngineApi } from '../flow/types.ts';
import type { GateClient } from '../gate/client.ts';
import { NOTE_BYTES } from '../gate/index.ts';
import type { Absorbed, Books, Episode, ShuntTotals } from './episode.ts';

/** Another number with each change of what a note means. */
const VERSION = 1;
// Places in a note; numbers are doubles unless said otherwise.
const AT_VERSION = 0;
const AT_EPISODES = 4;
const AT_EVENTS = 8;
const AT_FLAGS = 12;
const AT_TRIGGERED = 16;
const AT_TOTALS = 24;
const AT_ABSORBED = 56;
const AT_ARMED_SEQ = 152;
const AT_TRIGGER = 160;
const TRIGGER_BYTES = 31;
const AT_FLOW = AT_TRIGGER + 1 + TRIGGER_BYTES;
const BEGUN = 1;
const STARTED = 2;
const ABSORBED: readonly (keyof Absorbed)[] = [
  'pkts',
  'ipBytes',
  'payloadBytes',
  'seqWraps',
  'rexmits',
  'zeroWindows',
];
const PROTOCOL_AT = { 4: 12, 6: 36 } as const;

/** What a note says beside the flow itself. */
export interface Note {
  trigger: string;
  totals: ShuntTotals;
  episodes: number;
  /** Of the last shunt: what of its entry is in the flow already, and what it began with. */
  triggered: number;
  begun: boolean;
  started: boolean;
  events: number;
  absorbed: readonly [Absorbed, Absorbed];
  armedSeq: readonly [number, number];
  /** SAVED_FLOW_BYTES, a view. */
  flow: Uint8Array;
}

/** Whether this version can go on with the flow of a note. */
export function isUsable(family: 4 | 6, key: Uint8Array, note: Uint8Array): boolean {
  const view = new DataView(note.buffer, note.byteOffset, NOTE_BYTES);
  return (
    view.getUint32(AT_VERSION, true) === VERSION &&
    note[AT_TRIGGER] <= TRIGGER_BYTES &&
    isSavedFlow(note.subarray(AT_FLOW, AT_FLOW + SAVED_FLOW_BYTES), key[PROTOCOL_AT[family]])
  );
}

/** Reads a note that is usable. */
export function readNote(note: Uint8Array): Note {
  const view = new DataView(note.buffer, note.byteOffset, NOTE_BYTES);
  const f64 = (at: number): number => view.getFloat64(at, true);
  const absorbed = (side: number): Absorbed => {
    const [pkts, ipBytes, payloadBytes, seqWraps, rexmits, zeroWindows] = ABSORBED.map((_, i) =>
      f64(AT_ABSORBED + side * 48 + i * 8),
    );
    return { pkts, ipBytes, payloadBytes, seqWraps, rexmits, zeroWindows };
  };
  const [origPkts, origIpBytes, respPkts, respIpBytes] = [0, 8, 16, 24].map((i) => f64(AT_TOTALS + i));
  const flags = view.getUint32(AT_FLAGS, true);
  return {
    trigger: Buffer.from(note.subarray(AT_TRIGGER + 1, AT_TRIGGER + 1 + note[AT_TRIGGER])).toString(),
    totals: { origPkts, origIpBytes, respPkts, respIpBytes },
    episodes: view.getUint32(AT_EPISODES, true),
    triggered: f64(AT_TRIGGERED),
    begun: (flags & BEGUN) !== 0,
    started: (flags & STARTED) !== 0,
    events: view.getUint32(AT_EVENTS, true),
    absorbed: [absorbed(0), absorbed(1)],
    armedSeq: [view.getUint32(AT_ARMED_SEQ, true), view.getUint32(AT_ARMED_SEQ + 4, true)],
    flow: note.subarray(AT_FLOW, AT_FLOW + SAVED_FLOW_BYTES),
  };
}

/**
 * Notes beside the entries of this worker (ADR 0017): the half of each record that is in this process, for the one that
 * comes after it when it has been killed.
 */
export class Notes {
  /** Notes that found no room. */
  lost = 0;
  readonly #engine: FlowEngineApi;
  readonly #gate: GateClient;
  readonly #trigger: (index: number) => string;
  readonly #note = new Uint8Array(NOTE_BYTES);
  readonly #view = new DataView(this.#note.buffer);
  readonly #flow = this.#note.subarray(AT_FLOW, AT_FLOW + SAVED_FLOW_BYTES);
  /** Names of policies as notes have them. */
  readonly #names = new Map<string, Uint8Array>();
  #due: Episode[] = [];

  /** `trigger` names a policy by its index. */
  constructor(engine: FlowEngineApi, gate: GateClient, trigger: (index: number) => string) {
    this.#engine = engine;
    this.#gate = gate;
    this.#trigger = trigger;
  }

  /** The next `turn` writes it. */
  due(episode: Episode): void {
    if (episode.noteDue) return;
    episode.noteDue = true;
    this.#due.push(episode);
  }

  /** Writes what is due; `booksOf` is undefined for what has its record already. */
  turn(booksOf: (episode: Episode) => Books | undefined): void {
    if (this.#due.length === 0) return;
    for (const episode of this.#due.splice(0)) {
      episode.noteDue = false;
      const books = booksOf(episode);
      if (books !== undefined) this.#write(episode, books);
    }
  }

  #write(e: Episode, books: Books): void {
    const view = this.#view;
    view.setUint32(AT_VERSION, VERSION, true);
    view.setUint32(AT_EPISODES, books.episodes, true);
    view.setUint32(AT_EVENTS, e.events, true);
    view.setUint32(AT_FLAGS, (e.begun ? BEGUN : 0) | (e.started ? STARTED : 0), true);
    view.setFloat64(AT_TRIGGERED, e.triggered, true);
    const { totals } = books;
    view.setFloat64(AT_TOTALS, totals.origPkts, true);
    view.setFloat64(AT_TOTALS + 8, totals.origIpBytes, true);
    view.setFloat64(AT_TOTALS + 16, totals.respPkts, true);
    view.setFloat64(AT_TOTALS + 24, totals.respIpBytes, true);
    for (let side = 0; side < 2; side++) {
      const at = AT_ABSORBED + side * 48;
      const absorbed = e.absorbed[side];
      for (let i = 0; i < ABSORBED.length; i++) view.setFloat64(at + i * 8, absorbed[ABSORBED[i]], true);
      view.setUint32(AT_ARMED_SEQ + side * 4, e.armedSeq[side], true);
    }
    const name = this.#nameOf(e.trigger);
    this.#note[AT_TRIGGER] = name.length;
    this.#note.set(name, AT_TRIGGER + 1);
    this.#engine.save(e.slot, this.#flow);
    if (!this.#gate.notes.write(e.family, e.key, this.#note)) this.lost++;
  }

  #nameOf(trigger: number): Uint8Array {
    const text = this.#trigger(trigger);
    let name = this.#names.get(text);
    if (name === undefined) {
      name = Buffer.from(text).subarray(0, TRIGGER_BYTES);
      this.#names.set(text, name);
    }
    return name;
  }

  /** The connection has its record. */
  remove(family: 4 | 6, key: Uint8Array): void {
    this.#gate.notes.remove(family, key);
  }
}
