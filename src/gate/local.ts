/** Two digits for each byte: a shunt asks for four to thirty-two of them, and a Buffer for each address takes far longer. */
const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'));

/** Whether either endpoint of a gate key is one of `local` (from `localAddresses`). */
export function hasLocalEndpoint(local: ReadonlySet<string>, family: 4 | 6, key: Uint8Array): boolean {
  const size = family === 4 ? 4 : 16;
  return local.has(hexOf(key, 0, size)) || local.has(hexOf(key, size, size));
}

function hexOf(bytes: Uint8Array, from: number, size: number): string {
  let text = '';
  for (let i = from; i < from + size; i++) text += HEX[bytes[i]];
  return text;
}
