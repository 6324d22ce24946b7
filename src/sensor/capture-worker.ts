import { SluiceError } from '../base/errors.ts';
import type { LiveSource } from '../capture/source.ts';
import { createFlowEngine, type FlowEngine, type FlowHooks } from '../flow/index.ts';
import { GateClient } from '../gate/client.ts';
import { monotonicSeconds } from '../gate/clock.ts';
import { localAddresses } from '../gate/guard.ts';
import { END_REASONS } from '../gate/layout.ts';
import { hasLocalEndpoint } from '../gate/local.ts';
import { coarseStep, realtimeOffset } from '../kernel/index.ts';
import type { Packet } from '../packet/packet.ts';
import { SPARED } from '../policy/index.ts';
import { ClientOrders, type Orders } from './client-orders.ts';
import { ContentCut } from './content-cut.ts';
import { Decider } from './decider.ts';
import type { ShuntTotals } from './episode.ts';
import { MmdbGeography } from './geography.ts';
import { protocolPlace, publishActive, publishLosses } from './losses/worker-counters.ts';
import { isOneWay } from './one-way.ts';
import { openSource } from './open-source.ts';
import { knowledgeFor, type PlacedPlan, POLICY_ROOM } from './policy-book.ts';
import { Recovery } from './recovery.ts';
import { SampleFeed } from './sample-feed.ts';
import { POLICY_STATS, PolicyStat, SOURCE_STATS, Stat, type WorkerSetup } from './setup.ts';
import { Shunter } from './shunter.ts';
import { WorkerTallies } from './tallies.ts';
import { threadCpu } from './thread-cpu.ts';
import { WorkerLogs } from './worker-logs.ts';
import { fail, post } from './worker-post.ts';

/** Packets between two looks at the other things that a worker has to do. */
const TURN_PACKETS = 16_384;
/** Blocks, or batches of datagrams, which may hold no packet at all. */
const TURN_BLOCKS = 256;
const TICK_MS = 100;
const SWEEP_SECONDS = 5;
/** Timers stay behind by this and the time that a block of the ring may stay open: packets come that much late. */
const TIMER_LAG = 0.25;
/** Packet time that goes back by more than this is a clock that was set, not a packet that came late. */
const CLOCK_STEP = 30;
/** Beside the time that a block of the ring may stay open. */
const SETTLE_MS = 40;
/** What the ring holds at the end is there by then, unless the kernel is late with its last block. */
const LAST_BLOCK_SECONDS = 2;
const MAX_DELAYS = 100_000;

/** One capture ring, one flow table, one owner of shunts; lives in a worker thread until it is told to stop. */
export class CaptureWorker {
  readonly #setup: WorkerSetup;
  readonly #stats: Float64Array;
  readonly #source: LiveSource;
  readonly #publishSource: (out: Float64Array) => void;
  readonly #sourceStats: Float64Array;
  readonly #engine: FlowEngine;
  readonly #gate: GateClient | undefined;
  readonly #shunter: Shunter | undefined;
  readonly #cut: ContentCut | undefined;
  readonly #recovery: Recovery | undefined;
  readonly #decider: Decider;
  /** What clients of the control socket want. */
  readonly #orders: ClientOrders;
  /** By the decider's index: where the counters of a policy are (PolicyBook). */
  #places: readonly number[];
  /** How logs name the policies, by place; behind POLICY_ROOM those of an earlier run that this one does not have. */
  readonly #triggers = new Map<number, string>();
  readonly #logs: WorkerLogs;
  readonly #tallies: WorkerTallies | undefined;
  readonly #delays: number[] = [];
  #tick: NodeJS.Timeout | undefined;
  #sink: (packet: Packet) => void;
  readonly #samples: SampleFeed | undefined;
  /** Packets that came before all rings were there. */
  #early = 0;
  /** Addresses of this host, as they stand in gate keys; looked up anew with every sweep. */
  #local: ReadonlySet<string> = new Set();
  #nextSweep = 0;
  #nextRenewal = 0;
  #stopping = false;

  constructor(setup: WorkerSetup) {
    this.#setup = setup;
    this.#stats = new Float64Array(setup.stats);
    this.#sourceStats = this.#stats.subarray(Stat.source, Stat.source + SOURCE_STATS);
    this.#places = setup.policies.places;
    setup.policies.triggers.forEach((trigger, place) => this.#triggers.set(place, trigger));
    const tallies = setup.tallies ? new WorkerTallies((news) => post({ kind: 'tallies', news })) : undefined;
    this.#tallies = tallies;
    const nameOf = (place: number) => this.#triggers.get(place) ?? '';
    this.#logs = new WorkerLogs(setup, nameOf, tallies && ((record) => tallies.ended(record)));
    const { source, publish } = openSource(setup);
    this.#source = source;
    this.#publishSource = publish;
    const snap = setup.source.kind === 'interface' ? setup.source.snap : undefined;
    let shunter: Shunter | undefined;
    const hooks: FlowHooks = {
      beforePacket: (slot, side, flags, now) => shunter?.beforePacket(slot, side, flags, now),
      mayExpire: (slot, now) => shunter?.mayExpire(slot, now) ?? true,
      closed: (slot) => this.#closed(slot),
      tunnel: this.#logs.tunnel,
      returning: undefined,
    };
    this.#engine = createFlowEngine(
      {
        checksums: setup.checksums,
        bare: setup.bare,
        vlanInKey: setup.vlanKey,
        tunnelInKey: setup.tunnelKey,
        tunnelPorts: setup.tunnelPorts,
        shuntInside: setup.tunnels,
        localNets: setup.localNets,
        ...knowledgeFor(setup.policies.plan),
        maxFlows: setup.maxFlows,
        cutFrames: snap !== undefined,
        timeouts: setup.timeouts,
        clockStep: CLOCK_STEP,
      },
      hooks,
    );
    const engine = this.#engine;
    this.#decider = new Decider(
      engine,
      setup.maxFlows,
      setup.policies.plan,
      {
        noted: (slot, index) => this.#noted(slot, index),
        spared: (_slot, index, why) => {
          this.#stats[this.#statsOf(index) + PolicyStat.spared + SPARED.indexOf(why)]++;
        },
      },
      new MmdbGeography(setup.policies.geo),
    );
    this.#orders = new ClientOrders({
      engine,
      shunter: () => this.#mustShunt(),
      again: (slot) => this.#decider.again(slot),
      place: (trigger) => this.#triggerIndex(trigger),
    });
    if (setup.gate !== undefined) {
      this.#local = localAddresses();
      const gate = new GateClient(setup.gate, setup.lease);
      this.#gate = gate;
      shunter = this.#makeShunter(gate);
      if (setup.returning !== undefined)
        this.#recovery = new Recovery({ engine, gate, shunter, hooks }, setup.returning, setup, (name) =>
          this.#triggerIndex(name),
        );
      gate.lease.renew();
    }
    this.#shunter = shunter;
    const cut = snap === undefined ? undefined : new ContentCut(engine, snap, setup.maxFlows);
    this.#cut = cut;
    if (this.#gate !== undefined) this.#sink = (p) => this.#watch(p);
    else if (setup.localBypass) this.#sink = (p) => this.#countOrWatch(p);
    else if (cut === undefined) this.#sink = (p) => void engine.process(p);
    else
      this.#sink = (p) => {
        const slot = engine.process(p);
        if (slot >= 0) cut.look(slot);
      };
    if (setup.samples !== undefined) {
      this.#samples = new SampleFeed((setup.samples * TICK_MS) / 1000, setup.number, post);
      this.#sink = this.#samples.beside(this.#sink);
    }
  }

  #makeShunter(gate: GateClient): Shunter {
    const setup = this.#setup;
    const log = this.#logs;
    const engine = this.#engine;
    const stats = this.#stats;
    return new Shunter({
      engine,
      gate,
      ring: this.#source,
      idle: setup.shuntIdle,
      settleMs: 2 * setup.holdMs + SETTLE_MS,
      clockOffset: realtimeOffset,
      tick: coarseStep(),
      inTunnels: setup.tunnels.length > 0,
      isLocal: (family, key) =>
        hasLocalEndpoint(this.#local, family, key) || this.#orders.excepts(family, key),
      trigger: (place) => this.#triggers.get(place) ?? '',
      events: {
        started: (slot, trigger) => {
          stats[Stat.shuntsStarted]++;
          log.shunt(engine, slot, { event: 'start', trigger });
          this.#orders.started(slot, this.#triggers.get(trigger) ?? '');
        },
        ended: (slot, trigger, reason, dropped, delay) => {
          this.#addDropped(trigger, dropped);
          stats[Stat.ended + END_REASONS.indexOf(reason)]++;
          if (delay !== undefined && this.#delays.length < MAX_DELAYS) this.#delays.push(delay);
          log.shunt(engine, slot, { event: 'end', trigger, reason, dropped, delay });
          this.#orders.ended(slot, this.#triggers.get(trigger) ?? '', reason, dropped);
        },
        refused: (slot, trigger, reason) => {
          stats[Stat.refused]++;
          log.shunt(engine, slot, { event: 'refused', trigger, reason });
        },
        recovered: (slot, trigger, dropped, last) => {
          stats[Stat.recovered]++;
          log.shunt(engine, slot, { event: 'recovered', trigger, dropped, last });
        },
        late: (pkts) => {
          stats[Stat.latePackets] += pkts;
        },
      },
    });
  }

  /** A policy of an earlier run need not be one of this run. */
  #triggerIndex(name: string): number {
    for (const [place, trigger] of this.#triggers) if (trigger === name) return place;
    const place = POLICY_ROOM + this.#triggers.size;
    this.#triggers.set(place, name);
    return place;
  }

  #addDropped(trigger: number, { origPkts, respPkts, origIpBytes, respIpBytes }: ShuntTotals): void {
    if (trigger >= POLICY_ROOM) return;
    const at = Stat.policies + trigger * POLICY_STATS;
    this.#stats[at + PolicyStat.packets] += origPkts + respPkts;
    this.#stats[at + PolicyStat.bytes] += origIpBytes + respIpBytes;
  }

  /**
   * Begins to handle packets. Until the last ring of an interface has joined the others, each new one moves connections
   * from ring to ring: what came until now is passed over, so that each connection is in one of them from its first packet
   * that is handled.
   */
  go(): void {
    if (this.#setup.workers > 1) this.#passOver();
    this.#publish(monotonicSeconds());
    this.#tick = setInterval(() => this.turn(), TICK_MS);
    this.#source.onReadable((error) => {
      if (error !== 0) post({ kind: 'link' });
      this.turn();
    });
  }

  #passOver(): void {
    const source = this.#source;
    if (source.passOver !== undefined) {
      this.#early = source.passOver();
      return;
    }
    const sink = this.#sink;
    const barrier = source.received();
    this.#sink = (packet) => {
      if (source.position <= barrier) {
        this.#early++;
        return;
      }
      this.#sink = sink;
      sink(packet);
    };
  }

  #watch(packet: Packet): void {
    const engine = this.#engine;
    const slot = engine.process(packet);
    if (slot < 0) return;
    this.#cut?.look(slot);
    if (engine.isMarked(slot)) {
      this.#shunter?.afterPacket(slot);
      return;
    }
    const index = this.#decider.look(slot, packet.ts);
    if (index < 0) return;
    if (this.#orders.keeps(slot)) {
      this.#decider.undone(slot);
      this.#stats[this.#statsOf(index) + PolicyStat.spared + SPARED.indexOf('hold')]++;
      return;
    }
    const action = this.#decider.policies.action(index);
    if (action === 'bypass') this.#bypass(slot);
    else if (action === 'pair') this.#pair(slot, index);
    else
      this.#shunter?.request(slot, this.#places[index], packet.ts, this.#decider.policies.specs[index].after);
  }

  /** Local bypass: where nothing drops early. */
  #countOrWatch(packet: Packet): void {
    const engine = this.#engine;
    const slot = engine.process(packet);
    if (slot < 0) return;
    this.#cut?.look(slot);
    if (this.#decider.look(slot, packet.ts) >= 0) this.#bypass(slot);
  }

  #bypass(slot: number): void {
    if (this.#engine.bypass(slot)) this.#stats[Stat.bypassedConnections]++;
  }

  /** All between the addresses of this connection. Its own record has nothing of what is dropped then. */
  #pair(slot: number, index: number): void {
    const engine = this.#engine;
    engine.setSettled(slot, true);
    const { family, bytes } = engine.key(slot);
    const spec = this.#decider.policies.specs[index];
    if (hasLocalEndpoint(this.#local, family, bytes) || spec.for === undefined) return;
    const { origHost: orig, respHost: resp, vlan, innerVlan } = engine.record(slot);
    const keyed = this.#setup.vlanKey;
    post({
      kind: 'pair',
      pair: {
        orig,
        resp,
        vlan: keyed ? (vlan ?? 0) : 0,
        innerVlan: keyed ? (innerVlan ?? 0) : 0,
        seconds: spec.for,
        trigger: this.#decider.policies.trigger(index),
      },
    });
    this.#stats[this.#statsOf(index) + PolicyStat.connections]++;
  }

  /** Where the counters of the policy with this index of the decider begin. */
  #statsOf(index: number): number {
    return Stat.policies + this.#places[index] * POLICY_STATS;
  }

  #noted(slot: number, index: number): void {
    this.#stats[this.#statsOf(index) + PolicyStat.noted]++;
    this.#logs.shunt(this.#engine, slot, { event: 'noted', trigger: this.#places[index] });
  }

  /** Other policies from now on; what is shunted stays so. */
  setPolicies({ plan, places, triggers, geo }: PlacedPlan): void {
    this.#places = places;
    triggers.forEach((trigger, place) => this.#triggers.set(place, trigger));
    this.#decider.replace(plan, new MmdbGeography(geo));
  }

  #mustShunt(): Shunter {
    if (this.#shunter === undefined) throw new SluiceError('INTERNAL', 'there is no gate');
    return this.#shunter;
  }

  /** What clients of the control socket want; for each flow an answer. */
  carryOut(orders: Orders): number[] {
    return this.#stopping ? [] : this.#orders.carryOut(orders);
  }

  /** One turn: what the ring holds, then what is due. The lease is renewed by turns that were finished. */
  turn(): void {
    const source = this.#source;
    const before = source.packets;
    // Block by block: what waits on its way into the gate for one of them does not wait for those behind it.
    let blocks = 0;
    let block: number;
    do {
      block = source.sequence;
      source.drain(this.#sink, 1);
      this.#shunter?.turn();
      blocks++;
    } while (blocks < TURN_BLOCKS && block !== source.sequence && source.packets - before < TURN_PACKETS);
    const now = monotonicSeconds();
    if (source.packets !== before) this.#stats[Stat.lag] = Math.max(0, Date.now() / 1000 - this.#engine.time);
    if (source.packets === before)
      this.#engine.advance(Date.now() / 1000 - TIMER_LAG - this.#setup.holdMs / 1000);
    if (now < this.#nextRenewal) return;
    this.#nextRenewal = now + TICK_MS / 1000;
    this.#gate?.lease.renew();
    this.#samples?.turn();
    this.#shunter?.readClock();
    this.#logs.flush();
    this.#publish(now);
    const news = this.#orders.news();
    if (news !== undefined) post({ kind: 'order-news', news });
    this.#tallies?.tell(now);
    if (now >= this.#nextSweep && !this.#stopping) {
      this.#nextSweep = now + SWEEP_SECONDS;
      void this.#sweep(now);
    }
  }

  async #sweep(begun: number): Promise<void> {
    try {
      if (this.#gate !== undefined) this.#local = localAddresses();
      this.#recovery?.expire(Date.now() / 1000);
      publishActive(this.#engine, this.#stats);
      this.#stats[Stat.sweptEntries] = (await this.#shunter?.sweep()) ?? 0;
      this.#stats[Stat.sweepSeconds] = monotonicSeconds() - begun;
    } catch (error) {
      fail(error);
    }
  }

  #publish(now: number): void {
    const s = this.#stats;
    const ring = this.#source.counts();
    s[Stat.packets] = this.#source.packets - this.#early;
    s[Stat.bytes] = this.#source.bytes;
    s[Stat.activeFlows] = this.#engine.active;
    s[Stat.shuntsLive] = this.#shunter?.live ?? 0;
    s[Stat.notesLost] = this.#shunter?.notesLost ?? 0;
    s[Stat.ringPackets] = ring.packets - this.#early;
    s[Stat.ringDrops] = ring.drops;
    s[Stat.ringFreezes] = ring.freezes;
    s[Stat.cutConnections] = this.#cut?.flows ?? 0;
    s[Stat.early] = this.#early;
    this.#publishSource(this.#sourceStats);
    const { bypassedPackets, bypassedBytes } = this.#engine.stats;
    s[Stat.bypassedPackets] = bypassedPackets;
    s[Stat.bypassedBytes] = bypassedBytes;
    publishLosses(this.#engine, s);
    s[Stat.lastTurn] = now;
    s[Stat.logLinesLost] = this.#logs.lost;
    s[Stat.cpu] = threadCpu();
  }

  #closed(slot: number): void {
    const shunted = this.#shunter?.closed(slot);
    this.#decider.closed(slot);
    this.#orders.closed(slot);
    this.#cut?.closed(slot);
    const engine = this.#engine;
    this.#logs.ended(engine, slot, shunted);
    const proto = engine.proto(slot);
    const oneWay = isOneWay(proto, engine.packets(slot, 0), engine.packets(slot, 1), engine.history(slot));
    const s = this.#stats;
    s[Stat.connections]++;
    const place = protocolPlace(proto);
    if (place >= 0) s[Stat.closed + place]++;
    if (oneWay !== undefined) s[Stat.judged]++;
    if (oneWay === true) s[Stat.oneWay]++;
    if (shunted === undefined || shunted.carrier) return;
    if (shunted.totals.origPkts + shunted.totals.respPkts === 0) return;
    s[Stat.shuntedConnections]++;
    if (shunted.trigger < POLICY_ROOM)
      s[Stat.policies + shunted.trigger * POLICY_STATS + PolicyStat.connections]++;
  }

  /** The gate is a filter on the socket of its source, which has one. */
  filterBy(program: number): void {
    this.#source.filterBy?.({ fd: program });
  }

  /** Ends every shunt and takes the last counts in. */
  async settle(): Promise<void> {
    this.#stopping = true;
    await this.#shunter?.stop();
  }

  /** Lets nothing more come into the ring: the traffic does not end because we do. */
  deafen(): void {
    clearInterval(this.#tick);
    this.#source.stopReceiving();
  }

  /** Handles what is there, writes every record, gives everything back. */
  async stop(): Promise<Float64Array> {
    await this.#drainRing();
    this.#recovery?.finish();
    this.#engine.finish();
    this.#tallies?.tell();
    publishActive(this.#engine, this.#stats);
    this.#logs.flush();
    this.#publish(monotonicSeconds());
    this.#gate?.lease.drop();
    this.#source.close();
    this.#cut?.close();
    this.#gate?.close();
    this.#logs.close();
    return Float64Array.from(this.#delays);
  }

  /** Handles all that the ring has counted. */
  async #drainRing(): Promise<void> {
    const until = monotonicSeconds() + LAST_BLOCK_SECONDS;
    for (;;) {
      // Asked before: also when this thread had to wait for a CPU all the while there is one more look.
      const late = monotonicSeconds() > until;
      this.#source.drain(this.#sink, Number.MAX_SAFE_INTEGER);
      const { packets, drops } = this.#source.counts();
      if (this.#source.packets >= packets - drops || late) return;
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  }
}
