import { SluiceError } from '../src/base/errors.ts';
import type { Namespace } from './namespace.ts';

/** What a mirror port has sent to its tap: an outside witness for what the tap must have seen. */
export interface MirrorCounters {
  /** Frames that left the port's queue. */
  packets: number;
  /**
   * Their bytes as on a wire without check sequence, with the tags that the lab pushed; the outer tag of replayed
   * frames that came with one is not counted.
   */
  bytes: number;
  /** Frames lost at the queue or behind it; `packets` counts those behind it too. */
  dropped: number;
  /** Frames still in the queue. */
  backlog: number;
  /** tx_packets of the interface: frames that the tap's driver took. */
  txPackets: number;
}

interface LinkStats {
  ifname: string;
  ifindex: number;
  stats64: { tx: { packets: number; bytes: number; dropped: number } };
}

interface QdiscStats {
  root?: boolean;
  bytes: number;
  packets: number;
  drops: number;
  backlog: number;
  qlen: number;
}

export async function linkStats(ns: Namespace, ifname: string): Promise<LinkStats> {
  const { stdout } = await ns.exec(['ip', '-s', '-j', 'link', 'show', 'dev', ifname]);
  const link = (JSON.parse(stdout) as LinkStats[])[0];
  if (link === undefined) throw new SluiceError('LAB', `no interface ${ifname} in namespace ${ns.name}`);
  return link;
}

/** @param pushedBytes bytes that a program has added to the frames after the queue had counted them */
export async function mirrorCounters(
  ns: Namespace,
  port: string,
  pushedBytes: number,
): Promise<MirrorCounters> {
  const { stdout } = await ns.exec(['tc', '-s', '-j', 'qdisc', 'show', 'dev', port, 'root']);
  const qdisc = (JSON.parse(stdout) as QdiscStats[]).find((one) => one.root === true);
  const { tx } = (await linkStats(ns, port)).stats64;
  if (qdisc === undefined) throw new SluiceError('LAB', `no queue at ${port} in namespace ${ns.name}`);
  return {
    packets: qdisc.packets,
    bytes: qdisc.bytes + pushedBytes,
    dropped: qdisc.drops + tx.dropped,
    backlog: qdisc.qlen,
    txPackets: tx.packets,
  };
}
