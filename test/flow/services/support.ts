import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { bytesOf, type Said } from '../../../lab/bytes.ts';
import { type Service, ServiceNews, type ServiceParser } from '../../../src/flow/services/service.ts';

export { bytesOf, C, hex, S, type Said } from '../../../lab/bytes.ts';

export interface Outcome {
  /** All ServiceNews bits. */
  bits: number;
  parser: ServiceParser;
  /** Bytes of the conversation that were read as this protocol, when it was handed over. */
  readUntil: number;
}

/** Feeds the conversation, in pieces of the given sizes, as it would come out of a ring that is overwritten. */
export function feed(
  service: Service,
  said: readonly Said[],
  chunk: () => number = () => 1e9,
  port = 0,
): Outcome {
  const parser = service.parser(port);
  let bits = 0;
  let fed = 0;
  let readUntil = -1;
  for (const [from, text] of said) {
    const bytes = bytesOf(text);
    for (let at = 0; at < bytes.length; ) {
      const size = Math.min(bytes.length - at, Math.max(1, chunk()));
      const copy = new Uint8Array(size + 6).fill(0x31);
      copy.set(bytes.subarray(at, at + size), 3);
      const news = parser.data(from, copy, 3, size);
      copy.fill(0xee);
      expect(news & bits & ServiceNews.confirmed, 'told once only').toBe(0);
      bits |= news;
      fed += size;
      at += size;
      if (news & ServiceNews.handsOver) {
        readUntil = fed - (parser.rest ?? 0);
        return { bits, parser, readUntil };
      }
      if (news & (ServiceNews.rejected | ServiceNews.done)) return { bits, parser, readUntil };
    }
  }
  return { bits, parser, readUntil };
}

/** What came out, in words. */
export function verdict({ bits }: Outcome): string {
  const words: string[] = [];
  if (bits & ServiceNews.confirmed) words.push('confirmed');
  if (bits & ServiceNews.rejected) words.push('rejected');
  if (bits & ServiceNews.handsOver) words.push('hands over');
  return words.join(', ') || 'unsure';
}

/** Whether the first bytes of each side, or of one, suggest the service. */
export function suggested(service: Service, said: readonly Said[], port = 0): boolean {
  for (const side of [0, 1] as const) {
    const first = said.find(([from]) => from === side);
    if (first === undefined) continue;
    const bytes = bytesOf(first[1]);
    if (service.looksLike(bytes, 0, bytes.length, side, port)) return true;
  }
  return false;
}

/**
 * The tests that every recognizer has to stand: the same outcome however the bytes are cut, the look at the first bytes
 * may see as little as one, and nothing throws or reads beyond what it was given.
 */
export function stands(service: Service, conversations: Readonly<Record<string, readonly Said[]>>): void {
  const names = Object.keys(conversations);
  const datagrams = service.transport === 'udp';
  if (!datagrams)
    test('cut into pieces of any size', () => {
      fc.assert(
        fc.property(
          fc.constantFrom(...names),
          fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 20 }),
          (name, sizes) => {
            const said = conversations[name];
            let i = 0;
            const cut = feed(service, said, () => sizes[i++ % sizes.length]);
            const whole = feed(service, said);
            expect(verdict(cut), name).toBe(verdict(whole));
            expect(cut.readUntil, name).toBe(whole.readUntil);
            expect(cut.parser.inside ?? [], name).toEqual(whole.parser.inside ?? []);
          },
        ),
        { numRuns: 300 },
      );
    });
  test('the first bytes suggest it, however few there are', () => {
    for (const name of names) {
      const said = conversations[name];
      expect(suggested(service, said), name).toBe(true);
      if (datagrams) continue;
      for (const side of [0, 1] as const) {
        const first = said.find(([from]) => from === side);
        if (first === undefined) continue;
        const bytes = bytesOf(first[1]);
        if (!service.looksLike(bytes, 0, bytes.length, side, 0)) continue;
        for (let size = 1; size < Math.min(bytes.length, 24); size++)
          if (service.name !== 'imap' || side === 0)
            expect(service.looksLike(bytes, 0, size, side, 0), `${name}: ${size} bytes`).toBe(true);
      }
    }
  });
  test('any bytes, and its own with errors, never throw', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...names),
        fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 8 }),
        fc.array(fc.tuple(fc.constantFrom<0 | 1>(0, 1), fc.uint8Array({ maxLength: 300 })), { maxLength: 6 }),
        fc.integer({ min: 1, max: 60 }),
        (name, errors, noise, size) => {
          const said: Said[] = conversations[name].map(([from, text]) => [
            from,
            Uint8Array.from(bytesOf(text)),
          ]);
          for (const [at, value] of errors) {
            const bytes = said[at % said.length][1] as Uint8Array;
            if (bytes.length > 0) bytes[(at >>> 4) % bytes.length] = value;
          }
          const cut = datagrams ? () => 1e9 : () => size;
          feed(service, [...said, ...noise], cut);
          feed(service, [...noise, ...said], cut);
          for (const [from, text] of [...said, ...noise]) {
            const bytes = bytesOf(text);
            service.looksLike(bytes, 0, bytes.length, from, 0);
          }
        },
      ),
      { numRuns: 400 },
    );
  });
}
