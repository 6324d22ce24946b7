import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { readLog } from '../../src/log/reader.ts';
import { eth } from '../../src/packet/build.ts';
import { pcapFile } from '../../src/packet/pcap.ts';
import { sluice } from '../support/command.ts';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'sluice-read-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

it('sluice read takes tunnels apart, and tells of them in tunnel.log', async () => {
  const outer = eth().ipv4({ src: '198.51.100.1', dst: '198.51.100.2' });
  const inner = eth()
    .ipv4({ src: '10.0.0.1', dst: '10.0.0.2' })
    .udp({ sport: 1000, dport: 2000 })
    .payload(30);
  const frames = [
    outer.udp({ sport: 50_000, dport: 4789 }).vxlan({ vni: 5 }).payload(inner.bytes()),
    outer.gre({ protocol: 0x6558 }).payload(inner.bytes()),
  ];
  const path = join(dir, 'a.pcap');
  writeFileSync(path, pcapFile(frames.map((frame, i) => ({ ts: 1_700_000_000 + i, bytes: frame.bytes() }))));
  const logs = join(dir, 'logs');
  expect(await sluice('read', path, '--log-dir', logs)).toMatchObject({ code: 0 });

  const conns = readLog(join(logs, 'conn.log')).records;
  const carrier = conns.find((record) => record['service'] === 'vxlan');
  const inside = conns.find((record) => record['id.resp_p'] === 2000);
  expect(conns).toHaveLength(2);
  const tunnels = readLog(join(logs, 'tunnel.log')).records;
  expect(inside?.['tunnel_parents']).toEqual([tunnels[0]['uid'], tunnels[1]['uid']]);
  expect(tunnels).toMatchObject([
    {
      uid: carrier?.['uid'],
      'id.orig_h': '198.51.100.1',
      'id.orig_p': 50_000,
      'id.resp_h': '198.51.100.2',
      'id.resp_p': 4789,
      tunnel_type: 'Tunnel::VXLAN',
      action: 'Tunnel::DISCOVER',
    },
    { tunnel_type: 'Tunnel::GRE', action: 'Tunnel::DISCOVER', 'id.orig_p': 0 },
    { uid: carrier?.['uid'], action: 'Tunnel::CLOSE' },
  ]);
});

it('by option, the network identifier is written, and tells connections apart', async () => {
  const inner = eth()
    .ipv4({ src: '10.0.0.1', dst: '10.0.0.2' })
    .udp({ sport: 1000, dport: 2000 })
    .payload(30);
  const frames = [5, 6].map((vni) =>
    eth().ipv4().udp({ sport: 50_000, dport: 4789 }).vxlan({ vni }).payload(inner.bytes()),
  );
  const path = join(dir, 'a.pcap');
  writeFileSync(path, pcapFile(frames.map((frame, i) => ({ ts: 1_700_000_000 + i, bytes: frame.bytes() }))));
  const logs = join(dir, 'logs');
  const vnis = async (...flags: string[]) => {
    expect(await sluice('read', path, '--log-dir', logs, ...flags)).toMatchObject({ code: 0 });
    const { records } = readLog(join(logs, 'conn.log'));
    return records
      .filter((record) => record['tunnel_parents'] !== undefined)
      .map((record) => record['id.ctx.vxlan_vni']);
  };
  expect(await vnis()).toEqual([undefined]);
  expect(await vnis('--vni')).toEqual([5]);
  expect(await vnis('--tunnel-key')).toEqual([5, 6]);
});
