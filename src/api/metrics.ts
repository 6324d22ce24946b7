import { Counter, collectDefaultMetrics, Gauge, Registry } from 'prom-client';
import type { LossKind, LossUnit } from '../gate/losses/index.ts';
import type { LiveRun } from '../sensor/live.ts';
import type { OrderReport } from '../sensor/losses/index.ts';
import type { Snapshot } from '../sensor/snapshot.ts';

type Labels = Readonly<Record<string, string>>;
type Values = Iterable<readonly [number, Labels?]>;

interface Metric {
  kind: 'counter' | 'gauge';
  name: string;
  help: string;
  labels?: readonly string[];
  /** Every series with its value; labels have as many values as there are verdicts, sources, workers and policies. */
  values: (run: LiveRun, s: Snapshot) => Values;
}

const GATE = ['seen', 'passed', 'shunted', 'ruleDropped', 'rateLimited', 'steered', 'aborted'] as const;

const ofGate =
  (of: 'pkts' | 'bytes') =>
  (_: LiveRun, { ledger }: Snapshot): Values =>
    ledger === undefined ? [] : GATE.map((verdict) => [ledger[verdict][of], { verdict }]);

const ofReasons =
  (of: 'pkts' | 'bytes') =>
  (_: LiveRun, { ledger }: Snapshot): Values =>
    Object.entries(ledger?.reasons ?? {}).map(([reason, value]) => [value[of], { reason }]);

const ofWorkers =
  (of: 'packets' | 'bytes' | 'dropped') =>
  (run: LiveRun): Values =>
    run
      .sources()
      .flatMap(({ name, workers }) =>
        workers.map((worker, number): [number, Labels] => [
          worker[of],
          { source: name, worker: String(number) },
        ]),
      );

/** Counters of the ledger of losses of one kind. */
const ofLosses =
  (kind: LossKind, unit?: LossUnit) =>
  (run: LiveRun): Values =>
    run
      .losses()
      .rows.filter((row) => row.kind === kind && (unit === undefined || row.unit === unit))
      .map(({ stage, where, counter, total }) => [total, { stage, where, counter }]);

const ofOrder =
  (value: (order: OrderReport) => number) =>
  (run: LiveRun): Values =>
    run.losses().order.map((order) => [value(order), { source: order.source, worker: String(order.worker) }]);

const ofQueues =
  (value: (order: NonNullable<OrderReport['queues']>[number]) => number) =>
  (run: LiveRun): Values =>
    run
      .losses()
      .order.flatMap(({ source, worker, queues = [] }) =>
        queues.map((order): [number, Labels] => [
          value(order),
          { source, worker: String(worker), queue: String(order.queue) },
        ]),
      );

const ofPolicies =
  (of: 'connections' | 'pkts' | 'bytes') =>
  (_: LiveRun, { policies }: Snapshot): Values =>
    policies.map((policy) => [policy[of], { policy: policy.name }]);

const one =
  (value: (s: Snapshot) => number) =>
  (_: LiveRun, s: Snapshot): Values => [[value(s)]];

/** Names by Prometheus' conventions: a unit, `_total` for what only grows. docs/metrics.md is made from this list. */
export const METRICS: readonly Metric[] = [
  {
    kind: 'counter',
    name: 'sluice_gate_packets_total',
    help: 'Packets that the gate saw, by what became of them; seen is the sum.',
    labels: ['verdict'],
    values: ofGate('pkts'),
  },
  {
    kind: 'counter',
    name: 'sluice_gate_bytes_total',
    help: 'Their L2 bytes.',
    labels: ['verdict'],
    values: ofGate('bytes'),
  },
  {
    kind: 'counter',
    name: 'sluice_gate_reason_packets_total',
    help: 'Packets by the verdict of the gate in detail.',
    labels: ['reason'],
    values: ofReasons('pkts'),
  },
  {
    kind: 'counter',
    name: 'sluice_gate_reason_bytes_total',
    help: 'Their L2 bytes.',
    labels: ['reason'],
    values: ofReasons('bytes'),
  },
  {
    kind: 'counter',
    name: 'sluice_capture_packets_total',
    help: 'Packets that a worker has handled.',
    labels: ['source', 'worker'],
    values: ofWorkers('packets'),
  },
  {
    kind: 'counter',
    name: 'sluice_capture_bytes_total',
    help: 'Their bytes.',
    labels: ['source', 'worker'],
    values: ofWorkers('bytes'),
  },
  {
    kind: 'counter',
    name: 'sluice_capture_dropped_packets_total',
    help: 'Packets lost before a worker: its ring or socket had no room.',
    labels: ['source', 'worker'],
    values: ofWorkers('dropped'),
  },
  {
    kind: 'counter',
    name: 'sluice_capture_ring_freezes_total',
    help: 'How often a capture ring was full.',
    values: one((s) => s.ringFreezes),
  },
  {
    kind: 'counter',
    name: 'sluice_connections_total',
    help: 'Connections that have ended.',
    values: one((s) => s.connections),
  },
  {
    kind: 'gauge',
    name: 'sluice_connections_open',
    help: 'Connections that are open.',
    values: one((s) => s.activeFlows),
  },
  {
    kind: 'counter',
    name: 'sluice_connections_shunted_total',
    help: 'Connections of which the gate dropped packets.',
    values: one((s) => s.shuntedConnections),
  },
  {
    kind: 'counter',
    name: 'sluice_connections_recovered_total',
    help: 'Connections that began in an earlier run.',
    values: one((s) => s.recovered),
  },
  {
    kind: 'counter',
    name: 'sluice_connections_judged_total',
    help: 'TCP connections that tell whether both directions were seen.',
    values: one((s) => s.judged),
  },
  {
    kind: 'counter',
    name: 'sluice_connections_one_way_total',
    help: 'Of these, those of which one direction was not seen.',
    values: one((s) => s.oneWay),
  },
  {
    kind: 'gauge',
    name: 'sluice_shunts_live',
    help: 'Entries of the gate that drop.',
    values: one((s) => s.shuntsLive),
  },
  {
    kind: 'counter',
    name: 'sluice_shunts_total',
    help: 'Shunts that have begun.',
    values: one((s) => s.shuntsStarted),
  },
  {
    kind: 'counter',
    name: 'sluice_shunts_refused_total',
    help: 'Shunts that the gate did not take.',
    values: one((s) => s.refused),
  },
  {
    kind: 'counter',
    name: 'sluice_policy_connections_total',
    help: 'Connections that a policy shunted.',
    labels: ['policy'],
    values: ofPolicies('connections'),
  },
  {
    kind: 'counter',
    name: 'sluice_policy_dropped_packets_total',
    help: 'Packets dropped of these.',
    labels: ['policy'],
    values: ofPolicies('pkts'),
  },
  {
    kind: 'counter',
    name: 'sluice_policy_dropped_bytes_total',
    help: 'Their IP bytes.',
    labels: ['policy'],
    values: ofPolicies('bytes'),
  },
  {
    kind: 'counter',
    name: 'sluice_bypassed_packets_total',
    help: 'Packets that were counted and not analysed, where nothing drops early.',
    values: one((s) => s.localBypass.pkts),
  },
  {
    kind: 'counter',
    name: 'sluice_lost_packets_total',
    help: 'Packets that were lost, by where (docs/losses.md).',
    labels: ['stage', 'where', 'counter'],
    values: ofLosses('loss', 'packets'),
  },
  {
    kind: 'counter',
    name: 'sluice_lost_log_lines_total',
    help: 'Log lines that were lost, by where.',
    labels: ['stage', 'where', 'counter'],
    values: ofLosses('loss', 'lines'),
  },
  {
    kind: 'counter',
    name: 'sluice_loss_warnings_total',
    help: 'What tells of trouble and is in no sum of losses.',
    labels: ['stage', 'where', 'counter'],
    values: ofLosses('warning'),
  },
  {
    kind: 'counter',
    name: 'sluice_out_of_order_packets_total',
    help: 'Packets with an earlier time than one before them.',
    labels: ['source', 'worker'],
    values: ofOrder(({ byTime }) => byTime.packets),
  },
  {
    kind: 'gauge',
    name: 'sluice_out_of_order_depth_seconds',
    help: 'The furthest back of these.',
    labels: ['source', 'worker'],
    values: ofOrder(({ byTime }) => byTime.seconds),
  },
  {
    kind: 'counter',
    name: 'sluice_queue_out_of_order_packets_total',
    help: 'With AF_XDP packets with an earlier time than one before them of the same queue of the card.',
    labels: ['source', 'worker', 'queue'],
    values: ofQueues(({ byTime }) => byTime.packets),
  },
  {
    kind: 'gauge',
    name: 'sluice_queue_out_of_order_depth_seconds',
    help: 'The furthest back of these.',
    labels: ['source', 'worker', 'queue'],
    values: ofQueues(({ byTime }) => byTime.seconds),
  },
  {
    kind: 'counter',
    name: 'sluice_tcp_late_segments_total',
    help: 'TCP data that came behind data that follows it.',
    labels: ['source', 'worker'],
    values: ofOrder(({ byTcp }) => byTcp.segments),
  },
  {
    kind: 'counter',
    name: 'sluice_log_lines_lost_total',
    help: 'Log lines that could not be written.',
    values: one((s) => s.logLinesLost),
  },
  {
    kind: 'gauge',
    name: 'sluice_healthy',
    help: '1 while every worker makes progress.',
    values: (run) => [[Number(run.healthy())]],
  },
];

/** Gauges of Node.js with the names of counters, which linters of metrics find fault with. */
const MISNAMED = [
  'nodejs_active_handles_total',
  'nodejs_active_requests_total',
  'nodejs_active_resources_total',
];

/** The metrics of one run, read when they are asked for. */
export class Metrics {
  readonly #registry = new Registry();
  readonly #run: LiveRun;
  #snapshot: Snapshot;

  constructor(run: LiveRun, version: string) {
    this.#run = run;
    this.#snapshot = run.snapshot();
    for (const metric of METRICS) this.#add(metric);
    const build = new Gauge({
      name: 'sluice_build_info',
      help: '1, with the version.',
      labelNames: ['version'],
      registers: [this.#registry],
    });
    build.set({ version }, 1);
    collectDefaultMetrics({ register: this.#registry });
    for (const name of MISNAMED) this.#registry.removeSingleMetric(name);
  }

  #add({ kind, name, help, labels = [], values }: Metric): void {
    const series = (): Values => values(this.#run, this.#snapshot);
    const about = { name, help, labelNames: [...labels], registers: [] };
    if (kind === 'gauge')
      this.#registry.registerMetric(
        new Gauge({
          ...about,
          collect() {
            this.reset();
            for (const [value, of = {}] of series()) this.set(of, value);
          },
        }),
      );
    else
      this.#registry.registerMetric(
        new Counter({
          ...about,
          collect() {
            this.reset();
            for (const [value, of = {}] of series()) this.inc(of, value);
          },
        }),
      );
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  async text(): Promise<string> {
    this.#snapshot = this.#run.snapshot();
    return await this.#registry.metrics();
  }

  close(): void {
    this.#registry.clear();
  }
}
