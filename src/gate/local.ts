/** Whether either endpoint of a gate key is one of `local` (from `localAddresses`). */
export function hasLocalEndpoint(local: ReadonlySet<string>, family: 4 | 6, key: Uint8Array): boolean {
  const size = family === 4 ? 4 : 16;
  const hex = (from: number): string => Buffer.from(key.buffer, key.byteOffset + from, size).toString('hex');
  return local.has(hex(0)) || local.has(hex(size));
}
