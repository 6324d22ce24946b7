import { describe, expect, test } from 'vitest';
import { XMPP } from '../../../src/flow/services/xmpp.ts';
import { C, feed, S, type Said, stands, suggested, verdict } from './support.ts';

const header =
  "<?xml version='1.0'?><stream:stream to='x' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";
const starttls: Said[] = [
  C(header),
  S(`${header}<stream:features><starttls xmlns='urn:x'/></stream:features>`),
  C("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"),
  S("<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>\x16\x03\x03"),
];

describe('xmpp', () => {
  stands(XMPP, { starttls });

  test('confirmed by the header of the client', () => {
    expect(verdict(feed(XMPP, starttls.slice(0, 1)))).toBe('confirmed');
    expect(verdict(feed(XMPP, [S(header)]))).toBe('unsure');
  });

  test('hands over after proceed', () => {
    expect(verdict(feed(XMPP, starttls))).toBe('confirmed, hands over');
    expect(feed(XMPP, starttls).parser.rest).toBe(3);
    expect(verdict(feed(XMPP, [starttls[0], S('<proceed/>')]))).toBe('confirmed');
  });

  test('other XML', () => {
    expect(verdict(feed(XMPP, [C('<?xml version="1.0"?><policy-file-request/>')]))).toBe('rejected');
    expect(verdict(feed(XMPP, [C("<stream:stream xmlns='urn:other'>")]))).toBe('rejected');
    expect(suggested(XMPP, [C('<html>')])).toBe(false);
  });
});
