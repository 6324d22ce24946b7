import type { RunConfig } from '../base/config.ts';
import { SluiceError } from '../base/errors.ts';
import { tunnelPorts } from '../base/tunnels.ts';
import { parseUdpUrl, type UdpAddress } from '../capture/udp-url.ts';
import { localAddresses } from '../gate/guard.ts';
import { Gate } from '../gate/index.ts';
import { mirrorKey, mirrorRow, mirrorUnfit } from '../gate/mirrors.ts';
import type { GateHandles } from '../gate/ops.ts';
import { interfaceInfo } from '../kernel/index.ts';
import { ipBytes } from '../packet/address.ts';

/** Halves of seconds between two looks at the addresses of the host. */
const LOOK_EVERY = 10;

/**
 * A mirror that the gate can look into.
 * @throws SluiceError USAGE
 */
function mirrorOf(source: string): UdpAddress {
  const address = parseUdpUrl(source);
  const unfit = mirrorUnfit(address.encapsulation);
  if (unfit !== undefined)
    throw new SluiceError('USAGE', `'${source}': ${unfit.why}`, {
      help: `${unfit.instead}; others go without --mirror-gate`,
    });
  return address;
}

/** The gate before the sockets that the mirrors of a run arrive at, on an interface with the host's own traffic. */
export class MirrorGate {
  readonly gate: Gate;
  /** How it is attached; `none` until then. */
  mode = 'none';
  readonly #config: RunConfig;
  readonly #mirrors: readonly UdpAddress[];
  /** Rows in the table `mirrors` by their keys, both in hex. */
  #known = new Map<string, string>();
  #looks = 0;

  /** Loads it; nothing is attached yet. Errors: as Gate.open, USAGE for encapsulations that it does not know. */
  constructor(c: RunConfig, ifname: string, thresholds: boolean) {
    this.#config = c;
    this.#mirrors = c.source.map(mirrorOf);
    const { index } = interfaceInfo(ifname);
    this.gate = Gate.open({
      ifname,
      ifindex: index,
      maxShunts4: c.maxShunts4,
      maxShunts6: c.maxShunts6,
      vlanKey: c.vlanKey,
      tunnels: { kinds: c.tunnels, inKey: c.tunnelKey, ports: tunnelPorts(c.tunnelPorts), mirror: true },
      thresholds,
      workers: c.workers * this.#mirrors.length,
    });
    this.#name();
  }

  /** What a worker of a mirror opens; both by their numbers. */
  handles(mirror: number, worker: number): GateHandles {
    return this.gate.handles(mirror * this.#config.workers + worker);
  }

  /** Once the workers of all mirrors are there. Answers what there is to warn of. */
  attach(): string | undefined {
    const { mode } = this.#config;
    const [{ mode: attached, warning }] = this.gate.attach(mode === 'socket' ? 'auto' : mode);
    this.mode = attached;
    return warning;
  }

  /** To be called twice a second: a socket that listens on all addresses has new ones now and then. */
  lookAfter(): void {
    if (++this.#looks % LOOK_EVERY === 0) this.#name();
    this.gate.lookAfterCaptures();
  }

  close(): void {
    this.gate.close();
  }

  /** Tells the gate to which addresses and ports the mirrors are sent. */
  #name(): void {
    const locals = [...localAddresses()].map((hex) => Buffer.from(hex, 'hex'));
    const places = this.#mirrors.map(({ address, port }, mirror) => {
      const own = ipBytes(address) ?? new Uint8Array(4);
      const any = own.every((byte) => byte === 0);
      const both = own.length === 16;
      // A socket of IPv6 that listens on all addresses takes those of IPv4 too.
      const all = any ? locals.filter((each) => both || each.length === 4) : [own];
      return { keys: all.map((each) => mirrorKey(each, port)), mirror, rank: any ? (both ? 0 : 1) : 2 };
    });
    const wanted = new Map<string, string>();
    // As the kernel chooses a socket: of one address before one of all, of all of IPv4 before one of both families.
    for (const { keys, mirror } of places.sort((a, b) => a.rank - b.rank)) {
      const { encapsulation } = this.#mirrors[mirror];
      const first = this.handles(mirror, 0).owner;
      const row = mirrorRow(encapsulation, [first, first + this.#config.workers - 1]);
      for (const key of keys) wanted.set(hexOf(key), hexOf(row));
    }
    const map = this.gate.table('mirrors');
    for (const [key, row] of wanted)
      if (this.#known.get(key) !== row) map.set(Buffer.from(key, 'hex'), Buffer.from(row, 'hex'));
    for (const key of this.#known.keys()) if (!wanted.has(key)) map.delete(Buffer.from(key, 'hex'));
    this.#known = wanted;
  }
}

const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
