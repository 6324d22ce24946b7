import { describe, expect, it } from 'vitest';
import { NicOffload, type NicPort } from '../../src/gate/nic-offload.ts';
import { NicRules } from '../../src/kernel/index.ts';
import { parseAction, parseRule, type RuleInput } from '../../src/rules/spec.ts';
import { kernelTest, ownNetns, vethPair } from '../support/kernel.ts';

ownNetns();

const NTP = 'dst host 192.0.2.7 and udp src port 123';
const rule = (id: string, expr: string, more: Partial<RuleInput> = {}) =>
  parseRule({ id, expr, action: { kind: 'drop' }, offload: 'nic', ...more });
const placed = (rules: ReturnType<typeof rule>[], on = true) => rules.map((one) => ({ rule: one, on }));
const silent = (text: string): void => expect.unreachable(text);

/** A NIC with room for so many rules, which may give back other ones than it was given. */
class Nic implements NicPort {
  readonly rules = new Map<number, Uint8Array>();
  readonly #room: number;
  readonly #changed: (spec: Uint8Array) => Uint8Array;
  #next = 100;

  constructor(room = 100, changed: (spec: Uint8Array) => Uint8Array = (spec) => spec) {
    this.#room = room;
    this.#changed = changed;
  }

  insert(spec: Uint8Array): number {
    if (this.rules.size >= this.#room) throw new Error('no space (ENOSPC)');
    this.rules.set(this.#next, this.#changed(spec.slice()));
    return this.#next++;
  }

  read(location: number): Uint8Array | undefined {
    return this.rules.get(location);
  }

  remove(location: number): void {
    if (!this.rules.delete(location)) throw new Error('there is none');
  }
}

describe('rules in the NIC', () => {
  it('go in with their rule, change with it and go out with it', async () => {
    const nic = new Nic();
    const offload = new NicOffload(nic, silent);
    await offload.place(
      placed([rule('ntp', NTP), rule('both', 'ip host 10.0.0.1'), rule('x', 'udp', { offload: null })]),
    );
    expect(offload.state('ntp')).toEqual({ wanted: 'nic', state: 'nic', reason: null });
    expect(offload.state('x')).toBeUndefined();
    expect(nic.rules.size).toBe(3);
    const before = [...nic.rules.keys()];
    await offload.place(
      placed([rule('ntp', NTP, { note: 'nothing of the packets' }), rule('both', 'ip host 10.0.0.2')]),
    );
    expect([...nic.rules.keys()]).toEqual([before[0], 103, 104]);
    await offload.place(placed([rule('ntp', NTP)], false));
    expect(nic.rules.size).toBe(0);
    expect(offload.state('ntp')).toMatchObject({ state: 'xdp' });
    await offload.place(placed([rule('ntp', NTP)]));
    expect(nic.rules.size).toBe(1);
    offload.take('ntp');
    expect(nic.rules.size).toBe(0);
    await offload.place(placed([rule('ntp', NTP)]));
    offload.close();
    expect(nic.rules.size).toBe(0);
  });

  it('are all of a rule, or none of it', async () => {
    const nic = new Nic(2);
    const offload = new NicOffload(nic, silent);
    await offload.place(placed([rule('one', NTP), rule('two', 'ip host 10.0.0.1')]));
    expect(nic.rules.size).toBe(1);
    expect(offload.state('two')).toEqual({
      wanted: 'nic',
      state: 'xdp',
      reason: 'the NIC refuses it: no space (ENOSPC)',
    });
  });

  it('are taken out again when the NIC gives back another one', async () => {
    const nic = new Nic(9, (spec) => spec.fill(0, 76, 80));
    const offload = new NicOffload(nic, silent);
    await offload.place(placed([rule('one', 'ip src host 10.0.0.1')]));
    expect(nic.rules.size).toBe(0);
    expect(offload.state('one')?.reason).toContain('another rule');
  });

  it('are not for what a NIC cannot say', async () => {
    const nic = new Nic();
    const offload = new NicOffload(nic, silent);
    await offload.place(
      placed([
        rule('limit', NTP, { action: parseAction('limit=10pps') }),
        rule('more', `${NTP} and greater 400`),
        rule('dns', 'example.com', { lang: 'dns' }),
      ]),
    );
    expect(nic.rules.size).toBe(0);
    expect(offload.state('limit')?.reason).toBe('a NIC can only drop');
    expect(offload.state('more')?.state).toBe('xdp');
    expect(offload.state('dns')?.state).toBe('xdp');
  });

  it('that a daemon left are found by the next one: its own, where they still are', async () => {
    const nic = new Nic();
    const rules = [
      rule('ntp', NTP),
      rule('old', 'ip src host 10.0.0.1'),
      rule('gone', 'ip src host 10.0.0.2'),
    ];
    const first = new NicOffload(nic, silent);
    await first.place(placed(rules));
    const saved = first.legacy;
    // Meanwhile somebody has put a rule of theirs in the place of one of ours.
    const theirs = new Uint8Array(168).fill(7);
    nic.rules.set(saved[2].location, theirs);
    const next = new NicOffload(nic, silent);
    next.adopt(saved, rules);
    expect(next.state('ntp')?.state).toBe('nic');
    await next.place(placed([rules[0]]));
    expect([...nic.rules.keys()]).toEqual([saved[0].location, saved[2].location]);
    next.close();
    expect([...nic.rules.values()]).toEqual([theirs]);
  });
});

kernelTest('an interface without such rules says so', [], () => {
  const pair = vethPair();
  try {
    expect(() => new NicRules(pair.a).insert(new Uint8Array(168))).toThrow(/EOPNOTSUPP/);
    expect(() => new NicRules('nothing').read(0)).toThrow(/ENODEV/);
  } finally {
    pair.remove();
  }
});
