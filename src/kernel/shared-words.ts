import { addonIfAny } from './addon.ts';

const CACHE_LINE = 64;
const LARGE_PAGE = 2 << 20;

/**
 * Zeros that threads share, beginning with a line of the cache, in large pages if there are some megabytes of them and the
 * system has any: looking something up then does not wait for page tables as well. Without the addon it is memory like other.
 */
export function sharedWords(length: number): Uint32Array<SharedArrayBuffer> {
  const size = length * 4;
  const alignment = size >= LARGE_PAGE ? LARGE_PAGE : CACHE_LINE;
  // Whole ones: what is left over would lie in small pages, and be waited for longer than the rest.
  const memory = new SharedArrayBuffer(Math.ceil(size / alignment) * alignment + alignment);
  const place = addonIfAny()?.largePages(new Uint8Array(memory), alignment) ?? 0;
  return new Uint32Array(memory, place, length);
}
