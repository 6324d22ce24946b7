import { readFile } from 'node:fs/promises';
import type { GateClient } from '../gate/client.ts';
import type { Place } from '../gate/control-places.ts';
import type { HoldRow, PairRow, Request, RuleRow, ShuntRow } from '../gate/control-protocol.ts';
import type { Conversation } from '../gate/control-server.ts';
import type { FleetStatus } from '../gate/daemon-fleet.ts';
import { Entry, readEntry } from '../gate/entry.ts';
import { pairTest, prefixTest } from '../gate/exceptions.ts';
import { type FlowKey, type FlowName, flowKey } from '../gate/flow-key.ts';
import { Order, type Orders } from './client-orders.ts';

const IPPROTO_TCP = 6;
const PROTOCOL_AT = { 4: 12, 6: 36 } as const;
const KEY_SIZE = { 4: 16, 6: 48 } as const;
/** Holds that a look at one flow goes through. */
const PAGE = 1024;

/** The entries of a gate that have dropped the most. */
export interface TopShunts {
  /** Entries that drop, in all. */
  entries: number;
  rows: ShuntRow[];
}

/** What is known of one flow at one gate: why its packets do, or do not, reach the sensor. */
export interface FlowAnswer {
  interface: string;
  /** Ids that tell flows apart at this gate: what was asked of others was left out. */
  keys: { vlan: boolean; tunnel: boolean };
  /** Its entry in the gate. */
  shunt: ShuntRow | null;
  /** A worker follows the connection. */
  followed: boolean;
  pairs: PairRow[];
  holds: HoldRow[];
  /** Prefixes that are never shunted, and cover one of its addresses. */
  exceptions: string[];
}

export interface LiveGateParts {
  place: Place;
  client: GateClient;
  /** As a client of the control socket would, with the rights of the run. */
  perform(request: Request, conversation: Conversation): Promise<unknown>;
  order(orders: Orders): Promise<number[][]>;
  /** How the entry under a key is told of; undefined: there is none. */
  rowOf(key: Uint8Array): ShuntRow | undefined;
  /** Attacks are looked for. */
  mitigates: boolean;
  /** Ids of VLANs and of tunnels tell flows apart. */
  keys: { vlan: boolean; tunnel: boolean };
  hasRules: boolean;
  /** Of the source that signed rules come from; null: there is none. */
  fleet(): FleetStatus | null;
}

/** One gate of a run for whoever shows it: looks that are bounded, and the switches of rules. */
export class LiveGate {
  readonly #parts: LiveGateParts;
  #id = 0;

  constructor(parts: LiveGateParts) {
    this.#parts = parts;
  }

  get name(): string {
    return this.#parts.place.ifname;
  }

  get hasRules(): boolean {
    return this.#parts.hasRules;
  }

  get fleet(): FleetStatus | null {
    return this.#parts.fleet();
  }

  /** Goes through the tables off the event loop, and keeps no more than it hands out. */
  async top(most: number): Promise<TopShunts> {
    const entry = new Entry();
    const best: { key: Uint8Array; bytes: number }[] = [];
    let entries = 0;
    for (const family of [4, 6] as const) {
      const size = KEY_SIZE[family];
      await this.#parts.client.sweep(family, (keys, offset, values, at) => {
        const key = keys.subarray(offset, offset + size);
        readEntry(values, at, family, key[PROTOCOL_AT[family]] === IPPROTO_TCP, entry);
        if (entry.ending) return;
        entries++;
        const bytes = entry.dirs[0].ipBytes + entry.dirs[1].ipBytes;
        if (bytes === 0 || (best.length === most && bytes <= best[most - 1].bytes)) return;
        let place = best.length;
        while (place > 0 && best[place - 1].bytes < bytes) place--;
        best.splice(place, 0, { key: key.slice(), bytes });
        if (best.length > most) best.pop();
      });
    }
    const rows: ShuntRow[] = [];
    for (const { key } of best) {
      const row = this.#parts.rowOf(key);
      if (row !== undefined) rows.push(row);
    }
    return { entries, rows };
  }

  /** @throws SluiceError USAGE for what names no flow */
  async look(flow: FlowName): Promise<FlowAnswer> {
    const { keys } = this.#parts;
    const key = flowKey({
      ...flow,
      ...(keys.vlan ? {} : { vlan: 0, innerVlan: 0 }),
      ...(keys.tunnel ? {} : { vni: 0, geneveVni: 0 }),
    });
    const { pairs } = (await this.#ask({ op: 'pair.list' })) as { pairs: PairRow[] };
    const { exceptions } = (await this.#ask({ op: 'exception.list' })) as { exceptions: string[] };
    const holds: HoldRow[] = [];
    await this.#ask({ op: 'hold.list', page: PAGE }, holds);
    return {
      interface: this.name,
      keys,
      shunt: this.#parts.rowOf(key.bytes) ?? null,
      followed: await this.#isFollowed(key),
      pairs: pairs.filter(({ a, b }) => pairTest(a, b)(key.bytes)),
      holds: holds.filter((hold) => sameKey(flowKey(hold), key)),
      exceptions: exceptions.filter((prefix) => isCovered(prefix, key)),
    };
  }

  async #isFollowed({ family, bytes }: FlowKey): Promise<boolean> {
    const answers = await this.#parts.order({ look: [{ family, key: bytes }] });
    return answers.some(([said]) => said !== undefined && said !== Order.unknown);
  }

  async rules(): Promise<RuleRow[]> {
    if (!this.hasRules) return [];
    const rows: RuleRow[] = [];
    await this.#ask({ op: 'rule.list', page: PAGE }, rows);
    return rows;
  }

  /** @throws SluiceError NOT_FOUND, and what a change of rules may be refused with */
  async switchRule(id: string, on: boolean): Promise<void> {
    await this.#ask({ op: 'rule.switch', ids: [id], on, why: 'dashboard' });
  }

  /** As `sluice attack ls --json` has them; none where nothing looks for them. */
  async attacks(): Promise<unknown[]> {
    if (!this.#parts.mitigates) return [];
    try {
      const value: unknown = JSON.parse(await readFile(this.#parts.place.attacks, 'utf8'));
      return Array.isArray(value) ? value : [];
    } catch {
      // It is just being written, or has gone with the run.
      return [];
    }
  }

  /** What is answered; pages come into `rows`. */
  async #ask(request: object, rows: unknown[] = []): Promise<unknown> {
    const conversation: Conversation = {
      peer: { uid: process.getuid?.(), pid: process.pid },
      page: async (more) => {
        rows.push(...more);
      },
      watch: () => {},
      unwatch: () => {},
    };
    return await this.#parts.perform({ id: ++this.#id, ...request } as Request, conversation);
  }
}

function sameKey(a: FlowKey, b: FlowKey): boolean {
  return Buffer.compare(a.bytes, b.bytes) === 0;
}

function isCovered(prefix: string, { family, bytes }: FlowKey): boolean {
  const size = family === 4 ? 4 : 16;
  const covers = prefixTest(prefix);
  return covers(bytes, 0, size) || covers(bytes, size, size);
}
