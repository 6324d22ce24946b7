import {
  channelCounts,
  coalescing,
  deviceFeatures,
  driverCounters,
  driverInfo,
  HashFlow,
  type HashFlowName,
  hashFields,
  type InterfaceInfo,
  linkSpeed,
  pauseFrames,
  privateFlags,
  programInfo,
  ringSizes,
  rssSettings,
  ruleCount,
  xdpAttachment,
  xdpFeatures,
} from '../../kernel/index.ts';
import type { Nic, RxQueue, TxQueue } from '../machine.ts';
import type { Files } from './files.ts';
import { nicQueues } from './irq.ts';
import { pciFacts } from './pci.ts';

/** A mask of CPUs as the kernel writes them: hexadecimal words of 32 bits, separated by commas. */
export function parseCpuMask(text: string): number[] {
  const digits = text.replaceAll(',', '');
  const out: number[] = [];
  if (!/^[0-9a-f]+$/i.test(digits)) return out;
  for (let i = 0; i < digits.length; i++) {
    const nibble = Number.parseInt(digits[digits.length - 1 - i], 16);
    for (let bit = 0; bit < 4; bit++) if (((nibble >> bit) & 1) === 1) out.push(i * 4 + bit);
  }
  return out;
}

/** Sysfs shows the interfaces of the namespace that it was mounted in, which need not be ours. */
function sysfsOf(files: Files, { name, index, mac }: InterfaceInfo): string | undefined {
  const dir = `/sys/class/net/${name}`;
  const same = files.number(`${dir}/ifindex`) === index && files.text(`${dir}/address`) === mac;
  return same ? dir : undefined;
}

function queueDirs(files: Files, dir: string, kind: 'rx' | 'tx'): { queue: number; path: string }[] {
  return files
    .list(`${dir}/queues`)
    .filter((name) => name.startsWith(`${kind}-`))
    .map((name) => ({ queue: Number(name.slice(3)), path: `${dir}/queues/${name}` }))
    .toSorted((a, b) => a.queue - b.queue);
}

function rxOf(files: Files, dir: string): RxQueue[] {
  return queueDirs(files, dir, 'rx').map(({ queue, path }) => ({
    queue,
    rps: parseCpuMask(files.text(`${path}/rps_cpus`) ?? ''),
    rfs: files.number(`${path}/rps_flow_cnt`) ?? 0,
  }));
}

function txOf(files: Files, dir: string): TxQueue[] {
  return queueDirs(files, dir, 'tx').map(({ queue, path }) => ({
    queue,
    xps: parseCpuMask(files.text(`${path}/xps_cpus`) ?? ''),
  }));
}

function attachedTo(index: number): Nic['attached'] {
  const attachment = xdpAttachment(index);
  if (attachment === undefined) return undefined;
  let name = `program ${attachment.programId}`;
  try {
    name = programInfo(attachment.programId).name;
  } catch {
    // Without privilege, or it has gone: the id has to do.
  }
  return { mode: attachment.mode, ours: name.startsWith('sluice'), name };
}

/** The other end of a veth that is in the same namespace. */
function peerTxQueues(counters: Record<string, number>, all: readonly InterfaceInfo[]): number | undefined {
  const peer = all.find(({ index }) => index === counters['peer_ifindex']);
  return peer === undefined ? undefined : (channelCounts(peer.name)?.tx ?? undefined);
}

/** @param all the interfaces of the namespace */
export function nicFacts(files: Files, info: InterfaceInfo, all: readonly InterfaceInfo[]): Nic {
  const { name, index } = info;
  const driver = driverInfo(name);
  const dir = sysfsOf(files, info);
  const bus = driver?.bus ?? '';
  const pci = pciFacts(files, bus, linkSpeed);
  const device = files.link(`${dir}/device`)?.split('/').at(-1);
  const module = `/sys/module/${driver?.driver ?? ''}`;
  const rss = rssSettings(name);
  const counters = driverCounters(name) ?? {};
  const fields: Nic['hashFields'] = {};
  for (const flow of Object.keys(HashFlow) as HashFlowName[]) {
    const letters = hashFields(name, flow);
    if (letters !== undefined) fields[flow] = letters;
  }
  const taint = files.text(`${module}/taint`);
  return {
    name,
    index,
    up: info.up,
    mtu: info.mtu,
    kind: info.kind,
    hostTraffic: info.addresses.some(({ address }) => !address.startsWith('fe80:')) || info.routes.length > 0,
    driver: driver?.driver ?? '',
    version: driver?.version ?? '',
    firmware: driver?.firmware ?? '',
    outOfTree: taint === undefined ? undefined : taint.includes('O'),
    mbps: linkSpeed(name),
    pci,
    xdp: xdpFeatures(index),
    attached: attachedTo(index),
    rxQueuesMax: info.maxRxQueues,
    peerTxQueues: info.kind === 'veth' ? peerTxQueues(counters, all) : undefined,
    channels: channelCounts(name),
    ring: ringSizes(name),
    coalescing: coalescing(name),
    pause: pauseFrames(name),
    features: deviceFeatures(name) ?? {},
    privateFlags: privateFlags(name) ?? {},
    rss: rss === undefined ? undefined : { ...rss, key: Buffer.from(rss.key).toString('hex') },
    hashFields: fields,
    rules: ruleCount(name),
    counters,
    queues:
      pci === undefined
        ? []
        : nicQueues(files, bus, device?.startsWith('virtio') === true ? device : undefined),
    rx: dir === undefined ? [] : rxOf(files, dir),
    tx: dir === undefined ? [] : txOf(files, dir),
  };
}
