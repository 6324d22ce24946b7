import { isSampledAtGate } from '../base/config/mitigation.ts';
import type { RunConfig } from '../base/config.ts';
import { SluiceError } from '../base/errors.ts';
import { tunnelPorts } from '../base/tunnels.ts';
import { FanoutGroup } from '../capture/fanout.ts';
import { SnapFilter } from '../capture/snap.ts';
import { chooseKind, rulesOutXdp } from '../gate/choose.ts';
import { fleetOptions } from '../gate/fleet-options.ts';
import { Gate, type GateOptions, type Joined } from '../gate/index.ts';
import { gateSteering } from '../gate/steer.ts';
import { gateTunnels } from '../gate/tunnels.ts';
import { type InterfaceInfo, interfaceState, realtimeOffset } from '../kernel/index.ts';
import { CommunityIds } from '../packet/community-id.ts';
import { Crew } from './crew.ts';
import { captureText, FrameCapture } from './frames.ts';
import type { LiveGate } from './live-gate.ts';
import { isUsable } from './notes.ts';
import { type Offloads, settleOffloads } from './offloads.ts';
import { orphanRecord } from './orphans.ts';
import { PairShunts } from './pair-shunts.ts';
import { workerCpus } from './placement.ts';
import { type PlacedPlan, usesThresholds } from './policy-book.ts';
import { areLeft, type Returning, returningFlows } from './recovery.ts';
import { RunControl, SLOTS_BESIDE_WORKERS } from './run-control.ts';
import { mitigationOf } from './run-rules.ts';
import { type EndStep, Stat, statsBuffer } from './setup.ts';
import { commonSetup, type EarlyDrop, type Station, type StationHost } from './station.ts';

const IPPROTO_TCP = 6;
const IPPROTO_UDP = 17;

/** One interface: gate, capture workers, and what was changed on the interface itself. */
export class InterfaceStation implements Station {
  readonly kind = 'interface';
  readonly name: string;
  gate: Gate | undefined;
  mode = 'none';
  readonly #host: StationHost;
  readonly #config: RunConfig;
  readonly #info: InterfaceInfo;
  readonly #crew: Crew;
  #offloads: Offloads | undefined;
  #snap: SnapFilter | undefined;
  #frames: FrameCapture | undefined;
  #pairs: PairShunts | undefined;
  #control: RunControl | undefined;
  #returning: Returning | undefined;
  /** The kernel says that the interface went down: what it is now is looked up until it is up again. */
  #suspect = false;
  #down = false;
  #gone = false;

  constructor(host: StationHost, info: InterfaceInfo) {
    this.#host = host;
    this.#config = host.config;
    this.#info = info;
    this.name = info.name;
    this.#crew = new Crew({
      failed: (error) => this.#host.failed(error),
      pair: (pair) => this.#pairs?.add(pair),
      news: (news) => this.#control?.news(news),
      samples: (buffer, count) => this.#host.detection?.take(buffer, count),
      tallied: (news) => this.#host.tallied(news),
      link: () => {
        this.#suspect = true;
        this.#checkLink();
      },
    });
  }

  get live(): LiveGate | undefined {
    return this.#control?.live;
  }

  get capture(): string {
    return this.#frames === undefined ? 'ring' : captureText(this.stats);
  }

  get earlyDrop(): EarlyDrop {
    return this.gate?.kind ?? 'none';
  }

  async start(): Promise<void> {
    const { name } = this;
    const switchedOff = this.#settleOffloads();
    if (switchedOff.length > 0)
      this.#host.say(`${name}: switched off for this run: ${switchedOff.join(', ')}`);
    const gate = this.#config.gate ? this.#openGate() : undefined;
    if (gate !== undefined) this.#tellLeftovers(gate);
    if (gate !== undefined && this.#config.capture === 'afxdp')
      this.#frames = new FrameCapture(gate, this.#info, this.#config);
    if (this.#frames?.warning !== undefined) this.#host.warn(this.#frames.warning);
    if (gate !== undefined)
      this.#pairs = new PairShunts(gate, this.#config.workers, {
        held: (orig, resp, wanted) => this.#control?.isHeld(orig, resp, wanted) ?? false,
        log: (record) => this.#host.logShunt(record),
        refused: (message) => this.#host.notice('Sluice::Pair', `${name}: ${message}`),
      });
    await this.#startWorkers();
    // Attached last: from the first packet that the gate judges there is someone to see what passes.
    if (gate !== undefined) await this.#attach(gate);
    if (gate !== undefined && this.#config.control) await this.#listen(gate);
    this.#host.detail(
      `${name}: ${this.#config.workers} worker(s), capture ${this.capture}, gate ${this.mode}`,
    );
  }

  /** Clients may have their say. */
  async #listen(gate: Gate): Promise<void> {
    this.#control = await RunControl.start({
      gate,
      config: this.#config,
      mode: this.mode,
      order: (orders) => this.#crew.order(orders),
      thresholds: () => this.#enableThresholds(gate),
      releasePairs: async (keys) => (await this.#pairs?.release(keys)) ?? [],
      losses: () => this.#host.losses(),
      live: () => this.stats.reduce((sum, stats) => sum + stats[Stat.shuntsLive], 0),
      mitigation: isSampledAtGate(this.#config) ? mitigationOf(this.#config, process.env) : undefined,
      fleet: fleetOptions(this.#config, this.name, this.#config.interface.length),
      logShunt: (record) => this.#host.logShunt(record),
      notice: (note, message) => this.#host.notice(note, `${this.name}: ${message}`),
      warn: (line) => this.#host.warn(`${this.name}: ${line}`),
    });
  }

  async #attach(gate: Gate): Promise<void> {
    const { mode } = this.#config;
    if (gate.kind === 'xdp' && mode !== 'socket') {
      try {
        const [{ mode: attached, warning }] = gate.attach(mode);
        this.mode = attached;
        this.#frames?.attached(attached);
        if (warning !== undefined) this.#host.warn(warning);
        return;
      } catch (error) {
        const why = this.#mayFallBack ? rulesOutXdp(error) : undefined;
        if (why === undefined) throw error;
        gate.becomeSocketFilter();
        this.#tellFilter(why);
      }
    }
    // A socket has one filter: that of the gate goes on to the one that says how much of a frame to keep.
    if (this.#snap !== undefined) gate.setNext(this.#snap.program);
    await this.#crew.filterBy(gate.program);
    this.mode = 'socket';
  }

  /** AF_XDP sockets get their frames from XDP, and queues of CPUs get theirs. */
  get #mayFallBack(): boolean {
    const { mode, capture, steer } = this.#config;
    return mode === 'auto' && capture !== 'afxdp' && steer === 'off';
  }

  /** Nobody has asked for it. */
  #tellFilter(why: string): void {
    this.#host.notice(
      'Sluice::Socket_Filter',
      `${this.name}: no XDP (${why}); the gate is a filter on the sockets of this run, which costs more`,
    );
  }

  /** Merged frames would be counted as one by the sensor and as several by the gate. What was switched off. */
  #settleOffloads(): readonly string[] {
    const offloads = settleOffloads(
      this.name,
      this.#config.vlanKey || this.#config.capture === 'afxdp' || this.#config.steer !== 'off',
    );
    this.#offloads = offloads;
    if (offloads.problem !== undefined) this.#host.notice('Sluice::Offloads', offloads.problem);
    return offloads.changed;
  }

  /** Loads the gate, which takes in what an earlier run has left. */
  #openGate(): Gate {
    const info = this.#info;
    const c = this.#config;
    const options: GateOptions = {
      ifname: info.name,
      ifindex: info.index,
      maxShunts4: c.maxShunts4,
      maxShunts6: c.maxShunts6,
      vlanKey: c.vlanKey,
      tunnels: gateTunnels(c),
      fragments: c.fragments === 'follow',
      steer: gateSteering(c, info.name),
      thresholds: usesThresholds(this.#host.policies),
      ...(typeof c.snaplen === 'number' ? { snaplen: c.snaplen } : {}),
      // And for the pairs of policies, and the control socket.
      workers: c.workers + SLOTS_BESIDE_WORKERS,
      join: isUsable,
    };
    const choice = chooseKind(c);
    try {
      this.gate = Gate.open({ ...options, kind: choice.kind });
    } catch (error) {
      // Who else is on the interface is found out when it is attached: another Sluice is in the way of both kinds.
      const busy = error instanceof SluiceError && error.code === 'INTERFACE_BUSY';
      choice.why = this.#mayFallBack && choice.kind === 'xdp' && !busy ? rulesOutXdp(error) : undefined;
      if (choice.why === undefined) throw error;
      this.gate = Gate.open({ ...options, kind: 'socket' });
    }
    if (choice.why !== undefined) this.#tellFilter(choice.why);
    const now = Date.now() / 1000;
    const offset = realtimeOffset();
    this.#returning = returningFlows(this.gate.leftovers.joined, ({ lastDropped }: Joined, protocol) => {
      const silence =
        protocol === IPPROTO_TCP ? c.timeoutTcp : protocol === IPPROTO_UDP ? c.timeoutUdp : c.timeoutIcmp;
      return (lastDropped > 0 ? lastDropped + offset : now) + silence;
    });
    return this.gate;
  }

  #tellLeftovers({ leftovers: { joined, orphans }, ifname }: Gate): void {
    if (joined.length > 0)
      this.#host.notice(
        'Sluice::Recovered',
        `goes on with ${joined.length} connections that an earlier run had shunted on ${ifname}`,
      );
    if (orphans.length === 0) return;
    const ids = new CommunityIds(this.#config.communityIdSeed);
    for (const orphan of orphans) this.#host.logShunt(orphanRecord(orphan, ids));
    this.#host.notice(
      'Sluice::Orphans',
      `removed ${orphans.length} shunts that an earlier run had left on ${ifname}`,
    );
  }

  async #startWorkers(): Promise<void> {
    const c = this.#config;
    const { name, index } = this.#info;
    const retireMs = Math.max(1, Math.round(c.retire * 1000));
    using group = c.workers > 1 && this.#frames === undefined ? this.#makeGroup() : undefined;
    if (c.snaplen === 'auto') this.#snap = new SnapFilter(c.vlanKey);
    const cpus = workerCpus(c.pinWorkers, name);
    // Interfaces that are near the same CPUs share them.
    const firstCpu = c.interface.indexOf(name) * c.workers;
    for (let number = 0; number < c.workers; number++) {
      const cpu = cpus?.[(firstCpu + number) % cpus.length];
      this.#crew.start(`sluice-${name}-${number}`, {
        ...commonSetup(this.#host),
        samples: isSampledAtGate(c) ? undefined : this.#host.detection?.budget(c.workers),
        source: this.#frames?.source(number, cpu) ?? {
          kind: 'interface',
          ifname: name,
          ifindex: index,
          ringBytes: c.ringBytes,
          ringBlock: c.ringBlock,
          retireMs,
          fanout: group?.ticket,
          snaplen: typeof c.snaplen === 'number' ? c.snaplen : undefined,
          snap: this.#snap?.handles,
          cpu,
        },
        holdMs: retireMs,
        number,
        workers: c.workers,
        gate: this.gate?.handles(number),
        localBypass: c.gate && this.earlyDrop === 'none',
        returning: this.#returning,
        log: this.#host.log(),
        stats: statsBuffer(),
      });
    }
    // The place that was held moves when it is left: before the packets count.
    await this.#crew.go(() => group?.settle());
  }

  /** For several workers: how packets are shared out among them. */
  #makeGroup(): FanoutGroup {
    const { workers, fanout, fanoutKey, fanoutInner, fanoutRollover, vlanKey } = this.#config;
    const ports = tunnelPorts(this.#config.tunnelPorts);
    const { name, index } = this.#info;
    const group = FanoutGroup.make(index, workers, {
      mode: fanout,
      key: fanoutKey,
      inner: fanoutInner,
      tunnelPorts: ports,
      vlanKey,
      rollover: fanoutRollover,
    });
    if (group.problem !== undefined)
      this.#host.notice(
        'Sluice::Fanout',
        `${name}: fragments may come to another worker than their connection, as the kernel's hash shares packets out (${group.problem.message})`,
      );
    this.#host.detail(`${name}: ${workers} workers, fanout ${group.mode}`);
    return group;
  }

  get stats(): readonly Float64Array[] {
    return this.#crew.stats;
  }

  lookAfter(): void {
    this.#checkLink();
    this.#pairs?.lookAfter();
    this.gate?.lookAfterCaptures();
  }

  /** Looks after an interface that may have gone down or away. */
  #checkLink(): void {
    if (!this.#suspect || this.#gone) return;
    const { index, name } = this.#info;
    const state = interfaceState(index);
    if (state === undefined) {
      this.#gone = true;
      const error = new SluiceError('INTERFACE_GONE', `the interface ${name} has gone`, {
        help: 'what was captured is in the logs; start again when it is back',
      });
      this.#host.notice('Sluice::Interface_Gone', error.message);
      this.#host.failed(error);
      return;
    }
    if (this.#down !== (state === 'down')) {
      this.#down = state === 'down';
      this.#host.notice(
        this.#down ? 'Sluice::Interface_Down' : 'Sluice::Interface_Up',
        `${name} is ${this.#down ? 'down: nothing is captured until it is up' : 'up again'}`,
      );
    }
    this.#suspect = this.#down;
  }

  #enableThresholds(gate: Gate): void {
    if (gate.features.thresholds) return;
    gate.enable({ thresholds: true });
    if (gate.kind === 'socket') void this.#crew.filterBy(gate.program);
  }

  setPolicies(policies: PlacedPlan): void {
    const { gate } = this;
    if (gate !== undefined && usesThresholds(policies)) this.#enableThresholds(gate);
    this.#crew.setPolicies(policies);
  }

  async dismiss(): Promise<void> {
    await this.#control?.close();
    this.#control = undefined;
  }

  tell(kind: EndStep): void {
    this.#crew.tell(kind);
  }

  async reached(kind: EndStep): Promise<Float64Array[]> {
    return await this.#crew.reached(kind);
  }

  async close(): Promise<void> {
    await this.dismiss();
    await this.#pairs?.close();
    this.#pairs = undefined;
    await this.#crew.close();
    this.#snap?.close();
    // Connections of an earlier run that nobody has gone on with are left to the next one.
    this.gate?.close(this.#returning !== undefined && areLeft(this.#returning));
    this.#frames?.close();
    this.#offloads?.restore();
    this.#offloads = undefined;
  }
}
