import { z } from 'zod';
import { count, cpuChoice, flag, interfaceName, key, list, mirrorSource, snapLength } from '../options.ts';
import { DAY, seconds, size } from './values.ts';

/** Where packets come from, and how they are captured. */
export const sourceKeys = {
  interface: key(
    list(interfaceName).prefault([]),
    {
      group: 'Source',
      short: '-i',
      arg: 'IFACE,…',
      help: 'Capture on these interfaces; without one and without another source, in the lab.',
      otherwise: 'the lab',
    },
    'list',
  ),
  source: key(
    list(mirrorSource).prefault([]),
    {
      group: 'Source',
      arg: 'SOURCE,…',
      help: 'Receive mirrored traffic over UDP: udp://ADDRESS:PORT?encap=vxlan|geneve|geneve+vxlan|raw. Also without the flag, as arguments.',
      otherwise: 'none',
    },
    'list',
  ),
  mirrorGate: key(interfaceName.optional(), {
    group: 'Source',
    arg: 'IFACE',
    help: 'Attach a gate to the interface on which the mirrors of udp:// arrive: what is shunted is dropped before the sockets. Nothing but datagrams to their addresses and ports is looked at there.',
    otherwise: 'none: shunted connections are counted and no longer analysed',
  }),
  tap: flag(false, {
    group: 'Source',
    help: "The interfaces are taps: capture there although an address, a route or a master is set. Without it an interface with the host's own traffic is refused.",
  }),
  duration: key(
    seconds(0.1, 365 * DAY).optional(),
    {
      group: 'Source',
      arg: 'SECONDS',
      help: 'Stop after this time.',
      otherwise: '30s in the lab, else no limit',
    },
    'value',
    'duration',
  ),
  workers: key(count(1, 256).prefault(1), {
    group: 'Source',
    arg: 'N',
    help: 'Capture workers for each source, each with a ring or socket and a flow table of its own.',
  }),
  capture: key(z.enum(['ring', 'afxdp']).default('ring'), {
    group: 'Source',
    arg: 'HOW',
    help: "How workers of an interface get its packets: ring (AF_PACKET), or afxdp, straight from behind the gate, past the kernel's network stack and whatever else listens there.",
  }),
  ringBytes: key(
    size(2 ** 20, 2 ** 31).prefault('64MiB'),
    {
      group: 'Source',
      arg: 'BYTES',
      help: 'Memory of each capture ring, or for the frames of each worker with afxdp: what bridges a stall of its worker.',
    },
    'value',
    'bytes',
  ),
  ringBlock: key(
    size(2 ** 16, 2 ** 26)
      .refine((n) => Number.isInteger(Math.log2(n)), { error: 'must be a power of two' })
      .prefault('128KiB'),
    { group: 'Source', arg: 'BYTES', help: 'Block of a capture ring; a power of two.' },
    'value',
    'bytes',
  ),
  retire: key(
    seconds(0.001, 1).prefault('10ms'),
    {
      group: 'Source',
      arg: 'TIME',
      help: 'Hand over a block that is not full after this time; with afxdp, look for frames twice in it.',
    },
    'value',
    'duration',
  ),
  fanout: key(z.enum(['auto', 'ebpf', 'hash', 'cpu', 'queue', 'rollover']).default('auto'), {
    group: 'Source',
    arg: 'MODE',
    help: 'How the workers of an interface share its packets: ebpf, our own program; hash, the kernel’s, which scatters fragments; cpu and queue, as the card has shared them out; rollover, one ring after the other. auto: ebpf where the kernel takes it, else hash.',
  }),
  fanoutKey: key(z.enum(['flow', 'pair']).default('flow'), {
    group: 'Source',
    arg: 'KEY',
    help: 'With --fanout ebpf, what goes to one worker: all of a flow (addresses and ports), or all between two addresses.',
  }),
  fanoutInner: flag(false, {
    group: 'Source',
    help: 'With --fanout ebpf, share out tunnelled packets by the flow inside (VXLAN, GENEVE on --tunnel-ports, GRE, ERSPAN, IP in IP, GTP-U).',
  }),
  fanoutRollover: flag(false, {
    group: 'Source',
    help: 'A packet for which a ring has no room goes to another worker: less is lost, and flows are split.',
  }),
  snaplen: key(snapLength(128, 262_144).prefault('off'), {
    group: 'Source',
    arg: 'BYTES|auto|off',
    help: 'Bytes of each frame that a capture ring keeps. auto: whole frames while the content of a connection is looked at, then headers. Services and names are found in what is kept, and the checksums of cut packets are not validated.',
  }),
  pinWorkers: key(cpuChoice.prefault('off'), {
    group: 'Source',
    arg: 'auto|CPUS|off',
    help: 'Pin each worker of an interface to a CPU: auto, those of the NUMA node that the card is attached to; or a list such as 2-5,8.',
  }),
  lowLatency: flag(false, {
    group: 'Source',
    help: 'Ask the processors of the machine to sleep no deeper than C1 while it runs (/dev/cpu_dma_latency).',
  }),
  healthPort: key(count(1, 65_535).optional(), {
    group: 'Source',
    arg: 'PORT',
    help: 'Answer health checks on this TCP port: 200 over HTTP while all workers make progress, 503 otherwise.',
    otherwise: 'none',
  }),
};
