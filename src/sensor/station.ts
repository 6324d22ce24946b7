import { Worker } from 'node:worker_threads';
import type { RunConfig } from '../base/config.ts';
import { ERROR_CODES, type ErrorCode, SluiceError } from '../base/errors.ts';
import { monotonicSeconds } from '../gate/clock.ts';
import { Gate, type Joined } from '../gate/index.ts';
import { type InterfaceInfo, interfaceState, realtimeOffset } from '../kernel/index.ts';
import type { LogLink } from '../log/log-link.ts';
import { logSettings } from '../log/log-setup.ts';
import { isUsable } from './notes.ts';
import { type Offloads, settleOffloads } from './offloads.ts';
import { areLeft, type Returning, returningFlows } from './recovery.ts';
import { type EndStep, type FromWorker, statsBuffer, type ToWorker, type WorkerSetup } from './setup.ts';

/** A worker that does not end by then is given up: its lease lapses, and the process goes on with the end. */
const STOP_SECONDS = 15;
const IPPROTO_TCP = 6;
const IPPROTO_UDP = 17;

interface StationWorker {
  thread: Worker;
  stats: Float64Array;
  ready: PromiseWithResolvers<void>;
  going: PromiseWithResolvers<void>;
  reached: Record<EndStep, PromiseWithResolvers<Float64Array>>;
}

export interface StationEvents {
  /** It cannot go on. */
  failed(error: SluiceError): void;
  /** Something that people should know, with its kind for notice.log. */
  notice(note: string, message: string): void;
}

/** All that runs on one interface: gate, capture workers, and what was changed on the interface itself. */
export class Station {
  readonly info: InterfaceInfo;
  gate: Gate | undefined;
  /** How the gate is attached. */
  mode = 'none';
  readonly #config: RunConfig;
  readonly #events: StationEvents;
  readonly #workers: StationWorker[] = [];
  #offloads: Offloads | undefined;
  #returning: Returning | undefined;
  /** The kernel says that the interface went down: what it is now is looked up until it is up again. */
  #suspect = false;
  #down = false;
  #gone = false;

  constructor(config: RunConfig, info: InterfaceInfo, events: StationEvents) {
    this.#config = config;
    this.info = info;
    this.#events = events;
  }

  /** Merged frames would be counted as one by the sensor and as several by the gate. What was switched off. */
  settleOffloads(): readonly string[] {
    const offloads = settleOffloads(this.info.name, this.#config.vlanKey);
    this.#offloads = offloads;
    if (offloads.problem !== undefined) this.#events.notice('Sluice::Offloads', offloads.problem);
    return offloads.changed;
  }

  /** Loads the gate, which takes in what an earlier run has left. */
  openGate(): Gate {
    const { info } = this;
    const c = this.#config;
    this.gate = Gate.open({
      ifname: info.name,
      ifindex: info.index,
      maxShunts4: c.maxShunts4,
      maxShunts6: c.maxShunts6,
      vlanKey: c.vlanKey,
      fragments: c.fragments === 'follow',
      workers: c.workers,
      join: isUsable,
    });
    const now = Date.now() / 1000;
    const offset = realtimeOffset();
    this.#returning = returningFlows(this.gate.leftovers.joined, ({ lastDropped }: Joined, protocol) => {
      const silence =
        protocol === IPPROTO_TCP ? c.timeoutTcp : protocol === IPPROTO_UDP ? c.timeoutUdp : c.timeoutIcmp;
      return (lastDropped > 0 ? lastDropped + offset : now) + silence;
    });
    return this.gate;
  }

  /**
   * Starts the workers, and resolves once all of them handle packets. `log` makes a way to the log thread for each.
   * @throws SluiceError what the first one that failed says
   */
  async startWorkers(log: () => LogLink, policies: number): Promise<void> {
    const { workers } = this.#config;
    for (let number = 0; number < workers; number++) this.#startWorker(number, log(), policies);
    await Promise.all(this.#workers.map(({ ready }) => ready.promise));
    for (const { thread } of this.#workers) thread.postMessage({ kind: 'go' } satisfies ToWorker);
    await Promise.all(this.#workers.map(({ going }) => going.promise));
  }

  #startWorker(number: number, log: LogLink, policies: number): void {
    const c = this.#config;
    const stats = statsBuffer(policies);
    const setup: WorkerSetup = {
      ifname: this.info.name,
      ifindex: this.info.index,
      ringBytes: c.ringBytes,
      ringBlock: c.ringBlock,
      retireMs: Math.max(1, Math.round(c.retire * 1000)),
      // Fanout ids are per namespace: the interface makes them differ, the process makes two runs differ.
      fanoutId: c.workers > 1 ? (process.pid * 31 + this.info.index) & 0xffff : undefined,
      number,
      workers: c.workers,
      gate: this.gate?.handles(number),
      returning: this.#returning,
      lease: c.lease,
      shuntIdle: c.shuntIdle,
      policies: c.policy,
      checksums: c.checksums,
      bare: c.bare,
      vlanKey: c.vlanKey,
      tunnelKey: c.tunnelKey,
      localNets: c.localNets,
      maxFlows: c.maxFlows,
      timeouts: {
        tcp: c.timeoutTcp,
        attempt: c.timeoutTcpAttempt,
        udp: c.timeoutUdp,
        icmp: c.timeoutIcmp,
        other: c.timeoutIcmp,
      },
      shuntFields: c.shuntFields,
      logs: logSettings(c),
      log,
      stats,
    };
    const body = new URL(import.meta.url.endsWith('.ts') ? './worker.ts' : './worker.js', import.meta.url);
    const thread = new Worker(body, {
      name: `sluice-${this.info.name}-${number}`,
      workerData: setup,
      transferList: [log.port],
    });
    this.#follow(thread, new Float64Array(stats));
  }

  /** Listens to whatever a worker has to say. */
  #follow(thread: Worker, stats: Float64Array): void {
    const ready = Promise.withResolvers<void>();
    const going = Promise.withResolvers<void>();
    const reached = { settle: step(), deafen: step(), stop: step() };
    this.#workers.push({ thread, stats, ready, going, reached });
    // Whoever waits for them is told; when the start has failed already nobody does.
    for (const { promise } of [ready, going]) promise.catch(() => {});
    const failed = (error: SluiceError): void => {
      for (const one of Object.values(reached)) one.resolve(new Float64Array(0));
      ready.reject(error);
      going.reject(error);
      this.#events.failed(error);
    };
    thread.on('message', (message: FromWorker) => {
      if (message.kind === 'ready') ready.resolve();
      else if (message.kind === 'going') going.resolve();
      else if (message.kind === 'link') {
        this.#suspect = true;
        this.checkLink();
      } else if (message.kind === 'reached') reached[message.step].resolve(message.delays);
      else failed(fromWorker(message));
    });
    thread.on('error', (cause) =>
      failed(new SluiceError('INTERNAL', 'a capture worker has failed', { cause })),
    );
    thread.on('exit', () => failed(new SluiceError('INTERNAL', 'a capture worker has ended')));
  }

  /** The counters of each worker, see Stat. */
  get stats(): readonly Float64Array[] {
    return this.#workers.map(({ stats }) => stats);
  }

  /** Looks after an interface that may have gone down or away. */
  checkLink(): void {
    if (!this.#suspect || this.#gone) return;
    const { index, name } = this.info;
    const state = interfaceState(index);
    if (state === undefined) {
      this.#gone = true;
      const error = new SluiceError('INTERFACE_GONE', `the interface ${name} has gone`, {
        help: 'what was captured is in the logs; start again when it is back',
      });
      this.#events.notice('Sluice::Interface_Gone', error.message);
      this.#events.failed(error);
      return;
    }
    if (this.#down !== (state === 'down')) {
      this.#down = state === 'down';
      this.#events.notice(
        this.#down ? 'Sluice::Interface_Down' : 'Sluice::Interface_Up',
        `${name} is ${this.#down ? 'down: nothing is captured until it is up' : 'up again'}`,
      );
    }
    this.#suspect = this.#down;
  }

  /** Tells all workers to take a step of the end. */
  tell(kind: EndStep): void {
    for (const { thread } of this.#workers) {
      thread.removeAllListeners('exit');
      thread.postMessage({ kind } satisfies ToWorker);
    }
  }

  /** Resolves when all have taken it, or have had their time; what they say then, see FromWorker. */
  async reached(kind: EndStep): Promise<Float64Array[]> {
    const until = monotonicSeconds() + STOP_SECONDS;
    const said: Float64Array[] = [];
    for (const { reached } of this.#workers)
      said.push(await within(reached[kind].promise, until - monotonicSeconds()));
    return said;
  }

  /** Lets go of everything, in whatever state it is; the second time does nothing. */
  async close(): Promise<void> {
    for (const { thread } of this.#workers.splice(0)) {
      thread.removeAllListeners();
      await thread.terminate();
    }
    // Connections of an earlier run that nobody has gone on with are left to the next one.
    this.gate?.close(this.#returning !== undefined && areLeft(this.#returning));
    this.#offloads?.restore();
    this.#offloads = undefined;
  }
}

const step = (): PromiseWithResolvers<Float64Array> => Promise.withResolvers<Float64Array>();

async function within(promise: Promise<Float64Array>, seconds: number): Promise<Float64Array> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<Float64Array>((resolve) => {
    timer = setTimeout(() => resolve(new Float64Array(0)), Math.max(0, seconds) * 1000);
  });
  try {
    return await Promise.race([promise, timeout]);
  } finally {
    clearTimeout(timer);
  }
}

function fromWorker(message: FromWorker & { kind: 'failed' }): SluiceError {
  const code: ErrorCode = message.code in ERROR_CODES ? (message.code as ErrorCode) : 'INTERNAL';
  return new SluiceError(code, message.message, message.help === undefined ? {} : { help: message.help });
}
