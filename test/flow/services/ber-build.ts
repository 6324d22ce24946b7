/** One element in BER with a definite length in its shortest form. */
export function ber(tag: number, ...parts: (Uint8Array | string)[]): Uint8Array {
  const body = Buffer.concat(
    parts.map((part) => (typeof part === 'string' ? Buffer.from(part, 'latin1') : part)),
  );
  const size = body.length;
  let header: number[];
  if (size < 128) header = [tag, size];
  else if (size < 256) header = [tag, 0x81, size];
  else header = [tag, 0x82, size >>> 8, size & 0xff];
  return Buffer.concat([Uint8Array.from(header), body]);
}

export function integer(value: number): Uint8Array {
  return ber(2, Uint8Array.of(value));
}

const SPNEGO = Buffer.from('06062b0601050502', 'hex');
const KERBEROS = Buffer.from('06092a864886f712010202', 'hex');

/** A negTokenInit with such a mechToken. */
export function spnego(token: Uint8Array): Uint8Array {
  return ber(0x60, SPNEGO, ber(0xa0, ber(0x30, ber(0xa0, ber(0x30, KERBEROS)), ber(0xa2, ber(4, token)))));
}

/** A Kerberos AP-REQ in the framing of RFC 2743. */
export function kerberos(): Uint8Array {
  const request = ber(0x6e, ber(0x30, ber(0xa0, integer(5)), ber(0xa1, integer(14))));
  return ber(0x60, KERBEROS, Uint8Array.of(1, 0), request);
}

export const NTLM_NEGOTIATE = Buffer.from('NTLMSSP\0\x01\0\0\0\x97\x82\x08\xe2', 'latin1');
