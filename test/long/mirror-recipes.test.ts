import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { packageRoot } from '../../src/kernel/index.ts';
import { conversation } from '../../src/packet/conversation.ts';
import { type FrameToWrite, pcapFile } from '../../src/packet/pcap.ts';
import { booksOf, connOf, hiddenFromNobody, MirrorSender, runMirror, timeless } from '../sensor/mirror.ts';
import { documentOf, LogDir } from '../sensor/run.ts';
import { sluice } from '../support/command.ts';
import { ownNetns } from '../support/kernel.ts';
import { GWLB, SHAPES, VNI } from '../support/mirror-frames.ts';

// The ports are those of the recipes.
ownNetns();

const hidden = hiddenFromNobody();
/** Of the frames that SHAPES makes: Ethernet, IPv4, UDP. */
const OUTER = 14 + 20 + 8;
const LOAD_BALANCED = { gwlb_endpoint: GWLB.endpoint, gwlb_attachment: GWLB.attachment };

interface Recipe {
  shape: keyof typeof SHAPES;
  /** What its options add to each line of conn.log. */
  adds: Record<string, unknown>;
  balanced: boolean;
}

/** By the headings of docs/mirrors.md. */
const RECIPES: Record<string, Recipe> = {
  'AWS Traffic Mirroring': {
    shape: 'VXLAN (AWS Traffic Mirroring, Azure vTAP)',
    adds: { 'id.ctx.vxlan_vni': VNI },
    balanced: false,
  },
  'AWS Traffic Mirroring through a Gateway Load Balancer': {
    shape: 'GENEVE+VXLAN over IPv4 (AWS Traffic Mirroring through a Gateway Load Balancer)',
    adds: { 'id.ctx.vxlan_vni': VNI, 'id.ctx.geneve_vni': 0 },
    balanced: true,
  },
  'AWS Gateway Load Balancer': {
    shape: 'GENEVE around IP (AWS Gateway Load Balancer)',
    adds: { ...LOAD_BALANCED, gwlb_cookie: GWLB.cookie },
    balanced: true,
  },
  'Google Cloud Network Security Integration': {
    shape: 'GENEVE around IP (Google Cloud Network Security Integration)',
    adds: {},
    balanced: true,
  },
  'Azure virtual network TAP': {
    shape: 'VXLAN (AWS Traffic Mirroring, Azure vTAP)',
    adds: { 'id.ctx.vxlan_vni': VNI },
    balanced: true,
  },
};

/** The commands `sluice run` below each heading of the recipes, as words. */
function commands(): Map<string, string[]> {
  const text = readFileSync(join(packageRoot(), 'docs', 'mirrors.md'), 'utf8');
  const [recipes] = text.slice(text.indexOf('\n## Recipes')).slice(1).split(/\n## /);
  const found = new Map<string, string[]>();
  for (const section of recipes.split('\n### ').slice(1)) {
    const [heading] = section.split('\n', 1);
    for (const [, rest] of section.matchAll(/^sluice run (.*)$/gm))
      found.set(
        heading,
        rest.split(' ').map((word) => word.replaceAll("'", '')),
      );
  }
  return found;
}

/** Connections of both families, to a few ports. */
function trace(): FrameToWrite[] {
  return Array.from({ length: 20 }, (_, n) =>
    conversation({
      client: { address: n % 3 === 2 ? '2001:db8::1' : '192.0.2.1', port: 20_000 + n },
      server: { address: n % 3 === 2 ? '2001:db8::2' : '203.0.113.7', port: n % 3 === 2 ? 443 : 80 },
      turns: [
        { from: 'client', data: 100 + n },
        { from: 'server', data: 3000 },
      ],
      seed: n,
      start: 1_700_000_000 + n * 0.01,
      gap: 0.0001,
    }),
  ).flat();
}

const vniOf = (line: Record<string, unknown>): Record<string, unknown> =>
  Object.fromEntries(Object.entries(line).filter(([name]) => /^(id\.ctx\.|gwlb_)/.test(name)));

describe.skipIf(hidden !== undefined)('recipes of docs/mirrors.md, live and as nobody', () => {
  test('there are no others', () => {
    expect([...commands().keys()]).toEqual(Object.keys(RECIPES));
  });

  test.each(Object.entries(RECIPES))('%s', async (heading, { shape, adds, balanced }) => {
    const args = commands().get(heading) ?? [];
    const [source] = args;
    const port = Number(/:(\d+)\?/.exec(source)?.[1]);
    const health = args.includes('--health-port') ? args[args.indexOf('--health-port') + 1] : undefined;
    expect(health !== undefined).toBe(balanced);
    const ask = async (): Promise<number> =>
      await fetch(`http://127.0.0.1:${health}/`).then(
        ({ status }) => status,
        () => 0,
      );
    using plain = new LogDir();
    const file = join(plain.path, 'plain.pcap');
    const frames = trace();
    writeFileSync(file, pcapFile(frames));
    expect(await sluice('read', file, '--log-dir', plain.path)).toMatchObject({ code: 0 });

    using logs = new LogDir();
    const { wrap } = SHAPES[shape];
    await using run = await runMirror([source], logs, ...args.slice(1), '--policy', 'none').ready();
    using sender = new MirrorSender(logs, {
      port,
      wrap: (frame) => wrap(frame).bytes().subarray(OUTER),
    });
    await sender.send(frames.map(({ bytes }) => bytes));
    await sender.taken();
    // A load balancer sends to those that answer.
    if (balanced) await expect.poll(ask, { timeout: 60_000 }).toBe(200);
    const ended = await run.stop();
    expect(ended.code).toBe(0);
    if (balanced) expect(await ask()).toBe(0);
    const { datagrams, dropped, bad } = booksOf(documentOf(ended));
    expect({ datagrams, dropped, bad: Object.values(bad).filter((n) => n > 0) }).toEqual({
      datagrams: sender.sent,
      dropped: 0,
      bad: [],
    });
    const conn = connOf(logs);
    expect(timeless(conn)).toEqual(timeless(plain.read('conn')));
    for (const line of conn) expect(vniOf(line)).toEqual(adds);
  });
});
