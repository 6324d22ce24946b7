import { describe, expect, test } from 'vitest';
import { demoPlan, jobsOf, mixedPlan, type TrafficPlan, type Transfer } from '../../lab/index.ts';

const plan = (...transfers: Transfer[]): TrafficPlan => ({ name: 'test', transfers });

describe('traffic plans', () => {
  test('become the same jobs each time, kinds mixed', () => {
    const jobs = jobsOf(plan({ kind: 'dns', count: 4 }, { kind: 'http', bytes: 10, count: 2 }));
    expect(jobs).toEqual(jobsOf(plan({ kind: 'dns', count: 4 }, { kind: 'http', bytes: 10, count: 2 })));
    expect(jobs.map((job) => job.kind)).toEqual(['dns', 'http', 'dns', 'dns', 'http', 'dns']);
  });

  test('the mixed one has a thousand connections and more, of every kind, version, family and ending', () => {
    const jobs = jobsOf(mixedPlan());
    expect(jobs.length).toBeGreaterThanOrEqual(1000);
    const has = (of: Partial<(typeof jobs)[number]>) =>
      jobs.some((job) => Object.entries(of).every(([key, value]) => job[key as keyof typeof job] === value));
    for (const family of [4, 6] as const) {
      for (const kind of ['https', 'http', 'tcp', 'udp', 'dns', 'ping'] as const)
        expect(has({ kind, family })).toBe(true);
      for (const tls of ['1.2', '1.3'] as const) {
        for (const close of ['server-fin', 'client-fin', 'server-rst', 'client-rst', 'open'] as const) {
          expect(has({ kind: 'https', tls, close, family })).toBe(true);
        }
      }
    }
    expect(has({ with: 'curl' })).toBe(true);
  });

  test('the demo has HTTPS downloads of 50 MB and more in both TLS versions', () => {
    const large = jobsOf(demoPlan(30)).filter((job) => job.kind === 'https' && job.bytes >= 50_000_000);
    expect(new Set(large.map((job) => job.tls))).toEqual(new Set(['1.2', '1.3']));
  });

  test.each([
    [plan()],
    [plan({ kind: 'tcp', bytes: -1 })],
    [plan({ kind: 'tcp', bytes: 5e9 })],
    [plan({ kind: 'tcp', count: 0 })],
    [plan({ kind: 'udp', datagram: 4 })],
    [plan({ kind: 'dns', with: 'curl' })],
    [plan({ kind: 'http', with: 'curl', close: 'client-rst' })],
    [{ ...plan({ kind: 'dns' }), maxSeconds: 100_000 }],
  ])('what makes no sense is refused: %j', (bad) => {
    expect(() => jobsOf(bad)).toThrow(expect.objectContaining({ code: 'USAGE' }));
  });
});
