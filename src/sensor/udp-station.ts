import { tunnelPorts } from '../base/tunnels.ts';
import { FlowBalancer, oneSidedPorts } from '../capture/balance.ts';
import { parseUdpUrl, type UdpAddress } from '../capture/udp-url.ts';
import type { Gate } from '../gate/index.ts';
import { UdpReceiver } from '../kernel/index.ts';
import { Crew } from './crew.ts';
import type { MirrorGate } from './mirror-gate.ts';
import type { PlacedPlan } from './policy-book.ts';
import { type EndStep, Stat, statsBuffer } from './setup.ts';
import { commonSetup, type EarlyDrop, type Station, type StationHost } from './station.ts';
import { UdpStat } from './udp-books.ts';

/** What a socket shall hold while its worker is busy with something else. */
const BUFFER_BYTES = 16 * 2 ** 20;

/** A UDP port that a mirror sends to, and the workers that share it. Needs no privilege. */
export class UdpStation implements Station {
  readonly kind = 'udp';
  readonly name: string;
  readonly capture = 'udp';
  /** Which of the mirrors this is. */
  readonly #number: number;
  readonly #mirrorGate: MirrorGate | undefined;
  readonly #host: StationHost;
  readonly #address: UdpAddress;
  readonly #crew: Crew;

  /** The mirror with this number of the configuration. `mirrorGate` stands before it, and stays its owner's. Errors: USAGE. */
  constructor(host: StationHost, number: number, mirrorGate?: MirrorGate) {
    const source = host.config.source[number];
    this.#host = host;
    this.#number = number;
    this.#mirrorGate = mirrorGate;
    this.#address = parseUdpUrl(source);
    this.name = source;
    this.#crew = new Crew({
      failed: (error) => host.failed(error),
      samples: (buffer, count) => host.detection?.take(buffer, count),
      tallied: (news) => host.tallied(news),
      link: () => {},
    });
  }

  readonly live = undefined;

  /** What the mirror sends is here already when a socket filter sees it; XDP is before that. */
  get earlyDrop(): EarlyDrop {
    return this.#mirrorGate === undefined ? 'none' : 'xdp';
  }

  get gate(): Gate | undefined {
    return this.#mirrorGate?.gate;
  }

  get mode(): string {
    return this.#mirrorGate?.mode ?? 'none';
  }

  async start(): Promise<void> {
    const c = this.#host.config;
    const { address, port } = this.#address;
    // Sockets that share a port share it with those of another run of the same user too: that is found out before.
    if (c.workers > 1) new UdpReceiver({ address, port, slots: 1, slotBytes: 64 }).close();
    // Once it is attached the sockets keep it.
    using balancer = c.workers > 1 ? this.#makeBalancer() : undefined;
    for (let number = 0; number < c.workers; number++)
      this.#crew.start(`sluice-udp-${port}-${number}`, {
        ...commonSetup(this.#host),
        samples: this.#host.detection?.budget(c.workers),
        source: {
          kind: 'udp',
          name: this.name,
          address: this.#address,
          bufferBytes: BUFFER_BYTES,
          balancer: balancer?.program?.fd,
        },
        holdMs: 0,
        number,
        workers: c.workers,
        gate: this.#mirrorGate?.handles(this.#number, number),
        localBypass: c.gate && this.gate === undefined,
        returning: undefined,
        log: this.#host.log(),
        stats: statsBuffer(),
      });
    await this.#crew.go();
    this.#checkBuffers();
    this.#host.detail(`${this.name}: ${c.workers} worker(s)`);
  }

  /** For several workers: how datagrams are shared out among them. */
  #makeBalancer(): FlowBalancer {
    const { workers, tunnelPorts: ports } = this.#host.config;
    const { address, encapsulation } = this.#address;
    const balancer = new FlowBalancer(address, encapsulation, workers, oneSidedPorts(tunnelPorts(ports)));
    const { problem } = balancer;
    this.#host.detail(
      problem === undefined
        ? `${this.name}: ${workers} workers, shared out by eBPF`
        : `${this.name}: ${workers} workers, shared out by classic BPF (no eBPF: ${problem.message})`,
    );
    return balancer;
  }

  /** Without privilege the kernel grants no more than net.core.rmem_max. */
  #checkBuffers(): void {
    const granted = Math.min(...this.stats.map((stats) => stats[Stat.source + UdpStat.bufferBytes]));
    if (granted >= BUFFER_BYTES) return;
    this.#host.notice(
      'Sluice::Receive_Buffer',
      `${this.name}: a receive buffer of ${granted} bytes instead of ${BUFFER_BYTES}: bursts may be lost. ` +
        `Raise net.core.rmem_max (sysctl -w net.core.rmem_max=${BUFFER_BYTES})`,
    );
  }

  get stats(): readonly Float64Array[] {
    return this.#crew.stats;
  }

  /** The gate before it is looked after by its owner. */
  lookAfter(): void {}

  setPolicies(policies: PlacedPlan): void {
    this.#crew.setPolicies(policies);
  }

  dismiss(): Promise<void> {
    return Promise.resolve();
  }

  tell(kind: EndStep): void {
    this.#crew.tell(kind);
  }

  async reached(kind: EndStep): Promise<Float64Array[]> {
    return await this.#crew.reached(kind);
  }

  async close(): Promise<void> {
    await this.#crew.close();
  }
}
