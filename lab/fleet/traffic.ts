import { eth } from '../../src/packet/build.ts';

/** Frames of the gates' traffic. What attacks and what is usual have source addresses of their own, by which passed.ts counts them. */

const DST = '02:00:00:00:00:0b';
const ATTACK = { src: '02:00:00:00:00:0a', dst: DST };
const USUAL = { src: '02:00:00:00:00:0c', dst: DST };
const SERVERS = Array.from({ length: 12 }, (_, at) => `198.51.100.${at + 7}`);
const POOL = 4000;
/** Bytes of the answers that an NTP server gives to monlist: 6 entries, and what stands before them. */
const ANSWER = 440;

const int = (most: number): number => Math.floor(Math.random() * most);
const pick = <T>(list: readonly T[]): T => list[int(list.length)];
const anyone = (): string => `${11 + int(110)}.${int(256)}.${int(256)}.${1 + int(254)}`;

/** What a rule of the lab drops. */
export function namedFrame(): Uint8Array {
  return eth({ src: '02:00:00:00:00:0d', dst: DST })
    .ipv4({ src: '198.51.100.9', dst: '192.0.2.7' })
    .udp({ sport: 5000, dport: 9 })
    .payload('lab')
    .bytes();
}

/** Clients of some servers: the web, names, the time. */
export function usualFrames(): Uint8Array[] {
  const clients = Array.from({ length: 400 }, anyone);
  return Array.from({ length: POOL }, () => {
    const ip = eth(USUAL).ipv4({ src: pick(clients), dst: pick(SERVERS), ttl: 50 + int(14) });
    const sport = 1024 + int(60_000);
    const what = Math.random();
    if (what < 0.1)
      return ip
        .udp({ sport, dport: 53 })
        .payload('x'.repeat(30 + int(30)))
        .bytes();
    if (what < 0.12) return ip.udp({ sport: 123, dport: 123 }).payload('\x24'.padEnd(48, '\0')).bytes();
    return ip
      .tcp({ sport, dport: 443, flags: 'A' })
      .payload('x'.repeat(int(600)))
      .bytes();
  });
}

/** Answers of NTP servers to nobody's questions, for the first of the servers. */
export function attackFrames(): Uint8Array[] {
  const reflectors = Array.from({ length: 800 }, anyone);
  const payload = new Uint8Array(8 + ANSWER);
  // Response, more to come, of mode 7; implementation 3, request 42: MON_GETLIST_1.
  payload.set([0xd7, 0x00, 0x03, 0x2a, 0x00, 0x06, 0x00, 0x48]);
  return Array.from({ length: POOL }, () =>
    eth(ATTACK)
      .ipv4({ src: pick(reflectors), dst: SERVERS[0], ttl: 40 + int(20) })
      .udp({ sport: 123, dport: 1024 + int(60_000) })
      .payload(payload)
      .bytes(),
  );
}
