import { describe, expect, it } from 'vitest';
import { type Packets, Random } from '../../bench/attack-traffic.ts';
import { simulate } from '../../bench/mitigation-run.ts';
import { madeAttack } from '../../bench/tool-attacks.ts';
import { usualTraffic } from '../../bench/usual-traffic.ts';
import { eth } from '../../src/packet/build.ts';

const common = { usualPps: 4000, attackPps: 20_000, every: 40, before: 8, during: 4, seed: 9 } as const;
const NET = '198.51.100';
const against = (attack: Packets, seed = 77) =>
  simulate({ ...common, usual: usualTraffic(seed, NET).packet, attack });
const rulesOf = (result: ReturnType<typeof against>) => result.records.flatMap(({ rules }) => rules);

/** Datagrams of anybody to anybody in a /24, with nothing in them that stays. */
function anything(seed: number): Packets {
  const r = new Random(seed);
  return () =>
    eth({ src: '02:00:00:00:00:0a', dst: '02:00:00:00:00:0b' })
      .ipv4({
        src: `${r.int(11, 126)}.${r.int(0, 255)}.${r.int(0, 255)}.${r.int(1, 254)}`,
        dst: `${NET}.${r.int(1, 254)}`,
        ttl: r.int(30, 250),
        id: r.int(0, 65_535),
        dontFragment: r.chance(0.5),
      })
      .udp({ sport: r.int(1024, 65_535), dport: r.int(1, 65_535) })
      .payload(r.bytes(r.int(20, 300)))
      .bytes();
}

describe('a rule', () => {
  it.each([3, 11])('says nothing of ports that count up (seed %i)', (seed) => {
    const result = against(madeAttack('hping3-ack', seed, usualTraffic(77, NET).servers[0]).packet);
    expect(rulesOf(result).map(({ action }) => action.kind)).toEqual(['drop']);
    expect(rulesOf(result)[0].expr).not.toContain('src port');
    expect(result.droppedAfter).toBeGreaterThan(0.99);
    expect(result.usualDropped).toBe(0);
  });

  it('has beside what would be enough what all of the attack has', () => {
    const [server] = usualTraffic(77, NET).servers;
    const [rule] = rulesOf(against(madeAttack('hping3-syn', 5, server).packet));
    // One of them tells all that was seen apart; a packet that was not seen yet may have it too.
    const said = ['tcp[14:2] = 512', 'ip[8] = ', 'ip[2:2] = 40', 'ip[6] & 0x40 = 0'];
    expect(said.filter((text) => rule.expr.includes(text)).length).toBeGreaterThan(2);
  });

  it('for a whole prefix that cannot drop limits all of it together', () => {
    const result = against(anything(4));
    for (const { action } of rulesOf(result))
      if (action.kind === 'limit') expect(action.per).not.toBe('target');
    expect(result.records.map(({ target }) => target)).toContain(`${NET}.0/24`);
    expect(result.droppedAfter).toBeGreaterThan(0.97);
  });

  it('that does stays as it is', () => {
    const [server] = usualTraffic(77, NET).servers;
    const result = against(madeAttack('mirai-ack', 6, server).packet);
    expect(result.records.map(({ revision }) => revision)).toEqual([1]);
  });
});
