import { describe, expect, test } from 'vitest';
import { Choice, choicesOf } from '../../../src/flow/services/choice.ts';
import { Recognition, RecognitionNews } from '../../../src/flow/services/recognition.ts';
import {
  type PayloadSink,
  type Service,
  ServiceNews,
  type ServiceParser,
} from '../../../src/flow/services/service.ts';
import { StreamNews, Streams } from '../../../src/flow/streams.ts';

const text = (u8: Uint8Array, offset: number, length: number) =>
  Buffer.from(u8.buffer, u8.byteOffset + offset, length).toString('latin1');

/** A service that begins with its letter; `react` says what a piece means. */
function lettered(
  letter: string,
  react: (piece: string, parser: { rest: number }) => number,
  more: Partial<ServiceParser> = {},
): Service {
  return {
    name: letter.toLowerCase(),
    transport: 'both',
    looksLike: (u8, offset) => u8[offset] === letter.charCodeAt(0) || u8[offset] === 0x2a,
    parser: () => {
      const parser = {
        ...more,
        rest: 0,
        data: (_from: 0 | 1, u8: Uint8Array, offset: number, length: number): number =>
          react(text(u8, offset, length), parser),
      };
      return parser;
    },
  };
}

/** Understands "sure", "done", "no", "over" and "up" in a piece. */
const words = (piece: string, parser: { rest: number }): number => {
  let news = 0;
  if (piece.includes('sure')) news |= ServiceNews.confirmed;
  if (piece.includes('done')) news |= ServiceNews.done;
  if (piece.includes('no')) news |= ServiceNews.rejected;
  if (piece.includes('up')) news |= ServiceNews.established;
  const over = piece.indexOf('over');
  if (over >= 0) {
    news |= ServiceNews.handsOver;
    parser.rest = piece.length - over - 4;
  }
  return news;
};

const A = lettered('A', words);
const B = lettered('B', words);

function recognize(
  services: readonly Service[],
  pieces: readonly string[],
): { names: string[]; news: number } {
  const recognition = new Recognition();
  recognition.begin(new Choice(services), 80);
  let news = 0;
  for (const piece of pieces) {
    const bytes = Buffer.from(piece.slice(1), 'latin1');
    news |= recognition.feed(piece.startsWith('>') ? 1 : 0, bytes, 0, bytes.length);
    if (news & RecognitionNews.done) break;
  }
  return { names: [...recognition.names], news };
}

describe('recognition', () => {
  test('candidates are those that the first bytes of either side suggest', () => {
    expect(recognize([A, B], ['>x', '<Bsure']).names).toEqual(['b']);
    expect(recognize([A, B], ['>x', '<Asure']).names).toEqual(['a']);
    expect(recognize([A, B], ['>x', '<y', '>Asure', '<Asure'])).toEqual({
      names: [],
      news: RecognitionNews.done,
    });
    expect(recognize([A, B], ['>x', '>Asure']).names).toEqual([]);
  });

  test('the first that is sure sends the others away', () => {
    const { names } = recognize([A, B], ['>*', '>sure', '<sure']);
    expect(names).toEqual(['a']);
  });

  test('done and sure: nothing more is wanted, though only one side has been heard', () => {
    expect(recognize([A], ['>Asure done']).news & RecognitionNews.done).not.toBe(0);
    expect(recognize([A], ['>Asure']).news & RecognitionNews.done).toBe(0);
  });

  test('a violation takes the name off within 10 KiB, not later', () => {
    const filler = '.'.repeat(1024);
    expect(recognize([A], ['>Asure', '<no']).names).toEqual([]);
    expect(recognize([A], ['>Asure', `<${filler.repeat(9)}`, '>no']).names).toEqual([]);
    expect(recognize([A], ['>Asure', `<${filler.repeat(10)}`, '>no']).names).toEqual(['a']);
  });

  test('who is not sure after 64 KiB is let go, also in small pieces', () => {
    const large = Array.from({ length: 70 }, () => `>A${'.'.repeat(1023)}`);
    expect(recognize([A], [...large, '>sure'])).toEqual({ names: [], news: RecognitionNews.done });
    const small = Array.from({ length: 600 }, () => '>A');
    expect(recognize([A], [...small, '>sure'])).toEqual({ names: [], news: RecognitionNews.done });
    expect(recognize([A], [...large.slice(0, 60), '>sure']).names).toEqual(['a']);
  });

  test('what was handed over is recognized anew on both sides, in the order of confirmation', () => {
    expect(recognize([A, B], ['>Asure', '<over', '>Bsure', '<.']).names).toEqual(['a', 'b']);
    expect(recognize([A, B], ['>Asure', '<over', '<Bsure']).names).toEqual(['a', 'b']);
    expect(recognize([A, B], ['>Asure', '<overBsure']).names).toEqual(['a', 'b']);
    expect(recognize([A, B], ['>Asure', '<overBsure over', '>Asure']).names).toEqual(['a', 'b']);
    expect(recognize([A, B], ['>A', '<over', '<x', '>y']).news & RecognitionNews.done).not.toBe(0);
  });

  test('handing over without end is bounded', () => {
    const many = Array.from('CDEFGHIJKLMNOP', (letter) => lettered(letter, words));
    const pieces = Array.from('CDEFGHIJKLMNOP', (letter) => `>${letter}sure over`);
    expect(recognize(many, pieces).names.length).toBe(8);
    const { news } = recognize(
      [A],
      Array.from({ length: 5000 }, () => `>A over${'.'.repeat(1000)}`),
    );
    expect(news & RecognitionNews.done).not.toBe(0);
  });

  test('names from inside come before that of the carrier', () => {
    const inside: string[] = [];
    const carrier = lettered(
      'L',
      (piece, parser) => {
        if (piece.includes('krb')) inside.push('krb', 'gssapi');
        return words(piece, parser);
      },
      { inside },
    );
    expect(recognize([carrier], ['>L krb', '<sure']).names).toEqual(['krb', 'gssapi', 'l']);
  });

  test('a carrier with frames is looked into, and one inside of it is not', () => {
    const shout: Partial<ServiceParser> = {
      unwrap: (fromOrig, u8, offset, length, sink: PayloadSink) => {
        // Every second byte is a frame header.
        for (let i = 1; i < length; i += 2) sink(fromOrig, u8, offset + i, 1);
        return text(u8, offset, length).includes('.') ? ServiceNews.done : 0;
      },
    };
    const W = lettered('W', words, shout);
    const slow = lettered('B', (piece) => (piece === '!' ? ServiceNews.confirmed : 0));
    expect(recognize([W, slow], ['>Wsure', '<over', '>_B', '>_!']).names).toEqual(['w', 'b']);
    expect(recognize([W, slow], ['>Wsure', '<over_B_!']).names).toEqual(['w', 'b']);
    expect(recognize([W, slow], ['>Wsure', '<over', '>_B', '>..', '>_!']).names).toEqual(['w']);
  });

  test('one object serves one connection after the other', () => {
    const recognition = new Recognition();
    const bytes = Buffer.from('Asure');
    for (let i = 0; i < 3; i++) {
      recognition.begin(new Choice([A]), 1);
      expect(recognition.names).toEqual([]);
      recognition.feed(1, bytes, 0, bytes.length);
      expect(recognition.names).toEqual(['a']);
      recognition.release();
      expect(recognition.candidates).toBe(0);
    }
  });
});

const bytes = (s: string) => Buffer.from(s, 'latin1');

describe('streams', () => {
  test('a flow of no known service keeps nothing, one that is recognized its name', () => {
    const streams = new Streams(1000, 1000, choicesOf([A]));
    expect(streams.datagram(5, 1, 53, bytes('x'), 0, 1)).toBe(StreamNews.sideDone);
    expect(streams.datagram(5, 1, 53, bytes('Asure done'), 0, 10) & StreamNews.done).not.toBe(0);
    expect(streams.service(5)).toBe('a');
    streams.release(5);
    expect(streams.service(5)).toBeUndefined();
  });

  test('a gap ends it, the name stays', () => {
    const streams = new Streams(1000, 1000, choicesOf([A, B]));
    const feed = (seq: number, piece: string) =>
      streams.segment(0, 0, 1, 80, false, seq, bytes(piece), 0, piece.length);
    expect(feed(1, 'Asure')).toBe(StreamNews.begun | StreamNews.told);
    expect(feed(2000, '.'.repeat(999))).toBe(0);
    expect(feed(4000, '..')).toBe(StreamNews.done);
    expect(streams.service(0)).toBe('a');
    expect(feed(6, 'over')).toBe(StreamNews.done);
  });

  test('when there are too many at once one is given up for each that begins', () => {
    const streams = new Streams(1000, 1000, choicesOf([A]));
    const count = 40_000;
    for (let slot = 0; slot < count; slot++)
      expect(streams.datagram(slot, 1, 53, bytes('A'), 0, 1)).toBe(StreamNews.begun);
    let known = 0;
    for (let slot = 0; slot < count; slot++) {
      streams.datagram(slot, 0, 53, bytes('sure'), 0, 4);
      if (streams.service(slot) === 'a') known++;
    }
    expect(known).toBe(32_768);
    for (let slot = 0; slot < count; slot++) streams.release(slot);
    expect(streams.datagram(7, 1, 53, bytes('Asure'), 0, 5)).toBe(StreamNews.begun | StreamNews.told);
    expect(streams.service(7)).toBe('a');
  });
});
