import type { RunConfig } from '../base/config.ts';
import { SluiceError } from '../base/errors.ts';
import { tunnelPorts } from '../base/tunnels.ts';
import { parseUdpUrl, type UdpAddress } from '../capture/udp-url.ts';
import { localAddresses } from '../gate/guard.ts';
import { Gate } from '../gate/index.ts';
import { SlMirrorKey } from '../gate/layout.gen.ts';
import { tunnelBit } from '../gate/tunnels.ts';
import { interfaceInfo } from '../kernel/index.ts';
import { ipBytes } from '../packet/address.ts';
import { LinkType } from '../packet/link/types.ts';

const K = SlMirrorKey.members;
const MAPPED_AT = 10;
/** Halves of seconds between two looks at the addresses of the host. */
const LOOK_EVERY = 10;

/**
 * The kind that the gate knows of what this mirror wraps around frames.
 * @throws SluiceError USAGE
 */
function kindOf(source: string, { encapsulation: { kind, skip, linkType } }: UdpAddress): 'vxlan' | 'geneve' {
  if ((kind === 'vxlan' && linkType === LinkType.ethernet && skip === 0) || (kind === 'geneve' && skip === 0))
    return kind;
  throw new SluiceError('USAGE', `'${source}': the gate does not look into this encapsulation`, {
    help: 'it knows vxlan around Ethernet and geneve, without skip; others go without --mirror-gate',
  });
}

/** The gate before the sockets that a mirror arrives at, on an interface with the host's own traffic. */
export class MirrorGate {
  readonly gate: Gate;
  readonly #mirror: UdpAddress & { kind: 'vxlan' | 'geneve' };
  #known = new Set<string>();
  #looks = 0;

  /** Loads it; nothing is attached yet. Errors: as Gate.open, USAGE for encapsulations that it does not know. */
  constructor(c: RunConfig, ifname: string, source: string) {
    const address = parseUdpUrl(source);
    this.#mirror = { ...address, kind: kindOf(source, address) };
    const { index } = interfaceInfo(ifname);
    this.gate = Gate.open({
      ifname,
      ifindex: index,
      maxShunts4: c.maxShunts4,
      maxShunts6: c.maxShunts6,
      vlanKey: c.vlanKey,
      tunnels: { kinds: c.tunnels, inKey: c.tunnelKey, ports: tunnelPorts(c.tunnelPorts), mirror: true },
      workers: c.workers,
    });
    this.#name();
  }

  /** To be called twice a second: a socket that listens on all addresses has new ones now and then. */
  lookAfter(): void {
    if (++this.#looks % LOOK_EVERY === 0) this.#name();
  }

  /** Tells the gate to which addresses and port the mirror is sent. */
  #name(): void {
    const wanted = new Map<string, number>();
    const locals = [...localAddresses()];
    const { address, port, kind } = this.#mirror;
    const own = Buffer.from(ipBytes(address) ?? []).toString('hex');
    // A socket of IPv6 that listens on all addresses takes those of IPv4 too.
    const all = /^0+$/.test(own) ? locals.filter((each) => own.length === 32 || each.length === 8) : [own];
    for (const each of all) wanted.set(`${each} ${port}`, tunnelBit(kind));
    const map = this.gate.table('mirrors');
    for (const [name, kind] of wanted)
      if (!this.#known.has(name)) map.set(keyOf(name), new Uint8Array(Uint32Array.of(kind).buffer));
    for (const name of this.#known) if (!wanted.has(name)) map.delete(keyOf(name));
    this.#known = new Set(wanted.keys());
  }
}

/** struct sl_mirror_key from an address in hex and a port. */
function keyOf(name: string): Uint8Array {
  const [hex = '', port] = name.split(' ');
  const address = Buffer.from(hex, 'hex');
  const key = new Uint8Array(SlMirrorKey.size);
  if (address.length === 4) key.fill(0xff, K.addr + MAPPED_AT, K.addr + MAPPED_AT + 2);
  key.set(address, K.addr + 16 - address.length);
  new DataView(key.buffer).setUint16(K.port, Number(port));
  return key;
}
