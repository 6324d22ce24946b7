/** The table of cases that every engine has to agree on. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';
import { type CbpfProgram, encodeCbpf, interpretCbpf } from '../../src/ebpf/index.ts';
import { compileFilterText, FrameBatch, KernelEngine, type Language } from '../../src/filter/index.ts';
import { runClassicFilter } from '../../src/kernel/index.ts';
import { kernelTest } from '../support/kernel.ts';
import { corpusTraces, type Frame, framesOf, runClassic } from './support.ts';

/** The table: filters of every language. */
const FILTERS: [Language, string][] = [
  ['tcpdump', ''],
  ['tcpdump', 'tcp'],
  ['tcpdump', 'udp port 53'],
  ['tcpdump', 'tcp port 80 and (((ip[2:2] - ((ip[0]&0xf)<<2)) - ((tcp[12]&0xf0)>>2)) != 0)'],
  ['tcpdump', 'host 10.0.0.1 and tcp port 443'],
  ['tcpdump', 'ip6 and udp dst port 443'],
  ['tcpdump', 'net 192.168.0.0/16 and not port 22'],
  ['tcpdump', 'vlan and tcp port 80'],
  ['tcpdump', 'ip[6:2] & 0x3fff != 0'],
  ['tcpdump', 'tcp[tcpflags] & (tcp-syn|tcp-fin) != 0'],
  ['tcpdump', 'greater 200 and less 1400'],
  ['tcpdump', 'ether[3000:4] != 0'],
  ['tcpdump', 'ether[4100] >= 0 or ether[9000] > 7'],
  ['tcpdump', 'len - ip[2:2] = 14'],
  ['dns', 'google.com *.google.com www.apple.com zeek.org corelight.com captive.apple.com'],
  ['dns', '**.com'],
  ['dns', 'valid'],
  ['dns', 'invalid www.**'],
  ['suffix', 'apple.com google.com bbc.com'],
  ['p0f', '*:64:0:*:mss*20,7:mss,sok,ts,nop,ws:df,id+:0 *:128:0:*:8192,2:mss,nop,ws,nop,nop,sok:df,id+:0'],
  ['p0f', '*:64:0:*:65535,*:mss,nop,ws,nop,nop,ts,sok,eol+1:df,id+:0'],
  ['p0f', 'syn+ack *:64:0:*:mss*10,*:mss,sok,ts,nop,ws:df:0'],
  ['p0f', 'syn *:64-:0:*:*,*:?30,mss:df,id+:* or *:255:0:*:*,*:mss,?8,ws:bad:0'],
  ['quic', 'quic initial'],
  ['quic', 'quic long version 1 port 443 or retry or negotiation'],
  ['cbpf', '2,48 0 0 23,22 0 0 0'],
  ['cbpf', '6,0 0 0 14,2 0 0 15,97 0 0 15,80 0 0 9,7 0 0 0,22 0 0 0'],
  ['cbpf', '5,40 0 0 12,7 0 0 0,40 0 0 16,60 0 0 0,22 0 0 0'],
];

const ETHERNET = 1;

const lengthOf = (program: CbpfProgram) => program.some(({ code }) => code === 0x80 || code === 0x81);

/** What kernel-classic.py reads. */
function record(kind: number, body: Uint8Array): Uint8Array[] {
  const head = Buffer.alloc(5);
  head.writeUInt32LE(body.length + 1, 0);
  head[4] = kind;
  return [head, body];
}

/** What each frame comes to in the kernel's own classic filter: bytes that pass, -1 for none. */
function kernelClassic(program: CbpfProgram, frames: readonly Frame[]): number[] {
  const input = Buffer.concat([
    ...record(0, encodeCbpf(program)),
    ...frames.flatMap(({ bytes }) => record(1, bytes)),
  ]);
  const script = fileURLToPath(new URL('./kernel-classic.py', import.meta.url));
  const { stdout, stderr, status } = spawnSync('python3', [script], { input, maxBuffer: 1 << 26 });
  if (status !== 0) throw new Error(String(stderr));
  return frames.map((_, index) => stdout.readInt32LE(index * 4));
}

function runKernel(program: CbpfProgram, frames: readonly Frame[]): number[] {
  using engine = new KernelEngine(program);
  const batch = new FrameBatch();
  const returns: number[] = [];
  const flush = () => {
    engine.run(batch, returns.length);
    returns.push(...batch.returns.subarray(0, batch.count));
    batch.clear();
  };
  for (const { bytes, wire } of frames) {
    if (batch.full) flush();
    batch.add(bytes, 0, bytes.length, wire);
  }
  flush();
  return returns;
}

/** Frames of all lengths about the limits of a test run, whole and cut. */
export function lengths(): Frame[] {
  const frames: Frame[] = [];
  const add = (length: number, wire = length) => {
    const bytes = Uint8Array.from({ length }, (_, i) => (i * 7 + (i >> 8)) & 255);
    if (length > 14) bytes.set([8, 0, 0x45], 12);
    frames.push({ bytes, wire, linkType: ETHERNET });
  };
  for (let length = 0; length < 80; length++) add(length);
  for (const around of [2048, 3504, 3520, 4096, 7600, 9000, 16_384, 65_519])
    for (let length = around - 3; length <= Math.min(around + 3, 65_519); length++) add(length);
  for (const length of [0, 1, 13, 14, 20, 64, 3520, 5000]) {
    add(length, length + 1);
    add(length, 65_535);
    add(length, 0xffffffff);
  }
  return frames;
}

/** All frames of the corpus. */
export function corpusFrames(): Frame[] {
  return corpusTraces().flatMap(({ path }) => framesOf(path));
}

/** A test for each filter of the table: our eBPF in the kernel, our interpreter, libpcap's, and the kernel's own classic filter. */
export function engineTests(frames: readonly Frame[], every = 1): void {
  for (const [language, text] of FILTERS.filter((_, index) => index % every === 0)) {
    kernelTest(`${language}: ${text === '' ? '(everything)' : text}`, [], () => {
      const program = compileFilterText(text, language);
      const classic = runClassic(program, frames);
      const differing = (other: readonly number[]) =>
        classic.flatMap((value, index) =>
          value === other[index]
            ? []
            : [
                `frame ${index} of ${frames[index].bytes.length}/${frames[index].wire} bytes: ${value} ${other[index]}`,
              ],
        );
      expect(differing(runKernel(program, frames)), 'our eBPF in the kernel').toEqual([]);
      const interpreted = frames.map(({ bytes, wire }) =>
        interpretCbpf(program, bytes, { wireLength: wire, dialect: 'libpcap' }),
      );
      expect(differing(interpreted), 'our interpreter').toEqual([]);
      // On a socket a packet has one length only; a match cuts it to what the filter returns.
      const socket = kernelClassic(program, frames);
      const cut = (index: number) => lengthOf(program) && frames[index].bytes.length !== frames[index].wire;
      const passed = classic.map((value, index) =>
        value === 0 ? -1 : Math.min(value, frames[index].bytes.length),
      );
      expect(
        passed.flatMap((value, index) =>
          value === socket[index] || cut(index) ? [] : [`frame ${index}: ${value} ${socket[index]}`],
        ),
        "the kernel's own classic filter",
      ).toEqual([]);
      // One call for many frames is the same as a call for each.
      for (const index of [0, frames.length - 1]) {
        const { bytes, wire } = frames[index];
        expect(runClassicFilter(encodeCbpf(program), bytes, wire) >>> 0).toBe(classic[index]);
      }
    });
  }
}
