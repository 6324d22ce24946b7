import { createHash } from 'node:crypto';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CommunityIds } from '../../src/packet/community-id.ts';

const ids = new CommunityIds(0);
const of = (ipProto: number, origHost: string, origPort: number, respHost: string, respPort: number) =>
  ids.of({ ipProto, origHost, origPort, respHost, respPort });

const number16 = (n: number) => [(n / 256) | 0, n % 256];

/** The same by the words of the specification, with none of our code. */
function reference(
  seed: number,
  proto: number,
  a: number[],
  b: number[],
  ports?: [number, number],
  ordered = true,
) {
  const [p, q] = ports ?? [0, 0];
  const left = [...a, ...number16(p)];
  const right = [...b, ...number16(q)];
  const firstDifference = left.findIndex((byte, i) => byte !== right[i]);
  const swap = ordered && firstDifference >= 0 && left[firstDifference] > right[firstDifference];
  const [x, y, xp, yp] = swap ? [b, a, q, p] : [a, b, p, q];
  const tail = ports === undefined ? [] : [...number16(xp), ...number16(yp)];
  const data = Uint8Array.from([...number16(seed), ...x, ...y, proto, 0, ...tail]);
  return `1:${createHash('sha1').update(data).digest('base64')}`;
}

const text = (bytes: number[]) =>
  bytes.length === 4
    ? bytes.join('.')
    : bytes.flatMap((high, i) => (i % 2 === 0 ? [((high << 8) | bytes[i + 1]).toString(16)] : [])).join(':');

describe('community id', () => {
  // From the baseline of the specification (github.com/corelight/community-id-spec).
  it.each([
    ['TCP', 'LQU9qZlK+B5F3KDmev6m5PMibrg=', 6, '66.35.250.204', 80, '128.232.110.120', 34_855],
    [
      'TCP, the other direction',
      'LQU9qZlK+B5F3KDmev6m5PMibrg=',
      6,
      '128.232.110.120',
      34_855,
      '66.35.250.204',
      80,
    ],
    ['UDP', 'd/FP5EW3wiY1vCndhwleRRKHowQ=', 17, '192.168.1.52', 54_585, '8.8.8.8', 53],
    ['SCTP', 'MP2EtRCAUIZvTw6MxJHLV7N7JDs=', 132, '192.168.170.8', 7, '192.168.170.56', 7],
    ['echo', 'X0snYXpgwiv9TZtqg64sgzUn6Dk=', 1, '192.168.0.89', 8, '192.168.0.1', 0],
    ['an ICMP type without answer', '3o2RFccXzUgjl7zDpqmY7yJi8rI=', 1, '192.168.0.89', 20, '192.168.0.1', 0],
    ['the same with a code', 'tz/fHIDUHs19NkixVVoOZywde+I=', 1, '192.168.0.89', 20, '192.168.0.1', 1],
    [
      'neighbor solicitation',
      'dGHyGvjMfljg6Bppwm3bg0LO8TY=',
      58,
      'fe80::200:86ff:fe05:80da',
      135,
      'fe80::260:97ff:fe07:69ea',
      136,
    ],
    [
      'router advertisement',
      'pkvHqCL88/tg1k4cPigmZXUtL00=',
      58,
      'fe80::260:97ff:fe07:69ea',
      134,
      'ff02::1',
      133,
    ],
  ] as const)('%s', (_, id, proto, orig, origPort, resp, respPort) => {
    expect(of(proto, orig, origPort, resp, respPort)).toBe(`1:${id}`);
  });

  it('with a seed', () => {
    const tcp = {
      ipProto: 6,
      origHost: '66.35.250.204',
      origPort: 80,
      respHost: '128.232.110.120',
      respPort: 34_855,
    };
    expect(new CommunityIds(1).of(tcp)).toBe('1:3V71V58M3Ksw/yuFALMcW0LAHvc=');
  });

  it('is what the specification says, for any IPv4 and IPv6 endpoints', () => {
    const byte = fc.integer({ min: 0, max: 255 });
    const port = fc.integer({ min: 0, max: 65_535 });
    const address = (size: number) => fc.array(byte, { minLength: size, maxLength: size });
    for (const size of [4, 16]) {
      fc.assert(
        fc.property(
          port,
          fc.constantFrom(6, 17, 132),
          address(size),
          address(size),
          port,
          port,
          (seed, proto, a, b, p, q) => {
            const id = new CommunityIds(seed).of({
              ipProto: proto,
              origHost: text(a),
              origPort: p,
              respHost: text(b),
              respPort: q,
            });
            return id === reference(seed, proto, a, b, [p, q]);
          },
        ),
      );
    }
  });

  it('ICMP with an answer is one connection, without one it has a direction', () => {
    const a = [192, 0, 2, 1];
    const b = [192, 0, 2, 2];
    const echo = of(1, '192.0.2.1', 8, '192.0.2.2', 0);
    expect(echo).toBe(reference(0, 1, a, b, [8, 0]));
    expect(of(1, '192.0.2.2', 0, '192.0.2.1', 8)).toBe(echo);
    // Unreachable (3), port (3): as it went, from the higher address to the lower one.
    expect(of(1, '192.0.2.2', 3, '192.0.2.1', 3)).toBe(reference(0, 1, b, a, [3, 3], false));
    expect(of(58, '2001:db8::2', 135, '2001:db8::1', 136)).toBe(
      of(58, '2001:db8::1', 136, '2001:db8::2', 135),
    );
    expect(of(58, '2001:db8::2', 1, '2001:db8::1', 4)).not.toBe(of(58, '2001:db8::1', 1, '2001:db8::2', 4));
  });

  it('other protocols have no ports, and a host that is no address has no id', () => {
    expect(of(47, '10.0.0.2', 0, '10.0.0.1', 0)).toBe(reference(0, 47, [10, 0, 0, 1], [10, 0, 0, 2]));
    expect(of(6, '10.0.0.2', 1, 'fe80::1', 2)).toBeUndefined();
    expect(of(6, 'nowhere', 1, '10.0.0.1', 2)).toBeUndefined();
  });
});
