import type { ChildProcess } from 'node:child_process';
import { createWriteStream, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { SluiceError } from '../../src/base/errors.ts';
import { FLEET_PREFIX } from '../../src/fleet/statement.ts';
import { ControlClient } from '../../src/gate/control-client.ts';
import { placeOf, RUN_DIRECTORY } from '../../src/gate/control-places.ts';
import type { RuleRow, StatusReport } from '../../src/gate/control-protocol.ts';
import type { AuditLine } from '../../src/gate/daemon-audit.ts';
import { packageRoot } from '../../src/kernel/index.ts';
import { Namespace } from '../namespace.ts';
import { ended } from '../process.ts';
import { Worker } from '../worker.ts';
import { type EdgeGroup, type EdgePlace, type EdgeState, type Landing, liveRule } from './edge.ts';
import { countPassed, passed } from './passed.ts';
import type { Sent, ToSender } from './sender-protocol.ts';
import { until } from './until.ts';

const START_SECONDS = 120;
/** The other end of the gate's interface: where its traffic comes from. */
const WIRE = 'wire';

export interface RealEdgeOptions {
  readonly place: EdgePlace;
  /** The edge's side of its way to the server, with prefix, and the end of that way in our namespace. */
  readonly address: string;
  readonly port: string;
  readonly source: string;
  readonly trust: string;
  readonly directory: string;
  /** More for the command line of its gate. */
  readonly options?: readonly string[];
}

/** A gate as `sluice gate up` starts it, in a namespace of its own, on an interface with traffic. */
export class RealEdge implements EdgeGroup {
  readonly edges: readonly [EdgePlace];
  readonly #namespace: Namespace;
  readonly #options: RealEdgeOptions;
  #gate: ChildProcess | undefined;
  #control: ControlClient | undefined;
  #sender: Worker | undefined;

  private constructor(options: RealEdgeOptions, namespace: Namespace) {
    this.edges = [options.place];
    this.#options = options;
    this.#namespace = namespace;
  }

  /** The namespace and its interfaces; the port is there, and down. */
  static async make(options: RealEdgeOptions): Promise<RealEdge> {
    return new RealEdge(options, await Namespace.create(options.place.name));
  }

  /** Of the process that holds the namespace. */
  get pid(): number {
    return this.#namespace.pid;
  }

  get #name(): string {
    return this.edges[0].name;
  }

  /** Interfaces, gate and traffic. @throws SluiceError LAB */
  async start(): Promise<void> {
    const { address, directory, source, trust, place } = this.#options;
    const name = this.#name;
    await this.#namespace.ip([
      'link set lo up',
      `address add ${address} dev up0`,
      'link set up0 up',
      `link add ${name} type veth peer name ${WIRE}`,
      ...[name, WIRE].map((ifname) => `link set ${ifname} addrgenmode none up`),
    ]);
    const clock =
      place.offset === 0
        ? []
        : ['--import', `data:text/javascript,const t=Date.now;Date.now=()=>t()+${1000 * place.offset}`];
    const gate = ['gate', 'up', '-i', name, '--tap', '--hold', '--log-dir', directory];
    const rules = ['--rules-from', source, '--trust', trust, '--rules-store', join(directory, 'rules.json')];
    const about = ['--site', place.site, '--role', 'edge'];
    const program = [process.execPath, ...clock, join(packageRoot(), 'bin', 'sluice.js')];
    const more = this.#options.options ?? [];
    this.#gate = this.#namespace.spawn([...program, ...gate, ...rules, ...about, ...more], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { NODE_OPTIONS: '' },
    });
    const log = createWriteStream(join(directory, 'gate.out'), { flags: 'a' });
    for (const stream of [this.#gate.stdout, this.#gate.stderr]) stream?.pipe(log, { end: false });
    void ended(this.#gate).then(() => log.end());
    await this.#connect();
    await countPassed(this.#namespace, name);
    this.#sender = new Worker(this.#namespace, 'fleet/sender', [WIRE]);
    await this.#ask({ kind: 'start' });
  }

  async #connect(): Promise<void> {
    const { stdout } = await this.#namespace.exec(['ip', '-j', 'link', 'show', this.#name]);
    const [{ ifindex }] = JSON.parse(stdout) as [{ ifindex: number }];
    const socket = join(RUN_DIRECTORY, `${this.#namespace.inode}-${ifindex}.sock`);
    const place = { ...placeOf(ifindex, this.#name), socket };
    this.#control = await until(
      async () => {
        if (this.#gate?.exitCode !== null)
          throw new SluiceError('LAB', `the gate of ${this.#name} does not start`, {
            cause: readFileSync(join(this.#options.directory, 'gate.out'), 'utf8').slice(-2000),
          });
        try {
          return await ControlClient.connect(place);
        } catch {
          return undefined;
        }
      },
      `the gate of ${this.#name} is not up`,
      START_SECONDS,
    );
  }

  async rules(): Promise<RuleRow[]> {
    const rows: RuleRow[] = [];
    await this.#client.ask('rule.list', {}, (page) => {
      for (const row of page as RuleRow[]) rows.push(row);
    });
    return rows;
  }

  get #client(): ControlClient {
    if (this.#control === undefined) throw new SluiceError('LAB', `${this.#name} has not been started`);
    return this.#control;
  }

  async #ask(message: ToSender): Promise<Sent> {
    if (this.#sender === undefined) throw new SluiceError('LAB', `${this.#name} has not been started`);
    return await this.#sender.request<Sent>(message);
  }

  /** Begins or ends the attack. */
  async attack(on: boolean): Promise<void> {
    await this.#ask({ kind: on ? 'attack' : 'peace' });
  }

  /** Packets that were sent to the gate, and that it let through: nothing is under way while they are counted. */
  async traffic(): Promise<{ sent: Sent; passed: Sent }> {
    const sent = await this.#ask({ kind: 'hold' });
    let last = await passed(this.#namespace, this.#name);
    await until(
      async () => {
        const { usual, attack } = last;
        last = await passed(this.#namespace, this.#name);
        return (last.usual === usual && last.attack === attack) || undefined;
      },
      `${this.#name} has no end of traffic`,
      START_SECONDS,
    );
    await this.#ask({ kind: 'go' });
    return { sent, passed: last };
  }

  /** Packets that rules have dropped whose ids are like this. */
  async dropped(like: RegExp): Promise<number> {
    const rows = await this.rules();
    return rows
      .filter(({ id }) => like.test(id.slice(FLEET_PREFIX.length)))
      .reduce((sum, { dropped }) => sum + dropped.pkts, 0);
  }

  /** Samples that it has sent to detectors. */
  async samplesSent(): Promise<number> {
    const { samples } = await this.#client.ask<StatusReport>('status');
    return samples?.sent ?? 0;
  }

  async states(): Promise<EdgeState[]> {
    const { fleet } = await this.#client.ask<StatusReport>('status');
    const rows = await this.rules();
    const revisions = new Map<string, number>();
    for (const { id, revision } of this.landings()) revisions.set(id, revision);
    const inForce = rows
      .filter(({ enabled, inScope }) => enabled && inScope)
      .map(({ id }): [string, number] => {
        const named = id.startsWith(FLEET_PREFIX) ? id.slice(FLEET_PREFIX.length) : id;
        return [named, revisions.get(named) ?? 0];
      });
    return [
      {
        edge: this.#name,
        connected: fleet?.connected ?? false,
        age: fleet?.age ?? null,
        inForce: new Map(inForce),
        refused: (fleet?.lines ?? []).map(({ id, refused }) => `${id ?? ''} ${refused}`),
        bad: (fleet?.bad ?? []).map(({ id }) => id),
      },
    ];
  }

  /** What its audit.log says, put right by what its clock is wrong. */
  landings(): Landing[] {
    const text = readFileSync(join(this.#options.directory, 'audit.log'), 'utf8');
    const { offset } = this.edges[0];
    return text.split('\n').flatMap((line) => {
      // The last one may be half there.
      if (!line.endsWith('}')) return [];
      const read = JSON.parse(line) as AuditLine & { ts: number };
      const live = liveRule(read);
      return live === undefined ? [] : [{ edge: this.#name, ...live, at: read.ts - offset }];
    });
  }

  /** Cuts its way to the server, as a cable is cut, or mends it. */
  link(up: boolean): Promise<void> {
    return this.#namespace.ip([`link set up0 ${up ? 'up' : 'down'}`]);
  }

  async close(): Promise<void> {
    this.#control?.close();
    const gate = this.#gate;
    if (gate !== undefined && gate.exitCode === null) {
      gate.kill('SIGTERM');
      await ended(gate);
    }
    await this.#sender?.close();
    await this.#namespace.close();
  }
}
