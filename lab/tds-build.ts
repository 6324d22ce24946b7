import { bytesOf, hex, type Said } from './bytes.ts';

/** What a PRELOGIN says of encryption (MS-TDS 2.2.6.5). */
export const ENCRYPT = { off: 0, on: 1, notSupported: 2, required: 3 } as const;

const HEADER = 8;
/** Data of a packet, before another size is agreed upon. */
const DATA = 4096 - HEADER;
const RECORD_HEADER = 5;
const CHANGE_CIPHER_SPEC = 20;
const HANDSHAKE = 22;
const APPLICATION_DATA = 23;

export function packet(type: number, data: Uint8Array, last = true): Buffer {
  const header = Buffer.of(type, last ? 1 : 0, 0, 0, 0, 0, 1, 0);
  header.writeUInt16BE(HEADER + data.length, 2);
  return Buffer.concat([header, data]);
}

/** A client's: version, encryption off, an empty instance, thread and MARS, as in MS-TDS 4.1. */
export const PRELOGIN = packet(
  0x12,
  hex(
    '00 001a 0006  01 0020 0001  02 0021 0001  03 0022 0004  04 0026 0001  ff  09000000 0000 00 00 b80d0000 01',
  ),
);

/** And the server's. */
export const answer = (encryption: number): Buffer =>
  packet(
    0x04,
    Buffer.concat([
      hex('00 001a 0006  01 0020 0001  02 0021 0001  03 0022 0000  04 0022 0001  ff  0f000738 0000'),
      Buffer.of(encryption),
      hex('00 00'),
    ]),
  );

class Side {
  changedCipher = false;
  /** Its handshake is: what follows goes without packets. */
  over = false;
}

/**
 * TLS as TDS 7 has it: the handshake, up to each side's Finished, in packets of type 0x12 with `most` bytes of data, what
 * follows as it is. Each piece of a handshake has whole records.
 */
export function inPackets(said: readonly Said[], most = DATA): Said[] {
  const sides = [new Side(), new Side()] as const;
  return said.map(([from, text]): Said => {
    const bytes = Buffer.from(bytesOf(text));
    const end = handshakeBytes(bytes, from, sides);
    const parts: Uint8Array[] = [];
    for (let at = 0; at < end; at += most)
      parts.push(packet(0x12, bytes.subarray(at, Math.min(end, at + most)), at + most >= end));
    return [from, Buffer.concat([...parts, bytes.subarray(end)])];
  });
}

/** How much of these records still is of the handshake. */
function handshakeBytes(bytes: Buffer, from: 0 | 1, sides: readonly [Side, Side]): number {
  const side = sides[from];
  let at = 0;
  while (at < bytes.length && !side.over) {
    const type = bytes[at];
    at += RECORD_HEADER + bytes.readUInt16BE(at + 3);
    if (type === HANDSHAKE && side.changedCipher) side.over = true;
    // TLS 1.3: the client's Finished, and the server's has come before it.
    if (type === APPLICATION_DATA && from === 1) for (const each of sides) each.over = true;
    side.changedCipher ||= type === CHANGE_CIPHER_SPEC;
  }
  return at;
}
