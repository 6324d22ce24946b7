import { expect } from 'vitest';
import { createLab } from '../../lab/lab.ts';
import { runTraffic } from '../../lab/traffic.ts';
import { Sensor } from '../sensor/two-taps.ts';
import { kernelTest } from '../support/kernel.ts';

const FEATURES = ['xdpFrags', 'xdpNativeVeth', 'syscallProgram', 'packetRing'] as const;

kernelTest(
  '95 % and more of the bytes of long HTTPS transfers at 1 Gb/s are dropped in XDP',
  [...FEATURES],
  async () => {
    await using lab = await createLab();
    await using sensor = new Sensor(lab, 'a', []);
    await sensor.ready();
    const report = await runTraffic(lab, {
      name: 'long transfers',
      concurrency: 1,
      transfers: [
        { kind: 'https', tls: '1.3', bytes: 50e6, with: 'curl', count: 3 },
        { kind: 'https', tls: '1.2', bytes: 50e6, family: 6, count: 3 },
        { kind: 'https', tls: '1.3', bytes: 80e6, direction: 'upload', with: 'curl', count: 2 },
      ],
    });
    expect(report.failures).toBe(0);
    await new Promise((resolve) => setTimeout(resolve, 1000));
    expect(await sensor.stop()).toBe(0);
    let all = 0;
    let dropped = 0;
    for (const r of sensor.log('conn')) {
      if (r['service'] !== 'ssl') continue;
      all += Number(r['orig_ip_bytes']) + Number(r['resp_ip_bytes']);
      dropped += Number(r['orig_shunted_bytes'] ?? 0) + Number(r['resp_shunted_bytes'] ?? 0);
    }
    expect(all).toBeGreaterThan(450e6);
    expect(dropped / all).toBeGreaterThan(0.95);
  },
);
