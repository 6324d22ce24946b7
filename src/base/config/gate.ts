import { z } from 'zod';
import { count, cpuChoice, flag, key, list } from '../options.ts';
import { TUNNEL_KINDS } from '../tunnels.ts';
import { DAY, secondsOrOff } from './values.ts';

const XDP_MODES = ['auto', 'native', 'generic', 'offload'] as const;

/** `mode` of a gate in front of other sensors. */
export const xdpMode = key(z.enum(XDP_MODES).default('auto'), {
  group: 'Gate',
  arg: 'MODE',
  help: 'Where XDP runs: native in the driver, generic in the stack, offload on the card; auto takes native where the driver has it.',
});

/** The gate of a run. */
export const gateKeys = {
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

/** Who else may drive it. */
export const controlKeys = {
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
