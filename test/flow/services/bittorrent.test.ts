import { describe, expect, test } from 'vitest';
import { BITTORRENT, BITTORRENT_DHT } from '../../../src/flow/services/bittorrent.ts';
import { RFB } from '../../../src/flow/services/rfb.ts';
import { C, feed, S, type Said, stands, suggested, verdict } from './support.ts';

describe('bittorrent', () => {
  const handshake: Said[] = [C(`\x13BitTorrent protocol${'\0'.repeat(48)}`)];
  const ping = 'd1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe';
  const pong = 'd1:rd2:id20:mnopqrstuvwxyz123456e1:t2:aa1:y1:re';
  describe('peers', () => stands(BITTORRENT, { handshake }));
  describe('dht', () => stands(BITTORRENT_DHT, { ping: [C(ping), S(pong)], pong: [S(pong)] }));

  test('confirmed by a whole handshake', () => {
    expect(verdict(feed(BITTORRENT, handshake))).toBe('confirmed');
    expect(verdict(feed(BITTORRENT, [C(`\x13BitTorrent protocol${'\0'.repeat(47)}`)]))).toBe('unsure');
    expect(verdict(feed(BITTORRENT, [C(`\x13BitTorrent protocoL${'\0'.repeat(48)}`)]))).toBe('rejected');
  });

  test('other bencoded text', () => {
    expect(suggested(BITTORRENT_DHT, [C('d8:announce20:http://x.example/abce')])).toBe(false);
    expect(suggested(BITTORRENT_DHT, [C(ping.slice(0, -1))])).toBe(false);
  });
});

describe('rfb', () => {
  const versions: Said[] = [S('RFB 003.008\n'), C('RFB 003.003\n')];
  stands(RFB, { versions });

  test('confirmed by the version of the client', () => {
    expect(verdict(feed(RFB, versions))).toBe('confirmed');
    expect(verdict(feed(RFB, versions.slice(0, 1)))).toBe('unsure');
    expect(verdict(feed(RFB, [versions[0], C('GET / HTTP/1.1\n')]))).toBe('rejected');
  });
});
