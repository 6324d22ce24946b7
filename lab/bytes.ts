/** Payload of one side: 1 the originator. */
export type Said = readonly [fromOrig: 0 | 1, bytes: string | Uint8Array];

export const C = (bytes: string | Uint8Array): Said => [1, bytes];
export const S = (bytes: string | Uint8Array): Said => [0, bytes];

export function bytesOf(bytes: string | Uint8Array): Uint8Array {
  return typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes;
}

export function hex(text: string): Uint8Array {
  return Buffer.from(text.replace(/\s+/g, ''), 'hex');
}
