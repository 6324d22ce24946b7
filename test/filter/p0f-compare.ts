/** Debian's p0f over frames made at random, and what our filters say of the same. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { SluiceError } from '../../src/base/errors.ts';
import { validateCbpf } from '../../src/ebpf/index.ts';
import { compileFilterText } from '../../src/filter/index.ts';
import { clientOf, opening, segment } from './p0f-frames.ts';
import { type Frame, matching, seeded, tool, writePcap } from './support.ts';

/** What p0f says of a frame. */
interface Line {
  /** Index of the frame. */
  frame: number;
  answer: boolean;
  os: string;
  fuzzy: boolean;
  signature: string;
}

export interface P0fFrames {
  frames: Frame[];
  file: string;
  /** Index of the frame by client address and kind. */
  index: Map<string, number>;
}

export interface Disagreement {
  signature: string;
  frame: number;
  p0f: boolean;
}

/** Segments at random, each of a client of its own, in a file. */
export function makeFrames(dir: string, seed: number, count: number): P0fFrames {
  const random = seeded(seed);
  const frames: Frame[] = [];
  const index = new Map<string, number>();
  for (let i = 0; i < count; i++) {
    const version = random(3) === 0 ? 6 : 4;
    const answer = random(3) === 0;
    const frame = segment(random, i, version, answer);
    if (answer) frames.push(opening(frame, i, version));
    index.set(`${clientOf(i, version)} ${answer}`, frames.length);
    frames.push(frame);
  }
  const file = join(dir, `frames-${seed}.pcap`);
  writePcap(file, frames);
  return { frames, file, index };
}

/** Runs p0f with signatures of its own, or those of `fingerprints`. */
export function runP0f(dir: string, { file, index }: P0fFrames, fingerprints?: string): Line[] {
  const log = join(dir, 'p0f.log');
  writeFileSync(log, '');
  const own = join(dir, 'p0f.fp');
  if (fingerprints !== undefined) writeFileSync(own, fingerprints);
  tool('p0f', ['-r', file, '-o', log, ...(fingerprints === undefined ? [] : ['-f', own])]);
  const lines: Line[] = [];
  for (const line of readFileSync(log, 'utf8').split('\n')) {
    const match = /mod=(syn(?:\+ack)?)\|cli=([^/]+)\/.*\|os=([^|]*)\|.*\|params=([^|]*)\|raw_sig=(.*)$/.exec(
      line,
    );
    if (match === null) continue;
    const [, mod, client, os, params, signature] = match;
    const frame = index.get(`${client} ${mod === 'syn+ack'}`);
    if (frame === undefined) continue;
    lines.push({ frame, answer: mod === 'syn+ack', os, fuzzy: params.includes('fuzzy'), signature });
  }
  return lines;
}

/** A signature like that of a packet, with some of its fields let loose. */
export function loosen(raw: string, random: (n: number) => number): string {
  const [ver, ittl, olen, mss, wsize, olayout, quirks, pclass] = raw.split(':');
  const some = (n: number) => random(n) === 0;
  const seen = /^\d+/.exec(ittl)?.[0] ?? '64';
  // p0f loses the first digit of the length behind a TTL with a minus.
  const ttl =
    some(4) && olen === '0'
      ? `${seen}-`
      : ittl.includes('?') || ittl.startsWith('0')
        ? String(Math.max(1, Number(seen)))
        : ittl;
  const [window, scale] = wsize.split(',');
  const win = some(4)
    ? '*'
    : some(6) && /^\d+$/.test(window) && Number(window) > 1
      ? `%${2 + random(Number(window))}`
      : window;
  return [
    some(2) && !(ver === '4' && quirks.includes('flow')) ? '*' : ver,
    ttl,
    olen,
    some(2) ? '*' : mss,
    `${win},${some(3) ? '*' : scale}`,
    olayout,
    quirks,
    some(4) ? '*' : pclass,
  ].join(':');
}

/**
 * One round: a signature for each layout of options and kind of packet, all in one p0f.fp (of those with different layouts p0f
 * never takes one for the other). What p0f and our filters say differently.
 */
export function compareRound(
  dir: string,
  made: P0fFrames,
  lines: readonly Line[],
  random: (n: number) => number,
): { signatures: number; matches: number; refused: number; disagreements: Disagreement[] } {
  const chosen = new Map<string, { text: string; answer: boolean }>();
  for (const line of lines) {
    const key = `${line.answer} ${line.signature.split(':')[5]}`;
    if (chosen.has(key) && random(3) > 0) continue;
    chosen.set(key, { text: loosen(line.signature, random), answer: line.answer });
  }
  const list = [...chosen.values()];
  const section = (answer: boolean) =>
    list
      .flatMap((each, i) => (each.answer === answer ? [`label = s:unix:S${i}:x\nsig = ${each.text}\n`] : []))
      .join('');
  const told = runP0f(
    dir,
    made,
    `classes = unix\n[tcp:request]\n${section(false)}[tcp:response]\n${section(true)}`,
  );
  const exact = new Map<number, Set<number>>();
  for (const line of told) {
    const at = /^S(\d+) /.exec(line.os)?.[1];
    if (at === undefined || line.fuzzy) continue;
    const set = exact.get(Number(at)) ?? new Set();
    exact.set(Number(at), set.add(line.frame));
  }
  // Frames that p0f looked at: not those that it took for something else.
  const judged = new Set(lines.map(({ frame }) => frame));
  const disagreements: Disagreement[] = [];
  let matches = 0;
  let refused = 0;
  for (const [i, { text, answer }] of list.entries()) {
    const theirs = exact.get(i) ?? new Set<number>();
    let ours: number[] = [];
    try {
      const program = compileFilterText(`${answer ? 'syn+ack ' : ''}${text}`, 'p0f');
      validateCbpf(program);
      ours = matching(program, made.frames);
    } catch (error) {
      if (!(error instanceof SluiceError)) throw error;
      refused++;
      if (error.code === 'FILTER_UNSUPPORTED') continue;
    }
    matches += ours.length;
    const mine = new Set(ours.filter((frame) => judged.has(frame)));
    for (const frame of new Set([...mine, ...theirs])) {
      // p0f takes packets of the other IP version for a signature of one, against what its README says.
      const version = made.frames[frame].bytes[14] >> 4;
      if (!text.startsWith('*') && !text.startsWith(String(version))) continue;
      if (mine.has(frame) !== theirs.has(frame))
        disagreements.push({
          signature: `${answer ? 'syn+ack ' : ''}${text}`,
          frame,
          p0f: theirs.has(frame),
        });
    }
  }
  return { signatures: list.length, matches, refused, disagreements };
}
