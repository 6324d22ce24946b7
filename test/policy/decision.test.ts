import { describe, expect, test } from 'vitest';
import { NO_SETS } from '../../src/policy/condition.ts';
import { LATER, PolicySet, SETTLED } from '../../src/policy/decision.ts';
import type { FlowFacts } from '../../src/policy/fields.ts';
import { parseSchedule, untilOpen } from '../../src/policy/schedule.ts';
import { type PolicySpec, policySchema } from '../../src/policy/spec.ts';
import { facts } from './facts.ts';

type Written = Partial<PolicySpec> & { when: string };

/** Decides as a worker would, and keeps what was told. */
function deciding(...written: readonly Written[]) {
  const specs = written.map((spec, i) => policySchema.parse({ name: `p${i}`, ...spec }));
  const set = new PolicySet(specs, NO_SETS);
  const told: string[] = [];
  const events = {
    noted: (index: number) => told.push(`noted ${index}`),
    spared: (index: number, why: string) => told.push(`${why} ${index}`),
  };
  const flow = new Set<number>();
  return {
    set,
    told,
    decide: (known: Partial<FlowFacts> = {}, { hash = 0, now = 0, seen = flow } = {}) =>
      set.decide(facts(known), hash, now, seen, events),
  };
}

const TLS = { tlsEstablished: true, services: ['ssl'] };

/** In whatever zone the machine is: a day of November 2026, of which the 21st is a Saturday. */
const at = (day: number, hour: number, minute: number) =>
  new Date(2026, 10, day, hour, minute).getTime() / 1000;

describe('decisions', () => {
  test('the first that holds acts; higher priorities are asked first', () => {
    expect(deciding({ when: 'proto == udp' }, { when: 'proto == tcp' }, { when: 'service' }).decide()).toBe(
      1,
    );
    expect(deciding({ when: 'proto == tcp' }, { when: 'port == 443', priority: 5 }).decide()).toBe(1);
  });

  test('what cannot hold any more is settled, what may is looked at again when it may', () => {
    expect(deciding({ when: 'proto == udp' }).decide()).toBe(SETTLED);
    const { set, decide } = deciding(
      { when: 'bytes >= 1kB' },
      { when: 'tls.established' },
      { when: 'proto == udp' },
    );
    expect(decide()).toBe(LATER);
    expect(set.watch).toMatchObject({ bytes: 1000, news: true, packets: Number.POSITIVE_INFINITY });
    expect(decide({ learning: false })).toBe(LATER);
    expect(set.watch).toMatchObject({ bytes: 1000, news: false });
  });

  test('a veto wins over everything, and says so', () => {
    const veto = { when: 'service == http', action: 'never' } as const;
    const { told, decide } = deciding({ when: 'tls.established', priority: 9 }, veto);
    expect(decide({ ...TLS, services: ['http', 'ssl'] })).toBe(SETTLED);
    expect(told).toEqual(['never 1']);
    expect(decide(TLS)).toBe(0);
    // A veto by itself gives nothing to look at.
    expect(deciding(veto).decide()).toBe(SETTLED);
  });

  test('a hold keeps a connection until its condition is over, and is counted once', () => {
    const hold = { when: 'service == http and bytes < 50kB', action: 'hold' } as const;
    const { set, told, decide } = deciding({ when: 'bytes >= 1kB' }, hold);
    const http = { services: ['http'], learning: false };
    expect(decide({ ...http, respBytes: 2000 })).toBe(LATER);
    expect(set.watch).toMatchObject({ news: false, bytes: 50_000, packets: Number.POSITIVE_INFINITY });
    expect(decide({ ...http, respBytes: 30_000 })).toBe(LATER);
    expect(told).toEqual(['hold 1']);
    expect(decide({ ...http, respBytes: 50_000 })).toBe(0);
    expect(decide({ services: ['ssl'], respBytes: 2000 })).toBe(0);
    // What can never be over is a veto.
    const forever = deciding({ when: 'proto == tcp' }, { when: 'port == 443', action: 'hold' });
    expect(forever.decide()).toBe(SETTLED);
    expect(forever.told).toEqual(['hold 1']);
  });

  test('a dry run and a log are told once, and the next one acts', () => {
    const { told, decide } = deciding(
      { when: 'proto == tcp', dryRun: true },
      { when: 'proto == tcp', action: 'log' },
      { when: 'bytes >= 1kB' },
    );
    expect(decide()).toBe(LATER);
    expect(decide()).toBe(LATER);
    expect(told).toEqual(['noted 0', 'noted 1']);
    expect(decide({ respBytes: 1000 })).toBe(2);
    expect(told).toEqual(['noted 0', 'noted 1']);
  });

  test('a share takes the same connections each time, and about so many', () => {
    const { told, decide } = deciding({ when: 'proto == tcp', share: 0.25 });
    let taken = 0;
    for (let i = 0; i < 1000; i++) {
      const hash = Math.floor((i / 1000) * 2 ** 32);
      const index = decide({}, { hash, seen: new Set() });
      expect(decide({}, { hash, seen: new Set() })).toBe(index);
      if (index === 0) taken++;
    }
    expect(taken).toBe(250);
    expect(told.filter((text) => text === 'share 0')).toHaveLength(1500);
  });

  test('a budget by time and by live connections', () => {
    const { set, told, decide } = deciding({ when: 'proto == tcp', budget: { perSecond: 2, live: 3 } });
    expect([decide(), decide(), decide()]).toEqual([0, 0, LATER]);
    expect(told).toEqual(['budget 0']);
    expect(set.watch.seconds).toBe(1);
    expect(decide({}, { now: 1 })).toBe(0);
    // Three are live.
    expect(decide({}, { now: 9 })).toBe(LATER);
    set.released(0);
    expect(decide({}, { now: 9 })).toBe(0);
  });

  test('a schedule: outside of it a connection waits until it opens', () => {
    const { set, decide } = deciding({
      when: 'proto == tcp',
      schedule: 'mon-fri 08:00-18:00, sat 22:00-02:00',
    });
    expect(decide({ duration: 5 }, { now: at(21, 21, 30) })).toBe(LATER);
    expect(set.watch.seconds).toBe(5 + 1800);
    expect(decide({}, { now: at(21, 23, 0) })).toBe(0);
    expect(decide({}, { now: at(22, 1, 59) })).toBe(0);
    expect(decide({}, { now: at(22, 2, 0) })).toBe(LATER);
    expect(decide({}, { now: at(23, 8, 0) })).toBe(0);
  });
});

describe('schedules', () => {
  test.each(['', 'mon', '8-18', 'mon 25:00-26:00', 'xyz 08:00-18:00', 'mon 08:00-18:99', 'mon 24:00-02:00'])(
    '%j is refused',
    (text) => {
      expect(() => parseSchedule(text)).toThrow(/no part of a schedule/);
    },
  );

  test('without days it holds every day, and round the end of the week', () => {
    const nightly = parseSchedule('22:00-06:00');
    for (let day = 15; day < 22; day++) {
      expect(untilOpen(nightly, new Date(2026, 10, day, 3, 0).getTime() / 1000)).toBe(0);
      expect(untilOpen(nightly, new Date(2026, 10, day, 21, 0).getTime() / 1000)).toBe(3600);
      expect(untilOpen(nightly, new Date(2026, 10, day, 23, 0).getTime() / 1000)).toBe(0);
    }
    expect(untilOpen(parseSchedule('fri-mon 00:00-24:00'), new Date(2026, 10, 22, 12).getTime() / 1000)).toBe(
      0,
    );
  });
});
