import { bad, byHand, type Check, type Fix, nicCheck, ok } from '../finding.ts';
import {
  ATR_FLAG,
  ATR_UNLESS_NTUPLE,
  plainXdpMtu,
  TOO_LONG_COUNTERS,
  VIRTUAL_DRIVERS,
} from '../knowledge.ts';
import type { Nic } from '../machine.ts';
import { n, rxQueueCount } from '../view.ts';

/** Of counters those that are not 0, with their values. */
export const counted = (nic: Nic, names: readonly string[]): string[] =>
  names.flatMap((name) => ((nic.counters[name] ?? 0) > 0 ? [`${name} ${n(nic.counters[name])}`] : []));

export const BLIP = 'the link goes down for a moment, packets are lost meanwhile';

function channelsFix(nic: Nic, name: 'rx' | 'tx' | 'combined', count: number, text: string): Fix {
  return {
    text,
    risk: 'blip',
    riskText: `${BLIP}; interrupts and the receive hash are set anew`,
    changes: [{ setting: { kind: 'channels', ifname: nic.name, name }, value: String(count) }],
  };
}

const driver = nicCheck('nic.driver', 'driver of the kernel', (nic) => {
  if (nic.driver === '') return undefined;
  const text = `${nic.driver} ${nic.version}`.trim();
  if (nic.outOfTree !== true) return ok(`${text}, of the kernel itself`);
  return bad(
    'note',
    `${text}, built outside of the kernel`,
    'drivers from vendors lag behind in XDP: modes, frames in several buffers and AF_XDP without copies may be missing, and nothing tells but trying',
    byHand('use the driver that comes with the kernel, unless a newer firmware needs this one', 'blip', BLIP),
  );
});

/** Major and minor number that begin a firmware's name. */
const version = (firmware: string): number => Number(/^(\d+\.\d+)/.exec(firmware)?.[1] ?? Number.NaN);
const I40E_FIRMWARE = 6.01;

const firmware = nicCheck('nic.firmware', 'firmware', (nic) => {
  if (nic.firmware === '' || VIRTUAL_DRIVERS.has(nic.driver)) return undefined;
  const old = nic.driver === 'i40e' && version(nic.firmware) < I40E_FIRMWARE;
  if (!old) return ok(nic.firmware);
  return bad(
    'warning',
    `${nic.firmware}, of before 6.01`,
    'older firmware of this card hashes some packet types wrongly and cannot switch its own LLDP agent off, which takes frames from the tap',
    byHand("update it with the vendor's tool", 'reboot', 'a card that loses power meanwhile is broken'),
  );
});

const link = nicCheck('nic.link', 'link', (nic) =>
  nic.up
    ? ok(nic.mbps === undefined ? 'up' : `up, ${n(nic.mbps)} Mbit/s`)
    : bad(
        'warning',
        'the interface is down',
        'nothing is received while it is down',
        byHand(`ip link set ${nic.name} up`, 'none', 'none'),
      ),
);

const xdpMode = nicCheck('nic.xdp-mode', 'native XDP', (nic) => {
  if (nic.attached?.mode === 'generic')
    return bad(
      'warning',
      `${nic.attached.name} runs in generic mode`,
      'generic XDP sees packets only after the kernel has made its buffers for them: most of what dropping early saves is gone',
      byHand('attach it with --mode native', 'blip', BLIP),
    );
  if (nic.xdp === undefined) return undefined;
  if (nic.xdp.basic) {
    const more = [
      nic.xdp.frags ? 'frames in several buffers' : '',
      nic.xdp.zeroCopy ? 'AF_XDP without copies' : '',
      nic.xdp.offload ? 'offload' : '',
    ].filter((text) => text !== '');
    return ok(`${nic.driver} has it${more.length === 0 ? '' : `, with ${more.join(', ')}`}`);
  }
  return bad(
    'warning',
    `${nic.driver} does not have it`,
    'the gate runs in generic mode, which costs several times as much for each packet',
    byHand(
      'a card whose driver has native XDP: ixgbe, i40e, ice, mlx5_core, bnxt_en, ena, virtio_net',
      'host',
      'another card',
    ),
  );
});

const xdpOther = nicCheck('nic.xdp-attached', 'no foreign XDP program', (nic) => {
  if (nic.attached === undefined) return ok('no program is attached');
  if (nic.attached.ours) return ok(`${nic.attached.name}, ours, in ${nic.attached.mode} mode`);
  return bad(
    'warning',
    `${nic.attached.name} is attached in ${nic.attached.mode} mode, and not by Sluice`,
    'an interface takes one program: the gate does not replace what is not its own, and `sluice run` takes a filter on its own sockets instead',
    byHand(
      'detach it with the tool that attached it, or put it behind the gate: `sluice gate next PIN`',
      'host',
      'its work ends',
    ),
  );
});

const xdpQueues = nicCheck('nic.xdp-queues', 'queues that XDP needs', (nic, machine) => {
  const { channels } = nic;
  const queues = rxQueueCount(nic);
  const cpus = machine.cpu.list.length;
  if (nic.driver === 'veth') {
    if (nic.peerTxQueues === undefined) return undefined;
    if (queues >= nic.peerTxQueues)
      return ok(`${queues} receive queues for ${nic.peerTxQueues} of the other end`);
    return bad(
      'problem',
      `${queues} receive queues, the other end sends by ${nic.peerTxQueues}`,
      'a veth refuses native XDP with fewer receive queues than its peer has to send by',
      channelsFix(nic, 'rx', nic.peerTxQueues, 'as many receive queues as the other end sends by'),
    );
  }
  if (channels === undefined) return undefined;
  if (nic.driver === 'ena') {
    const most = Math.floor(channels.combinedMax / 2);
    if (queues <= most) return ok(`${queues} of at most ${most}`);
    return bad(
      'problem',
      `${queues} queues of ${channels.combinedMax}`,
      'ena refuses XDP unless half of its queues are free: each needs another one to send by',
      channelsFix(nic, 'combined', Math.max(1, most), 'half of the queues'),
    );
  }
  if (nic.driver === 'virtio_net') {
    if (queues + cpus <= channels.combinedMax) return ok(`${queues} and one for each of ${cpus} CPUs`);
    return bad(
      'note',
      `${channels.combinedMax} queue pairs for ${queues} queues and ${cpus} CPUs`,
      'without a pair to send by for each CPU, virtio_net shares them behind a lock (before Linux 5.12 it refuses XDP); dropping and passing do not send and are not slower',
      byHand(`give the guest ${queues + cpus} queue pairs`, 'reboot', 'the guest has to be started anew'),
    );
  }
  if (nic.driver === 'bnxt_en' && channels.rx > 0)
    return bad(
      'problem',
      `${channels.rx} receive and ${channels.tx} send queues apart`,
      'bnxt_en takes XDP only with combined queues',
      byHand(`ethtool -L ${nic.name} rx 0 tx 0 combined ${channels.rx}`, 'blip', BLIP),
    );
  if (nic.driver === 'ixgbe' && cpus > 128)
    return bad(
      'problem',
      `${cpus} CPUs`,
      'ixgbe has queues to send by for XDP for 128 CPUs, and refuses it with more',
      byHand('boot with nr_cpus=128, or take another card', 'reboot', 'the other CPUs are not used'),
    );
  return ok(`${queues} queues`);
});

const mtu = nicCheck('nic.mtu', 'MTU and XDP', (nic) => {
  if (nic.xdp === undefined || !nic.xdp.basic) return undefined;
  const most = plainXdpMtu(nic.driver);
  if (nic.mtu <= most) return ok(`${nic.mtu} bytes`);
  if (nic.xdp.frags) return ok(`${nic.mtu} bytes; ${nic.driver} takes frames in several buffers`);
  return bad(
    'problem',
    `${nic.mtu} bytes, ${nic.driver} without frames in several buffers`,
    `native XDP needs a frame to fit into one buffer: about ${most} bytes of MTU with this driver`,
    byHand(
      `ip link set ${nic.name} mtu ${most}, or a kernel whose ${nic.driver} has xdp.frags`,
      'blip',
      `${BLIP}; longer frames are lost`,
    ),
  );
});

const frameSize = nicCheck('nic.frame-size', 'frames longer than the MTU', (nic) => {
  if (Object.keys(nic.counters).length === 0 || VIRTUAL_DRIVERS.has(nic.driver)) return undefined;
  const seen = counted(nic, TOO_LONG_COUNTERS);
  if (seen.length === 0) return ok('none was counted');
  return bad(
    'problem',
    seen.join(', '),
    'the card drops frames that are longer than its MTU allows: with tags, tunnels or jumbo frames on the mirrored link the tap needs a larger one',
    byHand(`ip link set ${nic.name} mtu 9000, as far as \`nic.mtu\` allows`, 'blip', BLIP),
  );
});

const ntuple = nicCheck('nic.atr', 'flows stay in their queue (ATR off)', (nic) => {
  const flag = nic.privateFlags[ATR_FLAG];
  const reason =
    'the card learns from what is sent where flows belong, samples of them only: flows change their queue in the middle, and their packets overtake each other';
  if (flag !== undefined) {
    if (!flag) return ok(`${ATR_FLAG} is off`);
    return bad('warning', `${ATR_FLAG} is on`, reason, {
      text: 'switch it off',
      risk: 'none',
      riskText: 'sockets of this host lose some locality',
      changes: [{ setting: { kind: 'private-flag', ifname: nic.name, name: ATR_FLAG }, value: 'off' }],
    });
  }
  const filters = nic.features['rx-ntuple-filter'];
  if (!ATR_UNLESS_NTUPLE.has(nic.driver) || filters === undefined) return undefined;
  if (filters.on) return ok('ntuple filters are on, which switches ATR off');
  return bad('warning', 'ntuple filters are off, so ATR is on', reason, {
    text: 'switch ntuple filters on, which switches ATR off',
    risk: 'blip',
    riskText: BLIP,
    changes: [{ setting: { kind: 'feature', ifname: nic.name, name: 'rx-ntuple-filter' }, value: 'on' }],
  });
});

const pause = nicCheck('nic.pause', 'no pause frames', (nic) => {
  if (nic.pause === undefined) return undefined;
  const { autoneg, rx, tx } = nic.pause;
  if (!rx && !tx) return ok('off');
  return bad(
    'warning',
    `receive ${rx ? 'on' : 'off'}, send ${tx ? 'on' : 'off'}`,
    'a tap that asks the switch to wait makes it drop what it mirrors, where no counter of this machine sees it',
    {
      text: 'switch both off',
      risk: 'blip',
      riskText: BLIP,
      changes: [
        {
          setting: { kind: 'pause', ifname: nic.name },
          value: `autoneg ${autoneg ? 'on' : 'off'} rx off tx off`,
        },
      ],
    },
  );
});

export const NIC_CHECKS: readonly Check[] = [
  link,
  driver,
  firmware,
  xdpMode,
  xdpOther,
  xdpQueues,
  mtu,
  frameSize,
  ntuple,
  pause,
];
