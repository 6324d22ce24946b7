import { ClassicEngine, compileFilterText, FrameBatch, type Language } from '../src/filter/index.ts';
import {
  type AttackRecord,
  type DetectorOptions,
  Responder,
  SampleColumns,
  SampleReader,
} from '../src/mitigation/index.ts';
import { Packet } from '../src/packet/packet.ts';
import type { RuleAction } from '../src/rules/spec.ts';
import type { Packets } from './attack-traffic.ts';
import { Random } from './attack-traffic.ts';

/** Seconds from a decision to a set of rules in the kernel that the simulation assumes: docs/bench.md has what is measured. */
const TO_LIVE = 0.1;
/** Samples that become columns at a time. */
const BATCH = 64;

export interface SimulationOptions {
  usual: (passOver: number) => Uint8Array;
  /** Undefined: nothing but the usual. */
  attack: Packets | undefined;
  usualPps: number;
  attackPps: number;
  /** Sampling: 1 in so many. */
  every: number;
  /** Seconds before the attack, and of it. */
  before: number;
  during: number;
  seed: number;
  detector?: Partial<DetectorOptions>;
}

export interface SimulationResult {
  records: AttackRecord[];
  /** Seconds from the first attack packet: noticed, first packet dropped; undefined: never. */
  noticed: number | undefined;
  firstDrop: number | undefined;
  /** Shares of packets: of the attack after the first drop and in all; of the usual ones while it lasts. */
  droppedAfter: number;
  droppedAll: number;
  usualDropped: number;
  samples: number;
  cpuSeconds: number;
  memory: number;
}

class LiveRule {
  readonly #engine: ClassicEngine;
  readonly #action: RuleAction;
  /** By what it is kept for. */
  readonly #buckets = new Map<string, { tokens: number; at: number }>();

  constructor(expr: string, lang: Language, action: RuleAction) {
    this.#engine = new ClassicEngine(compileFilterText(expr, lang));
    this.#action = action;
  }

  /** Whether the IPv4 frame, which is in the batch alone and stands for `weight`, is dropped. */
  drops(batch: FrameBatch, frame: Uint8Array, now: number, weight: number): boolean {
    this.#engine.run(batch);
    if (batch.returns[0] === 0) return false;
    if (this.#action.kind !== 'limit') return true;
    const { rate, burst, per } = this.#action;
    const key = per === 'source' ? frame.subarray(26, 30) : per === 'target' ? frame.subarray(30, 34) : [];
    const most = rate * burst + weight;
    const bucket = this.#buckets.get(key.join('.')) ?? { tokens: most, at: now };
    this.#buckets.set(key.join('.'), bucket);
    bucket.tokens = Math.min(most, bucket.tokens + rate * (now - bucket.at));
    bucket.at = now;
    if (bucket.tokens < weight) return true;
    bucket.tokens -= weight;
    return false;
  }
}

/** Traffic in simulated time through sampling, detection, rules, and what these drop: every packet is one sample of `every`. */
export function simulate(options: SimulationOptions): SimulationResult {
  const { usualPps, attackPps, every, before, during } = options;
  const random = new Random(options.seed);
  const start = 1_700_000_000;
  let live: LiveRule[] = [];
  /** Sets of rules that take the place of the ones before, each when it is in the kernel. */
  const coming: { at: number; rules: LiveRule[] }[] = [];
  const all = new Map<string, AttackRecord>();
  let now = 0;
  const texts = new Map<string, LiveRule>();
  const responder = new Responder((record, change) => {
    all.set(record.id, record);
    const wanted = responder.records.flatMap(({ rules }) => rules);
    if (change === 'ended') return;
    const rules = wanted.map(({ expr, lang, action }) => {
      const key = `${expr} ${JSON.stringify(action)}`;
      const rule = texts.get(key) ?? new LiveRule(expr, lang, action);
      texts.set(key, rule);
      return rule;
    });
    coming.push({ at: now + TO_LIVE, rules });
  }, options.detector);
  const reader = new SampleReader();
  const columns = new SampleColumns(BATCH);
  const packet = new Packet();
  const batch = new FrameBatch(1);
  const result: SimulationResult = {
    records: [],
    noticed: undefined,
    firstDrop: undefined,
    droppedAfter: 0,
    droppedAll: 0,
    usualDropped: 0,
    samples: 0,
    cpuSeconds: 0,
    memory: responder.detector.memory,
  };
  const counts = { attack: 0, attackDropped: 0, after: 0, usual: 0, usualDropped: 0 };
  let cpu = 0;
  const usualGap = every / usualPps;
  const attackGap = options.attack === undefined ? Number.POSITIVE_INFINITY : every / attackPps;
  let nextUsual = 0;
  let nextAttack = before;
  const end = before + during;
  for (;;) {
    const isAttack = nextAttack < nextUsual;
    now = isAttack ? nextAttack : nextUsual;
    if (now >= end) break;
    const jitter = 0.5 + random.next();
    if (isAttack) nextAttack += attackGap * jitter;
    else nextUsual += usualGap * jitter;
    const bytes =
      isAttack && options.attack !== undefined ? options.attack(now - before) : options.usual(every - 1);
    packet.u8 = bytes;
    packet.caplen = bytes.length;
    packet.wirelen = bytes.length;
    packet.ts = start + now;
    result.samples++;
    batch.clear();
    batch.add(bytes, 0, bytes.length, bytes.length);
    while (coming.length > 0 && coming[0].at <= now) live = coming.shift()?.rules ?? [];
    const dropped = live.some((rule) => rule.drops(batch, bytes, now, every));
    if (isAttack) {
      counts.attack++;
      if (dropped) {
        counts.attackDropped++;
        result.firstDrop ??= now - before;
      }
      if (result.firstDrop !== undefined) counts.after++;
    } else if (now >= before) {
      counts.usual++;
      if (dropped) counts.usualDropped++;
    }
    const began = process.cpuUsage();
    if (reader.read(packet, every, columns, columns.count)) columns.count++;
    if (columns.count === BATCH || now + 0.05 >= end) {
      responder.add(columns);
      columns.count = 0;
    }
    const used = process.cpuUsage(began);
    cpu += used.user + used.system;
  }
  result.records = [...all.values()];
  const noticed = result.records
    .filter(({ judgement }) => judgement.attack)
    .map((record) => record.noticed - start - before);
  if (noticed.length > 0) result.noticed = Math.min(...noticed);
  result.droppedAfter = counts.after === 0 ? 0 : counts.attackDropped / counts.after;
  result.droppedAll = counts.attack === 0 ? 0 : counts.attackDropped / counts.attack;
  result.usualDropped = counts.usual === 0 ? 0 : counts.usualDropped / counts.usual;
  result.cpuSeconds = cpu / 1e6;
  return result;
}
