import { z } from 'zod';
import {
  bytes,
  count,
  cpuChoice,
  duration,
  durationOrOff,
  filePath,
  flag,
  interfaceName,
  key,
  list,
  mirrorSource,
  network,
  policyText,
  snapLength,
  tunnelPort,
} from './options.ts';
import { MAX_TUNNEL_PORTS, TUNNEL_KINDS, tunnelPorts } from './tunnels.ts';
import { bytesText, durationText } from './units.ts';

/**
 * Every option of Sluice, declared once. Types, defaults, flags, `sluice.yaml`, `sluice config` and
 * docs/configuration.md come from here. A key `logDir` is `--log-dir` as a flag and `log-dir` in the file.
 */

const seconds = (min: number, max: number) => duration(min, max, durationText);
const secondsOrOff = (min: number, max: number) => durationOrOff(min, max, durationText);
const size = (min: number, max: number) => bytes(min, max, bytesText);
const DAY = 86_400;
const tunnelPortList = () =>
  list(tunnelPort)
    .refine((all) => Object.values(tunnelPorts(all)).every(({ length }) => length <= MAX_TUNNEL_PORTS), {
      error: `may have up to ${MAX_TUNNEL_PORTS} ports of each kind`,
    })
    .prefault(['vxlan=4789', 'geneve=6081']);

const source = {
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

const policies = {
  policy: key(
    list(policyText).prefault(['tls', 'quic', 'bulk=1MB']),
    {
      group: 'Policies',
      arg: 'NAME[=ARG],…',
      help: 'What is shunted: tls, quic, ssh, vpn, bulk=SIZE, depth=SIZE, elephant=RATE, streaming, unknown, opaque, backup, none; `sluice policy presets` explains them.',
    },
    'list',
  ),
  policyFile: key(
    list(filePath).prefault([]),
    {
      group: 'Policies',
      arg: 'FILE,…',
      help: 'Policies of your own (docs/policies.md); they come before those of --policy. SIGUSR2 reads them anew.',
      otherwise: 'none',
    },
    'list',
  ),
  geo: key(
    list(filePath).prefault([]),
    {
      group: 'Policies',
      arg: 'FILE,…',
      help: "Databases in MaxMind's format (MMDB) for orig.country, resp.country, orig.asn and resp.asn.",
      otherwise: 'none',
    },
    'list',
  ),
};

const XDP_MODES = ['auto', 'native', 'generic', 'offload'] as const;

/** `mode` of a gate in front of other sensors. */
export const xdpMode = key(z.enum(XDP_MODES).default('auto'), {
  group: 'Gate',
  arg: 'MODE',
  help: 'Where XDP runs: native in the driver, generic in the stack, offload on the card; auto takes native where the driver has it.',
});

const gate = {
  gate: flag(true, { group: 'Gate', help: 'Attach the gate.', off: 'Attach no gate: only watch.' }),
  mode: key(z.enum([...XDP_MODES, 'socket']).default('auto'), {
    group: 'Gate',
    arg: 'MODE',
    help: "Where the gate runs: in XDP, native in the driver, generic in the stack or offload on the card; socket is a filter on the sensor's own sockets. auto takes native where the driver has it, else generic, and socket where XDP cannot be.",
  }),
  tunnels: key(
    list(z.enum(TUNNEL_KINDS, { error: `must be one of ${TUNNEL_KINDS.join(', ')}` })).prefault([]),
    {
      group: 'Gate',
      arg: 'KIND,…',
      help: 'Tunnels that the gate looks into, so that connections inside of them are shunted: vxlan, geneve, gre (ERSPAN too), ipip (IPv4 or IPv6 in either).',
      otherwise: 'none: what is in tunnels passes',
    },
    'list',
  ),
  fragments: key(z.enum(['pass', 'follow']).default('pass'), {
    group: 'Gate',
    arg: 'HOW',
    help: 'Fragments of shunted connections: pass, which is exact, or follow their connection, which is not: datagrams are counted as their fragments, and what comes before a first fragment passes.',
  }),
  steer: key(cpuChoice.prefault('off'), {
    group: 'Gate',
    arg: 'auto|CPUS|off',
    help: 'Hand what passes to these CPUs by its flow, before the kernel builds a packet of it: both directions and all fragments to the same one. A list such as 2-5,8; auto: those of the NUMA node that the card is attached to.',
  }),
  steerQueue: key(count(64, 16_384).prefault(8192), {
    group: 'Gate',
    arg: 'N',
    help: 'With --steer, packets that may wait at each CPU.',
  }),
  lease: key(
    secondsOrOff(0.1, 3600).prefault('2s'),
    {
      group: 'Gate',
      arg: 'TIME|off',
      help: 'Shunts of a worker that has made no progress for this long stop matching.',
    },
    'value',
    'duration',
  ),
  shuntIdle: key(
    secondsOrOff(1, 7 * DAY).prefault('5m'),
    {
      group: 'Gate',
      arg: 'TIME|off',
      help: 'A shunt that saw no packet for this long no longer matches: the next packet passes.',
    },
    'value',
    'duration',
  ),
  maxShunts4: key(count(1, 2 ** 24).prefault(65_536), {
    group: 'Gate',
    arg: 'N',
    help: 'Room for shunted IPv4 connections.',
  }),
  maxShunts6: key(count(1, 2 ** 24).prefault(16_384), {
    group: 'Gate',
    arg: 'N',
    help: 'Room for shunted IPv6 connections.',
  }),
};

const connections = {
  checksums: flag(true, {
    group: 'Connections',
    help: 'Validate checksums.',
    off: 'Take packets whatever their checksums say.',
  }),
  bare: flag(false, {
    group: 'Connections',
    help: "As Zeek's bare mode: no protocol analyzers, and only the base set of likely server ports.",
  }),
  localNets: key(
    list(network).prefault([]),
    {
      group: 'Connections',
      arg: 'CIDR,…',
      help: 'Networks that count as local, beside the private and special-purpose ranges.',
      otherwise: 'private ranges only',
    },
    'list',
  ),
  vlanKey: flag(false, {
    group: 'Connections',
    help: 'Connections of different VLANs are different, also with the same addresses and ports.',
  }),
  tunnelPorts: key(
    tunnelPortList(),
    {
      group: 'Connections',
      arg: 'KIND=PORT,…',
      help: 'UDP ports of VXLAN and GENEVE tunnels in the traffic, for instance vxlan=4789,vxlan=8472; of a kind that is not named there are none.',
    },
    'list',
  ),
  tunnelKey: flag(false, {
    group: 'Connections',
    help: 'Connections in VXLAN and GENEVE tunnels of different network identifiers are different.',
  }),
  maxFlows: key(count(1024, 2 ** 22).prefault(262_144), {
    group: 'Connections',
    arg: 'N',
    help: 'Room for open connections in each worker.',
  }),
  timeoutTcp: key(
    seconds(1, 7 * DAY).prefault('5m'),
    { group: 'Connections', arg: 'TIME', help: 'TCP: end after this time of silence.' },
    'value',
    'duration',
  ),
  timeoutTcpAttempt: key(
    seconds(0.1, DAY).prefault('5s'),
    { group: 'Connections', arg: 'TIME', help: 'TCP: end an attempt that nobody answered after this time.' },
    'value',
    'duration',
  ),
  timeoutUdp: key(
    seconds(1, 7 * DAY).prefault('1m'),
    { group: 'Connections', arg: 'TIME', help: 'UDP: end after this time of silence.' },
    'value',
    'duration',
  ),
  timeoutIcmp: key(
    seconds(1, 7 * DAY).prefault('1m'),
    { group: 'Connections', arg: 'TIME', help: 'ICMP and other protocols: end after this time of silence.' },
    'value',
    'duration',
  ),
};

const logs = {
  logDir: key(z.string().min(1).max(4096).default('./logs'), {
    group: 'Logs',
    arg: 'DIR',
    help: 'Where the logs are written.',
  }),
  logFormat: key(z.enum(['json', 'zeek']).default('json'), {
    group: 'Logs',
    arg: 'FORMAT',
    help: "JSON lines, or Zeek's tab-separated values with its heading.",
  }),
  jsonTimestamps: key(z.enum(['epoch', 'iso']).default('epoch'), {
    group: 'Logs',
    arg: 'FORM',
    help: 'Times in JSON: seconds since 1970, or ISO 8601 in UTC.',
  }),
  vlan: flag(false, { group: 'Logs', help: 'Write vlan and inner_vlan to conn.log.' }),
  vni: flag(false, {
    group: 'Logs',
    help: 'Write id.ctx.vxlan_vni and id.ctx.geneve_vni to conn.log: network identifiers of the innermost tunnels, those of mirrors included.',
  }),
  gwlb: flag(false, {
    group: 'Logs',
    help: 'Write gwlb_endpoint, gwlb_attachment and gwlb_cookie to conn.log: what AWS Gateway Load Balancer says of a connection in a mirror.',
  }),
  communityId: flag(false, {
    group: 'Logs',
    help: 'Write community_id (version 1) to conn.log, ssl.log and tunnel.log; shunt.log always has it.',
  }),
  communityIdSeed: key(count(0, 65_535).prefault(0), {
    group: 'Logs',
    arg: 'N',
    help: 'Seed of community ids; the same in every tool that is to agree.',
  }),
};

const control = {
  control: flag(true, {
    group: 'Gate',
    help: 'Listen on a control socket for each gate: sluice shunt, hold, gate status and other clients.',
    off: 'No control socket.',
  }),
  controlGroup: key(z.string().min(1).max(256).optional(), {
    group: 'Gate',
    arg: 'GROUP',
    help: 'This group may use the control socket too.',
    otherwise: 'root alone',
  }),
};

const liveLogs = {
  communityId: flag(true, {
    group: 'Logs',
    help: 'Write community_id (version 1) to conn.log, ssl.log and tunnel.log; shunt.log always has it. Off by default in sluice read.',
    off: 'Leave community_id out of conn.log, ssl.log and tunnel.log.',
  }),
  shuntFields: key(z.enum(['within', 'added']).default('within'), {
    group: 'Logs',
    arg: 'HOW',
    help: "Shunted connections in conn.log: with 'within', packets and IP bytes are whole and the shunted fields say which part of them was shunted; with 'added', that part comes on top.",
  }),
  logSink: key(
    list(filePath).prefault([]),
    {
      group: 'Logs',
      arg: 'URL,…',
      help: 'Send the lines of the logs there as well: tcp://HOST:PORT, unix:///PATH, syslog://HOST, syslog+tcp://HOST, nats://HOST/SUBJECT (docs/logs.md).',
      otherwise: 'none',
    },
    'list',
  ),
  logRotateSize: key(
    size(0, 2 ** 50).prefault('1GB'),
    { group: 'Logs', arg: 'BYTES', help: 'Begin a new file when a log has reached this size; 0: never.' },
    'value',
    'bytes',
  ),
  logRotateTime: key(
    seconds(0, 365 * DAY).prefault(0),
    {
      group: 'Logs',
      arg: 'TIME',
      help: 'Begin new files at each multiple of this time, for instance 1h; 0: never.',
    },
    'value',
    'duration',
  ),
};

const api = {
  api: key(z.string().min(1).max(4096).optional(), {
    group: 'API',
    arg: 'ADDRESS:PORT',
    help: 'Answer HTTP there: numbers, metrics for Prometheus, a live stream (docs/api.md). PORT alone is on loopback; unix:/PATH is a socket for this user.',
    otherwise: 'none',
  }),
  apiTokenFile: key(z.string().min(1).max(4096).optional(), {
    group: 'API',
    arg: 'FILE',
    help: 'A file with the token that requests have to show.',
  }),
  apiTlsCert: key(z.string().min(1).max(4096).optional(), {
    group: 'API',
    arg: 'FILE',
    help: 'Answer HTTPS with this certificate (PEM).',
  }),
  apiTlsKey: key(z.string().min(1).max(4096).optional(), {
    group: 'API',
    arg: 'FILE',
    help: 'The key of the certificate.',
  }),
  apiTlsClientCa: key(z.string().min(1).max(4096).optional(), {
    group: 'API',
    arg: 'FILE',
    help: 'Let in only clients with a certificate of this authority.',
  }),
};

const output = {
  json: flag(false, { group: 'Output', help: 'The result as JSON on stdout; errors too.' }),
  quiet: flag(false, {
    group: 'Output',
    short: '-q',
    help: 'No progress and no talk; errors and warnings only.',
  }),
  verbose: flag(false, { group: 'Output', short: '-v', help: 'Say more.' }),
  color: flag(true, {
    group: 'Output',
    help: 'Colours on a terminal; NO_COLOR and TERM=dumb turn them off too.',
    off: 'No colours; NO_COLOR and TERM=dumb do the same.',
  }),
};

export const outputSchema = z.object({ ...output });
export const readSchema = z.object({ ...connections, ...policies, ...logs, ...output });
export const runSchema = z.object({
  ...source,
  ...policies,
  ...gate,
  ...control,
  ...connections,
  ...logs,
  ...liveLogs,
  ...api,
  ...output,
});

/** Of a fanout program for other sensors, which has no run around it. */
export const fanoutPinSchema = outputSchema.extend({
  fanoutKey: key(z.enum(['flow', 'pair']).default('flow'), {
    group: 'Flows',
    arg: 'KEY',
    help: 'What goes to one ring: all of a flow (addresses and ports), or all between two addresses.',
  }),
  fanoutInner: flag(false, {
    group: 'Flows',
    help: 'Share out tunnelled packets by the flow inside (VXLAN, GENEVE, GRE, ERSPAN, IP in IP, GTP-U).',
  }),
  tunnelPorts: key(
    tunnelPortList(),
    {
      group: 'Flows',
      arg: 'KIND=PORT,…',
      help: 'With --fanout-inner, UDP ports of VXLAN and GENEVE tunnels, for instance vxlan=4789,vxlan=8472; of a kind that is not named there are none.',
    },
    'list',
  ),
  vlanKey: flag(false, {
    group: 'Flows',
    help: 'Flows of different VLANs are different, also with the same addresses and ports.',
  }),
});

export type OutputConfig = z.output<typeof outputSchema>;
/** What `sluice read` runs with; durations in seconds, sizes in bytes. */
export type ReadConfig = z.output<typeof readSchema>;
/** What `sluice run` runs with; durations in seconds, sizes in bytes. */
export type RunConfig = z.output<typeof runSchema>;

/** Two settings that cannot both hold; `broken` gets the settings of one schema, of which some keys may be missing. */
export interface Conflict {
  keys: readonly [keyof RunConfig, keyof RunConfig];
  broken: (config: Partial<RunConfig>) => boolean;
  /** What joins the two names in the message. */
  verb: string;
  why: string;
}

const EXCLUDES = 'does not go together with';

const isMirrorsAlone = (c: Partial<RunConfig>): boolean =>
  (c.source?.length ?? 0) > 0 && c.interface?.length === 0;

const isSteering = (c: Partial<RunConfig>): boolean => c.steer !== undefined && c.steer !== 'off';

const isKernelMode = (mode: RunConfig['fanout'] | undefined): boolean =>
  mode !== undefined && mode !== 'auto' && mode !== 'ebpf';

/** What holds for rings on interfaces, and would be passed over without a word where there are none. */
const OF_RINGS = [
  'ringBytes',
  'ringBlock',
  'retire',
  'fanout',
  'fanoutKey',
  'fanoutInner',
  'fanoutRollover',
  'snaplen',
  'pinWorkers',
] as const;

export const CONFLICTS: readonly Conflict[] = [
  ...OF_RINGS.map(
    (name): Conflict => ({
      keys: [name, 'interface'],
      verb: 'needs',
      // What is as it was preset has not been asked for.
      broken: (c) =>
        isMirrorsAlone(c) && c[name] !== undefined && c[name] !== runSchema.shape[name].parse(undefined),
      why: 'a mirror over UDP has sockets, and no rings',
    }),
  ),
  {
    keys: ['quiet', 'verbose'],
    verb: EXCLUDES,
    broken: (c) => c.quiet === true && c.verbose === true,
    why: 'one asks for less talk, the other for more',
  },
  {
    keys: ['logSink', 'logFormat'],
    verb: EXCLUDES,
    broken: (c) => (c.logSink?.length ?? 0) > 0 && c.logFormat === 'zeek',
    why: 'what is sent is JSON lines',
  },
  {
    keys: ['gate', 'mode'],
    verb: EXCLUDES,
    broken: (c) => c.gate === false && c.mode !== undefined && c.mode !== 'auto',
    why: 'without a gate there is no mode to choose',
  },
  {
    keys: ['gate', 'capture'],
    verb: EXCLUDES,
    broken: (c) => c.gate === false && c.capture === 'afxdp',
    why: 'AF_XDP gets what the gate passes on',
  },
  {
    keys: ['mode', 'capture'],
    verb: EXCLUDES,
    broken: (c) => c.mode === 'socket' && c.capture === 'afxdp',
    why: 'AF_XDP gets what an XDP program passes on',
  },
  {
    keys: ['fanout', 'capture'],
    verb: EXCLUDES,
    broken: (c) =>
      c.capture === 'afxdp' &&
      ((c.fanout !== undefined && c.fanout !== 'auto') ||
        c.fanoutKey === 'pair' ||
        c.fanoutInner === true ||
        c.fanoutRollover === true),
    why: "with AF_XDP the card's queues say which worker a frame goes to",
  },
  {
    keys: ['lease', 'shuntIdle'],
    verb: EXCLUDES,
    broken: (c) => c.lease === 'off' && c.shuntIdle === 'off',
    why: 'somebody has to let go of a shunt some day: one of the two may be off',
  },
  {
    keys: ['steer', 'gate'],
    verb: EXCLUDES,
    broken: (c) => isSteering(c) && c.gate === false,
    why: 'the gate does it',
  },
  {
    keys: ['steer', 'mode'],
    verb: EXCLUDES,
    broken: (c) => isSteering(c) && c.mode === 'socket',
    why: 'at a socket a packet is at its CPU already',
  },
  {
    keys: ['steer', 'capture'],
    verb: EXCLUDES,
    broken: (c) => isSteering(c) && c.capture === 'afxdp',
    why: 'a packet goes to AF_XDP or on to a CPU',
  },
  {
    keys: ['steer', 'interface'],
    verb: 'needs',
    broken: (c) => isSteering(c) && isMirrorsAlone(c),
    why: 'the gate before a mirror does not steer',
  },
  {
    keys: ['ringBlock', 'ringBytes'],
    verb: 'does not divide',
    broken: (c) => c.ringBlock !== undefined && c.ringBytes !== undefined && c.ringBytes % c.ringBlock !== 0,
    why: 'a ring is a whole number of blocks',
  },
  {
    keys: ['mirrorGate', 'gate'],
    verb: EXCLUDES,
    broken: (c) => c.mirrorGate !== undefined && c.gate === false,
    why: 'one asks for a gate, the other for none',
  },
  {
    keys: ['mirrorGate', 'source'],
    verb: 'needs',
    broken: (c) => c.mirrorGate !== undefined && c.source?.length === 0,
    why: 'the gate stands before mirrors (udp://…)',
  },
  {
    keys: ['mode', 'mirrorGate'],
    verb: EXCLUDES,
    broken: (c) => c.mode === 'socket' && c.mirrorGate !== undefined && isMirrorsAlone(c),
    why: 'a socket filter sees no more than the sensor does: the gate before a mirror is XDP',
  },
  {
    keys: ['mode', 'interface'],
    verb: 'needs',
    broken: (c) =>
      c.mode !== undefined && c.mode !== 'auto' && c.mirrorGate === undefined && isMirrorsAlone(c),
    why: 'a mirror over UDP alone has no gate, unless --mirror-gate makes one',
  },
  {
    keys: ['capture', 'interface'],
    verb: 'needs',
    broken: (c) => c.capture === 'afxdp' && isMirrorsAlone(c),
    why: 'a mirror over UDP comes by sockets of its own',
  },
  {
    keys: ['tap', 'interface'],
    verb: 'needs',
    broken: (c) => c.tap === true && c.interface?.length === 0,
    why: 'a tap has to be named (-i IFACE)',
  },
  {
    keys: ['fanoutKey', 'fanout'],
    verb: EXCLUDES,
    broken: (c) => c.fanoutKey === 'pair' && isKernelMode(c.fanout),
    why: 'the modes of the kernel know flows and no pairs',
  },
  {
    keys: ['fanoutInner', 'fanout'],
    verb: EXCLUDES,
    broken: (c) => c.fanoutInner === true && isKernelMode(c.fanout),
    why: 'the modes of the kernel do not look into all tunnels',
  },
  {
    keys: ['snaplen', 'capture'],
    verb: EXCLUDES,
    broken: (c) => c.snaplen !== undefined && c.snaplen !== 'off' && c.capture === 'afxdp',
    why: 'AF_XDP has no filter behind the gate',
  },
  {
    keys: ['fanoutRollover', 'fanout'],
    verb: EXCLUDES,
    broken: (c) => c.fanoutRollover === true && c.fanout === 'rollover',
    why: 'it is that already',
  },
  {
    keys: ['policy', 'policy'],
    verb: EXCLUDES,
    broken: (c) => (c.policy?.length ?? 0) > 1 && c.policy?.includes('none') === true,
    why: "'none' stands alone",
  },
];
