import { join } from 'node:path';
import { expect, test } from 'vitest';
import { FileSource } from '../../src/capture/file.ts';
import { createFlowEngine } from '../../src/flow/index.ts';
import { LinkType } from '../../src/packet/link/types.ts';
import { corpusRoot, logLine, readCases } from '../flow/support/corpus.ts';
import { packetOf } from '../flow/support/harness.ts';
import {
  connOf,
  freePort,
  hiddenFromNobody,
  MirrorSender,
  runMirror,
  timeless,
  WRAPS,
  type Wrap,
} from '../sensor/mirror.ts';
import { documentOf, LogDir } from '../sensor/run.ts';
import { ownNetns } from '../support/kernel.ts';

ownNetns();

const root = corpusRoot();
const hidden = hiddenFromNobody();

type Link = 'ethernet' | 'ip' | 'ppp';
const LINK_TYPES: Partial<Record<number, Link>> = {
  [LinkType.ethernet]: 'ethernet',
  [LinkType.raw]: 'ip',
  [LinkType.ipv4]: 'ip',
  [LinkType.rawFile]: 'ip',
  [LinkType.ppp]: 'ppp',
};
const DLT: Record<Link, number> = { ethernet: LinkType.ethernet, ip: LinkType.raw, ppp: LinkType.ppp };
/** The largest datagram, less what is wrapped around a frame. */
const LARGEST = 65_000;

interface Trace {
  name: string;
  link: Link;
  frames: Uint8Array[];
  times: number[];
  /** Its connections, as reading the file gives them. */
  expected: string[];
}

function connectionsOf(frames: readonly Uint8Array[], times: readonly number[], linkType: number): string[] {
  const lines: Record<string, unknown>[] = [];
  const engine = createFlowEngine(
    {},
    {
      beforePacket: () => undefined,
      mayExpire: () => true,
      closed: (slot) => lines.push(JSON.parse(logLine(engine.record(slot))) as Record<string, unknown>),
    },
  );
  for (const [i, frame] of frames.entries()) engine.process(packetOf(frame, times[i], { linkType }));
  engine.finish();
  return timeless(lines);
}

/**
 * Traces that a mirror can send: whole frames of the link types that mirrors have, whose connections do not depend on the time
 * that passes between packets, as they are sent without.
 */
function traces(): Trace[] {
  const found: Trace[] = [];
  for (const { name, format, config } of readCases(root as string)) {
    const frames: Uint8Array[] = [];
    const times: number[] = [];
    let link: Link | undefined;
    let fits = config.bpf === undefined;
    const source = FileSource.open(join(root as string, name, `trace.${format}`));
    while (
      source.drain(({ u8, offset, caplen, wirelen, ts, linkType }) => {
        link = LINK_TYPES[linkType];
        fits &&= link !== undefined && caplen === wirelen && caplen > 0 && caplen < LARGEST;
        frames.push(u8.slice(offset, offset + caplen));
        times.push(ts);
      }, 1000)
    );
    source.close();
    if (!fits || link === undefined) continue;
    const expected = connectionsOf(frames, times, DLT[link]);
    const atOnce = frames.map((_, i) => 1e9 + i * 1e-6);
    if (JSON.stringify(connectionsOf(frames, atOnce, DLT[link])) === JSON.stringify(expected))
      found.push({ name, link, frames, times, expected });
  }
  return found;
}

interface Way {
  query: string;
  wrap: Wrap;
  link: Link;
  /** Where conn.log has the number that the trace was sent with. */
  vni?: 'id.ctx.vxlan_vni' | 'id.ctx.geneve_vni';
}

function withoutService(text: string): string {
  const fields = JSON.parse(text) as unknown[];
  return JSON.stringify(fields.toSpliced(5, 1));
}

const WAYS: Way[] = [
  { query: 'encap=vxlan', wrap: WRAPS.vxlan, link: 'ethernet', vni: 'id.ctx.vxlan_vni' },
  { query: 'encap=vxlan&dlt=raw', wrap: WRAPS.vxlan, link: 'ip', vni: 'id.ctx.vxlan_vni' },
  { query: 'encap=vxlan&dlt=ppp', wrap: WRAPS.vxlan, link: 'ppp', vni: 'id.ctx.vxlan_vni' },
  { query: 'encap=geneve', wrap: WRAPS.geneve, link: 'ethernet', vni: 'id.ctx.geneve_vni' },
  { query: 'encap=geneve', wrap: WRAPS.geneveIp, link: 'ip', vni: 'id.ctx.geneve_vni' },
  { query: 'encap=geneve+vxlan', wrap: WRAPS.geneveVxlan4, link: 'ethernet', vni: 'id.ctx.vxlan_vni' },
  { query: 'encap=geneve+vxlan', wrap: WRAPS.geneveVxlan6, link: 'ethernet', vni: 'id.ctx.vxlan_vni' },
];
const BARE: Way[] = [
  { query: 'encap=raw', wrap: WRAPS.raw, link: 'ethernet' },
  { query: 'encap=skip=8', wrap: WRAPS.behind8, link: 'ethernet' },
];

/** Nothing ends by the time that the test takes. */
const PATIENT = ['tcp', 'tcp-attempt', 'udp', 'icmp'].flatMap((name) => [`--timeout-${name}`, '12h']);

async function send(
  logs: LogDir,
  ways: readonly Way[],
  sent: (way: Way, port: number) => Promise<void>,
  ...more: string[]
) {
  const ports = await Promise.all(ways.map(() => freePort()));
  const sources = ways.map(({ query }, i) => `udp://127.0.0.1:${ports[i]}?${query}`);
  await using run = await runMirror(sources, logs, ...PATIENT, ...more).ready();
  for (const [i, way] of ways.entries()) await sent(way, ports[i]);
  const ended = await run.stop();
  expect(ended.code).toBe(0);
  for (const books of documentOf(ended).udp) {
    const { frames, datagrams, dropped, bad, source } = books;
    expect({ source, dropped, frames, bad: Object.values(bad).filter((n) => n > 0) }).toEqual({
      source,
      dropped: 0,
      frames: datagrams,
      bad: [],
    });
  }
}

test.skipIf(root === undefined || hidden !== undefined)(
  'the corpus through each encapsulation: conn.log as of the files, and the network identifiers',
  async () => {
    // Tunnels inside of a trace have network identifiers of their own, which are the innermost then: see below.
    const all = traces().filter(({ expected }) => !expected.some((text) => /"(vxlan|geneve)/.test(text)));
    expect(all.length).toBeGreaterThan(80);
    expect(all.filter(({ link }) => link === 'ip').length).toBeGreaterThan(3);
    expect(all.filter(({ link }) => link === 'ppp').length).toBeGreaterThan(1);
    using logs = new LogDir();
    const first = (way: Way): number => 1000 * (WAYS.indexOf(way) + 1);
    const sent = async (way: Way, port: number): Promise<void> => {
      using sender = new MirrorSender(logs, { port, wrap: way.wrap, link: way.link });
      for (const [i, trace] of all.entries())
        if (trace.link === way.link) await sender.send(trace.frames, first(way) + i);
    };
    await send(logs, WAYS, sent, '--vni', '--tunnel-key', '--policy', 'none');
    const conn = connOf(logs);
    const wrong: string[] = [];
    let compared = 0;
    for (const way of WAYS)
      for (const [i, { name, link, expected }] of all.entries()) {
        if (link !== way.link) continue;
        const vni = first(way) + i;
        const own = conn.filter((r) => way.vni !== undefined && r[way.vni] === vni);
        if (way.query === 'encap=geneve+vxlan')
          expect(own.every((r) => r['id.ctx.geneve_vni'] === (vni ^ 0x800000))).toBe(true);
        compared += own.length;
        if (JSON.stringify(timeless(own)) !== JSON.stringify(expected))
          wrong.push(
            `${name} by ${way.query}: ${timeless(own).join('\n')}\ninstead of ${expected.join('\n')}`,
          );
      }
    expect(wrong).toEqual([]);
    expect(compared).toBeGreaterThan(700);
    expect(compared).toBe(conn.length);
  },
);

test.skipIf(root === undefined || hidden !== undefined)(
  'the corpus without encapsulation, and bypassed: what headers tell is the same',
  async () => {
    // Without a network identifier nothing tells the traces apart: those that have no address in common.
    const seen = new Set<string>();
    const apart = traces().filter(({ link, expected }) => {
      const hosts = expected.flatMap((text) => {
        const [orig, , resp] = JSON.parse(text) as string[];
        return [orig, resp];
      });
      if (link !== 'ethernet' || hosts.some((host) => seen.has(host))) return false;
      for (const host of hosts) seen.add(host);
      return true;
    });
    expect(apart.length).toBeGreaterThan(40);
    const sent = (logs: LogDir) => async (way: Way, port: number) => {
      using sender = new MirrorSender(logs, { port, wrap: way.wrap });
      for (const { frames } of apart) await sender.send(frames);
    };
    const expected = apart.flatMap((trace) => trace.expected);
    for (const policy of ['none', 'bulk=500B']) {
      using logs = new LogDir();
      await send(logs, BARE, sent(logs), '--policy', policy);
      const conn = timeless(connOf(logs));
      const twice = [...expected, ...expected].sort();
      // Of what is bypassed so early, content has not told the service yet.
      const known = (texts: string[]) => (policy === 'none' ? texts : texts.map(withoutService).sort());
      expect(known(conn), policy).toEqual(known(twice));
    }
  },
);
