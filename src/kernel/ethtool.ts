import { addon } from './addon.ts';
import { KernelError } from './errors.ts';

/**
 * What `ethtool` shows and sets, by ioctl (linux/ethtool.h), in the network namespace of the calling thread. Readers give
 * undefined where the driver or the kernel does not answer; writers throw KernelError with what the driver says.
 */

const Command = {
  driver: 0x03,
  coalesce: 0x0e,
  setCoalesce: 0x0f,
  ring: 0x10,
  setRing: 0x11,
  pause: 0x12,
  setPause: 0x13,
  strings: 0x1b,
  statistics: 0x1d,
  privateFlags: 0x27,
  setPrivateFlags: 0x28,
  hashFields: 0x29,
  setHashFields: 0x2a,
  ruleCount: 0x2e,
  setInfo: 0x37,
  features: 0x3a,
  setFeatures: 0x3b,
  channels: 0x3c,
  setChannels: 0x3d,
  rss: 0x46,
  setRss: 0x47,
  link: 0x4c,
} as const;

const StringSet = { statistics: 1, privateFlags: 2, features: 4 } as const;
const NAME_BYTES = 32;
/** Names of one set that are read. */
const MOST_NAMES = 65_536;
const UNKNOWN_SPEED = 0xffff_ffff;

export interface DriverInfo {
  driver: string;
  version: string;
  firmware: string;
  /** Address of the device on its bus, such as `0000:3b:00.0`; empty of virtual ones. */
  bus: string;
}

export interface RingSizes {
  rx: number;
  rxMax: number;
  tx: number;
  txMax: number;
}

export interface ChannelCounts {
  rx: number;
  tx: number;
  combined: number;
  rxMax: number;
  txMax: number;
  combinedMax: number;
}

/** Receive coalescing; times in µs. */
export interface Coalescing {
  adaptiveRx: boolean;
  rxUsecs: number;
  rxFrames: number;
}

export interface PauseFrames {
  autoneg: boolean;
  rx: boolean;
  tx: boolean;
}

export interface FeatureState {
  /** In force. */
  on: boolean;
  /** What was asked for, which an other setting may prevent. */
  wanted: boolean;
  /** Nobody can change it. */
  fixed: boolean;
}

export interface RssSettings {
  /** Receive queue of each place of the indirection table; empty where there is none. */
  table: number[];
  /** Empty where the driver does not tell it. */
  key: Uint8Array;
  function: 'toeplitz' | 'xor' | 'crc32' | 'unknown';
  /** What the card does to addresses and ports before it hashes them (input_xfrm): RXH_XFRM_SYM_XOR is 1, SYM_OR_XOR 2. */
  transform: number;
}

/** Flow types whose fields `hashFields` tells, by linux/ethtool.h. */
export const HashFlow = { tcp4: 1, udp4: 2, tcp6: 5, udp6: 6 } as const;
export type HashFlowName = keyof typeof HashFlow;
/** Letters of `ethtool -N IFACE rx-flow-hash`, by their bits (RXH_*). */
const FIELD_LETTERS: readonly (readonly [string, number])[] = [
  ['m', 1 << 1],
  ['v', 1 << 2],
  ['t', 1 << 3],
  ['s', 1 << 4],
  ['d', 1 << 5],
  ['f', 1 << 6],
  ['n', 1 << 7],
];

function view(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Runs a command in place; false where it is not answered. */
function ask(ifname: string, bytes: Uint8Array, command: number): boolean {
  view(bytes).setUint32(0, command, true);
  return addon().ethtool(ifname, bytes) >= 0;
}

function tell(ifname: string, bytes: Uint8Array, command: number, what: string): void {
  view(bytes).setUint32(0, command, true);
  const result = addon().ethtool(ifname, bytes);
  if (result < 0) throw new KernelError('ethtool', -result, `${what} of ${ifname}`);
}

function get(ifname: string, size: number, command: number): DataView | undefined {
  const bytes = new Uint8Array(size);
  return ask(ifname, bytes, command) ? view(bytes) : undefined;
}

function textAt(from: DataView, at: number): string {
  const bytes = new Uint8Array(from.buffer, from.byteOffset + at, NAME_BYTES);
  const end = bytes.indexOf(0);
  return new TextDecoder('latin1').decode(bytes.subarray(0, end < 0 ? NAME_BYTES : end));
}

const known = (text: string): string => (text === 'N/A' ? '' : text.trim());

export function driverInfo(ifname: string): DriverInfo | undefined {
  const told = get(ifname, 196, Command.driver);
  if (told === undefined) return undefined;
  return {
    driver: textAt(told, 4),
    version: known(textAt(told, 36)),
    firmware: known(textAt(told, 68)),
    bus: known(textAt(told, 100)),
  };
}

/** Mbit/s; undefined without a link. */
export function linkSpeed(ifname: string): number | undefined {
  // The first answer is how many words its masks have.
  const first = get(ifname, 48, Command.link);
  if (first === undefined) return undefined;
  const words = -first.getInt8(15);
  if (words < 0) return undefined;
  const bytes = new Uint8Array(48 + 12 * words);
  view(bytes).setInt8(15, words);
  if (!ask(ifname, bytes, Command.link)) return undefined;
  const speed = view(bytes).getUint32(4, true);
  return speed === 0 || speed === UNKNOWN_SPEED ? undefined : speed;
}

export function ringSizes(ifname: string): RingSizes | undefined {
  const told = get(ifname, 36, Command.ring);
  if (told === undefined) return undefined;
  const at = (offset: number): number => told.getUint32(offset, true);
  return { rxMax: at(4), txMax: at(16), rx: at(20), tx: at(32) };
}

export function setRxRing(ifname: string, rx: number): void {
  const bytes = new Uint8Array(36);
  tell(ifname, bytes, Command.ring, 'read the ring');
  view(bytes).setUint32(20, rx, true);
  tell(ifname, bytes, Command.setRing, `set the receive ring to ${rx}`);
}

export function channelCounts(ifname: string): ChannelCounts | undefined {
  const told = get(ifname, 36, Command.channels);
  if (told === undefined) return undefined;
  const at = (offset: number): number => told.getUint32(offset, true);
  return { rxMax: at(4), txMax: at(8), combinedMax: at(16), rx: at(20), tx: at(24), combined: at(32) };
}

/** `rx` and `tx` stand for queues of one direction, `combined` for those of both. */
export function setChannels(ifname: string, kind: 'rx' | 'tx' | 'combined', count: number): void {
  const bytes = new Uint8Array(36);
  tell(ifname, bytes, Command.channels, 'read the queues');
  view(bytes).setUint32({ rx: 20, tx: 24, combined: 32 }[kind], count, true);
  tell(ifname, bytes, Command.setChannels, `set the ${kind} queues to ${count}`);
}

export function coalescing(ifname: string): Coalescing | undefined {
  const told = get(ifname, 92, Command.coalesce);
  if (told === undefined) return undefined;
  const at = (offset: number): number => told.getUint32(offset, true);
  return { rxUsecs: at(4), rxFrames: at(8), adaptiveRx: at(40) !== 0 };
}

export function setCoalescing(
  ifname: string,
  { adaptiveRx, rxUsecs }: { adaptiveRx?: boolean; rxUsecs?: number },
): void {
  const bytes = new Uint8Array(92);
  tell(ifname, bytes, Command.coalesce, 'read the coalescing');
  if (adaptiveRx !== undefined) view(bytes).setUint32(40, adaptiveRx ? 1 : 0, true);
  if (rxUsecs !== undefined) view(bytes).setUint32(4, rxUsecs, true);
  tell(ifname, bytes, Command.setCoalesce, 'set the coalescing');
}

export function pauseFrames(ifname: string): PauseFrames | undefined {
  const told = get(ifname, 16, Command.pause);
  if (told === undefined) return undefined;
  const at = (offset: number): boolean => told.getUint32(offset, true) !== 0;
  return { autoneg: at(4), rx: at(8), tx: at(12) };
}

export function setPauseFrames(ifname: string, { autoneg, rx, tx }: PauseFrames): void {
  const bytes = new Uint8Array(16);
  const to = view(bytes);
  [autoneg, rx, tx].forEach((on, i) => {
    to.setUint32(4 + 4 * i, on ? 1 : 0, true);
  });
  tell(ifname, bytes, Command.setPause, 'set the pause frames');
}

function names(ifname: string, set: number): string[] | undefined {
  const info = new Uint8Array(20);
  view(info).setBigUint64(8, 1n << BigInt(set), true);
  if (!ask(ifname, info, Command.setInfo)) return undefined;
  // Without the set its bit is cleared.
  if (view(info).getBigUint64(8, true) === 0n) return undefined;
  const count = Math.min(view(info).getUint32(16, true), MOST_NAMES);
  const bytes = new Uint8Array(12 + count * NAME_BYTES);
  const at = view(bytes);
  at.setUint32(4, set, true);
  at.setUint32(8, count, true);
  if (!ask(ifname, bytes, Command.strings)) return undefined;
  const given = Math.min(count, at.getUint32(8, true));
  return Array.from({ length: given }, (_, i) => textAt(at, 12 + i * NAME_BYTES));
}

/** The driver's own counters (`ethtool -S`). */
export function driverCounters(ifname: string): Record<string, number> | undefined {
  const all = names(ifname, StringSet.statistics);
  if (all === undefined) return undefined;
  const bytes = new Uint8Array(8 + all.length * 8);
  view(bytes).setUint32(4, all.length, true);
  if (!ask(ifname, bytes, Command.statistics)) return undefined;
  return Object.fromEntries(
    all.map((name, i) => [name.trim(), Number(view(bytes).getBigUint64(8 + i * 8, true))]),
  );
}

interface FeatureBits {
  names: string[];
  bits: DataView;
  blocks: number;
}

function featureBits(ifname: string): FeatureBits | undefined {
  const all = names(ifname, StringSet.features);
  if (all === undefined) return undefined;
  const blocks = Math.ceil(all.length / 32);
  const bytes = new Uint8Array(8 + blocks * 16);
  view(bytes).setUint32(4, blocks, true);
  return ask(ifname, bytes, Command.features) ? { names: all, bits: view(bytes), blocks } : undefined;
}

/** Offloads and the like (`ethtool -k`), by the kernel's names, such as `rx-gro`. */
export function deviceFeatures(ifname: string): Record<string, FeatureState> | undefined {
  const found = featureBits(ifname);
  if (found === undefined) return undefined;
  const out: Record<string, FeatureState> = {};
  found.names.forEach((name, i) => {
    const bit = (word: number): boolean =>
      ((found.bits.getUint32(8 + (i >> 5) * 16 + word * 4, true) >>> (i & 31)) & 1) === 1;
    const [available, requested, active, never] = [bit(0), bit(1), bit(2), bit(3)];
    if (name !== '') out[name] = { on: active, wanted: requested, fixed: never || !available };
  });
  return out;
}

/** What is asked for; whether it is in force says `deviceFeatures`. Errors: KernelError, of one that is not there ENOENT. */
export function setFeature(ifname: string, name: string, on: boolean): void {
  const found = featureBits(ifname);
  const index = found?.names.indexOf(name) ?? -1;
  if (found === undefined || index < 0)
    throw new KernelError('ethtool', ENOENT, `find the feature ${name} of ${ifname}`);
  const bytes = new Uint8Array(8 + found.blocks * 8);
  const at = view(bytes);
  at.setUint32(4, found.blocks, true);
  const mask = (1 << (index & 31)) >>> 0;
  at.setUint32(8 + (index >> 5) * 8, mask, true);
  at.setUint32(12 + (index >> 5) * 8, on ? mask : 0, true);
  tell(ifname, bytes, Command.setFeatures, `switch ${name} ${on ? 'on' : 'off'}`);
}

/** Switches of the driver's own (`ethtool --show-priv-flags`). */
export function privateFlags(ifname: string): Record<string, boolean> | undefined {
  const all = names(ifname, StringSet.privateFlags);
  const told = get(ifname, 8, Command.privateFlags);
  if (all === undefined || told === undefined) return undefined;
  const bits = told.getUint32(4, true);
  return Object.fromEntries(all.slice(0, 32).map((name, i) => [name, ((bits >>> i) & 1) === 1]));
}

export function setPrivateFlag(ifname: string, name: string, on: boolean): void {
  const index = names(ifname, StringSet.privateFlags)?.indexOf(name) ?? -1;
  if (index < 0 || index > 31)
    throw new KernelError('ethtool', ENOENT, `find the private flag ${name} of ${ifname}`);
  const bytes = new Uint8Array(8);
  tell(ifname, bytes, Command.privateFlags, 'read the private flags');
  const bits = view(bytes).getUint32(4, true);
  const mask = (1 << index) >>> 0;
  view(bytes).setUint32(4, (on ? bits | mask : bits & ~mask) >>> 0, true);
  tell(ifname, bytes, Command.setPrivateFlags, `switch ${name} ${on ? 'on' : 'off'}`);
}

const RSS = { table: 8, key: 12, function: 16, transform: 17, config: 24 } as const;
const KEEP_TABLE = 0xffff_ffff;
/** Larger ones than any card has. */
const MOST_TABLE = 65_536;
const MOST_KEY = 1024;

export function rssSettings(ifname: string): RssSettings | undefined {
  const sizes = get(ifname, RSS.config, Command.rss);
  if (sizes === undefined) return undefined;
  const table = sizes.getUint32(RSS.table, true);
  const key = sizes.getUint32(RSS.key, true);
  if (table > MOST_TABLE || key > MOST_KEY || table + key === 0) return undefined;
  const bytes = new Uint8Array(RSS.config + table * 4 + key);
  view(bytes).setUint32(RSS.table, table, true);
  view(bytes).setUint32(RSS.key, key, true);
  if (!ask(ifname, bytes, Command.rss)) return undefined;
  const at = view(bytes);
  const kinds = { 1: 'toeplitz', 2: 'xor', 4: 'crc32' } as const;
  const kind = at.getUint8(RSS.function) as keyof typeof kinds;
  return {
    table: Array.from({ length: table }, (_, i) => at.getUint32(RSS.config + i * 4, true)),
    key: bytes.slice(RSS.config + table * 4),
    function: kinds[kind] ?? 'unknown',
    transform: at.getUint8(RSS.transform),
  };
}

/** What is not given stays as it is. */
export function setRss(
  ifname: string,
  { key, table }: { key?: Uint8Array; table?: readonly number[] },
): void {
  const before = rssSettings(ifname);
  const words = table?.length ?? 0;
  const bytes = new Uint8Array(RSS.config + words * 4 + (key?.length ?? 0));
  const at = view(bytes);
  at.setUint32(RSS.table, table === undefined ? KEEP_TABLE : words, true);
  at.setUint32(RSS.key, key?.length ?? 0, true);
  at.setUint8(RSS.transform, before?.transform ?? 0);
  table?.forEach((queue, i) => {
    at.setUint32(RSS.config + i * 4, queue, true);
  });
  if (key !== undefined) bytes.set(key, RSS.config + words * 4);
  tell(ifname, bytes, Command.setRss, 'set the receive hash');
}

/** Letters such as `sdfn`: what the card hashes of packets of this type. */
export function hashFields(ifname: string, flow: HashFlowName): string | undefined {
  const bytes = new Uint8Array(192);
  view(bytes).setUint32(4, HashFlow[flow], true);
  if (!ask(ifname, bytes, Command.hashFields)) return undefined;
  const bits = Number(view(bytes).getBigUint64(8, true) & 0xffn);
  return FIELD_LETTERS.flatMap(([letter, bit]) => ((bits & bit) === 0 ? [] : [letter])).join('');
}

export function setHashFields(ifname: string, flow: HashFlowName, letters: string): void {
  const bytes = new Uint8Array(192);
  view(bytes).setUint32(4, HashFlow[flow], true);
  const bits = FIELD_LETTERS.reduce((sum, [letter, bit]) => (letters.includes(letter) ? sum | bit : sum), 0);
  view(bytes).setBigUint64(8, BigInt(bits), true);
  tell(ifname, bytes, Command.setHashFields, `hash ${flow} by ${letters}`);
}

/** Receive classification rules (ntuple) in the card; undefined where it takes none. */
export function ruleCount(ifname: string): number | undefined {
  return get(ifname, 192, Command.ruleCount)?.getUint32(184, true);
}

const ENOENT = 2;
