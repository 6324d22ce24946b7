import type { FlowEngine } from '../flow/index.ts';
import { FlowFlag } from '../flow/index.ts';
import type { FlowHooks, Side } from '../flow/types.ts';
import { type PolicyPlan, SPARED, type SparedWhy } from '../policy/index.ts';
import { Decider } from './decider.ts';
import type { Geography } from './facts.ts';

/** Policies that are tried together. */
export interface Scenario {
  name: string;
  plan: PolicyPlan;
}

/** What a policy, or a whole scenario, would have kept from the sensor. Bytes are IP bytes. */
export interface WouldShunt {
  connections: number;
  packets: number;
  bytes: number;
}

/** What a scenario comes to. */
export interface Outcome extends WouldShunt {
  name: string;
  policies: ({ name: string; noted: number; spared: Record<SparedWhy, number> } & WouldShunt)[];
  /** Payload-bearing bytes that no parser would have seen, by service of their connections. */
  content: Record<string, WouldShunt>;
  /** Connections that may carry files, in the clear, and would have been cut. */
  filesCut: number;
  /** Megabits per second that are left to the sensor: on average, and in its busiest second. */
  left: { average: number; peak: number };
  /** Bytes dropped, by second of the capture (or by `stepSeconds` of them). */
  dropped: readonly number[];
}

export interface WhatIfResult {
  packets: number;
  bytes: number;
  connections: number;
  seconds: number;
  /** Megabits per second without any shunting. */
  all: { average: number; peak: number };
  stepSeconds: number;
  total: readonly number[];
  scenarios: readonly Outcome[];
}

const SYN_FIN_RST = 0x07;
const IPPROTO_TCP = 6;
/** Parts of the time that the capture spans; beyond, two are made one. */
const MOST_STEPS = 4096;
/** What files are taken out of. */
const FILE_SERVICES = /(^|,)(http|smb|ftp|ftp-data|smtp|imap|pop3|irc|mqtt)(,|$)/;
const NO_SERVICE = '(none)';

/** Bytes by time, at a step that grows with the capture. */
class Timeline {
  readonly bytes = new Float64Array(MOST_STEPS);
  last = 0;

  add(step: number, bytes: number): void {
    this.bytes[step] += bytes;
    if (step > this.last) this.last = step;
  }

  /** Two steps become one. */
  halve(): void {
    for (let i = 0; i < MOST_STEPS / 2; i++) this.bytes[i] = this.bytes[2 * i] + this.bytes[2 * i + 1];
    this.bytes.fill(0, MOST_STEPS / 2);
    this.last >>>= 1;
  }
}

/** A connection that a scenario shunts. */
interface Shunted extends WouldShunt {
  policy: number;
  /** Dropped from this packet time on: what is on its way into the gate until then passes. */
  from: number;
  /** The gate has let go: a FIN, RST or SYN has come. */
  ended: boolean;
  /** What each direction had, in the unit of the policy's threshold, when the gate was armed. */
  armedAt: readonly [number, number] | undefined;
}

/** All between two addresses, for a time. */
interface Pair {
  policy: number;
  from: number;
  until: number;
}

class Trial {
  readonly name: string;
  readonly decider: Decider;
  readonly sum: WouldShunt = { connections: 0, packets: 0, bytes: 0 };
  readonly policies: Outcome['policies'];
  readonly content = new Map<string, WouldShunt>();
  readonly dropped = new Timeline();
  readonly shunted = new Map<number, Shunted>();
  readonly pairs = new Map<string, Pair>();
  /** What was dropped of each flow because of its addresses. */
  readonly paired = new Map<number, Shunted>();
  /** Flows that are asked about no more: their policy does not drop them by themselves. */
  readonly settled = new Set<number>();
  filesCut = 0;

  constructor(engine: FlowEngine, maxFlows: number, { name, plan }: Scenario, geography?: Geography) {
    this.name = name;
    this.policies = plan.specs.map((spec) => ({
      name: spec.name,
      connections: 0,
      packets: 0,
      bytes: 0,
      noted: 0,
      spared: Object.fromEntries(SPARED.map((why) => [why, 0])) as Record<SparedWhy, number>,
    }));
    this.decider = new Decider(
      engine,
      maxFlows,
      plan,
      {
        noted: (_slot, index) => {
          this.policies[index].noted++;
        },
        spared: (_slot, index, why) => {
          this.policies[index].spared[why]++;
        },
      },
      geography,
    );
  }
}

/**
 * What policies would have dropped of a capture, had it been live: scenarios side by side over one engine. A shunt begins
 * some time after the packet that triggers it, as in a run; SYN, FIN and RST pass and end it, save in a pair of addresses.
 */
export class WhatIf {
  readonly #engine: FlowEngine;
  readonly #delay: number;
  readonly #trials: readonly Trial[];
  readonly #total = new Timeline();
  #stepSeconds = 1;
  #first = Number.NaN;
  #last = 0;
  #packets = 0;
  #bytes = 0;
  #connections = 0;
  /** TCP flags of the packet that is accounted. */
  #flags = 0;
  /** IP bytes of each flow so far. */
  readonly #seen: Float64Array;

  /** `delay`: seconds from the triggering packet to the first that can be dropped. */
  constructor(
    engine: FlowEngine,
    maxFlows: number,
    scenarios: readonly Scenario[],
    delay: number,
    geography?: Geography,
  ) {
    this.#engine = engine;
    this.#delay = delay;
    this.#seen = new Float64Array(maxFlows);
    this.#trials = scenarios.map((scenario) => new Trial(engine, maxFlows, scenario, geography));
  }

  /** To be called where the engine calls the hooks of the same name. */
  readonly hooks: Pick<FlowHooks, 'beforePacket' | 'closed'> = {
    beforePacket: (_slot, _side, tcpFlags) => {
      this.#flags = tcpFlags;
    },
    closed: (slot) => {
      this.#connections++;
      this.#seen[slot] = 0;
      for (const trial of this.#trials) this.#closed(trial, slot);
    },
  };

  /** A packet of the flow in `slot` has been accounted. */
  packet(slot: number, ts: number): void {
    const engine = this.#engine;
    const sum = engine.ipBytes(slot, 0) + engine.ipBytes(slot, 1);
    const ipBytes = sum - this.#seen[slot];
    this.#seen[slot] = sum;
    const step = this.#stepOf(ts);
    this.#packets++;
    this.#bytes += ipBytes;
    this.#total.add(step, ipBytes);
    const closing = engine.proto(slot) === IPPROTO_TCP && (this.#flags & SYN_FIN_RST) !== 0;
    const news = (engine.flags(slot) & FlowFlag.news) !== 0;
    for (const trial of this.#trials) {
      const shunted = trial.shunted.get(slot);
      if (shunted === undefined || shunted.ended) {
        if (trial.pairs.size > 0 && this.#inPair(trial, slot, ts, ipBytes)) {
          trial.dropped.add(step, ipBytes);
          continue;
        }
        if (trial.settled.has(slot)) continue;
        const index = trial.decider.consider(slot, ts, news);
        if (index >= 0) this.#begin(trial, slot, index, ts, shunted);
      } else if (closing) shunted.ended = true;
      else if (ts >= shunted.from && !this.#waits(trial, shunted, slot)) {
        shunted.packets++;
        shunted.bytes += ipBytes;
        trial.dropped.add(step, ipBytes);
      }
    }
    if (news && engine.isShuntable(slot)) engine.takeNews(slot);
    // So that the engine tells the flags of every packet.
    if (!engine.isMarked(slot)) engine.setMark(slot, true);
    this.#flags = 0;
  }

  #begin(trial: Trial, slot: number, policy: number, ts: number, before: Shunted | undefined): void {
    const action = trial.decider.policies.action(policy);
    const from = ts + this.#delay;
    if (action === 'bypass' || action === 'pair') {
      trial.settled.add(slot);
      const { for: seconds = 0 } = trial.decider.policies.specs[policy];
      if (action === 'pair') trial.pairs.set(this.#addresses(slot), { policy, from, until: from + seconds });
      return;
    }
    const armedAt = action === 'arm' ? this.#passed(trial, policy, slot) : undefined;
    if (before === undefined)
      trial.shunted.set(slot, { policy, from, ended: false, armedAt, connections: 1, packets: 0, bytes: 0 });
    else Object.assign(before, { from, ended: false, armedAt });
  }

  /** Whether a pair drops this packet: whatever it is, a SYN too. */
  #inPair(trial: Trial, slot: number, ts: number, ipBytes: number): boolean {
    const addresses = this.#addresses(slot);
    const pair = trial.pairs.get(addresses);
    if (pair === undefined || ts < pair.from) return false;
    if (ts > pair.until) {
      trial.pairs.delete(addresses);
      return false;
    }
    const { policy, from } = pair;
    let sum = trial.paired.get(slot);
    if (sum === undefined) {
      sum = { policy, from, ended: false, armedAt: undefined, connections: 1, packets: 0, bytes: 0 };
      trial.paired.set(slot, sum);
    }
    sum.packets++;
    sum.bytes += ipBytes;
    return true;
  }

  /** Both addresses of a flow, the lower one first. */
  #addresses(slot: number): string {
    const texts = ([0, 1] as const).map((side) => {
      const { u8, at, bytes } = this.#engine.address(slot, side);
      return Buffer.from(u8.buffer, u8.byteOffset + at, bytes).toString('hex');
    });
    return texts.toSorted().join(' ');
  }

  /** Packets or IP bytes of each direction, as the policy's threshold counts. */
  #passed(trial: Trial, policy: number, slot: number): readonly [number, number] {
    const engine = this.#engine;
    const { after } = trial.decider.policies.specs[policy];
    const of = (side: Side): number =>
      after !== undefined && 'packets' in after ? engine.packets(slot, side) : engine.ipBytes(slot, side);
    return [of(0), of(1)];
  }

  /** It passes still, up to the threshold: the packet that reaches it does as well. */
  #waits(trial: Trial, shunted: Shunted, slot: number): boolean {
    const { armedAt, policy } = shunted;
    if (armedAt === undefined) return false;
    const { after } = trial.decider.policies.specs[policy];
    const most = after === undefined ? 0 : 'packets' in after ? after.packets : after.bytes;
    const now = this.#passed(trial, policy, slot);
    if (now[0] - armedAt[0] < most && now[1] - armedAt[1] < most) return true;
    shunted.armedAt = undefined;
    return true;
  }

  #closed(trial: Trial, slot: number): void {
    trial.decider.closed(slot);
    trial.settled.delete(slot);
    for (const map of [trial.shunted, trial.paired]) {
      const shunted = map.get(slot);
      map.delete(slot);
      if (shunted !== undefined && shunted.packets > 0) this.#addUp(trial, slot, shunted);
    }
  }

  #addUp(trial: Trial, slot: number, shunted: Shunted): void {
    add(trial.sum, shunted);
    add(trial.policies[shunted.policy], shunted);
    const services = this.#engine.content.services(slot) ?? NO_SERVICE;
    let content = trial.content.get(services);
    if (content === undefined) {
      content = { connections: 0, packets: 0, bytes: 0 };
      trial.content.set(services, content);
    }
    add(content, shunted);
    const encrypted = (this.#engine.flags(slot) & (FlowFlag.tlsEstablished | FlowFlag.sshEncrypted)) !== 0;
    if (!encrypted && FILE_SERVICES.test(services)) trial.filesCut++;
  }

  #stepOf(ts: number): number {
    if (Number.isNaN(this.#first)) this.#first = ts;
    if (ts > this.#last) this.#last = ts;
    let step = Math.max(0, Math.floor((ts - this.#first) / this.#stepSeconds));
    while (step >= MOST_STEPS) {
      this.#stepSeconds *= 2;
      this.#total.halve();
      for (const { dropped } of this.#trials) dropped.halve();
      step = Math.floor((ts - this.#first) / this.#stepSeconds);
    }
    return step;
  }

  /** To be called once the engine has ended all flows. */
  result(): WhatIfResult {
    const seconds = this.#packets === 0 ? 0 : this.#last - this.#first;
    const steps = this.#total.last + 1;
    const step = this.#stepSeconds;
    const total = this.#total.bytes.slice(0, steps);
    const peak = (bytes: Float64Array) =>
      megabits(
        bytes.reduce((a, b) => Math.max(a, b), 0),
        step,
      );
    return {
      packets: this.#packets,
      bytes: this.#bytes,
      connections: this.#connections,
      seconds,
      all: { average: megabits(this.#bytes, Math.max(seconds, step)), peak: peak(total) },
      stepSeconds: step,
      total: [...total],
      scenarios: this.#trials.map((trial) => {
        const dropped = trial.dropped.bytes.slice(0, steps);
        return {
          name: trial.name,
          ...trial.sum,
          policies: trial.policies,
          content: Object.fromEntries([...trial.content].toSorted(([, a], [, b]) => b.bytes - a.bytes)),
          filesCut: trial.filesCut,
          left: {
            average: megabits(this.#bytes - trial.sum.bytes, Math.max(seconds, step)),
            peak: peak(total.map((bytes, i) => bytes - dropped[i])),
          },
          dropped: [...dropped],
        };
      }),
    };
  }
}

function megabits(bytes: number, seconds: number): number {
  return seconds > 0 ? (bytes * 8) / seconds / 1e6 : 0;
}

function add(sum: WouldShunt, more: WouldShunt): void {
  sum.connections += more.connections;
  sum.packets += more.packets;
  sum.bytes += more.bytes;
}
