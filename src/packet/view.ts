// One view, made when the bytes are others: sources show the same ones for millions of packets.
let viewed: Uint8Array = new Uint8Array(0);
let view = new DataView(viewed.buffer);

/** A DataView of the same bytes with the same offsets, for reading several bytes at once wherever they lie. */
export function viewOf(u8: Uint8Array): DataView {
  if (u8 !== viewed) {
    view = new DataView(u8.buffer, u8.byteOffset, u8.byteLength);
    viewed = u8;
  }
  return view;
}
