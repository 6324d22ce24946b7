import { describe, expect, test } from 'vitest';
import { DCE_RPC } from '../../../src/flow/services/dce-rpc.ts';
import { SMB } from '../../../src/flow/services/smb.ts';
import { kerberos, NTLM_NEGOTIATE, spnego } from './ber-build.ts';
import { C, feed, hex, S, type Said, stands, suggested, verdict } from './support.ts';

const session = (body: Uint8Array) =>
  Buffer.concat([Uint8Array.of(0, 0, body.length >>> 8, body.length & 0xff), body]);

/** An SMB 2 message whose buffer stands after a body of that size; the fields are offset and length of it. */
function smb2(
  command: number,
  response: boolean,
  body: number,
  offsetAt: number,
  buffer: Uint8Array,
): Uint8Array {
  const message = Buffer.alloc(64 + body + buffer.length);
  message.write('\xfeSMB', 'latin1');
  message[4] = 64;
  message[12] = command;
  message[16] = response ? 1 : 0;
  message.writeUInt16LE(64 + body, 64 + offsetAt);
  message.writeUInt16LE(buffer.length, 64 + offsetAt + 2);
  message.set(buffer, 64 + body);
  return session(message);
}

function smb1(command: number, words: number, lengthAt: number, blob: Uint8Array): Uint8Array {
  const message = Buffer.alloc(33 + words * 2 + 2 + blob.length);
  message.write('\xffSMB', 'latin1');
  message[4] = command;
  message[32] = words;
  message.writeUInt16LE(blob.length, 33 + lengthAt);
  message.set(blob, 33 + words * 2 + 2);
  return session(message);
}

const bindPdu = (auth: Uint8Array) => {
  const pdu = Buffer.concat([hex('05000b03 10000000'), Buffer.alloc(8 + 56), auth]);
  pdu.writeUInt16LE(pdu.length, 8);
  pdu.writeUInt16LE(auth.length, 10);
  return pdu;
};

describe('smb', () => {
  const none = new Uint8Array(0);
  const two: Said[] = [
    C(smb2(0, false, 64, 40, none)),
    S(smb2(0, true, 64, 56, spnego(new Uint8Array(3)))),
    C(smb2(1, false, 24, 12, spnego(NTLM_NEGOTIATE))),
    S(smb2(1, true, 16, 4, spnego(NTLM_NEGOTIATE))),
    C(smb2(9, false, 48, 2, bindPdu(none))),
  ];
  const one: Said[] = [
    C(smb1(0x72, 0, 0, none)),
    S(smb1(0x72, 17, 0, none)),
    C(smb1(0x73, 12, 14, spnego(kerberos()))),
  ];
  const sealed: Said[] = [
    C(session(Buffer.from('\xfdSMB', 'latin1'))),
    S(session(Buffer.from('\xfdSMB', 'latin1'))),
  ];
  stands(SMB, { two, one, sealed });

  test('confirmed by the third message', () => {
    expect(verdict(feed(SMB, two.slice(0, 2)))).toBe('unsure');
    expect(verdict(feed(SMB, two.slice(0, 3)))).toBe('confirmed');
    expect(verdict(feed(SMB, one))).toBe('confirmed');
  });

  test('names what is inside', () => {
    expect(feed(SMB, two).parser.inside).toEqual(['gssapi', 'ntlm', 'dce_rpc']);
    expect(feed(SMB, one).parser.inside).toEqual(['krb', 'gssapi']);
  });

  test('other protocols', () => {
    expect(suggested(SMB, [C('\0\0\0\x10\0\x03\0\0user')])).toBe(false);
    expect(verdict(feed(SMB, [C(session(Buffer.from('\xfeSNB')))]))).toBe('rejected');
    expect(verdict(feed(SMB, [C(two[0][1]), S('HTTP/1.1 400')]))).toBe('rejected');
  });
});

describe('dce_rpc', () => {
  const ack = hex('05000c03 10000000 1c00 0000 01000000 b810b810 00000000 00000000');
  const authenticated: Said[] = [C(bindPdu(NTLM_NEGOTIATE)), S(ack)];
  stands(DCE_RPC, { authenticated });

  test('confirmed by a whole bind; names what authenticates', () => {
    expect(verdict(feed(DCE_RPC, authenticated))).toBe('confirmed');
    expect(feed(DCE_RPC, authenticated).parser.inside).toEqual(['ntlm']);
    expect(verdict(feed(DCE_RPC, [C(bindPdu(new Uint8Array(0)).subarray(0, -1))]))).toBe('unsure');
  });

  test('other beginnings', () => {
    expect(suggested(DCE_RPC, [C(hex('050100'))])).toBe(false);
    expect(verdict(feed(DCE_RPC, [S(bindPdu(NTLM_NEGOTIATE))]))).toBe('rejected');
    expect(verdict(feed(DCE_RPC, [C(hex('05000b03 10000000 0800 0000 00000000'))]))).toBe('rejected');
  });
});
