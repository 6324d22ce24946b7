import { isSampledAtGate } from './config/mitigation.ts';
import { type RunConfig, runSchema } from './config.ts';

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

const mitigates = (c: Partial<RunConfig>): boolean => c.mitigate === true || c.mitigateDryRun === true;

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
    keys: ['mitigate', 'gate'],
    verb: EXCLUDES,
    broken: (c) => c.mitigate === true && c.gate === false,
    why: 'the gate holds back what rules match; --mitigate-dry-run only tells of them',
  },
  {
    keys: ['mitigate', 'control'],
    verb: EXCLUDES,
    broken: (c) => mitigates(c) && isSampledAtGate(c) && !isMirrorsAlone(c) && c.control === false,
    why: 'what it does is looked at and taken back over the control socket',
  },
  {
    keys: ['mitigate', 'mode'],
    verb: EXCLUDES,
    broken: (c) => c.mitigate === true && c.mode === 'socket',
    why: 'a gate that is a socket filter has no rules; --mitigate-dry-run only tells of them',
  },
  {
    keys: ['mitigate', 'interface'],
    verb: 'needs',
    broken: (c) => c.mitigate === true && isMirrorsAlone(c),
    why: 'mirrors have nothing to hold back; --mitigate-dry-run tells of attacks in them',
  },
  {
    keys: ['veto', 'mitigate'],
    verb: 'needs',
    broken: (c) => (c.veto?.length ?? 0) > 0 && c.mitigate !== undefined && !mitigates(c),
    why: 'it says what must not be touched',
  },
  {
    keys: ['samplesTo', 'gate'],
    verb: EXCLUDES,
    broken: (c) => c.samplesTo !== undefined && c.gate === false,
    why: 'the gate takes the samples',
  },
  {
    keys: ['samplesTo', 'control'],
    verb: EXCLUDES,
    broken: (c) => c.samplesTo !== undefined && c.control === false,
    why: 'what it does is looked at over the control socket',
  },
  {
    keys: ['samplesTo', 'mode'],
    verb: EXCLUDES,
    broken: (c) => c.samplesTo !== undefined && c.mode === 'socket',
    why: 'a gate that is a socket filter takes no samples',
  },
  {
    keys: ['samplesTo', 'interface'],
    verb: 'needs',
    broken: (c) => c.samplesTo !== undefined && isMirrorsAlone(c),
    why: 'the gate before mirrors takes no samples',
  },
  {
    keys: ['samplesTo', 'mitigate'],
    verb: EXCLUDES,
    broken: (c) => c.samplesTo !== undefined && mitigates(c),
    why: 'either this gate finds attacks, or the detectors of the fleet do',
  },
  {
    keys: ['rulesFrom', 'trust'],
    verb: 'needs',
    broken: (c) => c.rulesFrom !== undefined && c.trust?.length === 0,
    why: 'without keys that are trusted nothing would count (sluice rule keygen makes one)',
  },
  ...(['trust', 'trustPrograms', 'rulesStore', 'rulesEvery'] as const).map(
    (name): Conflict => ({
      keys: [name, 'rulesFrom'],
      verb: 'needs',
      broken: (c) =>
        c.rulesFrom === undefined &&
        c[name] !== undefined &&
        !(Array.isArray(c[name]) && c[name].length === 0),
      why: 'it is about the rules from there',
    }),
  ),
  {
    keys: ['rulesFrom', 'gate'],
    verb: EXCLUDES,
    broken: (c) => c.rulesFrom !== undefined && c.gate === false,
    why: 'rules are in force in the gate',
  },
  {
    keys: ['rulesFrom', 'control'],
    verb: EXCLUDES,
    broken: (c) => c.rulesFrom !== undefined && c.control === false,
    why: 'what they do is looked at and taken back over the control socket',
  },
  {
    keys: ['rulesFrom', 'mode'],
    verb: EXCLUDES,
    broken: (c) => c.rulesFrom !== undefined && c.mode === 'socket',
    why: 'a gate that is a socket filter has no rules',
  },
  {
    keys: ['rulesFrom', 'interface'],
    verb: 'needs',
    broken: (c) => c.rulesFrom !== undefined && isMirrorsAlone(c),
    why: 'the gate before mirrors has no rules',
  },
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
