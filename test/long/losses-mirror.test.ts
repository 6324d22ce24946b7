import { createSocket } from 'node:dgram';
import { expect } from 'vitest';
import { eth, ipv4, ipv6, raw } from '../../src/packet/build.ts';
import { conversation } from '../../src/packet/conversation.ts';
import { freePort, WRAPS } from '../sensor/mirror.ts';
import { documentOf, LogDir, Run } from '../sensor/run.ts';
import { kernelTest, ownNetns } from '../support/kernel.ts';

/** What of a mirror’s datagrams comes to no flow, or is counted alone: each reason as often as it was sent. */

ownNetns();

const NOTHING = raw(new Uint8Array(0));
const FRAME = eth().ipv4().udp({ dport: 9 }).payload(50).bytes();
const IP = FRAME.subarray(14);
/** GENEVE around IP with VXLAN in it. */
const doubled = (ip: ReturnType<typeof ipv4>): Uint8Array =>
  NOTHING.geneve({ protocol: ip.bytes()[0] >>> 4 === 6 ? 0x86dd : 0x0800 })
    .payload(ip.bytes())
    .bytes();

/** What holds no frame, and so often each. */
const VXLAN = {
  empty: [raw(new Uint8Array(0)).bytes(), NOTHING.vxlan().bytes()],
  truncated: [Uint8Array.of(8, 0, 0, 0, 0, 0, 1)],
  flags: Array.from({ length: 3 }, () => NOTHING.vxlan({ flags: 0xf7 }).payload(FRAME).bytes()),
};
const GENEVE = {
  version: [
    raw(Uint8Array.of(0x40, 0, 8, 0, 0, 0, 1, 0))
      .payload(IP)
      .bytes(),
  ],
  control: Array.from({ length: 2 }, () =>
    NOTHING.geneve({ oam: true, protocol: 0x0800 }).payload(IP).bytes(),
  ),
  critical: Array.from({ length: 3 }, () =>
    NOTHING.geneve({
      critical: true,
      protocol: 0x0800,
      options: [{ class: 1, type: 0x80, data: Uint8Array.of(1) }],
    })
      .payload(IP)
      .bytes(),
  ),
  options: Array.from({ length: 4 }, () =>
    raw(Uint8Array.of(2, 0, 8, 0, 0, 0, 1, 0, 1, 8, 1, 2, 0, 0, 0, 0))
      .payload(IP)
      .bytes(),
  ),
  protocol: Array.from({ length: 5 }, () => NOTHING.geneve({ protocol: 0x8847 }).payload(IP).bytes()),
};
const BOTH = {
  fragment: [
    doubled(ipv6().fragment({ id: 1, offset: 0, more: true }).udp({ dport: 4789 }).vxlan().payload(FRAME)),
  ],
  inner: Array.from({ length: 2 }, () => doubled(ipv4().udp({ dport: 53 }).vxlan().payload(FRAME))),
};

kernelTest(
  'datagrams that hold no frame, each by its reason, and packets that are counted and not analysed',
  ['packetRing'],
  async () => {
    using logs = new LogDir();
    const [vxlan, geneve, both] = [await freePort(), await freePort(), await freePort()];
    const sources = [
      `udp://127.0.0.1:${vxlan}`,
      `udp://127.0.0.1:${geneve}?encap=geneve`,
      `udp://127.0.0.1:${both}?encap=geneve+vxlan`,
    ];
    await using run = await new Run(
      ['run', '--policy', 'bulk=20kB', '--json', '--log-dir', logs.path].concat(sources),
    ).ready();
    const socket = createSocket('udp4');
    const send = async (port: number, bytes: Uint8Array): Promise<void> =>
      await new Promise((resolve, reject) => {
        socket.send(bytes, port, '127.0.0.1', (error) => (error === null ? resolve() : reject(error)));
      });
    const download = conversation({ turns: [{ from: 'server', data: 200_000 }], mss: 1400 });
    const kinds = [
      [vxlan, VXLAN],
      [geneve, GENEVE],
      [both, BOTH],
    ] as const;
    try {
      for (const [port, reasons] of kinds)
        for (const each of Object.values(reasons)) for (const bytes of each) await send(port, bytes);
      for (const { bytes } of download) await send(vxlan, WRAPS.vxlan(bytes, 7));
    } finally {
      socket.close();
    }
    const { losses, localBypass } = documentOf(await run.stop());
    const of = (stage: string, counter: string, port?: number): number => {
      const rows = losses.rows.filter(
        (row) =>
          row.stage === stage &&
          row.counter === counter &&
          (port === undefined || row.where.includes(`:${port}`)),
      );
      return rows.reduce((sum, row) => sum + row.total, 0);
    };
    for (const [port, reasons] of kinds) {
      const told = losses.rows.filter(
        (row) => row.where.includes(`:${port}`) && row.counter.startsWith('bad.') && row.total > 0,
      );
      expect(Object.fromEntries(told.map((row) => [row.counter.slice(4), row.total]))).toEqual(
        Object.fromEntries(Object.entries(reasons).map(([reason, each]) => [reason, each.length])),
      );
      for (const row of told) expect(row.kind).toBe('warning');
      const bad = Object.values(reasons).flat().length;
      expect(of('capture', 'received', port)).toBe(bad + of('worker', 'handled', port));
    }
    expect(of('worker', 'handled')).toBe(download.length);
    // Where nothing drops early a shunted connection is counted from then on.
    expect(of('worker', 'bypassed')).toBe(localBypass.pkts);
    expect(of('worker', 'bypassed')).toBeGreaterThan(download.length / 2);
    expect(losses.lost.packets).toBe(of('softnet', 'dropped'));
  },
);
