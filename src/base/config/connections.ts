import { count, flag, key, list, network } from '../options.ts';
import { DAY, seconds, tunnelPortList } from './values.ts';

/** How the flow engine takes packets together. */
export const connectionsKeys = {
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
