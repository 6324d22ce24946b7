import { addon } from './addon.ts';

/**
 * Memory of the kernel as one external ArrayBuffer. `release` detaches it: views of it have length 0 from then on.
 * Do not move it with `transfer` or a transfer list: the new owner would read zeros after the release.
 */
export class KernelMemory {
  readonly buffer: ArrayBuffer;

  constructor(fd: number, length: number, offset: number, writable: boolean) {
    this.buffer = addon().mapFd(fd, length, offset, writable);
  }

  release(): void {
    addon().unmap(this.buffer);
  }
}

export const PAGE = 4096;

export function roundUp(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit;
}
