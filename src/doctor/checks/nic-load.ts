import { bad, byHand, type Check, type Fix, nicCheck, ok } from '../finding.ts';
import { ALLOWANCE_COUNTERS, LIMIT_SHARE, modelLimit, VIRTUAL_DRIVERS } from '../knowledge.ts';
import type { Nic } from '../machine.ts';
import { lossOf, lostIn, n, percent } from '../view.ts';
import { BLIP, counted } from './nic.ts';

/** From this share of the link on dropping in the card is worth its trouble. */
const BUSY_LINK = 0.5;

const earlyDrop = nicCheck('nic.early-drop', 'drops in the card itself', (nic, machine) => {
  const rates = machine.sample?.nics[nic.name];
  if (
    nic.rules === undefined ||
    rates === undefined ||
    machine.sample === undefined ||
    nic.mbps === undefined
  )
    return undefined;
  const share = (rates.bytes * 8) / machine.sample.seconds / (nic.mbps * 1e6);
  if (nic.rules > 0) return ok(`${nic.rules} rules are in the card`);
  if (share < BUSY_LINK) return ok(`${percent(share)} of the link: not needed`);
  return bad(
    'note',
    `${percent(share)} of the link, and no rule in the card`,
    'what is known to be of no interest (backups, storage) costs nothing when the card drops it, before the bus and the processor',
    byHand(
      '`sluice rule add --offload nic` for such traffic, or ethtool -N IFACE flow-type tcp4 dst-port PORT action -1',
      'none',
      'dropped packets are in no record; the counters of the card are all there is',
    ),
  );
});

const limit = nicCheck('nic.limit', 'limits of the card', (nic, machine) => {
  const exceeded = counted(nic, ALLOWANCE_COUNTERS);
  if (exceeded.length > 0)
    return bad(
      'problem',
      exceeded.join(', '),
      'the cloud has delayed or dropped packets because the instance had used up what it may',
      byHand('a larger instance, or fewer mirrors to this one', 'host', 'another machine'),
    );
  const { sample } = machine;
  const rates = sample?.nics[nic.name];
  if (sample === undefined || rates === undefined) return undefined;
  const card = nic.pci?.address.slice(0, -1);
  const same = machine.nics.filter((each) => card !== undefined && each.pci?.address.slice(0, -1) === card);
  const sum = (of: 'packets' | 'bytes'): number =>
    (same.length > 0 ? same : [nic]).reduce((total, { name }) => total + (sample.nics[name]?.[of] ?? 0), 0) /
    sample.seconds;
  const packets = sum('packets');
  const mbps = (sum('bytes') * 8) / 1e6;
  const model = nic.pci === undefined ? undefined : modelLimit(nic.pci.vendor, nic.pci.device);
  const parts = [
    ...(model?.packets === undefined
      ? []
      : [[packets / model.packets, `${n(model.packets)} packets/s of ${model.name}`] as const]),
    ...(model?.mbps === undefined
      ? []
      : [[mbps / model.mbps, `${n(model.mbps)} Mbit/s of ${model.name}, all ports`] as const]),
    ...(nic.mbps === undefined
      ? []
      : [
          [
            (rates.bytes * 8) / sample.seconds / (nic.mbps * 1e6),
            `${n(nic.mbps)} Mbit/s of the link`,
          ] as const,
        ]),
  ];
  if (parts.length === 0) return undefined;
  const [share, what] = parts.reduce((a, b) => (b[0] > a[0] ? b : a));
  if (share < LIMIT_SHARE) return ok(`${percent(share)} of ${what}`);
  return bad(
    'warning',
    `${percent(share)} of ${what}`,
    `from ${percent(LIMIT_SHARE)} of a limit on bursts are lost, whatever the average says${model === undefined ? '' : ` (${model.source})`}`,
    byHand('spread the taps over more cards', 'host', 'another card'),
  );
});

const SMALL_RING = 512;
const LARGE_RING = 1024;

function ringFix(nic: Nic, rx: number, text: string): Fix {
  return {
    text,
    risk: 'blip',
    riskText: BLIP,
    changes: [{ setting: { kind: 'ring', ifname: nic.name }, value: String(rx) }],
  };
}

const ring = nicCheck('nic.ring', 'receive ring', (nic, machine) => {
  if (nic.ring === undefined || VIRTUAL_DRIVERS.has(nic.driver)) return undefined;
  const { rx, rxMax } = nic.ring;
  const loss = lossOf(machine, nic);
  if (loss !== undefined && loss.lost > 0 && loss.idle && rx < rxMax) {
    const more = Math.min(rxMax, rx * 2);
    return bad(
      'warning',
      `${rx} descriptors; ${n(loss.lost)} packets were lost while cores were idle`,
      'bursts come faster than the driver is called: only then a larger ring helps',
      ringFix(nic, more, `${more} descriptors`),
    );
  }
  if (rx > LARGE_RING && (loss === undefined || loss.lost === 0))
    return bad(
      'note',
      `${rx} descriptors, and nothing is lost`,
      'buffers of a large ring do not fit into the part of the cache that the card writes to: each packet then comes from memory',
      ringFix(
        nic,
        Math.min(SMALL_RING, rxMax),
        `${SMALL_RING} descriptors; larger only when packets are lost while cores are idle`,
      ),
    );
  return ok(`${rx} of at most ${rxMax} descriptors`);
});

const FIRST_USECS = 84;
const LATER_USECS = 62;
const SANE_USECS = { least: 30, most: 130 } as const;

const coalesce = nicCheck('nic.coalescing', 'interrupts together', (nic, machine) => {
  if (nic.coalescing === undefined || nic.pci === undefined || VIRTUAL_DRIVERS.has(nic.driver))
    return undefined;
  const { adaptiveRx, rxUsecs } = nic.coalescing;
  const set = (usecs: number): Fix => ({
    text: `adaptive off, ${usecs} µs`,
    risk: 'none',
    riskText: 'none; some drivers restart the interface',
    changes: [
      ...(adaptiveRx
        ? [{ setting: { kind: 'coalescing', ifname: nic.name, name: 'adaptive-rx' } as const, value: 'off' }]
        : []),
      { setting: { kind: 'coalescing', ifname: nic.name, name: 'rx-usecs' }, value: String(usecs) },
    ],
  });
  if (adaptiveRx)
    return bad(
      'warning',
      `adaptive, now ${rxUsecs} µs`,
      'adaptive coalescing is made for answers, not for capture: it follows a burst when it is over',
      set(FIRST_USECS),
    );
  const loss = lossOf(machine, nic);
  if (loss !== undefined && loss.lost > 0 && loss.idle && rxUsecs > LATER_USECS)
    return bad(
      'warning',
      `${rxUsecs} µs; ${n(loss.lost)} packets were lost while cores were idle`,
      'the processors have time left to be asked more often',
      set(LATER_USECS),
    );
  if (rxUsecs < SANE_USECS.least || rxUsecs > SANE_USECS.most)
    return bad(
      'note',
      `${rxUsecs} µs`,
      rxUsecs < SANE_USECS.least
        ? 'an interrupt for every few packets takes processor time from the work on them'
        : 'so long a time between interrupts fills the ring at high rates',
      set(FIRST_USECS),
    );
  return ok(`${rxUsecs} µs, not adaptive`);
});

const losses = nicCheck('nic.losses', 'nothing lost in the card', (nic, machine) => {
  const rates = machine.sample?.nics[nic.name];
  if (rates === undefined || machine.sample === undefined) return undefined;
  const lost = lostIn(rates);
  if (lost === 0) return ok(`none of ${n(rates.packets)} packets in ${machine.sample.seconds.toFixed(1)} s`);
  const names = Object.entries(rates.lost).map(([name, packets]) => `${name} ${n(packets)}`);
  return bad(
    'problem',
    `${n(lost)} of ${n(rates.packets + lost)} packets in ${machine.sample.seconds.toFixed(1)} s: ${names.join(', ')}`,
    'packets are lost before any program can see them',
    byHand('see nic.coalescing, nic.ring, irq.affinity, pcie.bandwidth, in this order', 'none', 'none'),
  );
});

/** What is judged by rates and losses. */
export const LOAD_CHECKS: readonly Check[] = [losses, limit, earlyDrop, ring, coalesce];
