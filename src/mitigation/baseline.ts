import { z } from 'zod';
import { ipBytes } from '../packet/address.ts';
import { Packet } from '../packet/packet.ts';
import { SAMPLE_HEAD, SampleColumns } from './columns.ts';
import { type Detector, type Learned, NAME_LEVEL } from './detector.ts';
import { KINDS, kindOf } from './kinds.ts';
import { addressText, LEVELS, maskOf } from './prefix.ts';
import { SampleReader } from './read-sample.ts';

/** Seconds after which what was usual says nothing any more. */
const MAX_AGE = 3600;
/** Seconds that who wrote it may be ahead. */
const MAX_AHEAD = 60;
/** Targets, and samples of what is usual, unless less is wanted: some 300 KiB of text at most. */
const MOST = { targets: 2048, samples: 512 } as const;
const MAX_RATE = 1e12;
const MAX_WEIGHT = 1e9;
const MAX_LENGTH = 1 << 20;
/** Characters of a text that is looked at. */
const MAX_TEXT = 4 << 20;
const NAME = /^name ([46]) ([0-9a-f]{1,8}) ([0-9a-f]{1,8})$/;

const rate = z.number().min(0).max(MAX_RATE);
const schema = z.object({
  version: z.literal(1),
  /** Seconds since 1970. */
  written: z.number(),
  /** Ticks in which was learned. */
  ticks: z.number().int().min(0).max(1e9),
  /** Kind of packets, prefix (`192.0.2.0/24`) or hash of a name, mean packets a second, mean square deviation, ticks. */
  targets: z
    .array(
      z.tuple([z.string().max(40), z.string().max(64), rate, z.number().min(0), z.number().int().min(1)]),
    )
    .max(MOST.targets),
  /** Weight, length, and the first bytes of frames that are usual. */
  samples: z
    .array(
      z.tuple([
        z.number().min(1).max(MAX_WEIGHT),
        z.number().int().min(0).max(MAX_LENGTH),
        z.string().max(172),
      ]),
    )
    .max(MOST.samples),
});

/** What a detector has learned, in a form that another process may go on from. */
export type Baseline = z.output<typeof schema>;

/** What one has learned so far: of the targets those that get most, and a fair part of the usual samples. @param now seconds since 1970 */
export function snapshot(
  detector: Detector,
  now: number,
  most: { targets: number; samples: number } = MOST,
): Baseline {
  const { ticks, targets } = detector.learned();
  const { usual } = detector.window;
  const step = Math.max(1, usual.count / most.samples);
  const samples: Baseline['samples'] = [];
  for (let at = 0; at < usual.count && samples.length < most.samples; at += step) {
    const row = Math.floor(at);
    const from = row * SAMPLE_HEAD;
    const frame = Buffer.from(usual.frames.subarray(from, from + usual.captured[row]));
    samples.push([usual.weight[row], usual.length[row], frame.toString('base64')]);
  }
  return {
    version: 1,
    written: now,
    ticks,
    targets: targets
      .toSorted((a, b) => b.mean - a.mean)
      .slice(0, most.targets)
      .map(({ key, level, kind, mean, square, ticks: learned }) => [
        KINDS[kind].name,
        placeText(key, level),
        mean,
        square,
        learned,
      ]),
    samples,
  };
}

/** From text of a file or bucket: undefined when it is none, of another version, or too old. @param now seconds since 1970 */
export function readBaseline(text: string, now: number): Baseline | undefined {
  if (text.length > MAX_TEXT) return undefined;
  try {
    const baseline = schema.parse(JSON.parse(text));
    return baseline.written > now - MAX_AGE && baseline.written < now + MAX_AHEAD ? baseline : undefined;
  } catch {
    return undefined;
  }
}

/** A detector that has seen nothing yet goes on from there; what makes no sense is left out. */
export function restore(detector: Detector, { ticks, targets, samples }: Baseline): void {
  const learned: Learned[] = [];
  for (const [name, place, mean, square, own] of targets) {
    const kind = KINDS.findIndex((each) => each.name === name);
    const at = kind < 0 ? undefined : placeOf(place, kind);
    if (at !== undefined) learned.push({ ...at, kind, mean, square, ticks: own });
  }
  detector.inherit(ticks, learned);
  const reader = new SampleReader();
  const packet = new Packet();
  const columns = new SampleColumns(1);
  for (const [weight, length, base64] of samples) {
    const frame = new Uint8Array(Buffer.from(base64, 'base64'));
    packet.u8 = frame;
    packet.caplen = Math.min(frame.length, SAMPLE_HEAD);
    packet.wirelen = Math.max(packet.caplen, length);
    packet.ts = 0;
    if (reader.read(packet, weight, columns, 0)) detector.window.remember(columns, 0, kindOf(columns, 0));
  }
}

function placeText(key: Uint32Array, level: number): string {
  const family = (key[4] & 0xff) === 6 ? 6 : 4;
  return level === NAME_LEVEL
    ? `name ${family} ${key[2].toString(16)} ${key[3].toString(16)}`
    : `${addressText(family, key, 0)}/${LEVELS[family][level]}`;
}

function placeOf(text: string, kind: number): Pick<Learned, 'key' | 'level'> | undefined {
  const key = new Uint32Array(5);
  const name = NAME.exec(text);
  if (name !== null) {
    key[2] = Number.parseInt(name[2], 16);
    key[3] = Number.parseInt(name[3], 16);
    key[4] = (kind << 8) | Number(name[1]);
    return { key, level: NAME_LEVEL };
  }
  const [address, length] = text.split('/');
  const bytes = ipBytes(address);
  if (bytes === undefined) return undefined;
  const family = bytes.length === 4 ? 4 : 6;
  const level = LEVELS[family].indexOf(Number(length));
  if (level < 0) return undefined;
  const view = new DataView(new ArrayBuffer(16));
  for (const [at, byte] of bytes.entries()) view.setUint8(16 - bytes.length + at, byte);
  for (let i = 0; i < 4; i++)
    key[i] = (view.getUint32(4 * i) & maskOf(family, LEVELS[family][level], i)) >>> 0;
  key[4] = (kind << 8) | family;
  return { key, level };
}
