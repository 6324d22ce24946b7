import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { validateCbpf } from '../../src/ebpf/index.ts';
import { compileFilterText, FilterError } from '../../src/filter/index.ts';
import { compareRound, makeFrames, runP0f } from './p0f-compare.ts';
import { segment } from './p0f-frames.ts';
import {
  corpusTraces,
  type Frame,
  framesOf,
  matching,
  seeded,
  tool,
  toolTest,
  withFolder,
} from './support.ts';

const DATABASE = '/etc/p0f/p0f.fp';
const LINUX = '*:64:0:*:mss*20,7:mss,sok,ts,nop,ws:df,id+:0';

interface Entry {
  answer: boolean;
  generic: boolean;
  /** As p0f prints it. */
  label: string;
  signature: string;
}

/** The TCP signatures of p0f's own database. */
function database(): Entry[] {
  const entries: Entry[] = [];
  let section = '';
  let label = '';
  for (const line of readFileSync(DATABASE, 'utf8').split('\n')) {
    const [, name] = /^\[(.*)\]/.exec(line) ?? [];
    if (name !== undefined) section = name;
    const [, text] = /^label\s*=\s*(.*?)\s*$/.exec(line) ?? [];
    if (text !== undefined) label = text;
    const [, signature] = /^sig\s*=\s*(\S+)/.exec(line) ?? [];
    if (signature === undefined || !section.startsWith('tcp:')) continue;
    const [kind, , os, flavor] = label.split(':');
    entries.push({
      answer: section === 'tcp:response',
      generic: kind === 'g',
      label: flavor === '' ? os : `${os} ${flavor}`,
      signature,
    });
  }
  return entries;
}

describe('p0f signatures', () => {
  it.each<[string, string, string]>([
    ['', 'a signature is missing', ''],
    ['*:64:0:*:mss*20,7:mss:df,id+', '8 fields, not 7', ''],
    [`${LINUX}:1`, '8 fields, not 9', '1'],
    ['5:64:0:*:*,*:mss::0', 'the IP version', '5'],
    ['*:0:0:*:*,*:mss::0', 'from 1 to 255', '0'],
    ['*:64?:0:*:*,*:mss::0', 'the initial TTL', '64?'],
    ['*:200+60:0:*:*,*:mss::0', 'from 1 to 255', '200+60'],
    ['*:64:x:*:*,*:mss::0', 'the length of the IP options', 'x'],
    ['*:64:0:70000:*,*:mss::0', 'the MSS is from 0 to 65535', '70000'],
    ['*:64:0:*:mss*0,*:mss::0', 'from 1 to 1000', '0'],
    ['*:64:0:*:%1,*:mss::0', 'from 2 to 65535', '1'],
    ['*:64:0:*:*:mss::0', 'a comma between', '*'],
    ['*:64:0:*:*,300:mss,ws::0', 'from 0 to 255', '300'],
    ['*:64:0:*:*,*:mss,foo::0', 'no TCP option of p0f', 'foo'],
    ['*:64:0:*:*,*:mss,eol+1,nop::0', 'nothing follows it', 'eol+1'],
    ['*:64:0:*:*,*:mss:df,xx:0', 'no quirk of p0f', 'xx'],
    ['6:64:0:*:*,*:mss:df:0', 'does not exist in IPv6', 'df'],
    ['4:64:0:*:*,*:mss:flow:0', 'does not exist in IPv4', 'flow'],
    ['*:64:0:*:*,*:mss::1', 'the payload class', '1'],
    [
      '*:64:0:*:*,*:mss,nop::0',
      'nothing matches this: these options take 5 bytes',
      '*:64:0:*:*,*:mss,nop::0',
    ],
    ['*:64:0:*:*,*:mss:df,id-,flow:0', '', ''],
    ['4:64:2:*:*,*:mss::0', 'nothing matches this', '4:64:2:*:*,*:mss::0'],
    ['*:64:0:*:*,*:mss:ts1-:0', 'there is no ts', '*:64:0:*:*,*:mss:ts1-:0'],
  ])('%j: %s', (text, message, at) => {
    let error: unknown;
    try {
      compileFilterText(text, 'p0f');
    } catch (thrown) {
      error = thrown;
    }
    if (message === '') {
      // Only IPv6 packets can have it.
      expect(error).toBeUndefined();
      return;
    }
    expect(error).toBeInstanceOf(FilterError);
    if (!(error instanceof FilterError)) return;
    expect(error).toMatchObject({ code: 'FILTER_INVALID', exit: 2 });
    expect(error.message).toContain(message);
    expect(text.slice(error.span.start, error.span.end)).toBe(at);
  });

  it('are taken from lines of p0f.fp, several in one text, for first packets and answers', () => {
    const excerpt = `; comment\n[tcp:response]\nlabel = s:unix:Linux:3.x\nsig   = ${LINUX}\n\n[tcp:request]\nsig = ${LINUX}\n`;
    const one = compileFilterText(`syn+ack ${LINUX} or syn ${LINUX}`, 'p0f');
    expect(compileFilterText(excerpt, 'p0f')).toEqual(one);
    validateCbpf(one);
  });

  it('are valid programs, all of p0f.fp', (context) => {
    if (!existsSync(DATABASE)) {
      context.skip('p0f is not installed');
      return;
    }
    for (const { signature, answer } of database())
      validateCbpf(compileFilterText(`${answer ? 'syn+ack ' : ''}${signature}`, 'p0f'));
  });
});

it('VLAN tags change nothing, nor does another link type', () => {
  const random = seeded(5);
  const frames = Array.from({ length: 600 }, (_, i) => segment(random, i, i % 3 === 0 ? 6 : 4, i % 4 === 0));
  const signatures =
    '*:255-:0:*:*,*:mss,sok,ts,nop,ws:df,id+:* *:64:0:*:*,*:mss::0 syn+ack *:64:0:*:mss*4,*:mss,nop,ws,nop,nop,ts:df:*';
  const untagged = matching(compileFilterText(signatures, 'p0f'), frames);
  expect(untagged.length).toBeGreaterThan(2);
  const behind = (header: number[]) =>
    frames.map(({ bytes, wire, linkType }) => {
      const type = header.length === 0 ? 14 : 12;
      const changed = Uint8Array.from([
        ...bytes.subarray(0, header.length === 0 ? 0 : 12),
        ...header,
        ...bytes.subarray(type),
      ]);
      return { bytes: changed, wire: wire + changed.length - bytes.length, linkType };
    });
  const program = compileFilterText(signatures, 'p0f');
  expect(matching(program, behind([0x81, 0, 0, 7]))).toEqual(untagged);
  expect(matching(program, behind([0x88, 0xa8, 0, 7, 0x81, 0, 0, 8]))).toEqual(untagged);
  expect(matching(compileFilterText(signatures, 'p0f', { linkType: 101 }), behind([]))).toEqual(untagged);
});

toolTest('p0f says the same of random segments', 'p0f', () => {
  withFolder((dir) => {
    const made = makeFrames(dir, 1, 1200);
    const lines = runP0f(dir, made);
    expect(lines.length).toBeGreaterThan(1000);
    const round = compareRound(dir, made, lines, seeded(7));
    expect(round.disagreements).toEqual([]);
    expect(round.signatures).toBeGreaterThan(300);
    expect(round.matches).toBeGreaterThan(300);
  });
});

/** Addresses and ports of a TCP frame, client first, and whether it is an answer; undefined for what is no such frame. */
function connection({ bytes, linkType }: Frame): { key: string; answer: boolean } | undefined {
  const ip = linkType === 1 ? 14 : linkType === 101 ? 0 : -1;
  if (ip < 0 || bytes.length < ip + 40) return undefined;
  const six = bytes[ip] >> 4 === 6;
  if ((!six && bytes[ip] >> 4 !== 4) || bytes[ip + (six ? 6 : 9)] !== 6) return undefined;
  const tcp = ip + (six ? 40 : (bytes[ip] & 15) * 4);
  const flags = bytes[tcp + 13] & 0x17;
  if (flags !== 2 && flags !== 0x12) return undefined;
  const size = six ? 16 : 4;
  const address = (at: number) => {
    const part = bytes.subarray(at, at + size);
    if (!six) return part.join('.');
    return Array.from({ length: 8 }, (_, i) => (part[2 * i] * 256 + part[2 * i + 1]).toString(16)).join(':');
  };
  const end = (at: number, port: number) => `${address(at)}/${bytes[port] * 256 + bytes[port + 1]}`;
  const first = end(ip + (six ? 8 : 12), tcp);
  const second = end(ip + (six ? 24 : 12 + size), tcp + 2);
  const answer = flags === 0x12;
  return { key: answer ? `${second} ${first}` : `${first} ${second}`, answer };
}

toolTest('p0f says the same of the connections of the corpus', 'p0f', (context) => {
  const traces = corpusTraces().filter(({ path }) => path.endsWith('.pcap'));
  if (traces.length === 0) context.skip('there is no corpus here');
  const compiled = new Map<number, { entry: Entry; program: ReturnType<typeof compileFilterText> }[]>();
  const entries = database();
  const said: string[] = [];
  const different: string[] = [];
  let peer = 0;
  withFolder((dir) => {
    for (const { name, path } of traces) {
      const frames = framesOf(path);
      const found = frames.map((frame) => connection(frame));
      if (!found.some((each) => each !== undefined)) continue;
      const { linkType } = frames[0];
      const programs =
        compiled.get(linkType) ??
        entries.map((entry) => ({
          entry,
          program: compileFilterText(`${entry.answer ? 'syn+ack ' : ''}${entry.signature}`, 'p0f', {
            linkType,
          }),
        }));
      compiled.set(linkType, programs);
      const log = join(dir, 'log');
      rmSync(log, { force: true });
      mkdirSync(dir, { recursive: true });
      tool('p0f', ['-r', path, '-o', log]);
      const relevant = frames.filter((_, at) => found[at] !== undefined);
      const keys = found.filter((each) => each !== undefined);
      const hits = programs.map(({ entry, program }) => ({
        entry,
        hit: new Set(matching(program, relevant)),
      }));
      for (const line of readFileSync(log, 'utf8').split('\n')) {
        const match =
          /mod=(syn(?:\+ack)?)\|cli=([^|]*)\|srv=([^|]*)\|.*\|os=([^|]*)\|.*\|params=([^|]*)\|raw_sig=(.*)$/.exec(
            line,
          );
        if (match === null) continue;
        const [, mod, client, server, os, params, raw] = match;
        const answer = mod === 'syn+ack';
        const frame = keys.findIndex((each) => each.answer === answer && each.key === `${client} ${server}`);
        if (frame < 0) continue;
        const ours = hits
          .filter(({ entry, hit }) => entry.answer === answer && hit.has(frame))
          .map(({ entry }) => entry);
        const best = ours.find((entry) => !entry.generic) ?? ours[0];
        const theirs = os === '???' || params.includes('fuzzy') ? undefined : os;
        said.push(`${mod} ${os}`);
        if (best?.label === theirs) continue;
        // A window that is a multiple of the MSS that the other side has sent is not to be seen in the packet.
        if (answer && best === undefined && /:mss\*/.test(raw)) peer++;
        else different.push(`${name}: ${line} | ${best?.label} ${best?.signature}`);
      }
    }
  });
  expect(different).toEqual([]);
  expect(said.length).toBeGreaterThan(150);
  expect(said.filter((line) => !line.endsWith('???')).length).toBeGreaterThan(80);
  expect(peer).toBeLessThan(10);
});
