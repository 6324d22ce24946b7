import { join } from 'node:path';
import { expect } from 'vitest';
import { compileFilterText } from '../../src/filter/index.ts';
import { query } from '../filter/dns-frames.ts';
import {
  corpusTraces,
  framesOf,
  matching,
  seeded,
  tool,
  toolTest,
  withFolder,
  writePcap,
} from '../filter/support.ts';

/** Frames of a file that tshark's display filter takes, 0-based. */
function tshark(path: string, filter: string): number[] {
  const args = [
    '-n',
    '-r',
    path,
    '-o',
    'ip.defragment:FALSE',
    '-o',
    'ipv6.defragment:FALSE',
    '-Y',
    filter,
    '-T',
    'fields',
    '-e',
    'frame.number',
  ];
  return tool('tshark', args)
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => Number(line) - 1);
}

/** What our languages look at: DNS right behind IP in Ethernet, not in tunnels. */
const PLAIN = 'dns.flags.response == 0 && udp.dstport == 53 && !gre && !vxlan && !geneve && !gtp && !teredo';

/** A pattern for tshark's display filter. */
function displayFilter(pattern: string): string {
  const parts = pattern.split('.');
  let expression = '';
  for (const [index, part] of parts.entries()) {
    const last = index === parts.length - 1;
    if (part === '**') expression += last ? '(\\\\..*)?' : '(.*\\\\.)?';
    else
      expression += `${part === '*' ? '[^.]+' : part}${last || (parts[index + 1] === '**' && index + 2 === parts.length) ? '' : '\\\\.'}`;
  }
  return `${PLAIN} && dns.qry.name matches "(?i)^${expression}$"`;
}

toolTest('tshark says the same of names in the corpus', 'tshark', (context) => {
  const corpus = corpusTraces().flatMap(({ path }) => framesOf(path));
  if (corpus.length === 0) context.skip('there is no corpus here');
  const ethernet = corpus.filter(({ linkType }) => linkType === 1);
  withFolder((dir) => {
    const path = join(dir, 'all.pcap');
    writePcap(path, ethernet);
    const every = tshark(path, PLAIN);
    expect(matching(compileFilterText('**', 'dns'), ethernet)).toEqual(every);
    expect(every.length).toBeGreaterThan(8);
    // What tshark finds anywhere, and some of the rest: a file that it is quick with.
    const dns = new Set(tshark(path, 'dns || mdns || llmnr'));
    const frames = ethernet.filter((_, index) => dns.has(index) || index % 50 === 0);
    const small = join(dir, 'some.pcap');
    writePcap(small, frames);
    const names = new Set(
      tool('tshark', ['-n', '-r', small, '-Y', PLAIN, '-T', 'fields', '-e', 'dns.qry.name']).split('\n'),
    );
    let found = 0;
    for (const name of names) {
      if (!/^[\w-]+\.[\w.-]+$/.test(name)) continue;
      const labels = name.split('.');
      const patterns = [name.toUpperCase()];
      if (found < 8)
        patterns.push(
          `**.${labels.slice(-2).join('.')}`,
          `*.${labels.slice(1).join('.')}`,
          `${labels[0]}.**`,
        );
      for (const pattern of patterns) {
        const ours = matching(compileFilterText(pattern, 'dns'), frames);
        expect(ours, pattern).toEqual(tshark(small, displayFilter(pattern)));
        found += ours.length;
      }
    }
    expect(found).toBeGreaterThan(10);
  });
});

toolTest('tshark says the same of names made at random', 'tshark', () => {
  const random = seeded(3);
  const pick = <T>(of: readonly T[]): T => of[random(of.length)];
  const label = () => pick(['a', 'B', 'example', 'EXample', 'www', 'com', 'net', 'x1-2', 'a'.repeat(63)]);
  const name = () => Array.from({ length: 1 + random(4) }, label).join('.');
  const frames = Array.from({ length: 400 }, () => {
    const version = pick([4, 6] as const);
    return query(name(), {
      version,
      tags: pick([[], [], [0x8100], [0x88a8, 0x8100]]),
      extensions: version === 6 ? pick([[], [], [0], [60, 43], [0, 60, 43, 60]]) : pick([[], [], [0, 0]]),
      port: pick([53, 53, 53, 53, 53, 5353, 1053]),
      flags: pick([0x0100, 0x0100, 0x0000, 0x8180, 0x0110]),
      fragment: version === 4 ? pick([0, 0, 0x4000, 0x2000, 0x2005]) : 0,
    });
  });
  withFolder((dir) => {
    const path = join(dir, 'names.pcap');
    writePcap(path, frames);
    let found = 0;
    for (const pattern of [
      'example.com',
      '*.example.com',
      '**.example.com',
      'www.**',
      '**.com',
      '*',
      '*.*',
      '*.b.*',
      '**.a.*',
    ]) {
      const ours = matching(compileFilterText(pattern, 'dns'), frames);
      expect(ours, pattern).toEqual(tshark(path, displayFilter(pattern)));
      found += ours.length;
    }
    expect(found).toBeGreaterThan(150);
  });
});

/** Types as tshark numbers them; of version 2 it has a field of its own, with the numbers of version 2. */
const TYPES: Record<string, [one: number, two: number]> = {
  initial: [0, 1],
  '0rtt': [1, 2],
  handshake: [2, 3],
  retry: [3, 0],
};

toolTest('tshark says the same of the QUIC traces of the corpus', 'tshark', (context) => {
  const traces = corpusTraces().filter(({ name }) => /quic|core\.ppp$/.test(name));
  if (traces.length === 0) context.skip('there is no corpus here');
  const seen = new Map<string, number>();
  for (const { name, path } of traces) {
    const frames = framesOf(path);
    const fields = [
      'frame.number',
      'quic.header_form',
      'quic.long.packet_type',
      'quic.long.packet_type_v2',
      'quic.version',
    ];
    const output = tool('tshark', [
      '-n',
      '-r',
      path,
      '-Y',
      'quic',
      '-T',
      'fields',
      '-E',
      'separator=,',
      '-E',
      'occurrence=f',
      ...fields.flatMap((field) => ['-e', field]),
    ]);
    const rows = output
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => line.split(','));
    // On the port of DNS over QUIC tshark looks for something else.
    if (rows.length === 0) continue;
    const { linkType } = frames[0];
    const expected = (type: string) =>
      rows
        .filter(([, form, one, two, version]) => {
          if (form !== '1') return false;
          if (type === 'negotiation') return Number(version) === 0;
          const numbers = TYPES[type];
          if (numbers === undefined) return Number(version) !== 0;
          return one === '' ? Number(two) === numbers[1] && two !== '' : Number(one) === numbers[0];
        })
        .map(([number]) => Number(number) - 1);
    for (const type of ['long', 'negotiation', ...Object.keys(TYPES)]) {
      const ours = matching(compileFilterText(`quic ${type}`, 'quic', { linkType }), frames);
      expect(ours, `${name}: ${type}`).toEqual(expected(type));
      seen.set(type, (seen.get(type) ?? 0) + ours.length);
    }
    const second = matching(compileFilterText('long version 2', 'quic', { linkType }), frames);
    expect(second, name).toEqual(
      rows
        .filter(([, form, , , version]) => form === '1' && Number(version) === 0x6b3343cf)
        .map(([number]) => Number(number) - 1),
    );
    seen.set('version 2', (seen.get('version 2') ?? 0) + second.length);
  }
  for (const type of ['long', 'initial', '0rtt', 'handshake', 'retry', 'version 2'])
    expect(seen.get(type), type).toBeGreaterThan(0);
});
