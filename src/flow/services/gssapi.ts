import { Ber } from './ber.ts';
import { isAt } from './bytes.ts';

const INITIAL_TOKEN = 0x60;
const NEG_TOKEN_INIT = 0xa0;
const NEG_TOKEN_RESP = 0xa1;
const SEQUENCE = 0x30;
const OCTET_STRING = 4;
const OBJECT_IDENTIFIER = 6;
/** mechToken of negTokenInit and responseToken of negTokenResp. */
const TOKEN = 0xa2;
/** 1.3.6.1.5.5.2 */
const SPNEGO = '\x2b\x06\x01\x05\x05\x02';
/** 1.2.840.113554.1.2.2, and Microsoft's variant 1.2.840.48018.1.2.2. */
const KERBEROS = ['\x2a\x86\x48\x86\xf7\x12\x01\x02\x02', '\x2a\x86\x48\x82\xf7\x12\x01\x02\x02'];
const NTLM = 'NTLMSSP\0';
/** Token identifiers of RFC 4121: AP-REQ, AP-REP and KRB-ERROR, and the tags of those messages. */
const KERBEROS_TOKENS = new Map([
  [1, 0x6e],
  [2, 0x6f],
  [3, 0x7e],
]);

/**
 * What an authentication token is (RFC 2743, RFC 4178, MS-NLMP): adds `ntlm`, `krb`, `gssapi` to the names, what is
 * inside first, as they are not there yet.
 */
export function nameToken(u8: Uint8Array, at: number, end: number, names: string[]): void {
  if (isAt(u8, at, end, NTLM)) {
    add(names, 'ntlm');
    return;
  }
  const outer = new Ber(u8, at, end);
  if (!outer.next()) return;
  if (outer.tag === NEG_TOKEN_RESP) {
    negotiation(outer.inside(), names);
  } else if (outer.tag === INITIAL_TOKEN) {
    const inner = outer.inside();
    if (!inner.expect(OBJECT_IDENTIFIER) || !isAt(u8, inner.from, inner.until, SPNEGO)) return;
    if (inner.expect(NEG_TOKEN_INIT)) negotiation(inner.inside(), names);
  }
}

function negotiation(token: Ber, names: string[]): void {
  if (!token.expect(SEQUENCE)) return;
  const fields = token.inside();
  while (fields.next()) {
    if (fields.tag !== TOKEN) continue;
    const mechanism = fields.inside();
    if (!mechanism.expect(OCTET_STRING)) continue;
    if (isAt(mechanism.u8, mechanism.from, mechanism.until, NTLM)) add(names, 'ntlm');
    else if (isKerberos(mechanism.u8, mechanism.from, mechanism.until)) add(names, 'krb');
  }
  add(names, 'gssapi');
}

/** A Kerberos token in the framing of RFC 2743. */
function isKerberos(u8: Uint8Array, at: number, end: number): boolean {
  const outer = new Ber(u8, at, end);
  if (!outer.expect(INITIAL_TOKEN)) return false;
  const inner = outer.inside();
  if (!inner.expect(OBJECT_IDENTIFIER)) return false;
  if (!KERBEROS.some((oid) => isAt(u8, inner.from, inner.until, oid))) return false;
  const token = inner.to;
  return token + 2 < end && KERBEROS_TOKENS.get(u8[token]) === u8[token + 2] && u8[token + 1] === 0;
}

function add(names: string[], name: string): void {
  if (!names.includes(name)) names.push(name);
}
