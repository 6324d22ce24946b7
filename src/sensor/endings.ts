import type { GateClient } from '../gate/client.ts';
import { Entry } from '../gate/entry.ts';
import type { Absorption } from './absorption.ts';
import type { Books, Episode } from './episode.ts';

export interface EndingsEvents {
  /** The books of its connection, unless they are those of another shunt or the record is written. */
  books(episode: Episode): Books | undefined;
  /** Packets that were dropped after the connection's record had been written. */
  late(pkts: number, ipBytes: number): void;
  /** Its entry is gone: the connection may be shunted again. */
  gone(episode: Episode): void;
}

/** Entries that have ended: read a last time after a grace period, and deleted. */
export class Endings {
  readonly #gate: GateClient;
  readonly #absorption: Absorption;
  readonly #events: EndingsEvents;
  readonly #entry = new Entry();
  #ending: Episode[] = [];
  /** One of them may be of a connection that goes on, and is to be shunted again. */
  #hurry = false;
  #cleaning: Promise<void> | undefined;

  constructor(gate: GateClient, absorption: Absorption, events: EndingsEvents) {
    this.#gate = gate;
    this.#absorption = absorption;
    this.#events = events;
  }

  add(episode: Episode): void {
    episode.phase = 'ending';
    if (episode.reason !== 'fin') this.#hurry = true;
    this.#ending.push(episode);
  }

  /** Goes on with what is there, off the event loop. */
  turn(): void {
    if (this.#ending.length > 0) void this.#clean();
  }

  /** Resolves when nothing is left. */
  async finish(): Promise<void> {
    while (this.#ending.length > 0 || this.#cleaning !== undefined) await this.#clean();
  }

  #clean(): Promise<void> {
    this.#cleaning ??= this.#cleanAll().finally(() => {
      this.#cleaning = undefined;
    });
    return this.#cleaning;
  }

  async #cleanAll(): Promise<void> {
    const batch = this.#ending;
    this.#ending = [];
    const hurry = this.#hurry;
    this.#hurry = false;
    await (hurry ? this.#gate.grace() : this.#gate.graceSoon());
    for (const e of batch) {
      if (this.#gate.read(e.family, e.key, e.tcp, this.#entry)) {
        this.#lastLook(e);
        this.#gate.remove(e.family, e.key);
      }
      this.#events.gone(e);
    }
  }

  #lastLook(e: Episode): void {
    const entry = this.#entry;
    const books = this.#events.books(e);
    if (books !== undefined) {
      this.#absorption.absorb(e, books, entry);
      return;
    }
    // The record is written. Nothing should be left; if there is, it is told.
    const [a, b] = e.absorbed;
    const pkts = entry.pkts - a.pkts - b.pkts;
    const ipBytes = entry.dirs[0].ipBytes + entry.dirs[1].ipBytes - a.ipBytes - b.ipBytes;
    if (pkts > 0) this.#events.late(pkts, ipBytes);
  }
}
