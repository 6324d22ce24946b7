import { expect } from 'vitest';
import { A, asked, B, gre, vxlan } from '../flow/support/tunnel-frames.ts';
import { kernelTest, ownNetns, vethPair } from '../support/kernel.ts';
import { documentOf, Feed, LogDir, runOn } from './run.ts';

ownNetns();

kernelTest('tunnels that the sensor takes apart are in tunnel.log', ['packetRing'], async () => {
  const { a, b, remove } = vethPair();
  using logs = new LogDir();
  try {
    const run = await runOn(a, logs, '--no-gate').ready();
    const inner = asked().bytes();
    await new Feed(b, [vxlan(A, B, inner).bytes(), gre(B, A, inner).bytes(), gre(A, B, inner).bytes()]).done;
    const ended = await run.stop();
    expect(ended).toMatchObject({ code: 0, signal: null });
    expect(documentOf(ended).logLinesLost).toBe(0);
    const conn = logs.read('conn');
    const carrier = conn.find((line) => line['service'] === 'vxlan')?.['uid'];
    const parents = conn.flatMap((line) => (line['tunnel_parents'] as string[] | undefined) ?? []);
    const tunnels = logs.read('tunnel');
    expect(tunnels).toMatchObject([
      {
        uid: carrier,
        'id.orig_h': A,
        'id.resp_p': 4789,
        tunnel_type: 'Tunnel::VXLAN',
        action: 'Tunnel::DISCOVER',
      },
      { 'id.orig_h': B, 'id.resp_p': 0, tunnel_type: 'Tunnel::GRE', action: 'Tunnel::DISCOVER' },
      { uid: carrier, tunnel_type: 'Tunnel::VXLAN', action: 'Tunnel::CLOSE' },
    ]);
    expect(new Set(parents)).toEqual(new Set([tunnels[0]['uid'], tunnels[1]['uid']]));
    expect(logs.whole('tunnel')).toBe(true);
  } finally {
    remove();
  }
});
