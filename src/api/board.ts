import { join } from 'node:path';
import type { ShuntRow } from '../gate/control-protocol.ts';
import type { FlowName } from '../gate/flow-key.ts';
import type { LiveRun } from '../sensor/live.ts';
import type { Board, FlowReport, Rule, TopFlow } from './board-shapes.ts';
import { checksOf } from './checks.ts';
import { attacksOf } from './events.ts';
import { searchTail } from './log-tail.ts';
import type { Sampler } from './sampler.ts';
import type { Status } from './shapes.ts';
import { whyOf } from './why.ts';

/** Flows of each gate that are looked at, and those that are shown. */
const LOOKED_AT = 100;
const SHOWN = 20;
const SERVICES = 24;
/** So long what was read last is good enough; a table that takes long to go through is read less often. */
const FRESH_MS = 2000;
const SHARE = 20;
/** Rules that are shown. */
const MOST_RULES = 500;

/** What is looked up for the dashboard, once for all who look at it. */
export class BoardMaker {
  readonly #run: LiveRun;
  readonly #status: () => Status;
  readonly #sampler: Sampler;
  #text = '';
  #until = 0;
  #making: Promise<string> | undefined;

  constructor(run: LiveRun, status: () => Status, sampler: Sampler) {
    this.#run = run;
    this.#status = status;
    this.#sampler = sampler;
  }

  /** As JSON; one that is being made serves all who ask meanwhile. */
  async text(): Promise<string> {
    if (performance.now() < this.#until) return this.#text;
    this.#making ??= this.#make().finally(() => {
      this.#making = undefined;
    });
    return await this.#making;
  }

  /** What rules are has just been changed. */
  expire(): void {
    this.#until = 0;
  }

  async #make(): Promise<string> {
    const began = performance.now();
    this.#text = JSON.stringify(await this.#board());
    const now = performance.now();
    this.#until = now + Math.max(FRESH_MS, SHARE * (now - began));
    return this.#text;
  }

  async #board(): Promise<Board> {
    const run = this.#run;
    const gates = run.gates();
    const found: TopFlow[] = [];
    let entries = 0;
    const rules: Rule[] = [];
    for (const gate of gates) {
      const top = await gate.top(LOOKED_AT);
      entries += top.entries;
      found.push(...top.rows.map((row) => topFlow(gate.name, row)));
      rules.push(...(await gate.rules()).map((rule) => ({ ...rule, interface: gate.name })));
    }
    found.sort((a, b) => b.ipBytes - a.ipBytes);
    const status = this.#status();
    const sources = run.sources();
    const mitigates = gates.some(({ hasRules }) => hasRules);
    return {
      at: status.at,
      shunts: { entries, top: found.slice(0, SHOWN) },
      talkers: { seconds: run.tallies.seconds, hosts: this.#talkers(found) },
      services: run.tallies.services(SERVICES),
      policies: run.snapshot().policies,
      rules: mitigates ? rules.slice(0, MOST_RULES) : null,
      attacks: mitigates ? await attacksOf(run) : null,
      sources,
      losses: run.losses(),
      checks: checksOf(status, sources, this.#sampler.points),
    };
  }

  /** Addresses of connections that have ended of late, and of what is being shunted: that has no record yet. */
  #talkers(top: readonly TopFlow[]): Board['talkers']['hosts'] {
    const hosts = new Map(
      this.#run.tallies.talkers(LOOKED_AT).map((tally) => [tally.name, { ...tally, liveBytes: 0 }]),
    );
    for (const { a, b, ipBytes } of top)
      for (const { addr } of [a, b]) {
        const host = hosts.get(addr) ?? {
          name: addr,
          connections: 0,
          bytes: 0,
          shuntedBytes: 0,
          liveBytes: 0,
        };
        host.liveBytes += ipBytes;
        hosts.set(addr, host);
      }
    return [...hosts.values()].toSorted((x, y) => weight(y) - weight(x)).slice(0, SHOWN);
  }

  /** @throws SluiceError USAGE */
  async look(flow: FlowName): Promise<FlowReport> {
    const answers = [];
    for (const gate of this.#run.gates()) answers.push(await gate.look(flow));
    // What tells flows apart at a gate is in conn.log too.
    const columns = {
      vlan: answers.some(({ keys }) => keys.vlan),
      tunnel: answers.some(({ keys }) => keys.tunnel),
    };
    const conn = await searchTail(join(this.#run.logDir, 'conn.log'), flow, columns);
    const shunt = await searchTail(join(this.#run.logDir, 'shunt.log'), flow);
    const { proto, a, b, vlan, innerVlan, vni, geneveVni = 0 } = flow;
    return {
      flow: { proto, a, b, vlan, innerVlan, vni, geneveVni },
      ...whyOf(flow, answers, conn),
      gates: answers.map((answer) => ({
        ...answer,
        shunt: answer.shunt === null ? null : topFlow(answer.interface, answer.shunt),
      })),
      conn: conn ?? null,
      shunt: shunt ?? null,
    };
  }
}

const weight = (host: { bytes: number; liveBytes: number }): number => host.bytes + host.liveBytes;

function topFlow(name: string, row: ShuntRow): TopFlow {
  const { proto, a, b, vlan, innerVlan, vni, geneveVni = 0, ab, ba, ...about } = row;
  const { trigger, owner, state, since, last } = about;
  const key = { proto, a, b, vlan, innerVlan, vni, geneveVni };
  return {
    ...key,
    interface: name,
    trigger,
    owner,
    state,
    since,
    last,
    pkts: ab.pkts + ba.pkts,
    ipBytes: ab.ipBytes + ba.ipBytes,
    bytes: ab.bytes + ba.bytes,
  };
}
