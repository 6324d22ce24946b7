import { parentPort, workerData } from 'node:worker_threads';
import { asSluiceError } from '../base/errors.ts';
import { AfPacketSource } from '../capture/afpacket.ts';
import { createFlowEngine, type FlowEngine, FlowFlag } from '../flow/index.ts';
import { GateClient } from '../gate/client.ts';
import { monotonicSeconds } from '../gate/clock.ts';
import { localAddresses } from '../gate/guard.ts';
import { hasLocalEndpoint } from '../gate/local.ts';
import { coarseStep, Fanout, openPacketRing, realtimeOffset } from '../kernel/index.ts';
import type { ConnLogRecord } from '../log/conn-log.ts';
import { LinkTarget } from '../log/log-link.ts';
import { completer, connSchemaOf, lineFormat } from '../log/log-setup.ts';
import { LogWriter } from '../log/log-writer.ts';
import { type ShuntLogRecord, shuntSchema } from '../log/other-logs.ts';
import { type SslLogRecord, sslSchema } from '../log/ssl-log.ts';
import { tunnelSchema } from '../log/tunnel-log.ts';
import type { Packet } from '../packet/packet.ts';
import { compilePolicies, FlowFlag as PolicyFlag, parsePolicies } from '../policy/index.ts';
import {
  type EndStep,
  type FromWorker,
  POLICY_STATS,
  Stat,
  type ToWorker,
  type WorkerSetup,
} from './setup.ts';
import { Shunter, type ShuntTotals } from './shunter.ts';
import { warmUp } from './warm-up.ts';

/** Packets between two looks at the other things that a worker has to do. */
const TURN_PACKETS = 16_384;
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

/** One capture ring, one flow table, one owner of shunts; runs in a worker thread until it is told to stop. */
class CaptureWorker {
  readonly #setup: WorkerSetup;
  readonly #stats: Float64Array;
  readonly #source: AfPacketSource;
  readonly #ring: ReturnType<typeof openPacketRing>;
  readonly #engine: FlowEngine;
  readonly #gate: GateClient | undefined;
  readonly #shunter: Shunter | undefined;
  readonly #policies: ReturnType<typeof compilePolicies>;
  readonly #writer: LogWriter;
  readonly #complete: (record: ConnLogRecord) => void;
  readonly #logConn: (record: ConnLogRecord) => void;
  readonly #logSsl: (record: SslLogRecord) => void;
  readonly #logShunt: (record: ShuntLogRecord) => void;
  readonly #target: LinkTarget;
  readonly #delays: number[] = [];
  readonly #tick: NodeJS.Timeout;
  readonly #sink: (packet: Packet) => void;
  /** Addresses of this host, as they stand in gate keys; looked up anew with every sweep. */
  #local: ReadonlySet<string> = new Set();
  #nextSweep = 0;
  #nextRenewal = 0;
  #stopping = false;

  constructor(setup: WorkerSetup) {
    this.#setup = setup;
    this.#local = localAddresses();
    this.#stats = new Float64Array(setup.stats);
    this.#policies = compilePolicies(parsePolicies(setup.policies));
    this.#target = new LinkTarget(setup.log);
    this.#writer = new LogWriter(this.#target, lineFormat(setup.logs));
    this.#complete = completer(setup.logs);
    this.#logConn = this.#writer.channel(
      connSchemaOf(setup.logs, { shuntFields: setup.shuntFields, shunts: true }),
    );
    this.#logSsl = this.#writer.channel(sslSchema);
    this.#logShunt = this.#writer.channel(shuntSchema);
    this.#ring = openPacketRing({
      interface: setup.ifindex,
      blockSize: setup.ringBlock,
      blocks: Math.max(4, Math.floor(setup.ringBytes / setup.ringBlock)),
      retireMs: setup.retireMs,
      promiscuous: true,
      ignoreOutgoing: true,
      ...(setup.fanoutId === undefined ? {} : { fanout: { id: setup.fanoutId, mode: Fanout.hash } }),
    });
    this.#source = new AfPacketSource(this.#ring, setup.ifname);
    let shunter: Shunter | undefined;
    this.#engine = createFlowEngine(
      {
        checksums: setup.checksums,
        bare: setup.bare,
        vlanInKey: setup.vlanKey,
        tunnelInKey: setup.tunnelKey,
        localNets: setup.localNets,
        maxFlows: setup.maxFlows,
        timeouts: setup.timeouts,
        clockStep: CLOCK_STEP,
      },
      {
        beforePacket: (slot, side, flags) => shunter?.beforePacket(slot, side, flags),
        mayExpire: (slot, now) => shunter?.mayExpire(slot, now) ?? true,
        closed: (slot) => this.#closed(slot),
        tunnel: this.#writer.channel(tunnelSchema),
      },
    );
    if (setup.gate !== undefined) {
      this.#gate = new GateClient(setup.gate, setup.leaseSeconds);
      shunter = new Shunter({
        engine: this.#engine,
        gate: this.#gate,
        ring: this.#source,
        idleSeconds: setup.shuntIdleSeconds,
        settleMs: 2 * setup.retireMs + SETTLE_MS,
        clockOffset: realtimeOffset(),
        tick: coarseStep(),
        isLocal: (family, key) => hasLocalEndpoint(this.#local, family, key),
        events: {
          started: (slot, trigger) => this.#shuntStarted(slot, trigger),
          ended: (...what) => this.#shuntEnded(...what),
          refused: (slot, trigger, reason) => {
            this.#stats[Stat.refused]++;
            this.#shuntLog(slot, 'refused', trigger, reason);
          },
          late: (pkts) => {
            this.#stats[Stat.latePackets] += pkts;
          },
        },
      });
      this.#gate.lease.renew();
    }
    this.#shunter = shunter;
    this.#sink = this.#gate === undefined ? (p) => void this.#engine.process(p) : (p) => this.#watch(p);
    this.#tick = setInterval(() => this.turn(), TICK_MS);
    this.#ring.onReadable((error) => {
      if (error !== 0) post({ kind: 'link' });
      this.turn();
    });
  }

  #watch(packet: Packet): void {
    const engine = this.#engine;
    const slot = engine.process(packet);
    if (slot < 0) return;
    if (engine.isMarked(slot)) {
      this.#shunter?.afterPacket(slot);
      return;
    }
    const trigger = this.#policies.evaluate(
      (engine.flags(slot) & FlowFlag.tlsEstablished) === 0 ? 0 : PolicyFlag.tlsEstablished,
      engine.packets(slot, 0) + engine.packets(slot, 1),
      engine.ipBytes(slot, 0),
      engine.ipBytes(slot, 1),
    );
    if (trigger >= 0) this.#shunter?.request(slot, trigger, packet.ts);
  }

  /** One turn: what the ring holds, then what is due. The lease is renewed by turns that were finished. */
  turn(): void {
    const before = this.#source.packets;
    this.#source.drain(this.#sink, TURN_PACKETS);
    const now = monotonicSeconds();
    if (this.#source.packets === before)
      this.#engine.advance(Date.now() / 1000 - TIMER_LAG - this.#setup.retireMs / 1000);
    this.#shunter?.turn();
    if (now < this.#nextRenewal) return;
    this.#nextRenewal = now + TICK_MS / 1000;
    this.#gate?.lease.renew();
    if (this.#shunter !== undefined) this.#shunter.clockOffset = realtimeOffset();
    this.#writer.flush();
    this.#publish(now);
    if (now >= this.#nextSweep && !this.#stopping) {
      this.#nextSweep = now + SWEEP_SECONDS;
      void this.#sweep(now);
    }
  }

  async #sweep(begun: number): Promise<void> {
    try {
      this.#local = localAddresses();
      this.#stats[Stat.sweptEntries] = (await this.#shunter?.sweep()) ?? 0;
      this.#stats[Stat.sweepSeconds] = monotonicSeconds() - begun;
    } catch (error) {
      fail(error);
    }
  }

  #publish(now: number): void {
    const s = this.#stats;
    const ring = this.#ring.stats();
    s[Stat.packets] = this.#source.packets;
    s[Stat.bytes] = this.#source.bytes;
    s[Stat.activeFlows] = this.#engine.active;
    s[Stat.shuntsLive] = this.#shunter?.live ?? 0;
    s[Stat.ringPackets] = ring.packets;
    s[Stat.ringDrops] = ring.drops;
    s[Stat.lastTurn] = now;
    s[Stat.logLinesLost] = this.#target.lost;
  }

  #closed(slot: number): void {
    const shunted = this.#shunter?.closed(slot);
    const record: ConnLogRecord = this.#engine.record(slot);
    this.#complete(record);
    const tls = this.#engine.tls(slot);
    if (tls !== undefined) this.#logSsl({ conn: record, tls });
    const s = this.#stats;
    s[Stat.connections]++;
    if (shunted === undefined) {
      this.#logConn(record);
      return;
    }
    const t = shunted.totals;
    const at = Stat.policies + shunted.trigger * POLICY_STATS;
    s[Stat.shuntedConnections]++;
    s[at]++;
    record.shunted = {
      origPkts: t.origPkts,
      origIpBytes: t.origIpBytes,
      respPkts: t.respPkts,
      respIpBytes: t.respIpBytes,
      trigger: this.#policies.policies[shunted.trigger].trigger,
    };
    this.#logConn(record);
  }

  #shuntStarted(slot: number, trigger: number): void {
    this.#stats[Stat.shuntsStarted]++;
    this.#shuntLog(slot, 'start', trigger, undefined);
  }

  #shuntEnded(
    slot: number,
    trigger: number,
    reason: string,
    dropped: ShuntTotals,
    delay: number | undefined,
  ): void {
    const at = Stat.policies + trigger * POLICY_STATS;
    this.#stats[at + 1] += dropped.origPkts + dropped.respPkts;
    this.#stats[at + 2] += dropped.origIpBytes + dropped.respIpBytes;
    if (delay !== undefined && this.#delays.length < MAX_DELAYS) this.#delays.push(delay);
    this.#shuntLog(slot, 'end', trigger, reason, dropped, delay);
  }

  #shuntLog(
    slot: number,
    event: 'start' | 'end' | 'refused',
    trigger: number,
    reason: string | undefined,
    dropped?: ShuntTotals,
    delay?: number,
  ): void {
    const r = this.#engine.record(slot);
    this.#logShunt({
      ts: Date.now() / 1000,
      uid: r.uid,
      origHost: r.origHost,
      origPort: r.origPort,
      respHost: r.respHost,
      respPort: r.respPort,
      proto: r.proto,
      event,
      trigger: this.#policies.policies[trigger].trigger,
      reason,
      origPkts: dropped?.origPkts,
      origBytes: dropped?.origIpBytes,
      respPkts: dropped?.respPkts,
      respBytes: dropped?.respIpBytes,
      delay,
    });
  }

  /** Ends every shunt and takes the last counts in. */
  async settle(): Promise<void> {
    this.#stopping = true;
    await this.#shunter?.stop();
  }

  /** Lets nothing more come into the ring: the traffic does not end because we do. */
  deafen(): void {
    clearInterval(this.#tick);
    this.#ring.stopReceiving();
  }

  /** Handles what is there, writes every record, gives everything back. */
  async stop(): Promise<Float64Array> {
    await this.#drainRing();
    this.#engine.finish();
    this.#writer.flush();
    this.#publish(monotonicSeconds());
    this.#gate?.lease.drop();
    this.#source.close();
    this.#gate?.close();
    this.#target.close();
    return Float64Array.from(this.#delays);
  }

  /** Handles all that the ring has counted. */
  async #drainRing(): Promise<void> {
    const until = monotonicSeconds() + LAST_BLOCK_SECONDS;
    for (;;) {
      this.#source.drain(this.#sink, Number.MAX_SAFE_INTEGER);
      const { packets, drops } = this.#ring.stats();
      if (this.#source.packets >= packets - drops || monotonicSeconds() > until) return;
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  }
}

function post(message: FromWorker): void {
  parentPort?.postMessage(message);
}

function fail(thrown: unknown): void {
  const error = asSluiceError(thrown);
  post({ kind: 'failed', code: error.code, message: error.message, help: error.help });
}

async function end(worker: CaptureWorker, step: EndStep): Promise<void> {
  try {
    let delays: Float64Array = new Float64Array(0);
    if (step === 'settle') await worker.settle();
    else if (step === 'deafen') worker.deafen();
    else delays = await worker.stop();
    post({ kind: 'reached', step, delays });
    if (step === 'stop') parentPort?.close();
  } catch (error) {
    fail(error);
  }
}

try {
  warmUp();
  const worker = new CaptureWorker(workerData as WorkerSetup);
  parentPort?.on('message', (message: ToWorker) => {
    void end(worker, message.kind);
  });
  post({ kind: 'ready' });
} catch (error) {
  fail(error);
}
