import { constantsOf, NO_FEATURES } from '../src/gate/features.ts';
import { WATCH_OWNER, watchConstants } from '../src/gate/watch.ts';
import { XdpAction } from '../src/kernel/index.ts';
import { eth } from '../src/packet/build.ts';
import { A, ack, B, type Case, KEYS, packets } from './gate-case.ts';
import { GateTables, manyKeys } from './tables.ts';

const ENTRIES = 1000;
const WATCHED = 65_536;
/** Never reached: what is measured is the watch. */
const NEVER = 1e15;

/** A gate with some shunts, which watches flows as well, or only could. */
export function openWatching(path: string, watching: boolean, stack: DisposableStack): GateTables {
  const watch = { tls: true, bytes: NEVER, packets: 0, idle: 300, owner: WATCH_OWNER, size: WATCHED };
  const constants = {
    ...constantsOf({ ...NO_FEATURES, thresholds: true }, false),
    ...(watching ? watchConstants(watch) : {}),
  };
  const tables = stack.use(
    new GateTables(path, 4096, 4096, constants, undefined, { watch4: WATCHED, watch6: WATCHED }),
  );
  tables.shunt(KEYS);
  tables.shunt(manyKeys(ENTRIES));
  return tables;
}

/** Data of a TCP connection without an entry. */
export function watchedPacket(): Uint8Array {
  return eth()
    .ipv4({ src: A.addr, dst: B.addr })
    .tcp(ack(A.port, 445))
    .payload(Uint8Array.from({ length: 1400 }, (_, i) => (i === 0 ? 99 : i & 0xff)))
    .bytes();
}

/**
 * The gate that stands alone (docs/alone.md), beside the gate that is driven, whose rows are the floors.
 */
export function aloneCases(path: string, stack: DisposableStack): Case[] {
  const [hit, miss] = [packets(true), packets(false)];
  const on = openWatching(path, true, stack).object.program('sluice_gate');
  const off = openWatching(path, false, stack).object.program('sluice_gate');
  const drop = { action: XdpAction.drop, floor: 'hit, IPv4 TCP' };
  const pass = { action: XdpAction.pass, floor: 'miss, IPv4 TCP' };
  return [
    { ...drop, name: 'hit, object with thresholds, standing by', program: off, data: hit.ack },
    { ...pass, name: 'miss, object with thresholds, standing by', program: off, data: miss.ack },
    { ...drop, name: 'hit, alone', program: on, data: hit.ack },
    { ...pass, name: 'miss, alone: acknowledgement', program: on, data: miss.ack },
    { ...pass, name: 'miss, alone: data, watched', program: on, data: watchedPacket() },
    {
      ...pass,
      name: 'miss, alone: data over UDP, watched',
      program: on,
      data: miss.udp,
      floor: 'miss, IPv4 UDP',
    },
  ];
}
