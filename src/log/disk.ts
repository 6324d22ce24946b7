import {
  closeSync,
  fstatSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readSync,
  renameSync,
  statSync,
  writeSync,
} from 'node:fs';

/** Where an open file is: under its name, under another one (what was written is kept), or nowhere. */
export type Whereabouts = 'here' | 'renamed' | 'removed';

/** The system calls that a log file lives on; tests put a failing disk in their place. */
export interface Disk {
  mkdir: (path: string) => void;
  open: (path: string) => number;
  stat: (fd: number) => { size: number; mtime: number; regular: boolean };
  read: (fd: number, into: Uint8Array, at: number) => number;
  write: (fd: number, bytes: Uint8Array, from: number) => number;
  truncate: (fd: number, size: number) => void;
  rename: (from: string, to: string) => void;
  close: (fd: number) => void;
  whereabouts: (fd: number, path: string) => Whereabouts;
}

export const systemDisk: Disk = {
  mkdir: (path) => {
    mkdirSync(path, { recursive: true });
  },
  // Read as well as append: the end of the file is looked at before anything is added to it.
  open: (path) => openSync(path, 'a+', 0o644),
  stat: (fd) => {
    const stat = fstatSync(fd);
    return { size: stat.size, mtime: stat.mtimeMs / 1000, regular: stat.isFile() };
  },
  read: (fd, into, at) => readSync(fd, into, 0, into.length, at),
  write: (fd, bytes, from) => writeSync(fd, bytes, from, bytes.length - from),
  truncate: ftruncateSync,
  rename: renameSync,
  close: closeSync,
  whereabouts: (fd, path) => {
    const held = fstatSync(fd);
    const there = statSync(path, { throwIfNoEntry: false });
    if (there?.ino === held.ino && there.dev === held.dev) return 'here';
    return held.nlink === 0 ? 'removed' : 'renamed';
  },
};

const NEWLINE = 10;
const STEP = 65_536;

/** Bytes from the last newline (or the beginning) to the end of the file: 0 when the last line is whole. */
export function tornBytes(disk: Disk, fd: number, size: number): number {
  const block = new Uint8Array(Math.min(STEP, size));
  for (let end = size; end > 0; ) {
    const begin = Math.max(0, end - block.length);
    const length = disk.read(fd, block.subarray(0, end - begin), begin);
    const newline = block.subarray(0, length).lastIndexOf(NEWLINE);
    if (newline >= 0) return size - (begin + newline + 1);
    end = begin;
  }
  return size;
}
