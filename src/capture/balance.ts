import { randomInt } from 'node:crypto';
import { join } from 'node:path';
import { SluiceError } from '../base/errors.ts';
import type { TunnelPorts } from '../base/tunnels.ts';
import { type BpfObject, type BpfProgram, loadObject, packageRoot, UdpReceiver } from '../kernel/index.ts';
import type { EncapKind, Encapsulation } from '../packet/encap/index.ts';
import { EtherType, LinkType } from '../packet/link/types.ts';

/** cfg_encap of bpf/reuseport.bpf.c. */
const ENCAPS: readonly EncapKind[] = ['raw', 'vxlan', 'geneve', 'geneve+vxlan'];
/** cfg_link: what a link type's frames are to GENEVE. */
const LINKS: Readonly<Record<number, number>> = {
  [LinkType.ethernet]: 0x6558,
  [LinkType.ppp]: 0x880b,
  [LinkType.raw]: EtherType.ipv4,
};
/** Room of cfg_tunnel_ports. */
const MAX_PORTS = 12;
const GTPU = 2152;
const TEREDO = 3544;
const SEEDS = 2 ** 32;

/** UDP ports whose datagrams carry other flows: their other port is chosen by those, for each direction in its own way. */
export function oneSidedPorts({ vxlan, geneve }: TunnelPorts): number[] {
  return [...vxlan, ...geneve, GTPU, TEREDO];
}

/**
 * Loads the program `sluice_reuseport` of bpf/reuseport.bpf.c, which chooses one of `sockets` by the flow inside of a
 * datagram. `ports`: at most 12 (oneSidedPorts). With a secret seed unless one is given. Throws as loadObject.
 */
export function loadBalance(
  { kind, skip, linkType }: Encapsulation,
  sockets: number,
  ports: readonly number[],
  seed: number = randomInt(SEEDS),
): BpfObject {
  const tunnels = new Uint16Array(MAX_PORTS);
  tunnels.set(ports);
  return loadObject(join(packageRoot(), 'build', 'bpf', 'reuseport.bpf.o'), {
    constants: {
      cfg_seed: seed,
      cfg_encap: ENCAPS.indexOf(kind),
      cfg_skip: skip,
      cfg_link: LINKS[linkType] ?? 0,
      cfg_sockets: sockets,
      cfg_tunnel_ports: new Uint8Array(tunnels.buffer),
    },
  });
}

/**
 * The eBPF program for the sockets of one port, which all of them share with its notes of fragments; none where the kernel
 * does not let us load or attach it: then `balanceProgram` does without privileges. To be closed once it is attached.
 */
export class FlowBalancer {
  readonly program: BpfProgram | undefined;
  /** Why there is none. */
  readonly problem: SluiceError | undefined;
  readonly #object: BpfObject | undefined;

  /** `address`: that of the sockets. */
  constructor(address: string, encapsulation: Encapsulation, sockets: number, ports: readonly number[]) {
    try {
      this.#object = loadBalance(encapsulation, sockets, ports);
      const program = this.#object.program('sluice_reuseport');
      // Before it is relied upon: what is loaded may still be too long for a socket (net.core.optmem_max).
      using receiver = new UdpReceiver({ address, port: 0, reusePort: true, slots: 1, slotBytes: 64 });
      receiver.balance(program);
      this.program = program;
    } catch (error) {
      this.#object?.close();
      if (!(error instanceof SluiceError)) throw error;
      this.problem = error;
    }
  }

  close(): void {
    this.#object?.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
